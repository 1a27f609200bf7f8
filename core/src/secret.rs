//! Values that must not be shown.

use serde_json::Value;

pub(crate) const HIDDEN: &str = "***";

/// Whether the last part of a field's name says that its value is a secret.
///
/// Whole words only: `api_key` and `hf_token` are, `use_cls_tokens` and `keyword` are not.
pub(crate) fn is_secret_name(field: &str) -> bool {
    let name = field.rsplit('.').next().unwrap_or(field).to_ascii_lowercase();
    matches!(
        name.rsplit(['_', '-']).next(),
        Some("key" | "apikey" | "token" | "secret" | "password" | "passwd" | "credential" | "credentials")
    )
}

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
                let shown = if is_secret_name(name) && !inner.is_null() {
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
        for open in ["sinks.file.keep", "use_cls_tokens", "keyword", "monkey", "token_count"] {
            assert!(!is_secret_name(open), "{open}");
        }
    }
}
