//! User-defined patterns of texts that no sink may see.

use std::borrow::Cow;
use std::fmt;

use regex_lite::{NoExpand, Regex};
use serde_json::Value;

use crate::secret::HIDDEN;
use crate::{ConfigError, PerProcess};

/// A set of patterns; `***` replaces every match.
///
/// A pattern is a regular expression in the syntax of the crate `regex-lite`, or the name
/// `api_keys`. The name stands for JSON web tokens, for private keys in PEM, and for the keys of
/// these services: OpenAI, Anthropic, Hugging Face, GitHub, GitLab, AWS, Google, Slack, Stripe,
/// Replicate, npm and W&B (with the prefix `wandb_v1_`).
///
/// ```
/// use logcore::Redaction;
///
/// let redaction = Redaction::new(&["api_keys", r"user=\w+"]).unwrap();
/// assert_eq!(redaction.hide("user=ann, key=hf_abcdefghijklmnopqrstuvwxyz"), "***, key=***");
/// ```
#[derive(Debug, Clone)]
pub struct Redaction {
    patterns: Vec<Pattern>,
}

impl Redaction {
    /// Compiles the patterns.
    ///
    /// ```
    /// use logcore::Redaction;
    ///
    /// let error = Redaction::new(&["fine", "("]).unwrap_err();
    /// assert_eq!(error.field, "redact[1]");
    /// ```
    ///
    /// # Errors
    ///
    /// The first pattern that is not a regular expression, or that matches the empty text. The
    /// field of the error is `redact[<index>]`.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, ConfigError> {
        let mut compiled = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref();
            // The pattern may contain the secret.
            let refuse = |remedy: String| ConfigError::new(format!("redact[{index}]"), pattern, remedy).hidden();
            let expressions = if pattern == "api_keys" {
                API_KEYS.as_slice()
            } else {
                &[pattern]
            };
            for expression in expressions {
                let pattern =
                    Pattern::new(expression).map_err(|error| refuse(format!("not a regular expression: {error}")))?;
                if pattern.matches_empty_text() {
                    let remedy = "this pattern matches the empty text, and so every text; use a more specific pattern";
                    return Err(refuse(remedy.to_owned()));
                }
                compiled.push(pattern);
            }
        }
        Ok(Self { patterns: compiled })
    }

    /// Returns the text with `***` in place of every match.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if let Cow::Owned(less) = pattern.hide(&shown) {
                shown = Cow::Owned(less);
            }
        }
        shown
    }

    /// Replaces every match in all texts in `value`. Names of object members stay.
    ///
    /// ```
    /// let redaction = logcore::Redaction::new(&["s3cr3t"]).unwrap();
    /// let mut value = serde_json::json!({"notes": ["a s3cr3t"]});
    /// redaction.hide_in(&mut value);
    /// assert_eq!(value, serde_json::json!({"notes": ["a ***"]}));
    /// ```
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

/// Keys with a known prefix. Older keys of W&B have none: they look like digests.
const API_KEYS: [&str; 15] = [
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\bsk_live_[A-Za-z0-9]{16,}",
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bgh[opsur]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_\w{20,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bAKIA[A-Z0-9]{16}",
    r"\bASIA[A-Z0-9]{16}",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",
    r"\bnpm_[A-Za-z0-9]{30,}",
    r"\br8_[A-Za-z0-9]{30,}",
    r"\bwandb_v1_\w{20,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?",
];

struct Pattern {
    /// The expression contains a lock for scratch memory, which may stay locked in a forked child.
    /// A clone shares only the parsed program.
    regex: PerProcess<Regex>,
    /// Literal prefix of every match. The search for the prefix is dozens of times cheaper than the
    /// search for a match.
    prefix: String,
}

impl Pattern {
    fn new(expression: &str) -> Result<Self, regex_lite::Error> {
        Ok(Self::from_regex(
            Regex::new(expression)?,
            literal_prefix(expression).to_owned(),
        ))
    }

    fn from_regex(regex: Regex, prefix: String) -> Self {
        let clone = |parent: Option<&Regex>| {
            parent
                .unwrap_or_else(|| unreachable!("the first value is set below"))
                .clone()
        };
        Self {
            regex: PerProcess::with_value(regex, clone),
            prefix,
        }
    }

    /// Returns `true` if the empty text is a match, alone or beside a letter.
    fn matches_empty_text(&self) -> bool {
        ["", "a"]
            .iter()
            .any(|text| self.regex.get().find(text).is_some_and(|found| found.is_empty()))
    }

    fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match text.contains(&self.prefix) {
            true => self.regex.get().replace_all(text, NoExpand(HIDDEN)),
            false => Cow::Borrowed(text),
        }
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self::from_regex(self.regex.get().clone(), self.prefix.clone())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.regex.get().as_str()).finish()
    }
}

/// Returns the literal characters with which every match of an expression begins.
fn literal_prefix(expression: &str) -> &str {
    let expression = expression.strip_prefix(r"\b").unwrap_or(expression);
    if expression.contains('|') {
        return "";
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '=' | ':' | '/' | '@' | ' ' | '"' | '\'');
    let end = expression.find(|c| !is_plain(c)).unwrap_or(expression.len());
    let (plain, rest) = expression.split_at(end);
    match rest.starts_with(['*', '?', '{']) {
        // The last character is optional.
        true => &plain[..plain.char_indices().next_back().map_or(0, |(last, _)| last)],
        false => plain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn invalid_pattern_is_named() {
        for (pattern, remedy) in [
            ("(", "regular expression"),
            ("x*", "empty text"),
            ("", "empty text"),
            (r"\b", "empty text"),
        ] {
            let error = Redaction::new(&["fine", pattern]).unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("redact[1]", "***"));
            assert!(error.remedy.contains(remedy), "{error}");
        }
    }

    #[test]
    fn api_keys_are_hidden_by_their_prefix() {
        let redaction = Redaction::new(&["api_keys"]).unwrap();
        for key in [
            "sk-proj-0123456789abcdef",
            "hf_0123456789abcdef",
            "ghp_0123456789abcdef0123",
            "AKIA0123456789ABCDEF",
            "glpat-0123456789abcdefghij",
            "xoxb-0123456789-abc",
            "eyJhbGciOiJI.eyJzdWIiOiIx.abc",
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
    fn hide_in_replaces_texts_at_any_depth() {
        let mut value = json!({"token=1": ["token=1", {"deep": "token=1"}], "n": 1});
        Redaction::new(&["token=."]).unwrap().hide_in(&mut value);
        assert_eq!(value, json!({"token=1": ["***", {"deep": "***"}], "n": 1}));
    }

    proptest! {
        /// The search for the prefix changes only the speed.
        #[test]
        fn prefix_search_hides_the_same_as_the_expression(
            expression in r"(\\b)?[ab]{0,3}(\*|\?|\+|\{0,2\}|\.|\||\[ab\])?[ab]{1,2}",
            text in "[abc ]{0,20}",
        ) {
            let Ok(redaction) = Redaction::new(&[&expression]) else { return Ok(()) };
            let expected = Regex::new(&expression).unwrap().replace_all(&text, NoExpand(HIDDEN)).into_owned();
            prop_assert_eq!(redaction.hide(&text), expected);
        }
    }

    #[test]
    fn literal_prefix_of_expressions() {
        for (expression, prefix) in [
            (r"password=\S+", "password="),
            (r"\bsk-[a-z]{16}", "sk-"),
            ("ab*c", "a"),
            ("ä?b", ""),
            ("ab+", "ab"),
            ("one|two", ""),
            ("(?i)one", ""),
        ] {
            assert_eq!(literal_prefix(expression), prefix, "{expression}");
        }
    }
}
