use std::borrow::Cow;
use std::fmt;

use regex_lite::{NoExpand, Regex};
use serde_json::Value;

use crate::secret::HIDDEN;
use crate::{ConfigError, PerProcess};

/// Hides what matches a pattern.
///
/// A pattern is a regular expression in the syntax of the crate `regex-lite`, or the name `api_keys`, which stands for the
/// keys of OpenAI and Anthropic, Hugging Face, GitHub, GitLab, AWS, Google, Slack, Stripe, Replicate, npm and W&B (those that
/// begin with `wandb_v1_`), for JSON web tokens and for private keys in PEM. All that matches becomes `***`.
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
    /// Hides what any of these patterns matches.
    ///
    /// # Errors
    ///
    /// The first pattern that is no regular expression, or matches the empty text, as `redact[<its place>]`.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, ConfigError> {
        let mut read = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref();
            // It may be the very secret that nobody is to see.
            let refuse = |remedy: String| ConfigError::new(format!("redact[{at}]"), pattern, remedy).hidden();
            let expressions = if pattern == "api_keys" {
                API_KEYS.as_slice()
            } else {
                &[pattern]
            };
            for expression in expressions {
                let pattern = Pattern::new(expression)
                    .map_err(|error| refuse(format!("it is no regular expression: {error}")))?;
                if pattern.matches_nothing() {
                    let remedy = "it matches the empty text, and so everything; make it match something";
                    return Err(refuse(remedy.to_owned()));
                }
                read.push(pattern);
            }
        }
        Ok(Self { patterns: read })
    }

    /// The text without what may not be seen.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if let Cow::Owned(less) = pattern.hide(&shown) {
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

/// Keys that are known by how they begin. The older ones of W&B are not: they are hexadecimal digits, as digests are.
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
    /// A regular expression has a lock for its scratch memory. One of another process may be locked for ever; a clone shares only what
    /// was parsed.
    regex: PerProcess<Regex>,
    /// What every match begins with; to look for it is a few dozen times cheaper than to look for a match.
    beginning: String,
}

impl Pattern {
    fn new(expression: &str) -> Result<Self, regex_lite::Error> {
        Ok(Self::of(Regex::new(expression)?, beginning(expression).to_owned()))
    }

    fn of(regex: Regex, beginning: String) -> Self {
        let again = |parent: Option<&Regex>| parent.unwrap_or_else(|| unreachable!("it begins with a value")).clone();
        Self {
            regex: PerProcess::with(regex, again),
            beginning,
        }
    }

    /// Whether the empty text is a match, by itself or beside a letter.
    fn matches_nothing(&self) -> bool {
        ["", "a"]
            .iter()
            .any(|text| self.regex.get().find(text).is_some_and(|found| found.is_empty()))
    }

    fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match text.contains(&self.beginning) {
            true => self.regex.get().replace_all(text, NoExpand(HIDDEN)),
            false => Cow::Borrowed(text),
        }
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self::of(self.regex.get().clone(), self.beginning.clone())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.regex.get().as_str()).finish()
    }
}

/// The characters at the beginning of an expression that stand for themselves in each of its matches.
fn beginning(expression: &str) -> &str {
    let expression = expression.strip_prefix(r"\b").unwrap_or(expression);
    if expression.contains('|') {
        return "";
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '=' | ':' | '/' | '@' | ' ' | '"' | '\'');
    let end = expression.find(|c| !is_plain(c)).unwrap_or(expression.len());
    let (plain, rest) = expression.split_at(end);
    match rest.starts_with(['*', '?', '{']) {
        // What may be repeated may be absent.
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
    fn a_pattern_that_cannot_work_is_named() {
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
    fn keys_are_known_by_how_they_begin() {
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
    fn texts_at_any_depth() {
        let mut value = json!({"token=1": ["token=1", {"deep": "token=1"}], "n": 1});
        Redaction::new(&["token=."]).unwrap().hide_in(&mut value);
        assert_eq!(value, json!({"token=1": ["***", {"deep": "***"}], "n": 1}));
    }

    proptest! {
        /// The look for the beginning changes nothing but the time.
        #[test]
        fn all_that_matches_is_hidden(
            expression in r"(\\b)?[ab]{0,3}(\*|\?|\+|\{0,2\}|\.|\||\[ab\])?[ab]{1,2}",
            text in "[abc ]{0,20}",
        ) {
            let Ok(redaction) = Redaction::new(&[&expression]) else { return Ok(()) };
            let expected = Regex::new(&expression).unwrap().replace_all(&text, NoExpand(HIDDEN)).into_owned();
            prop_assert_eq!(redaction.hide(&text), expected);
        }
    }

    #[test]
    fn what_every_match_begins_with() {
        for (expression, begins) in [
            (r"password=\S+", "password="),
            (r"\bsk-[a-z]{16}", "sk-"),
            ("ab*c", "a"),
            ("ä?b", ""),
            ("ab+", "ab"),
            ("one|two", ""),
            ("(?i)one", ""),
        ] {
            assert_eq!(beginning(expression), begins, "{expression}");
        }
    }
}
