//! TOML, with a remedy for dates, which the parser does not know.

use super::parsed_value::{ParsedTable, ParsedValue};
use super::toml_depth::{MAX_DEPTH, nesting_depth};

/// Parses a text, or returns the reason why there is no table, with the line.
pub(super) fn parse_toml(text: &str) -> Result<ParsedTable, String> {
    if nesting_depth(text) > MAX_DEPTH {
        return Err(format!("nested more than {MAX_DEPTH} levels deep"));
    }
    let parsed = basic_toml::from_str::<ParsedValue>(text).map_err(|error| {
        let place = error.line_col();
        match place.and_then(|(line, column)| Some((line + 1, date_at(text, line, column)?))) {
            Some((line, date)) => format!("put the date or time in line {line} into quotes: \"{date}\""),
            None => format!("not valid TOML: {error}"),
        }
    })?;
    parsed
        .into_table()
        .ok_or_else(|| "not a table with the fields of a config".to_owned())
}

/// Returns the date or time at a line and a column in bytes, both counted from 0. The parser stops
/// at the beginning of a date, at its second digit, or at a colon within.
fn date_at(text: &str, line: usize, column: usize) -> Option<&str> {
    let line = text.split('\n').nth(line)?;
    let (before, behind) = (line.get(..column)?, line.get(column..)?);
    let begin = before.trim_end_matches(is_part_of_date).len();
    let end = column + word_length(behind);
    let word = line.get(begin..end)?;
    let time = line.get(end..)?.strip_prefix(' ').filter(|time| is_time(time));
    let end = end + time.map_or(0, |time| 1 + word_length(time));
    (is_date(word) || is_time(word)).then(|| line.get(begin..end))?
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_part_of_date(c)).unwrap_or(text.len())
}

fn is_part_of_date(c: char) -> bool {
    c.is_ascii_digit() || "-:.+TZtz".contains(c)
}

/// Returns `true` for a text that begins like 2026-11-30.
fn is_date(text: &str) -> bool {
    begins_like(text, b"0000-00-00")
}

/// Returns `true` for a text that begins like 18:00:00.
fn is_time(text: &str) -> bool {
    begins_like(text, b"00:00")
}

/// Compares the beginning of a text with a pattern in which 0 stands for any digit.
fn begins_like(text: &str, pattern: &[u8]) -> bool {
    let is_like = |(byte, pattern): (&u8, &u8)| match pattern {
        b'0' => byte.is_ascii_digit(),
        other => byte == other,
    };
    text.len() >= pattern.len() && text.as_bytes().iter().zip(pattern).all(is_like)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_without_quotes_is_named_with_its_line() {
        for (value, date) in [
            ("2026-11-30T18:00:00Z", "2026-11-30T18:00:00Z"),
            ("2026-11-30T18:00:00.5+01:00 # end", "2026-11-30T18:00:00.5+01:00"),
            ("2026-11-30 18:00:00Z", "2026-11-30 18:00:00Z"),
            ("0026-01-31", "0026-01-31"),
            ("[1, 2026-01-31, 3]", "2026-01-31"),
            ("{ b = 2026-01-31 }", "2026-01-31"),
            ("07:32:00", "07:32:00"),
            ("12:30:00.25", "12:30:00.25"),
        ] {
            for text in [
                format!("x = 1\r\na = {value}\r\nb = 1"),
                format!("# \u{e9}\na = {value}"),
            ] {
                let said = parse_toml(&text).map(|table| table.fields);
                let expected = format!("put the date or time in line 2 into quotes: \"{date}\"");
                assert_eq!(said, Err(expected), "{text}");
            }
        }
        for other in [
            "a = 2026-11",
            "a = 01",
            "a = 1-2-3",
            "a = 2026-13-\u{e9}",
            "a = ",
            "a = 1:2",
        ] {
            let said = parse_toml(other).map(|table| table.fields).unwrap_err();
            assert!(said.starts_with("not valid TOML: "), "{other}: {said}");
        }
    }
}
