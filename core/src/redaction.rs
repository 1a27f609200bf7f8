use std::borrow::Cow;

use regex_lite::{NoExpand, Regex};
use serde_json::Value;

use crate::ConfigError;
use crate::secret::HIDDEN;

/// Hides what matches a pattern.
///
/// A pattern is a regular expression in the syntax of the crate `regex-lite`, or the name `api_keys`, which stands for the
/// keys of OpenAI and Anthropic, Hugging Face, GitHub and AWS. All that matches becomes `***`.
///
/// ```
/// use logcore::Redaction;
///
/// let redaction = Redaction::new(&["api_keys", r"user=\w+"]).unwrap();
/// assert_eq!(redaction.hide("user=ann, key=hf_abcdefghijklmnopqrstuvwxyz"), "***, key=***");
/// ```
#[derive(Debug, Clone)]
pub struct Redaction {
    patterns: Vec<Regex>,
}

impl Redaction {
    /// Hides what any of these patterns matches.
    ///
    /// # Errors
    ///
    /// The first pattern that is no regular expression, or matches the empty text, as `redact[<its place>]`.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, ConfigError> {
        let read = |(at, pattern): (usize, &P)| {
            let pattern = pattern.as_ref();
            let refuse = |remedy: String| ConfigError::new(format!("redact[{at}]"), pattern, remedy);
            let expression = if pattern == "api_keys" { API_KEYS } else { pattern };
            let regex =
                Regex::new(expression).map_err(|error| refuse(format!("it is no regular expression: {error}")))?;
            match regex.is_match("") {
                true => Err(refuse(
                    "it matches the empty text, and so everything; make it match something".to_owned(),
                )),
                false => Ok(regex),
            }
        };
        let patterns = patterns.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// The text without what may not be seen.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if let Cow::Owned(less) = pattern.replace_all(&shown, NoExpand(HIDDEN)) {
                shown = Cow::Owned(less);
            }
        }
        shown
    }

    /// The same for every text in `value`. The names in it stay as they are.
    pub fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(shown) = self.hide(text) {
                    *text = shown;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(map) => map.values_mut().for_each(|inner| self.hide_in(inner)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Keys that are known by how they begin. Those of W&B are hexadecimal digits alone, as digests are.
const API_KEYS: &str = r"\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|A[KS]IA[A-Z0-9]{16})";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_that_cannot_work_is_named() {
        for (pattern, remedy) in [("(", "regular expression"), ("x*", "empty text"), ("", "empty text")] {
            let error = Redaction::new(&["fine", pattern]).unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("redact[1]", pattern));
            assert!(error.remedy.contains(remedy), "{error}");
        }
    }

    #[test]
    fn keys_are_known_by_how_they_begin() {
        let redaction = Redaction::new(&["api_keys"]).unwrap();
        for key in [
            "sk-proj-0123456789abcdef",
            "hf_0123456789abcdef",
            "ghp_0123456789abcdef0123",
            "AKIA0123456789ABCDEF",
        ] {
            assert_eq!(redaction.hide(&format!("key={key}, next")), "key=***, next", "{key}");
        }
        for open in [
            "task-0123456789abcdef01",
            "hf_hub",
            "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        ] {
            assert_eq!(redaction.hide(open), open);
        }
    }

    #[test]
    fn texts_at_any_depth() {
        let mut value = json!({"token=1": ["token=1", {"deep": "token=1"}], "n": 1});
        Redaction::new(&["token=."]).unwrap().hide_in(&mut value);
        assert_eq!(value, json!({"token=1": ["***", {"deep": "***"}], "n": 1}));
    }

    proptest! {
        #[test]
        fn nothing_that_matches_is_left(parts in prop::collection::vec("[a-cä ]{0,5}|k[0-9]{2}", 0..10)) {
            let redaction = Redaction::new(&["k[0-9]{2}", "b+"]).unwrap();
            let hidden = parts.iter().map(|part| match part.starts_with('k') {
                true => HIDDEN.to_owned(),
                false => part.clone(),
            });
            // A `b` behind a `b` is of the same match, also where two parts meet.
            let hidden: String = hidden.collect();
            let expected = hidden.split_inclusive(|c| c != 'b').map(|run| match run.trim_start_matches('b') {
                rest if rest.len() < run.len() => format!("{HIDDEN}{rest}"),
                rest => rest.to_owned(),
            });
            let text = parts.concat();
            prop_assert_eq!(redaction.hide(&text), expected.collect::<String>());
        }
    }
}
