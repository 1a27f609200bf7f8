//! Errors of options: unknown names with suggestions, and values of the wrong type.

use serde_json::Value;

use crate::ConfigError;
use crate::secret::HIDDEN;

/// Returns `problem`, the most similar candidate if there is one, and all candidates.
pub(crate) fn suggest_name<S: AsRef<str>>(name: &str, candidates: impl Iterator<Item = S>, problem: &str) -> String {
    let candidates: Vec<S> = candidates.collect();
    let nearest = candidates
        .iter()
        .map(|candidate| (similarity(name, candidate.as_ref()), candidate.as_ref()))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        // Below this similarity, the names are unrelated words.
        .filter(|(similarity, _)| *similarity > 0.7);
    let all: Vec<_> = candidates.iter().map(|candidate| candidate.as_ref()).collect();
    match nearest {
        Some((_, nearest)) => format!("{problem}; did you mean `{nearest}`? The names are: {}", all.join(", ")),
        None if all.is_empty() => problem.to_owned(),
        None => format!("{problem}; the names are: {}", all.join(", ")),
    }
}

/// Returns the similarity of two names from 0 to 1, after Jaro and Winkler: equal characters at
/// nearby places count, and a common beginning counts more.
///
/// A few lines here instead of a crate keep the tree of a program with one sink small.
fn similarity(one: &str, other: &str) -> f64 {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let reach = (one.len().max(other.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; other.len()];
    let mut matches = Vec::new();
    for (at, character) in one.iter().enumerate() {
        let end = other.len().min(at + reach + 1);
        let free = |place: &usize| !taken[*place] && other[*place] == *character;
        if let Some(place) = (at.saturating_sub(reach)..end).find(free) {
            taken[place] = true;
            matches.push(*character);
        }
    }
    if matches.is_empty() {
        return 0.0;
    }
    let in_other = other.iter().zip(&taken).filter(|(_, taken)| **taken);
    let transposed = matches.iter().zip(in_other).filter(|(a, (b, _))| a != b).count() / 2;
    let count = matches.len() as f64;
    let in_order = (count - transposed as f64) / count;
    let jaro = (count / one.len() as f64 + count / other.len() as f64 + in_order) / 3.0;
    let beginning = one.iter().zip(&other).take(4).take_while(|(a, b)| a == b).count();
    match jaro > 0.7 {
        true => jaro + 0.1 * beginning as f64 * (1.0 - jaro),
        false => jaro,
    }
}

/// Converts serde's error about a table of options into an error that names the option and a
/// remedy.
///
/// The error hides values that may be secrets: the value of an unknown option, and a table or list
/// in the wrong place.
pub(crate) fn option_error(table: &Value, path: &str, error: &serde_json::Error) -> ConfigError {
    let message = error.to_string();
    // serde's text for an unknown field: unknown field `x`, expected one of `a`, `b`.
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let mut names = rest.split('`').step_by(2);
        let unknown = names.next().unwrap_or_default();
        let parent = match path {
            "." => "",
            path => path.strip_suffix(unknown).unwrap_or(path).trim_end_matches('.'),
        };
        let options: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let field = if parent.is_empty() {
            unknown.to_owned()
        } else {
            format!("{parent}.{unknown}")
        };
        return ConfigError::new(
            field,
            HIDDEN,
            suggest_name(unknown, options.iter(), "there is no such option"),
        );
    }
    let path = if path == "." { "" } else { path };
    let value = value_at(table, path).unwrap_or(table);
    let remedy = match crate::config::level_remedy(path) {
        Some(levels) => format!("use {levels}"),
        None => without_quoted_value(&message),
    };
    let error = ConfigError::new(path, value, remedy);
    match value {
        Value::Object(_) | Value::Array(_) => texts(value).fold(error.hidden(), |error, text| error.without(text)),
        _ => error,
    }
}

/// Returns serde's text without the value that it quotes: `invalid type: string "x", expected u64`.
fn without_quoted_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let kind = found.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", kind.trim_end())
        }
        None => message.to_owned(),
    }
}

/// Returns all texts in a value.
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

/// Returns the value at a path such as `sinks.file.names[2]`.
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
    fn suggest_name_puts_the_most_similar_name_first() {
        let remedy = suggest_name("hok", ["url", "hook"].iter(), "no such option");
        assert_eq!(remedy, "no such option; did you mean `hook`? The names are: url, hook");
        let remedy = suggest_name("zzz", ["url", "hook"].iter(), "no such option");
        assert_eq!(remedy, "no such option; the names are: url, hook");
    }

    #[test]
    fn similarity_has_the_published_values() {
        for (one, other, expected) in [
            ("martha", "marhta", 0.961),
            ("dwayne", "duane", 0.840),
            ("dixon", "dicksonx", 0.813),
            ("cheeseburger", "cheese fries", 0.866),
            ("same", "same", 1.0),
            ("abc", "xyz", 0.0),
            ("", "xyz", 0.0),
        ] {
            assert!((similarity(one, other) - expected).abs() < 0.001, "{one} {other}");
        }
    }

    #[test]
    fn without_quoted_value_keeps_the_rest() {
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
            assert_eq!(without_quoted_value(message), shown);
        }
    }

    #[test]
    fn value_at_follows_keys_and_indices() {
        let table = json!({"a": {"b": [1, {"c": 2}]}});
        assert_eq!(value_at(&table, "a.b[1].c"), Some(&json!(2)));
        assert_eq!(value_at(&table, "a.x"), None);
    }
}
