//! Values that must not appear in any output.

mod names;
mod text_scan;

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

pub(crate) use self::names::is_secret_name;
use self::names::{is_certain_secret_name, is_plural};
pub(crate) use self::text_scan::hide_in_text;
use self::text_scan::{is_secret_option, is_special_token};

/// A value that is written as `***` everywhere: in messages, fields, configs and errors.
///
/// ```
/// use logcore::Secret;
///
/// let key = Secret::new("abc".to_owned());
/// assert_eq!(format!("{key} {key:?}"), "*** ***");
/// assert_eq!(serde_json::to_string(&key).unwrap(), r#""***""#);
/// assert_eq!(key.expose(), "abc");
///
/// // Deserialize reads the real value, so a config can hold a secret.
/// let key: Secret<String> = serde_json::from_str(r#""abc""#).unwrap();
/// assert_eq!(key.expose(), "abc");
/// ```
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the real value.
    #[must_use]
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

/// Returns a copy of `value` with `***` in place of secrets:
///
/// - values whose names suggest a secret: `api_key`, `hfToken`, `database_url`, …;
/// - list items that follow such a name: `["--password", "abc"]`;
/// - parts of texts: passwords in URLs, `--api-key=…`, headers, and keys with a known prefix.
///
/// ```
/// let shown = logcore::redacted(&serde_json::json!({"lr": 0.1, "hf_token": "abc", "args": ["--password", "abc"]}));
/// assert_eq!(shown, serde_json::json!({"lr": 0.1, "hf_token": "***", "args": ["--password", "***"]}));
/// ```
#[must_use]
pub fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let names_secret = map
                .values()
                .any(|name| name.as_str().is_some_and(is_certain_secret_name));
            map.iter()
                .map(|(name, inner)| {
                    let is_named = names_secret && matches!(&**name, "value" | "val" | "default" | "content" | "data");
                    (
                        name.clone(),
                        visible_form(is_named || is_secret_name(name), name, inner),
                    )
                })
                .collect()
        }
        Value::Array(items) => (0..items.len())
            .map(|at| {
                let before = at.checked_sub(1).and_then(|before| items[before].as_str());
                let is_named = before.is_some_and(|before| {
                    is_secret_option(before) || (items.len() == 2 && is_certain_secret_name(before))
                });
                let is_option = items[at].as_str().is_some_and(|item| item.starts_with("--"));
                visible_form(is_named && !is_option, before.unwrap_or_default(), &items[at])
            })
            .collect(),
        Value::String(text) => hide_in_text(text).into(),
        other => other.clone(),
    }
}

/// Returns the visible form of a value under a name that may be the name of a secret.
fn visible_form(is_secret: bool, name: &str, value: &Value) -> Value {
    let is_harmless = || match value {
        // A switch such as `use_auth_token`.
        Value::Null | Value::Bool(_) => true,
        Value::String(text) => is_special_token(text),
        value => is_plural(name) && is_numeric(value),
    };
    match is_secret && !is_harmless() {
        true => HIDDEN.into(),
        false => redacted(value),
    }
}

/// Returns `true` for a number and for a list of numbers.
fn is_numeric(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(Value::is_number),
        value => value.is_number(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn switch_with_a_secret_name_stays_visible() {
        let config = json!({"use_auth_token": true, "auth_token": 5, "api_key": null, "key": {"a": 1}});
        let shown = json!({"use_auth_token": true, "auth_token": "***", "api_key": null, "key": "***"});
        assert_eq!(redacted(&config), shown);
    }

    #[test]
    fn value_beside_a_secret_name_is_hidden() {
        let config = json!({
            "args": ["--api-key=S", "--password", "S", "--lr", "0.1", "--token", "--verbose"],
            "headers": [["Authorization", "Bearer S"], ["Accept", "text/html"]],
            "list": [{"name": "api_key", "value": "S"}, {"name": "lr", "value": 0.1}],
            "url": "postgres://user:S@host/db",
            "tokens": 3000, "keys": [1, 2], "unk_token": "<unk>", "my_token": "[X]",
            "lora": {"target_modules": ["key", "value"]},
        });
        let shown = json!({
            "args": ["--api-key=***", "--password", "***", "--lr", "0.1", "--token", "--verbose"],
            "headers": [["Authorization", "***"], ["Accept", "text/html"]],
            "list": [{"name": "api_key", "value": "***"}, {"name": "lr", "value": 0.1}],
            "url": "postgres://user:***@host/db",
            "tokens": 3000, "keys": [1, 2], "unk_token": "<unk>", "my_token": "[X]",
            "lora": {"target_modules": ["key", "value"]},
        });
        assert_eq!(redacted(&config), shown);
        assert_eq!(redacted(&shown), shown);
    }
}
