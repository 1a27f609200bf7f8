//! Values that must not be shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// A value that shows itself as `***` wherever it is written: in a message, a field, a config, an error.
///
/// ```
/// use logcore::Secret;
///
/// let key = Secret::new("abc".to_owned());
/// assert_eq!(format!("{key} {key:?}"), "*** ***");
/// assert_eq!(serde_json::to_string(&key).unwrap(), r#""***""#);
/// assert_eq!(key.expose(), "abc");
///
/// // It can be read, so it may stand in a config.
/// let key: Secret<String> = serde_json::from_str(r#""abc""#).unwrap();
/// assert_eq!(key.expose(), "abc");
/// ```
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// A secret of this value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

pub(crate) const HIDDEN: &str = "***";

/// Whether the last part of a field's name says that its value is a secret.
///
/// Whole words only: `api_key` and `hf_token` are, `use_cls_tokens` and `keyword` are not. Nor are the tokens of a tokenizer,
/// such as `pad_token`.
pub(crate) fn is_secret_name(field: &str) -> bool {
    let name = field.rsplit('.').next().unwrap_or(field).to_ascii_lowercase();
    let mut words = name.rsplit(['_', '-']);
    match words.next() {
        Some("token") => !words.next().is_some_and(|word| TOKENIZER_WORDS.contains(&word)),
        last => matches!(
            last,
            Some("key" | "apikey" | "secret" | "password" | "passwd" | "credential" | "credentials")
        ),
    }
}

/// What stands before `token` where it is a piece of text.
const TOKENIZER_WORDS: [&str; 10] = ["bos", "cls", "eos", "image", "mask", "pad", "per", "sep", "stop", "unk"];

/// A copy of `value` in which the values of secret names (`api_key`, `hf_token`, `password`, …) are hidden.
///
/// ```
/// let shown = logcore::redacted(&serde_json::json!({"lr": 0.1, "hf_token": "abc"}));
/// assert_eq!(shown, serde_json::json!({"lr": 0.1, "hf_token": "***"}));
/// ```
pub fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, inner)| {
                // What is only on or off tells nothing: `use_auth_token`.
                let shown = if is_secret_name(name) && !matches!(inner, Value::Null | Value::Bool(_)) {
                    Value::from(HIDDEN)
                } else {
                    redacted(inner)
                };
                (name.clone(), shown)
            })
            .collect(),
        Value::Array(items) => items.iter().map(redacted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only() {
        for secret in ["sinks.wandb.api_key", "token", "hf-token", "Password"] {
            assert!(is_secret_name(secret), "{secret}");
        }
        for open in [
            "sinks.file.keep",
            "use_cls_tokens",
            "keyword",
            "monkey",
            "token_count",
            "use_cls_token",
            "pad-token",
            "flops_per_token",
        ] {
            assert!(!is_secret_name(open), "{open}");
        }
    }

    #[test]
    fn a_switch_is_no_secret() {
        let config = serde_json::json!({"use_auth_token": true, "auth_token": 5, "api_key": null, "key": {"a": 1}});
        let shown = serde_json::json!({"use_auth_token": true, "auth_token": "***", "api_key": null, "key": "***"});
        assert_eq!(redacted(&config), shown);
    }
}
