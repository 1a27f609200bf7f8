//! Reads lines as rows. A row is most often like the one before, and then costs no allocation.

use logcore::{MetricValue, StoredRow};
use memchr::memchr;

/// Reads lines as rows.
///
/// The keys of a row are predicted: each is compared first with the key that the row before had in
/// this place. Whatever the short way does not know (escapes, values that are not finite) goes
/// through `serde_json`, so both give the same rows.
#[derive(Debug)]
pub(crate) struct RowReader {
    row: StoredRow,
}

impl Default for RowReader {
    fn default() -> Self {
        Self {
            row: StoredRow::new(0, 0.0, ""),
        }
    }
}

impl RowReader {
    /// Returns the row in a line; `None` if the line is no row. The caller may change or swap the
    /// row.
    pub(crate) fn read(&mut self, line: &[u8]) -> Option<&mut StoredRow> {
        if read_plain_row(line, &mut self.row).is_none() {
            self.row = serde_json::from_slice(line).ok()?;
        }
        Some(&mut self.row)
    }
}

/// Reads a row without escapes, spaces, `null` and values as texts. After a `None` the row has
/// parts of two.
fn read_plain_row(line: &[u8], row: &mut StoredRow) -> Option<()> {
    let mut rest = line.strip_prefix(b"{")?;
    let (mut has_step, mut has_time, mut has_logger) = (false, false, false);
    let mut count = 0;
    row.attempt = 1;
    loop {
        let key = take_text(&mut rest)?;
        rest = rest.strip_prefix(b":")?;
        match key {
            b"step" => {
                let digits = take_integer(&mut rest)?;
                row.step = u64::try_from(digits).ok()?;
                has_step = true;
            }
            b"time" => {
                row.time = take_number(&mut rest)?.as_f64();
                has_time = true;
            }
            b"logger" => {
                replace_text(&mut row.logger, take_text(&mut rest)?)?;
                has_logger = true;
            }
            b"attempt" => row.attempt = u32::try_from(take_integer(&mut rest)?).ok()?,
            b"nonfinite" => rest = rest.strip_prefix(b"\"\"")?,
            _ => {
                let value = take_number(&mut rest)?;
                if let Some((own, old)) = row.values.get_mut(count) {
                    replace_text(own, key)?;
                    *old = value;
                } else {
                    row.values.push((str::from_utf8(key).ok()?.to_owned(), value));
                }
                count += 1;
            }
        }
        let (end, after) = rest.split_first()?;
        rest = after;
        match end {
            b',' => {}
            b'}' if rest.is_empty() => break,
            _ => return None,
        }
    }
    row.values.truncate(count);
    (has_step && has_time && has_logger).then_some(())
}

/// Replaces a text that is most often the same already.
fn replace_text(own: &mut String, text: &[u8]) -> Option<()> {
    if own.as_bytes() != text {
        own.clear();
        own.push_str(str::from_utf8(text).ok()?);
    }
    Some(())
}

/// Takes a string without escapes and control characters.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = rest.strip_prefix(b"\"")?;
    let (text, after) = text.split_at(memchr(b'"', text)?);
    if text.iter().any(|byte| *byte < b' ' || *byte == b'\\') {
        return None;
    }
    *rest = &after[1..];
    Some(text)
}

fn take_integer(rest: &mut &[u8]) -> Option<i64> {
    match take_number(rest)? {
        MetricValue::Int(value) => Some(value),
        _ => None,
    }
}

/// Takes a number in the form of JSON.
fn take_number(rest: &mut &[u8]) -> Option<MetricValue> {
    let text = *rest;
    let sign = usize::from(text.first() == Some(&b'-'));
    let mut digits = 0;
    let mut end = take_digits(text, sign, &mut digits)?;
    let has_leading_zero = text[sign] == b'0' && end > sign + 1;
    if has_leading_zero {
        return None;
    }
    let whole = end;
    if text.get(end) == Some(&b'.') {
        end = take_digits(text, end + 1, &mut digits)?;
    }
    let point = end;
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let has_sign = matches!(text.get(end + 1), Some(b'+' | b'-'));
        end = take_digits(text, end + 1 + usize::from(has_sign), &mut 0)?;
    }
    *rest = &text[end..];
    let is_negative = sign == 1;
    if end == whole && !(is_negative && digits == 0) {
        // Longer ones need not fit.
        let value = (end - sign <= MAX_DIGITS).then_some(digits)?.cast_signed();
        return Some(MetricValue::Int(if is_negative { -value } else { value }));
    }
    let places = point.saturating_sub(whole + 1);
    let value = match point == end && point - sign <= MAX_DIGITS && digits <= MAX_EXACT {
        true => {
            #[expect(clippy::cast_precision_loss, reason = "an exact integer")]
            let value = digits as f64 / POWERS.get(places)?;
            if is_negative { -value } else { value }
        }
        false => str::from_utf8(&text[..end]).ok()?.parse().ok()?,
    };
    // JSON knows no infinity, so a number without bound is an error there.
    value.is_finite().then_some(MetricValue::Float(value))
}

/// Digits that always fit in an `i64`.
const MAX_DIGITS: usize = 18;
/// Up to this integer and these powers of ten a double is exact, so that one division rounds as
/// [Clinger](https://doi.org/10.1145/93542.93557) has shown.
const MAX_EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
const POWERS: [f64; 18] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
];

/// Adds the digits that begin at `from` to a number, which has a meaning up to [`MAX_DIGITS`].
/// Returns the place behind the digits; `None` if there is none.
fn take_digits(text: &[u8], from: usize, number: &mut u64) -> Option<usize> {
    let mut end = from;
    while let Some(digit) = text
        .get(end)
        .map(|byte| byte.wrapping_sub(b'0'))
        .filter(|digit| *digit < 10)
    {
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        end += 1;
    }
    (end > from).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts that are parts of rows, and what is like them.
    fn pieces() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            any::<f64>().prop_map(|value| value.to_string()),
            any::<f64>().prop_map(|value| format!("{value:e}")),
            any::<i64>().prop_map(|value| value.to_string()),
            any::<u64>().prop_map(|value| value.to_string()),
            "-?[0-9]{1,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,4})?",
        ];
        let value = prop_oneof![8 => number, 1 => "\"(NaN|-?Infinity|x)?\"", 1 => "null|true|\\[1\\]| 1|1 "];
        let key = prop_oneof![
            4 => "[ab]",
            1 => "step|time|logger|attempt",
            1 => "\\\\u0061|\\\\\\\\|a\\\\nb|\t|é|a\\\\",
        ];
        (key, value).prop_map(|(key, value)| format!(",\"{key}\":{value}"))
    }

    fn lines() -> impl Strategy<Value = Vec<String>> {
        let plain_head = (any::<u32>(), any::<f32>()).prop_map(|(step, time)| {
            let time = time.abs();
            format!("\"step\":{step},\"time\":{time},\"logger\":\"a\"")
        });
        let head = prop_oneof![
            6 => plain_head,
            1 => Just("\"step\":1,\"logger\":\"a\"".to_owned()),
            1 => Just("\"step\":-1,\"time\":0,\"logger\":\"é\\\"".to_owned()),
        ];
        let tail = prop_oneof![
            4 => Just("}"),
            1 => Just(",\"nonfinite\":\"\",\"attempt\":2}"),
            1 => Just(",\"nonfinite\":\"{\\\"a\\\":\\\"NaN\\\"}\"}"),
            1 => Just(""),
        ];
        let line = (head, prop::collection::vec(pieces(), 0..4), tail);
        let line = line.prop_map(|(head, pieces, tail)| format!("{{{head}{}{tail}", pieces.concat()));
        prop::collection::vec(line, 1..6)
    }

    fn bits(row: &StoredRow) -> Vec<(String, bool, u64)> {
        let values = row.values.iter();
        values
            .map(|(name, value)| {
                (
                    name.clone(),
                    matches!(value, MetricValue::Int(_)),
                    value.as_f64().to_bits(),
                )
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn rows_are_those_of_serde_json(lines in lines()) {
            let mut reader = RowReader::default();
            for line in lines {
                let expected = serde_json::from_str::<StoredRow>(&line).ok();
                let row = reader.read(line.as_bytes()).cloned();
                prop_assert_eq!(row.is_some(), expected.is_some(), "{}", line);
                if let (Some(row), Some(expected)) = (row, expected) {
                    prop_assert_eq!(bits(&row), bits(&expected), "{}", line);
                    prop_assert_eq!(row.time.to_bits(), expected.time.to_bits());
                    prop_assert_eq!((row.step, row.attempt), (expected.step, expected.attempt));
                    prop_assert_eq!(row.logger, expected.logger);
                }
            }
        }
    }

    #[test]
    fn plain_rows_take_the_short_way() {
        let mut row = StoredRow::new(0, 0.0, "");
        for line in [
            r#"{"step":0,"time":1795978245.883925,"logger":"a","metrics/loss":1.0,"nonfinite":"","attempt":1}"#,
            r#"{"step":1,"time":1795978245.9,"logger":"a","metrics/loss":-1e-7,"metrics/epoch":3,"attempt":2}"#,
        ] {
            assert_eq!(read_plain_row(line.as_bytes(), &mut row), Some(()));
            assert_eq!(row, serde_json::from_str(line).unwrap());
        }
    }
}
