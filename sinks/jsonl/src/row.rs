//! Formatting of a row or a record as one line of JSON.
//!
//! `serde_json` escapes what JSON requires. Readers and terminals need more: U+2028 ends a line for
//! some readers, U+202E reverses the text of a terminal, and U+200B is invisible. These characters
//! are escaped, too, so that each line is one line for every reader and shows all it contains.

use std::num::NonZeroU64;

use logcore::digits::with_kept_digits;
use logcore::escape::escape_json;
use logcore::reserved_names::ROW_COLUMNS;
use logcore::serde_json;
use logcore::{MetricValue, Row, epoch_seconds, nonfinite};
use serde::Serialize;

/// Writes rows as lines. Keeps the texts of keys, because rows usually have the names of the row
/// before, in the same order.
#[derive(Default)]
pub(crate) struct RowWriter {
    logger: KeptText,
    keys: Vec<KeptText>,
    /// The [layout](logcore::MetricBatch::layout) of the names in `keys`.
    layout: Option<NonZeroU64>,
}

/// A name, and its text in a row.
#[derive(Default)]
struct KeptText {
    name: String,
    text: String,
}

impl RowWriter {
    /// Appends the row and a line end: its own columns, the metrics, and the columns that only some
    /// rows have. From the second attempt of a run on, each row has the attempt.
    pub(crate) fn append_row(&mut self, row: &Row, attempt: u32, line: &mut Vec<u8>) -> serde_json::Result<()> {
        if self.logger.text.is_empty() || self.logger.name != row.logger {
            self.logger = KeptText::new(&row.logger, to_escaped_json(&row.logger)?);
        }
        line.extend_from_slice(b"{\"step\":");
        serde_json::to_writer(&mut *line, &row.step)?;
        line.extend_from_slice(b",\"time\":");
        with_kept_digits(|digits| digits.append(epoch_seconds(row.time), line));
        line.extend_from_slice(b",\"logger\":");
        line.extend_from_slice(self.logger.text.as_bytes());
        if row.layout().is_none() || row.layout() != self.layout {
            self.layout = None;
            self.learn_keys(row)?;
            self.layout = row.layout();
        }
        let mut others: Vec<(&str, MetricValue)> = Vec::new();
        with_kept_digits(|digits| {
            for ((name, value), key) in row.values.iter().zip(&self.keys) {
                if key.text.is_empty() {
                    continue;
                }
                line.extend_from_slice(key.text.as_bytes());
                match value {
                    MetricValue::Int(_) | MetricValue::UInt(_) => serde_json::to_writer(&mut *line, value)?,
                    value if value.as_f64().is_finite() => digits.append(value.as_decimal(), line),
                    value => {
                        line.extend_from_slice(b"null");
                        others.push((name, *value));
                    }
                }
            }
            Ok::<_, serde_json::Error>(())
        })?;
        if let Some(text) = nonfinite::write(&others) {
            line.extend_from_slice(b",\"nonfinite\":");
            line.extend_from_slice(to_escaped_json(&text)?.as_bytes());
        }
        if attempt > 1 {
            line.extend_from_slice(b",\"attempt\":");
            serde_json::to_writer(&mut *line, &attempt)?;
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }

    /// Makes the text before the value of each metric; empty for a metric that would repeat a
    /// column of the row.
    fn learn_keys(&mut self, row: &Row) -> serde_json::Result<()> {
        for (index, (name, _)) in row.values.iter().enumerate() {
            if self.keys.get(index).is_some_and(|key| key.name == *name) {
                continue;
            }
            let text = match ROW_COLUMNS.contains(&&**name) {
                true => String::new(),
                false => format!(",{}:", to_escaped_json(name)?),
            };
            match self.keys.get_mut(index) {
                Some(key) => *key = KeptText::new(name, text),
                None => self.keys.push(KeptText::new(name, text)),
            }
        }
        Ok(())
    }
}

/// Returns rows with the columns that only some rows have in the first one: so readers, which take
/// the columns from the first rows, know all columns that are not metrics.
pub(crate) fn with_all_columns(rows: &[u8], attempt: u32) -> Vec<u8> {
    let end = rows.iter().position(|byte| *byte == b'\n').unwrap_or(rows.len());
    let (first, others) = rows.split_at(end);
    let Some(members) = first.strip_suffix(b"}") else {
        return rows.to_vec();
    };
    let mut all = members.to_vec();
    for (name, value) in [("nonfinite", "\"\"".to_owned()), ("attempt", attempt.to_string())] {
        // A quote within a text has a backslash before it, so only a key can be found.
        let key = format!(",\"{name}\":");
        if !members.windows(key.len()).any(|bytes| bytes == key.as_bytes()) {
            all.extend_from_slice(key.as_bytes());
            all.extend_from_slice(value.as_bytes());
        }
    }
    all.push(b'}');
    all.extend_from_slice(others);
    all
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

impl KeptText {
    fn new(name: &str, text: String) -> Self {
        let name = name.to_owned();
        Self { name, text }
    }
}

fn to_escaped_json(text: &str) -> serde_json::Result<String> {
    Ok(escape_json(&serde_json::to_string(text)?).into_owned())
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
    use logcore::serde_json::{Map, Value, json};
    use logcore::{MetricBatch, RowMerger};
    use proptest::prelude::*;

    use super::*;

    fn line(attempt: u32, step: u64, values: &[(&str, MetricValue)]) -> String {
        let mut rows = RowMerger::default();
        rows.push(&MetricBatch::new("trainer", step, values));
        let mut line = Vec::new();
        RowWriter::default()
            .append_row(&rows.take().unwrap(), attempt, &mut line)
            .unwrap();
        String::from_utf8(line).unwrap()
    }

    fn object(line: &str) -> Map<String, Value> {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn the_first_row_has_all_columns_once() {
        let finite = [("a", MetricValue::F32(0.1))];
        let infinite = [("\",\"nonfinite\":", MetricValue::Float(f64::NEG_INFINITY))];
        for (attempt, values) in [(1, finite), (1, infinite), (2, finite), (2, infinite)] {
            let plain = line(attempt, 7, &values);
            let first = String::from_utf8(with_all_columns((plain.clone() + "{}\n").as_bytes(), attempt)).unwrap();
            let mut expected = object(&plain);
            expected.entry("nonfinite").or_insert("".into());
            expected.entry("attempt").or_insert(attempt.into());
            let (row, rest) = first.split_once('\n').unwrap();
            assert_eq!((object(row), rest), (expected, "{}\n"));
            assert_eq!(first.matches(",\"nonfinite\":").count(), 1, "{first}");
            assert_eq!(first.matches(",\"attempt\":").count(), 1, "{first}");
            assert_eq!(with_all_columns(first.as_bytes(), attempt), first.as_bytes());
        }
    }

    #[test]
    fn a_number_has_the_digits_of_its_type() {
        let values = [
            ("f32", MetricValue::F32(0.1)),
            ("f64", MetricValue::Float(0.1_f32.into())),
        ];
        let line = line(1, 7, &values);
        assert!(line.ends_with("\"f32\":0.1,\"f64\":0.10000000149011612}\n"), "{line}");
    }

    #[test]
    fn a_writer_follows_names_that_change() {
        let mut writer = RowWriter::default();
        let rows: [&[&str]; 5] = [&["a", "b"], &["b"], &["a", "b", "step", "c"], &[], &["c", "a"]];
        // Each sequence comes again, when its number is known.
        for (at, names) in rows.iter().enumerate().flat_map(|row| [row; 2]) {
            let values: Vec<_> = names.iter().map(|name| (*name, MetricValue::Int(1))).collect();
            for layout in [None, NonZeroU64::new(1 + at as u64)] {
                let mut batch = MetricBatch::new("trainer", 7, &values);
                if let Some(layout) = layout {
                    batch = batch.with_layout(layout);
                }
                let mut rows = RowMerger::default();
                rows.push(&batch);
                let (mut kept, row) = (Vec::new(), rows.take().unwrap());
                writer.append_row(&row, 1, &mut kept).unwrap();
                let mut fresh = Vec::new();
                RowWriter::default().append_row(&row, 1, &mut fresh).unwrap();
                assert_eq!(String::from_utf8(kept), String::from_utf8(fresh));
            }
        }
    }

    fn value() -> impl Strategy<Value = MetricValue> {
        prop_oneof![
            any::<f64>().prop_map(MetricValue::Float),
            any::<f32>().prop_map(MetricValue::F32),
            Just(MetricValue::Float(f64::NAN)),
            Just(MetricValue::F32(f32::NEG_INFINITY)),
            any::<i64>().prop_map(MetricValue::Int),
            any::<u64>().prop_map(MetricValue::from),
        ]
    }

    proptest! {
        #[test]
        fn append_row_writes_any_name_and_value_so_that_it_reads_back(
            step: u64,
            attempt in 1_u32..3,
            values in prop::collection::btree_map(
                "(\\PC|[\u{2028}\u{202e}\u{200b}\u{85}\u{9b}\u{7f}\n\"\\\\]){0,6}",
                value(),
                0..8,
            ),
        ) {
            let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let text = line(attempt, step, &values);
            prop_assert_eq!(text.lines().count(), 1);
            let harmful = text.trim_end_matches('\n').contains(logcore::escape::needs_escape);
            prop_assert!(!harmful);
            let mut read = object(&text);
            prop_assert_eq!(read["step"].as_u64(), Some(step));
            prop_assert_eq!(read.remove("attempt"), (attempt > 1).then(|| json!(attempt)));
            let nonfinite = read.remove("nonfinite").map(|text| object(text.as_str().unwrap()));
            let mut nonfinite = nonfinite.unwrap_or_default();
            prop_assert_eq!(read.len(), 3 + values.len());
            for (name, value) in values {
                let read = &read[name];
                let same = match value {
                    MetricValue::Int(value) => read.as_i64() == Some(value),
                    MetricValue::UInt(value) => read.as_u64() == Some(value),
                    other if other.as_f64().is_finite() => read.as_f64() == Some(other.as_decimal()),
                    other => {
                        let text = serde_json::to_value(other).unwrap();
                        read.is_null() && nonfinite.remove(name) == Some(text)
                    }
                };
                prop_assert!(same, "{} is {}", name, read);
            }
            prop_assert!(nonfinite.is_empty());
        }
    }
}
