//! Advice about names that nobody knows.

use serde_json::Value;

use crate::ConfigError;

/// `what`, then the nearest of `known` if one is near, then all of them.
pub(crate) fn did_you_mean<S: AsRef<str>>(name: &str, known: impl Iterator<Item = S>, what: &str) -> String {
    let known: Vec<S> = known.collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate.as_ref()), candidate.as_ref()))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        // Below this, names are merely both English.
        .filter(|(likeness, _)| *likeness > 0.7);
    let all: Vec<_> = known.iter().map(|candidate| candidate.as_ref()).collect();
    match nearest {
        Some((_, nearest)) => format!("{what}; did you mean `{nearest}`? Known are: {}", all.join(", ")),
        None if all.is_empty() => what.to_owned(),
        None => format!("{what}; known are: {}", all.join(", ")),
    }
}

/// What serde says about a table of options, as an error that names the option, its value and a remedy.
pub(crate) fn option_error(table: &Value, path: &str, error: &serde_json::Error) -> ConfigError {
    let message = error.to_string();
    // serde's words for an unknown field are: unknown field `x`, expected one of `a`, `b`.
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let mut names = rest.split('`').step_by(2);
        let unknown = names.next().unwrap_or_default();
        let parent = match path {
            "." => "",
            path => path.strip_suffix(unknown).unwrap_or(path).trim_end_matches('.'),
        };
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let field = if parent.is_empty() {
            unknown.to_owned()
        } else {
            format!("{parent}.{unknown}")
        };
        let value = value_at(table, &field).map(Value::to_string).unwrap_or_default();
        return ConfigError::new(
            field,
            value,
            did_you_mean(unknown, known.iter(), "there is no such option"),
        );
    }
    let path = if path == "." { "" } else { path };
    let value = value_at(table, path).map_or_else(|| table.to_string(), Value::to_string);
    let remedy = match crate::config::level_remedy(path) {
        Some(levels) => format!("write {levels}"),
        None => message,
    };
    ConfigError::new(path, value, remedy)
}

/// The value at a path such as `sinks.file.names[2]`.
fn value_at<'v>(table: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = table;
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        value = match part.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?)?,
            None => value.get(part)?,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_name_comes_first() {
        let remedy = did_you_mean("hok", ["url", "hook"].iter(), "no such option");
        assert_eq!(remedy, "no such option; did you mean `hook`? Known are: url, hook");
        let remedy = did_you_mean("zzz", ["url", "hook"].iter(), "no such option");
        assert_eq!(remedy, "no such option; known are: url, hook");
    }

    #[test]
    fn a_path_leads_to_its_value() {
        let table = json!({"a": {"b": [1, {"c": 2}]}});
        assert_eq!(value_at(&table, "a.b[1].c"), Some(&json!(2)));
        assert_eq!(value_at(&table, "a.x"), None);
    }
}
