//! JSON as W&B has it: numbers may be the bare words `NaN`, `Infinity` and `-Infinity`.

use logcore::MetricValue;
use serde_json::Value;

/// Appends a number; a double so that it reads back to the last bit.
pub(crate) fn put_number(value: MetricValue, text: &mut String) {
    match value {
        MetricValue::Int(value) => text.push_str(itoa::Buffer::new().format(value)),
        MetricValue::UInt(value) => text.push_str(itoa::Buffer::new().format(value)),
        other => put_float(other.as_f64(), text),
    }
}

/// Appends a double; a whole one without a fraction, as the official client does.
pub(crate) fn put_float(value: f64, text: &mut String) {
    // Below this every whole number has a double of its own, and the digits say which.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        if value.is_sign_negative() {
            text.push('-');
        }
        text.push_str(itoa::Buffer::new().format(value.abs() as u64));
    } else if value.is_finite() {
        text.push_str(zmij::Buffer::new().format_finite(value));
    } else if value.is_nan() {
        text.push_str("NaN");
    } else {
        text.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
}

/// A double as a value; what is not finite is null.
pub(crate) fn value(number: f64) -> Value {
    serde_json::from_str(&float(number)).unwrap_or_default()
}

/// A double as text.
pub(crate) fn float(value: f64) -> String {
    let mut text = String::new();
    put_float(value, &mut text);
    text
}

/// Appends a string with its quotes.
pub(crate) fn put_string(value: &str, text: &mut String) {
    // A string always has a form in JSON.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

/// The number that a text of this dialect is, if it is one.
pub(crate) fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust's own words for these (`inf`, `nan`) are not JSON.
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.parse().ok(),
        _ => None,
    }
}

/// Reads a text of this dialect; what JSON has no number for becomes null.
pub(crate) fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::from_str(&without_bare_words(text)).ok())
}

fn without_bare_words(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word = (!in_string).then(|| {
            ["NaN", "Infinity", "-Infinity"]
                .into_iter()
                .find(|word| rest.starts_with(word))
        });
        if let Some(Some(word)) = word {
            plain.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let taken = match c {
            '\\' if in_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => c.len_utf8(),
        };
        in_string ^= c == '"';
        plain.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn doubles_read_back(value in any::<f64>()) {
            let read = number(&float(value)).unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn reading_never_panics(text in "[\"\\\\NaInfity{}:,\\-0-9é]{0,30}") {
            let _ = read(&text);
        }
    }

    #[test]
    fn bare_words_outside_strings_become_null() {
        let read = read(r#"{"a": NaN, "b": [-Infinity, "NaN \" Infinity"], "c": 1}"#).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"a": null, "b": [null, "NaN \" Infinity"], "c": 1})
        );
    }

    #[test]
    fn only_numbers_are_numbers() {
        assert_eq!(number("-3e2"), Some(-300.0));
        for text in ["\"1\"", "null", "inf", "nan", "{}", "", "-inf"] {
            assert!(
                number(text).is_none_or(|value| text == "-inf" && value.is_infinite()),
                "{text}"
            );
        }
    }
}
