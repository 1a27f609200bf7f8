//! Converts JSON to YAML 1.1.

use std::fmt::Write as _;

use serde_json::Value;

use crate::log_format::json;

/// Converts a JSON text. YAML 1.1 reads `1e-5` as a text, so that floats get a decimal point.
pub(crate) fn yaml_value(text: &str) -> String {
    match json::read_with_words(text) {
        Some(value) => {
            let mut out = String::new();
            put_yaml(&value, &mut out);
            out
        }
        None => text.to_owned(),
    }
}

/// Appends a value in the flow style of YAML.
fn put_yaml(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            match text.split_once('e') {
                Some((digits, power)) => {
                    let point = if digits.contains('.') { "" } else { ".0" };
                    let sign = if power.starts_with('-') { "" } else { "+" };
                    let _ = write!(out, "{digits}{point}e{sign}{}", power.trim_start_matches('+'));
                }
                None => out.push_str(&text),
            }
        }
        Value::String(text) if text.starts_with(json::BARE) => out.push_str(match &text[1..] {
            "NaN" => ".nan",
            "Infinity" => ".inf",
            _ => "-.inf",
        }),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                put_yaml(item, out);
            }
            out.push(']');
        }
        Value::Object(all) => {
            out.push('{');
            for (at, (key, item)) in all.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                json::put_string(key, out);
                out.push_str(": ");
                put_yaml(item, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_has_its_own_names_for_nan_and_infinity() {
        assert_eq!(
            yaml_value(r#"{"a": NaN, "b": [-Infinity, 1e-7, "NaN"]}"#),
            r#"{"a": .nan, "b": [-.inf, 1.0e-7, "NaN"]}"#
        );
    }
}
