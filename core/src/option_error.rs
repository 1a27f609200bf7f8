//! Errors of options: unknown names with suggestions, and values of the wrong type.

use serde_json::Value;

use crate::ConfigError;
use crate::secret::HIDDEN;
use crate::type_remedy::{list_names, quoted_names, type_remedy};

/// Greatest number of names in a suggestion. More of them are no hint.
const MAX_SUGGESTIONS: usize = 4;

/// Returns `problem`, the candidates that `name` may stand for, and all candidates.
pub(crate) fn suggest_name<S: AsRef<str>>(name: &str, candidates: impl Iterator<Item = S>, problem: &str) -> String {
    suggest_shown(name, candidates, problem, str::to_owned)
}

/// Does the same as [`suggest_name`] for candidates that the text shows in another form, such as
/// that of a variable.
pub(crate) fn suggest_shown<S: AsRef<str>>(
    name: &str,
    candidates: impl Iterator<Item = S>,
    problem: &str,
    show: impl Fn(&str) -> String,
) -> String {
    let candidates: Vec<S> = candidates.collect();
    let meant: Vec<_> = find_meant(name, &candidates).into_iter().map(&show).collect();
    let all: Vec<_> = candidates.iter().map(|candidate| show(candidate.as_ref())).collect();
    match meant.is_empty() {
        false => format!(
            "{problem}; did you mean {}? The names are: {}",
            list_names(&meant),
            all.join(", ")
        ),
        true if all.is_empty() => problem.to_owned(),
        true => format!("{problem}; the names are: {}", all.join(", ")),
    }
}

/// Returns the candidate of which `name` is a slip, or else those with which it has most in common:
/// `level` stands for `console_level` or `file_level`.
fn find_meant<'c, S: AsRef<str>>(name: &str, candidates: &'c [S]) -> Vec<&'c str> {
    let names = candidates.iter().map(AsRef::as_ref);
    let nearest = names
        .clone()
        .map(|candidate| (similarity(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    // Above 0.9, a letter or two differ.
    let slip = nearest.filter(|(similarity, _)| *similarity > 0.9);
    if let Some((_, slip)) = slip {
        return vec![slip];
    }
    let shared = names.clone().map(|candidate| count_shared(name, candidate));
    let most = shared.max().unwrap_or_default();
    let related: Vec<_> = names
        .filter(|candidate| most > 0 && count_shared(name, candidate) == most)
        .collect();
    match related.len() {
        1..=MAX_SUGGESTIONS => related,
        // Below 0.7, the names are unrelated words.
        _ => nearest
            .filter(|(similarity, _)| *similarity > 0.7)
            .map(|(_, candidate)| candidate)
            .into_iter()
            .collect(),
    }
}

/// Returns the number of letters that two names share: all of the shorter one if the longer one
/// contains it, or the words of `candidate` that `name` contains. Shorter words come about by
/// chance.
fn count_shared(name: &str, candidate: &str) -> usize {
    let (shorter, longer) = match name.len() < candidate.len() {
        true => (name, candidate),
        false => (candidate, name),
    };
    let part = if longer.contains(shorter) { shorter.len() } else { 0 };
    let is_shared = |word: &&str| word.len() >= 4 && name.contains(*word);
    let words: usize = candidate.split('_').filter(is_shared).map(str::len).sum();
    match part.max(words) {
        ..3 => 0,
        letters => letters,
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
/// remedy. `parse` parses a table as the same type.
///
/// The error hides values that may be secrets: the value of an unknown option, and a table or list
/// in the wrong place.
pub(crate) fn option_error(
    table: &Value,
    path: &str,
    error: &serde_json::Error,
    parse: impl Fn(&Value) -> Option<serde_json::Error>,
) -> ConfigError {
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
        None => type_remedy(path, value, &message, || find_variant_names(table, path, parse)),
    };
    let error = ConfigError::new(path, value, remedy);
    match value {
        Value::Object(map) if map.is_empty() => error,
        Value::Array(items) if items.is_empty() => error,
        Value::Object(_) | Value::Array(_) => texts(value).fold(error.hidden(), |error, text| error.without(text)),
        _ => error,
    }
}

/// Returns the names that the enumeration at a path has: serde tells them to an unknown text in its
/// place.
fn find_variant_names(table: &Value, path: &str, parse: impl Fn(&Value) -> Option<serde_json::Error>) -> Vec<String> {
    // The path of a name with a value, `{"drop": 1}`, ends with the name.
    let parent = path.rsplit_once('.').map(|(parent, _)| parent);
    let names = |path: &str| {
        let mut changed = table.clone();
        *changed.pointer_mut(&pointer_to(path))? = "".into();
        let message = parse(&changed)?.to_string();
        Some(quoted_names(message.strip_prefix("unknown variant ``, expected ")?))
    };
    names(path).or_else(|| names(parent?)).unwrap_or_default()
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
    table.pointer(&pointer_to(path))
}

/// Returns the JSON pointer of a path: `/sinks/file/names/2`.
fn pointer_to(path: &str) -> String {
    let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let name = part.strip_suffix(']').unwrap_or(part);
            format!("/{}", name.replace('~', "~0").replace('/', "~1"))
        })
        .collect()
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
    fn a_name_that_shares_words_with_others_suggests_them() {
        let fields = [
            "console_level",
            "file_level",
            "filename",
            "log_dir",
            "metrics_window",
            "progress_window",
        ];
        for (name, meant) in [
            ("level", "`console_level` or `file_level`"),
            ("loglevel", "`console_level` or `file_level`"),
            ("log_level", "`console_level` or `file_level`"),
            ("level_console", "`console_level`"),
            ("window", "`metrics_window` or `progress_window`"),
            ("my_log_dir", "`log_dir`"),
            ("dir", "`log_dir`"),
            ("metric_window", "`metrics_window`"),
        ] {
            let remedy = suggest_name(name, fields.iter(), "no such field");
            let expected = format!("no such field; did you mean {meant}? The names are: console_level,");
            assert!(remedy.starts_with(&expected), "{name}: {remedy}");
        }
        let many = ["a_level", "b_level", "c_level", "d_level", "e_level"];
        let remedy = suggest_name("zz_level_zz", many.iter(), "no");
        assert!(!remedy.contains("` or `"), "{remedy}");
    }

    #[test]
    fn value_at_follows_keys_and_indices() {
        let table = json!({"a": {"b": [1, {"c": 2, "d/~e": 3}]}});
        assert_eq!(value_at(&table, "a.b[1].d/~e"), Some(&json!(3)));
        assert_eq!(value_at(&table, "a.b[1].c"), Some(&json!(2)));
        assert_eq!(value_at(&table, "a.x"), None);
    }
}
