//! W&B's dialect of JSON: numbers may be the bare words `NaN`, `Infinity` and `-Infinity`.

use std::fmt::Write as _;

use logcore::MetricValue;
use logcore::digits::{DigitTable, with_kept_digits};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Appends a number with its shortest digits. A double is read back exactly.
pub(crate) fn put_number(value: MetricValue, text: &mut Vec<u8>) {
    with_kept_digits(|digits| put_kept_number(value, digits, text));
}

/// As [`put_number`], for one of many numbers.
#[inline]
pub(crate) fn put_kept_number(value: MetricValue, digits: &mut DigitTable, text: &mut Vec<u8>) {
    match value {
        MetricValue::Int(value) => text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        MetricValue::UInt(value) => text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        other => put_kept_float(other.as_decimal(), digits, text),
    }
}

/// Appends a double. Integral values have no fraction, as in the official client.
#[inline]
fn put_kept_float(value: f64, digits: &mut DigitTable, text: &mut Vec<u8>) {
    // Below this limit, all integers are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // Compared with its integer, a double needs no call of a library on any processor.
    if value.abs() < EXACT && value as i64 as f64 == value {
        if value.is_sign_negative() {
            text.push(b'-');
        }
        text.extend_from_slice(itoa::Buffer::new().format(value.abs() as u64).as_bytes());
    } else if value.is_finite() {
        digits.append_and_keep(value, text);
    } else if value.is_nan() {
        text.extend_from_slice(b"NaN");
    } else {
        text.extend_from_slice(if value > 0.0 { &b"Infinity"[..] } else { b"-Infinity" });
    }
}

/// Returns a double as a value. NaN and infinities become null.
pub(crate) fn value(number: f64) -> Value {
    serde_json::from_str(&float(number)).unwrap_or_default()
}

/// Returns a double as text.
pub(crate) fn float(value: f64) -> String {
    number_text(MetricValue::Float(value))
}

/// Returns a number as text.
pub(crate) fn number_text(value: MetricValue) -> String {
    let mut text = Vec::new();
    put_number(value, &mut text);
    // The text of a number is ASCII.
    String::from_utf8(text).unwrap_or_default()
}

/// Appends a quoted string.
pub(crate) fn put_string(value: &str, text: &mut String) {
    text.push('"');
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, 0..b' ' | b'"' | b'\\')) {
        let (plain, special) = rest.split_at(at);
        text.push_str(plain);
        match special.as_bytes()[0] {
            byte @ (b'"' | b'\\') => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            byte => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{byte:04x}");
            }
        }
        rest = &special[1..];
    }
    text.push_str(rest);
    text.push('"');
}

/// Parses a number of this dialect.
pub(crate) fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust also parses `inf` and `nan`, which are not JSON.
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.parse().ok(),
        _ => None,
    }
}

/// Parses a text of this dialect. Bare words become null.
pub(crate) fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::from_str(&without_bare_words(text, |_| "null".to_owned())).ok())
}

/// The first character of a text that stands for a bare word.
pub(crate) const BARE: char = '\0';

/// As [`read`], but bare words become texts that start with [`BARE`].
pub(crate) fn read_with_words(text: &str) -> Option<Value> {
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::from_str(&without_bare_words(text, |word| format!("\"\\u0000{word}\""))).ok())
}

/// Returns `true` if a text is valid in this dialect.
pub(crate) fn is_valid(text: &str) -> bool {
    if is_number(text.as_bytes()) {
        return true;
    }
    let plain = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    plain(text) || plain(&without_bare_words(text, |_| "null".to_owned()))
}

/// Returns `true` if a text is a number of JSON, as most values are.
fn is_number(text: &[u8]) -> bool {
    /// Cuts digits off the front. Returns `None` if there are none.
    fn after_digits(text: &[u8]) -> Option<&[u8]> {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| &text[count..])
    }
    let rest = match text.strip_prefix(b"-").unwrap_or(text) {
        [b'0', rest @ ..] => Some(rest),
        rest => after_digits(rest),
    };
    let rest = match rest {
        Some([b'.', rest @ ..]) => after_digits(rest),
        rest => rest,
    };
    let rest = match rest {
        Some([b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..]) => after_digits(rest),
        rest => rest,
    };
    rest.is_some_and(<[u8]>::is_empty)
}

/// Returns the members of an object, with their values as written. Anything else has no members.
pub(crate) fn members(text: &str) -> Vec<(String, &str)> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inner) = inner.filter(|_| is_valid(text)) else {
        return Vec::new();
    };
    parts(inner, ',')
        .filter_map(|member| {
            let (key, value) = member.split_at(parts(member, ':').next()?.len());
            Some((serde_json::from_str(key.trim()).ok()?, value.get(1..)?.trim()))
        })
        .collect()
}

/// Splits a valid text at the separators outside of strings, objects and arrays.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    text.split(move |c| {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            c => return c == separator && depth == 0,
        }
        false
    })
}

/// Replaces the bare words outside of strings.
fn without_bare_words(text: &str, replacement: impl Fn(&str) -> String) -> String {
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
            plain.push_str(&replacement(word));
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
        fn numbers_are_recognized(text in prop_oneof!["-?[0-9.eE+-]{0,6}", any::<f64>().prop_map(float)]) {
            let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_number(text.as_bytes()), is_json, "{}", text);
        }

        #[test]
        fn strings_are_read_back(text in "(\\PC|[\0-\u{1f}\"\\\\\u{7f}]){0,20}") {
            let mut quoted = String::new();
            put_string(&text, &mut quoted);
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }

        #[test]
        fn doubles_are_read_back_exactly(value in any::<f64>()) {
            let read = number(&float(value)).unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn reading_never_panics(text in "[\"\\\\NaInfity{}:,\\-0-9é]{0,30}") {
            let _ = (read(&text), members(&text));
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
    fn members_keep_their_text() {
        let text = r#" {"a" : NaN, "b": {"c,}": [1.50, "x\"]"]}, "d": "\\", "é\"": -Infinity } "#;
        let expected = [
            ("a", "NaN"),
            ("b", r#"{"c,}": [1.50, "x\"]"]}"#),
            ("d", r#""\\""#),
            ("é\"", "-Infinity"),
        ];
        assert_eq!(members(text), expected.map(|(key, value)| (key.to_owned(), value)));
        for other in ["", "{}", "[1]", "{\"a\":}", "{\"a\":1", "1"] {
            assert!(members(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn only_json_numbers_are_parsed() {
        assert_eq!(number("-3e2"), Some(-300.0));
        for text in ["\"1\"", "null", "inf", "nan", "{}", "", "-inf"] {
            assert!(
                number(text).is_none_or(|value| text == "-inf" && value.is_infinite()),
                "{text}"
            );
        }
    }
}
