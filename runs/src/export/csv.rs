//! Rows as CSV, after RFC 4180 with line feeds.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use logcore::MetricValue;

use crate::{Rows, RunError};

/// Writes the rows, with a column for each of the names. Returns the number of rows.
pub(super) fn write(names: &[String], rows: &mut Rows, out: &mut dyn Write) -> Result<u64, RunError> {
    let places: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let fixed = ["step", "time", "logger", "attempt"];
    let header: Vec<_> = fixed
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .map(quoted)
        .collect();
    let mut line = header.join(",");
    let mut count = 0;
    let mut values: Vec<Option<MetricValue>> = vec![None; names.len()];
    for row in rows {
        write_line(&mut line, out)?;
        let row = row?;
        values.fill(None);
        for (name, value) in &row.values {
            if let Some(place) = places.get(name.as_str()) {
                values[*place] = Some(*value);
            }
        }
        line.push_str(&format!(
            "{},{:?},{},{}",
            row.step,
            row.time,
            quoted(&row.logger),
            row.attempt
        ));
        for value in &values {
            line.push(',');
            line.push_str(&value.map(as_text).unwrap_or_default());
        }
        count += 1;
    }
    write_line(&mut line, out)?;
    Ok(count)
}

fn write_line(line: &mut String, out: &mut dyn Write) -> Result<(), RunError> {
    line.push('\n');
    out.write_all(line.as_bytes()).map_err(RunError::Unwritable)?;
    line.clear();
    Ok(())
}

/// Returns the shortest digits that identify the value.
fn as_text(value: MetricValue) -> String {
    match value {
        MetricValue::Int(value) => value.to_string(),
        MetricValue::UInt(value) => value.to_string(),
        _ => match value.as_decimal() {
            value if value.is_nan() => "nan".to_owned(),
            value if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
            value => format!("{value:?}"),
        },
    }
}

/// Returns a text in quotes if it needs them.
fn quoted(text: &str) -> Cow<'_, str> {
    match text.contains([',', '"', '\n', '\r']) {
        true => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_separators_are_quoted() {
        assert_eq!(quoted("a,b \"c\"\n"), "\"a,b \"\"c\"\"\n\"");
        assert_eq!(quoted("metrics/loss"), "metrics/loss");
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (value, text) in [
            (MetricValue::F32(0.1), "0.1"),
            (MetricValue::Float(0.1 + 0.2), "0.30000000000000004"),
            (MetricValue::Float(1e300), "1e300"),
            (MetricValue::UInt(u64::MAX), "18446744073709551615"),
            (MetricValue::Float(f64::NEG_INFINITY), "-inf"),
        ] {
            assert_eq!(as_text(value), text);
        }
    }
}
