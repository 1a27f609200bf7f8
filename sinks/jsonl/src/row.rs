//! Formatting of a row or a record as one line of JSON.
//!
//! `serde_json` escapes what JSON requires. Readers and terminals need more: U+2028 ends a line for
//! some readers, U+202E reverses the text of a terminal, and U+200B is invisible. These characters
//! are escaped, too, so that each line is one line for every reader and shows all it contains.

use logcore::escape::escape_json;
use logcore::reserved_names::ROW_COLUMNS;
use logcore::serde_json;
use logcore::{Row, epoch_seconds};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

/// Appends the row and a line end.
pub(crate) fn append_row(row: &Row, line: &mut Vec<u8>) -> serde_json::Result<()> {
    append_json(&FlatRow(row), line)
}

/// Appends a value as one line. Characters that some reader takes for a line end, or a terminal for
/// a command, are escaped.
pub(crate) fn append_json(value: &impl Serialize, line: &mut Vec<u8>) -> serde_json::Result<()> {
    let start = line.len();
    serde_json::to_writer(&mut *line, value)?;
    escape_harmful(line, start);
    line.push(b'\n');
    Ok(())
}

struct FlatRow<'a>(&'a Row);

impl Serialize for FlatRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &row.step)?;
        map.serialize_entry("time", &epoch_seconds(row.time))?;
        map.serialize_entry("logger", &row.logger)?;
        for (name, value) in &row.values {
            // A metric of such a name would repeat a key.
            if !ROW_COLUMNS.contains(&name.as_str()) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// Escapes control, direction and invisible characters, which serde_json leaves as they are.
fn escape_harmful(line: &mut Vec<u8>, start: usize) {
    if line[start..].is_ascii() && !line[start..].contains(&0x7f) {
        return;
    }
    let bytes = line.split_off(start);
    // JSON is valid UTF-8, so nothing is replaced here.
    line.extend_from_slice(escape_json(&String::from_utf8_lossy(&bytes)).as_bytes());
}

#[cfg(test)]
mod tests {
    use logcore::serde_json::Value;
    use logcore::{MetricBatch, MetricValue, RowMerger};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = MetricValue> {
        prop_oneof![
            any::<f64>().prop_map(MetricValue::Float),
            Just(MetricValue::Float(f64::NAN)),
            Just(MetricValue::Float(f64::NEG_INFINITY)),
            any::<i64>().prop_map(MetricValue::Int),
            any::<u64>().prop_map(MetricValue::from),
        ]
    }

    proptest! {
        #[test]
        fn append_row_writes_any_name_and_value_so_that_it_reads_back(
            step: u64,
            values in prop::collection::btree_map(
                "(\\PC|[\u{2028}\u{202e}\u{200b}\u{85}\u{9b}\u{7f}\n\"\\\\]){0,6}",
                value(),
                0..8,
            ),
        ) {
            let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let mut rows = RowMerger::default();
            rows.push(&MetricBatch::new("trainer", step, &values));
            let mut line = Vec::new();
            append_row(&rows.take().unwrap(), &mut line).unwrap();
            let text = String::from_utf8(line).unwrap();
            prop_assert_eq!(text.lines().count(), 1);
            let harmful = text.trim_end_matches('\n').contains(logcore::escape::needs_escape);
            prop_assert!(!harmful);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read["step"].as_u64(), Some(step));
            prop_assert_eq!(read.as_object().unwrap().len(), 3 + values.len());
            for (name, value) in values {
                let read = &read[name];
                let same = match value {
                    MetricValue::Int(value) => read.as_i64() == Some(value),
                    MetricValue::UInt(value) => read.as_u64() == Some(value),
                    other if other.as_f64().is_nan() => read == "NaN",
                    other if other.as_f64() == f64::INFINITY => read == "Infinity",
                    other if other.as_f64() == f64::NEG_INFINITY => read == "-Infinity",
                    other => read.as_f64() == Some(other.as_f64()),
                };
                prop_assert!(same, "{} is {}", name, read);
            }
        }
    }
}
