//! Advice about names that nobody knows.

use serde_json::Value;

use crate::ConfigError;
use crate::secret::HIDDEN;

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

/// The words of serde about a table of options, as an error that names the option and a remedy, and shows a value only if it is
/// none of a secret: neither what stands under a name that nobody knows, nor a table or list where something else should be.
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
        return ConfigError::new(
            field,
            HIDDEN,
            did_you_mean(unknown, known.iter(), "there is no such option"),
        );
    }
    let path = if path == "." { "" } else { path };
    let value = value_at(table, path).unwrap_or(table);
    let remedy = match crate::config::level_remedy(path) {
        Some(levels) => format!("write {levels}"),
        None => without_found(&message),
    };
    let error = ConfigError::new(path, value, remedy);
    match value {
        Value::Object(_) | Value::Array(_) => texts(value).fold(error.hidden(), |error, text| error.without(text)),
        _ => error,
    }
}

/// serde's words without the value that they quote: `invalid type: string "x", expected u64`.
fn without_found(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let kind = found.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", kind.trim_end())
        }
        None => message.to_owned(),
    }
}

/// All texts in a value.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let mut waiting = vec![value];
    std::iter::from_fn(move || {
        loop {
            match waiting.pop()? {
                Value::String(text) => return Some(text.as_str()),
                Value::Array(items) => waiting.extend(items),
                Value::Object(map) => waiting.extend(map.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
    })
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
    fn what_serde_quotes_is_not_shown() {
        for (message, shown) in [
            (
                r#"invalid type: string "S", expected u64"#,
                "invalid type: string, expected u64",
            ),
            (
                r#"invalid type: string "a, expected b", expected u64"#,
                "invalid type: string, expected u64",
            ),
            (
                "unknown variant `S`, expected one of `a`, `b`",
                "unknown variant, expected one of `a`, `b`",
            ),
            (
                "invalid type: map, expected a string",
                "invalid type: map, expected a string",
            ),
            ("use 1 or 2", "use 1 or 2"),
        ] {
            assert_eq!(without_found(message), shown);
        }
    }

    #[test]
    fn a_path_leads_to_its_value() {
        let table = json!({"a": {"b": [1, {"c": 2}]}});
        assert_eq!(value_at(&table, "a.b[1].c"), Some(&json!(2)));
        assert_eq!(value_at(&table, "a.x"), None);
    }
}
