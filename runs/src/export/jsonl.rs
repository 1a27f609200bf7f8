//! Rows in the form of `metrics.jsonl`.

use std::collections::HashSet;
use std::io::Write;

use logcore::{MetricValue, StoredRow, nonfinite};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::{Rows, RunError};

/// Writes the rows. The first one has each of the names, because readers take the columns from the
/// first rows. Returns the number of rows.
pub(super) fn write(names: &[String], rows: &mut Rows, out: &mut dyn Write) -> Result<u64, RunError> {
    let mut count = 0;
    for row in rows {
        let row = row?;
        let columns = if count == 0 { names } else { &[] };
        let line = serde_json::to_string(&ExportedRow { row: &row, columns });
        let line = line.map_err(|error| RunError::Unwritable(error.into()))?;
        let line = logcore::escape::escape_json(&line);
        out.write_all(line.as_bytes()).map_err(RunError::Unwritable)?;
        out.write_all(b"\n").map_err(RunError::Unwritable)?;
        count += 1;
    }
    Ok(count)
}

struct ExportedRow<'a> {
    row: &'a StoredRow,
    /// Columns that the row has in any case.
    columns: &'a [String],
}

impl Serialize for ExportedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &row.step)?;
        map.serialize_entry("time", &row.time)?;
        map.serialize_entry("logger", &row.logger)?;
        map.serialize_entry("attempt", &row.attempt)?;
        let values = row.values.iter().map(|(name, value)| (name.as_str(), *value));
        let others: Vec<_> = values.filter(|(_, value)| !value.as_f64().is_finite()).collect();
        map.serialize_entry("nonfinite", &nonfinite::write(&others).unwrap_or_default())?;
        for (name, value) in &row.values {
            match value {
                MetricValue::Int(value) => map.serialize_entry(name, value)?,
                MetricValue::UInt(value) => map.serialize_entry(name, value)?,
                // A value that is no finite number becomes null.
                value => map.serialize_entry(name, &value.as_decimal())?,
            }
        }
        if !self.columns.is_empty() {
            let own: HashSet<&str> = row.values.iter().map(|(name, _)| name.as_str()).collect();
            for name in self.columns.iter().filter(|name| !own.contains(name.as_str())) {
                map.serialize_entry(name, &None::<f64>)?;
            }
        }
        map.end()
    }
}
