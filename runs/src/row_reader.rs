//! Reads lines as rows. A row is most often like the one before, and then costs no allocation.

use std::ops::Range;

use logcore::{MetricValue, StoredRow};
use memchr::memchr;

/// Reads lines as rows.
///
/// The shape of a row is predicted: all but its numbers is compared with a row before. Whatever has
/// another shape is read key by key, and whatever that way does not know (escapes, values that are
/// not finite) goes through `serde_json`. All three give the same rows.
#[derive(Debug)]
pub(crate) struct RowReader {
    row: StoredRow,
    shapes: Vec<Shape>,
    /// The place of the shape that the next row is expected to have.
    expected: usize,
    /// The place of the shape that the last plain row has had.
    last: usize,
}

impl Default for RowReader {
    fn default() -> Self {
        Self {
            row: StoredRow::new(0, 0.0, ""),
            shapes: Vec::new(),
            expected: 0,
            last: 0,
        }
    }
}

impl RowReader {
    /// Returns the row in a line; `None` if the line is no row. The caller may change or swap the
    /// row.
    pub(crate) fn read(&mut self, line: &[u8]) -> Option<&mut StoredRow> {
        let expected = self.shapes.get(self.expected);
        if expected.is_some_and(|shape| shape.read(line, &mut self.row).is_some()) {
            self.follow(self.expected);
        } else if let Some(shape) = read_plain_row(line, &mut self.row) {
            self.learn(shape);
        } else {
            self.row = serde_json::from_slice(line).ok()?;
        }
        Some(&mut self.row)
    }

    /// Notes the shape of a row, and that it has followed the one before.
    fn learn(&mut self, mut shape: Shape) {
        if shape.text.len() > MAX_SHAPE {
            return;
        }
        let known = self.shapes.iter().position(|known| known.text == shape.text);
        let place = known.unwrap_or_else(|| {
            let place = match self.shapes.len() {
                MAX_SHAPES.. => self.expected,
                count => count,
            };
            shape.next = place;
            match self.shapes.get_mut(place) {
                Some(other) => *other = shape,
                None => self.shapes.push(shape),
            }
            place
        });
        if let Some(last) = self.shapes.get_mut(self.last) {
            last.next = place;
        }
        self.follow(place);
    }

    fn follow(&mut self, place: usize) {
        self.last = place;
        self.expected = self.shapes[place].next;
    }
}

/// Most shapes that are remembered: those of a few loggers that take turns.
const MAX_SHAPES: usize = 8;
/// Longest text of a shape that is remembered, in bytes: that of ten thousand metrics.
const MAX_SHAPE: usize = 1 << 20;

/// All of a plain row but its numbers.
#[derive(Debug)]
struct Shape {
    /// The row without its numbers.
    text: Vec<u8>,
    /// The numbers, each with the place in the text where it stands.
    numbers: Vec<(usize, NumberKind)>,
    logger: Range<usize>,
    /// The place of the shape that the next row had.
    next: usize,
}

#[derive(Debug, Clone)]
enum NumberKind {
    Step,
    Time,
    Attempt,
    /// The value of the metric whose name stands here in the text.
    Value(Range<usize>),
}

impl Shape {
    /// Reads a row of this shape. After a `None` the row has parts of two.
    fn read(&self, line: &[u8], row: &mut StoredRow) -> Option<()> {
        let (mut rest, mut begin, mut count) = (line, 0, 0);
        row.attempt = 1;
        for (end, kind) in &self.numbers {
            rest = rest.strip_prefix(&self.text[begin..*end])?;
            begin = *end;
            match kind {
                NumberKind::Step => row.step = take_step(&mut rest)?,
                NumberKind::Time => row.time = take_number(&mut rest)?.as_f64(),
                NumberKind::Attempt => row.attempt = take_attempt(&mut rest)?,
                NumberKind::Value(name) => {
                    let value = take_number(&mut rest)?;
                    put_value(row, count, &self.text[name.clone()], value)?;
                    count += 1;
                }
            }
        }
        if rest != &self.text[begin..] {
            return None;
        }
        row.values.truncate(count);
        replace_text(&mut row.logger, &self.text[self.logger.clone()])
    }
}

/// Reads a row without escapes, spaces, `null` and values as texts, and returns its shape. After a
/// `None` the row has parts of two.
fn read_plain_row(line: &[u8], row: &mut StoredRow) -> Option<Shape> {
    let mut rest = line.strip_prefix(b"{")?;
    let mut shape = Shape {
        text: vec![b'{'],
        numbers: Vec::new(),
        logger: 0..0,
        next: 0,
    };
    let (mut has_step, mut has_time, mut has_logger) = (false, false, false);
    let mut count = 0;
    row.attempt = 1;
    loop {
        let before = rest;
        let key = take_text(&mut rest)?;
        rest = rest.strip_prefix(b":")?;
        let name = shape.text.len() + 1..shape.text.len() + 1 + key.len();
        shape.text.extend_from_slice(&before[..before.len() - rest.len()]);
        let place = shape.text.len();
        match key {
            b"step" => {
                row.step = take_step(&mut rest)?;
                shape.numbers.push((place, NumberKind::Step));
                has_step = true;
            }
            b"time" => {
                row.time = take_number(&mut rest)?.as_f64();
                shape.numbers.push((place, NumberKind::Time));
                has_time = true;
            }
            b"logger" => {
                let logger = take_text(&mut rest)?;
                replace_text(&mut row.logger, logger)?;
                shape.logger = place + 1..place + 1 + logger.len();
                shape.text.extend([b"\"", logger, b"\""].concat());
                has_logger = true;
            }
            b"attempt" => {
                row.attempt = take_attempt(&mut rest)?;
                shape.numbers.push((place, NumberKind::Attempt));
            }
            b"nonfinite" => {
                rest = rest.strip_prefix(b"\"\"")?;
                shape.text.extend_from_slice(b"\"\"");
            }
            _ => {
                let value = take_number(&mut rest)?;
                put_value(row, count, key, value)?;
                shape.numbers.push((place, NumberKind::Value(name)));
                count += 1;
            }
        }
        let (end, after) = rest.split_first()?;
        shape.text.push(*end);
        rest = after;
        match end {
            b',' => {}
            b'}' if rest.is_empty() => break,
            _ => return None,
        }
    }
    row.values.truncate(count);
    (has_step && has_time && has_logger).then_some(shape)
}

fn put_value(row: &mut StoredRow, place: usize, name: &[u8], value: MetricValue) -> Option<()> {
    match row.values.get_mut(place) {
        Some((own, old)) => {
            replace_text(own, name)?;
            *old = value;
        }
        None => row.values.push((str::from_utf8(name).ok()?.to_owned(), value)),
    }
    Some(())
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

fn take_step(rest: &mut &[u8]) -> Option<u64> {
    u64::try_from(take_integer(rest)?).ok()
}

fn take_attempt(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_integer(rest)?).ok()
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
    let has_zero = text[sign] == b'0';
    if has_zero && end > sign + 1 {
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
    // A zero before the point is no digit that counts.
    let count = whole - sign + places - usize::from(has_zero);
    let is_short = point == end && count <= MAX_FRACTION_DIGITS;
    let value = match is_short.then(|| divide(digits, places)).flatten() {
        Some(value) if is_negative => -value,
        Some(value) => value,
        None => str::from_utf8(&text[..end]).ok()?.parse().ok()?,
    };
    // JSON knows no infinity, so a number without bound is an error there.
    value.is_finite().then_some(MetricValue::Float(value))
}

/// Digits that always fit in an `i64`, and digits that always fit in a `u64`.
const MAX_DIGITS: usize = 18;
const MAX_FRACTION_DIGITS: usize = 19;
/// A double is exact up to this integer.
const MAX_EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
/// Powers of ten that fit in 60 bits; a double is exact for each.
const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// Returns the double that is nearest to a number with so many decimal places; `None` if that takes
/// more than a division of doubles and a look at its remainder in integers.
#[expect(clippy::cast_precision_loss, reason = "the remainder tells what was lost")]
fn divide(digits: u64, places: usize) -> Option<f64> {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const EXPONENT_OF_ONE: u64 = 1023;
    let divisor = *POWERS.get(places)?;
    let quotient = digits as f64 / divisor as f64;
    if digits <= MAX_EXACT {
        // Both numbers are exact, and so is the one rounding, as
        // [Clinger](https://doi.org/10.1145/93542.93557) has shown.
        return Some(quotient);
    }
    // The quotient is `mantissa / 2^shift`. Two roundings leave it two units of the mantissa away
    // at most, so the remainder has less than 63 bits, whatever its terms have beyond 64.
    let bits = quotient.to_bits();
    let mantissa = (bits & (MAX_EXACT / 2 - 1)) | (MAX_EXACT / 2);
    let shift = (EXPONENT_OF_ONE + u64::from(FRACTION_BITS)).checked_sub(bits >> FRACTION_BITS)?;
    let dividend = if shift < 64 { digits << shift } else { 0 };
    let remainder = dividend.wrapping_sub(mantissa.wrapping_mul(divisor)).cast_signed();
    let (whole, half) = (divisor.cast_signed(), divisor.cast_signed() / 2);
    // Without branches, which nobody could predict.
    let is_above = |limit: i64| i64::from(remainder > limit);
    let is_below = |limit: i64| i64::from(remainder < limit);
    let units = is_above(half) + is_above(half + whole) - is_below(-half) - is_below(-half - whole);
    let nearest = mantissa.wrapping_add_signed(units);
    // At a half, the even one counts; around a power of two, the units change.
    let is_half = remainder.wrapping_sub(units * whole).unsigned_abs() == half.unsigned_abs();
    let is_sure = !is_half && nearest > MAX_EXACT / 2 && nearest <= MAX_EXACT;
    is_sure.then(|| f64::from_bits(bits.wrapping_add_signed(units)))
}

/// Adds the digits that begin at `from` to a number, which has a meaning as long as it fits.
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

    proptest! {
        #[test]
        fn a_division_is_right_or_none(digits in any::<u64>(), bits in 0_u32..64, places in 0_usize..25) {
            let digits = digits >> bits;
            let expected: f64 = format!("{digits}e-{places}").parse().unwrap();
            if let Some(value) = divide(digits, places) {
                prop_assert_eq!(value.to_bits(), expected.to_bits(), "{}e-{}", digits, places);
            }
        }

        /// Between two doubles, at the place where the rounding turns, and beside it.
        #[test]
        fn a_half_is_right_or_none(mantissa in 1_u64 << 52..1 << 53, places in 1_usize..5, beside in -1_i64..=1) {
            let half = (2 * u128::from(mantissa) + 1) * 5_u128.pow(u32::try_from(places).unwrap());
            let digits = u64::try_from(half).unwrap_or(1).wrapping_add_signed(beside);
            let expected: f64 = format!("{digits}e-{places}").parse().unwrap();
            if let Some(value) = divide(digits, places) {
                prop_assert_eq!(value.to_bits(), expected.to_bits(), "{}e-{}", digits, places);
            }
        }
    }

    #[test]
    fn long_numbers_of_a_metric_take_no_second_reading() {
        for (digits, places, value) in [
            (10_000_000_149_011_612, 17, 0.100_000_001_490_116_12),
            (9_876_543_210_123_456_789, 18, 9.876_543_210_123_456),
        ] {
            assert_eq!(divide(digits, places), Some(value));
        }
        assert_eq!(divide((1 << 53) + 1, 19), None);
    }

    #[test]
    fn loggers_that_take_turns_keep_their_names() {
        let mut reader = RowReader::default();
        let mut other = StoredRow::new(9, 9.0, "other");
        for step in 0..40 {
            let line = match step % 3 {
                1 => format!(r#"{{"step":{step},"time":{step}.5,"logger":"b","metrics/lr":0.1,"attempt":2}}"#),
                2 => format!(r#"{{"step":{step},"time":{step}.5,"logger":"a"}}"#),
                _ => format!(r#"{{"step":{step},"time":{step}.5,"logger":"a","metrics/lr":-1,"metrics/loss":2.5}}"#),
            };
            if step >= 8 {
                let expected = &reader.shapes[reader.expected];
                assert_eq!(expected.read(line.as_bytes(), &mut other), Some(()), "{line}");
            }
            let row = reader.read(line.as_bytes()).unwrap();
            assert_eq!(*row, serde_json::from_str(&line).unwrap());
            std::mem::swap(row, &mut other);
        }
        assert_eq!(reader.shapes.len(), 3);
    }

    #[test]
    fn shapes_take_a_bounded_memory() {
        let mut reader = RowReader::default();
        for number in 0..100 {
            let line = format!(r#"{{"step":1,"time":2.5,"logger":"a","metric {number}":{number}}}"#);
            assert_eq!(
                reader.read(line.as_bytes()).unwrap().values[0].0,
                format!("metric {number}")
            );
        }
        assert_eq!(reader.shapes.len(), MAX_SHAPES);
        let name = "x".repeat(MAX_SHAPE);
        let line = format!(r#"{{"step":1,"time":2.5,"logger":"a","{name}":1}}"#);
        assert_eq!(reader.read(line.as_bytes()).unwrap().values[0].0, name);
        assert!(reader.shapes.iter().all(|shape| shape.text.len() < 100));
    }

    #[test]
    fn plain_rows_take_the_short_way() {
        let mut row = StoredRow::new(0, 0.0, "");
        for line in [
            r#"{"step":0,"time":1795978245.883925,"logger":"a","metrics/loss":1.0,"nonfinite":"","attempt":1}"#,
            r#"{"step":1,"time":1795978245.9,"logger":"a","metrics/loss":-1e-7,"metrics/epoch":3,"attempt":2}"#,
        ] {
            let expected: StoredRow = serde_json::from_str(line).unwrap();
            let shape = read_plain_row(line.as_bytes(), &mut row).unwrap();
            assert_eq!(row, expected);
            row = StoredRow::new(0, 0.0, "another");
            assert_eq!(shape.read(line.as_bytes(), &mut row), Some(()));
            assert_eq!(row, expected);
        }
    }
}
