//! Remedies for values of the wrong type, in the words of a config file. Serde's own texts name
//! types of Rust.

use serde_json::Value;

use crate::config::parse_duration;

/// Returns the remedy for a value that serde refuses with `message`, such as `invalid type: string
/// "30s", expected f64`.
///
/// Serde tells the names of an enumeration only to a text. For another value, `names` finds the
/// names. A message of another kind is returned as it is: a plugin's own text is a remedy already.
pub(crate) fn type_remedy(path: &str, value: &Value, message: &str, names: impl FnOnce() -> Vec<String>) -> String {
    // The value is quoted before the last ", expected ".
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        let missing = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.strip_suffix('`'));
        return missing.map_or_else(
            || message.to_owned(),
            |option| format!("the option `{option}` is missing; add it"),
        );
    };
    if found.starts_with("unknown variant") {
        return name_remedy(&quoted_names(expected));
    }
    match expected {
        "f32" | "f64" => without_quotes(number_remedy(path, "a number", value.as_str()), value),
        "i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize" => {
            let remedy = number_remedy(path, "a whole number", value.as_str());
            match value.is_i64() || value.is_u64() {
                // A whole number is refused for its size alone.
                true => format!("{remedy}{}", describe_limits(expected)),
                false => without_quotes(remedy, value),
            }
        }
        "a string" | "a borrowed string" | "path string" | "a character" => text_remedy(path, value),
        "a boolean" if value.is_string() => "use true or false, without quotes".to_owned(),
        "a boolean" => "use true or false".to_owned(),
        "a sequence" => "use a list, in brackets".to_owned(),
        "a map" => "use a table".to_owned(),
        "string or map" | "map with a single key" | "unit" => name_remedy(&names()),
        _ if expected.starts_with("struct ") && path.is_empty() => {
            "use a table of options, `true` for their defaults, or `false` to switch off".to_owned()
        }
        _ if expected.starts_with("struct ") => "use a table of options".to_owned(),
        _ => format!("use {expected}"),
    }
}

/// Returns the remedy for a field that takes a number, in the unit of the field. `text` is what
/// stands in the place of the number.
pub(crate) fn number_remedy(field: &str, number: &str, text: Option<&str>) -> String {
    let name = last_name(field);
    let unit = match name {
        "grace" | "rank_wait" | "flush_timeout" | "finish_timeout" => "seconds",
        _ => match name.rsplit_once('_').map(|(_, unit)| unit) {
            Some("bytes") => "bytes",
            Some("mb") => "megabytes",
            Some("ms") => "milliseconds",
            Some("secs" | "seconds") => "seconds",
            _ => "",
        },
    };
    let text = text.unwrap_or_default().trim();
    let seconds = parse_duration(text).filter(|_| unit == "seconds");
    let has_unit = text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(char::is_alphabetic);
    match (unit, seconds) {
        (_, Some(time)) => format!("use {number} of seconds, without a unit: {}", time.as_secs_f64()),
        ("", _) if has_unit => format!("use {number}, without a unit"),
        ("", _) => format!("use {number}"),
        _ if has_unit => format!("use {number} of {unit}, without a unit"),
        _ => format!("use {number} of {unit}"),
    }
}

/// Returns the names in serde's text: one of `a`, `b`.
pub(crate) fn quoted_names(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Joins names for a reader: `a`, `b` or `c`.
pub(crate) fn list_names<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        quoted => quoted.concat(),
    }
}

fn name_remedy(names: &[String]) -> String {
    match names.is_empty() {
        true => "use a text in quotes".to_owned(),
        false => format!("use {}", list_names(names)),
    }
}

fn without_quotes(remedy: String, value: &Value) -> String {
    let is_number = |text: &str| text.trim().parse::<f64>().is_ok_and(f64::is_finite);
    match value.as_str().is_some_and(is_number) {
        true => format!("{remedy}, without quotes"),
        false => remedy,
    }
}

fn describe_limits(expected: &str) -> String {
    let limits = match expected {
        "u8" => "from 0 to 255",
        "u16" => "from 0 to 65535",
        "u32" => "from 0 to 4294967295",
        "i8" => "from -128 to 127",
        "i16" => "from -32768 to 32767",
        "i32" => "from -2147483648 to 2147483647",
        "u64" | "usize" => return ", 0 or more".to_owned(),
        _ => return ", nearer to 0".to_owned(),
    };
    format!(" {limits}")
}

fn text_remedy(path: &str, value: &Value) -> String {
    let is_time = path == "stall_after" || path.starts_with("rules[") && path.ends_with(".missing");
    match value {
        _ if is_time => {
            let example = value
                .as_u64()
                .filter(|seconds| *seconds > 0)
                .map_or_else(|| "10m".to_owned(), |seconds| format!("{seconds}s"));
            format!("use a time with its unit, in quotes, such as \"{example}\"")
        }
        _ if path == "limit_per_site" => {
            "use a number of records and a period, in quotes, such as \"100/10s\"".to_owned()
        }
        Value::Number(_) | Value::Bool(_) => format!("put the value into quotes: \"{value}\""),
        _ => "use a text in quotes".to_owned(),
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn serdes_texts_become_remedies_without_types_of_rust() {
        for (path, value, message, expected) in [
            (
                "a",
                json!("x"),
                r#"invalid type: string "x", expected f64"#,
                "use a number",
            ),
            (
                "a",
                json!(" 5 "),
                r#"invalid type: string " 5 ", expected f64"#,
                "use a number, without quotes",
            ),
            (
                "a",
                json!("10k"),
                r#"invalid type: string "10k", expected u64"#,
                "use a whole number, without a unit",
            ),
            (
                "x.rotate_mb",
                json!("10MB"),
                r#"invalid type: string "10MB", expected f64"#,
                "use a number of megabytes, without a unit",
            ),
            (
                "grace",
                json!("2m"),
                r#"invalid type: string "2m", expected f64"#,
                "use a number of seconds, without a unit: 120",
            ),
            (
                "keep",
                json!(1.5),
                "invalid type: floating point `1.5`, expected usize",
                "use a whole number",
            ),
            (
                "keep",
                json!(-1),
                "invalid value: integer `-1`, expected usize",
                "use a whole number, 0 or more",
            ),
            (
                "a",
                json!(300),
                "invalid value: integer `300`, expected u8",
                "use a whole number from 0 to 255",
            ),
            (
                "a",
                json!(5),
                "invalid type: integer `5`, expected a string",
                "put the value into quotes: \"5\"",
            ),
            (
                "a",
                json!([]),
                "invalid type: sequence, expected path string",
                "use a text in quotes",
            ),
            (
                "a",
                json!("no"),
                r#"invalid type: string "no", expected a boolean"#,
                "use true or false, without quotes",
            ),
            (
                "a",
                json!(5),
                "invalid type: integer `5`, expected a sequence",
                "use a list, in brackets",
            ),
            (
                "a",
                json!(5),
                "invalid type: integer `5`, expected a map",
                "use a table",
            ),
            (
                "a",
                json!(5),
                "invalid type: integer `5`, expected struct Inner",
                "use a table of options",
            ),
            (
                "",
                json!(5),
                "invalid type: integer `5`, expected struct FileOptions",
                "use a table of options, `true` for their defaults, or `false` to switch off",
            ),
            (
                "a",
                json!(5),
                "invalid type: integer `5`, expected string or map",
                "use `x` or `y`",
            ),
            (
                "a",
                json!("z, expected q"),
                "unknown variant `z, expected q`, expected one of `a`, `b`, `c`",
                "use `a`, `b` or `c`",
            ),
            (
                "a",
                json!(5),
                "invalid type: integer `5`, expected a color",
                "use a color",
            ),
            (
                "",
                json!({}),
                "missing field `url`",
                "the option `url` is missing; add it",
            ),
            ("a", json!(5), "use 1 or 2", "use 1 or 2"),
        ] {
            let names = || vec!["x".to_owned(), "y".to_owned()];
            assert_eq!(type_remedy(path, &value, message, names), expected, "{message}");
        }
    }
}
