//! Tables.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::sealed::Prepare;
use super::{MediaError, PreparedFile, PreparedMedia};

/// The greatest number of rows in the artifact of a table.
const MOST_ROWS: usize = 200_000;
/// The greatest number of rows in the table file of the run.
const SHOWN_ROWS: usize = 10_000;

/// Rows of values under named columns.
///
/// ```
/// use logcore_wandb::Table;
/// use serde_json::json;
///
/// let mut table = Table::new(["id", "text"]).row([json!(1), json!("x")]);
/// table.push([json!(2), json!("y")]);
/// assert_eq!(table.len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// Creates a table without rows.
    ///
    /// ```
    /// use logcore_wandb::Table;
    ///
    /// assert!(Table::new(["id", "text"]).is_empty());
    /// ```
    #[must_use]
    pub fn new(columns: impl IntoIterator<Item: Into<String>>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    ///
    /// ```
    /// use logcore_wandb::Table;
    ///
    /// assert_eq!(Table::new(["a", "b"]).row([1, 2]).row([3, 4]).len(), 2);
    /// ```
    #[must_use]
    pub fn row(mut self, cells: impl IntoIterator<Item: Into<Value>>) -> Self {
        self.push(cells);
        self
    }

    /// Adds a row in place, with a cell for each column.
    ///
    /// ```
    /// use logcore_wandb::Table;
    ///
    /// let mut table = Table::new(["step"]);
    /// (0..3).for_each(|step| table.push([step]));
    /// assert_eq!(table.len(), 3);
    /// ```
    pub fn push(&mut self, cells: impl IntoIterator<Item: Into<Value>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Returns the number of rows.
    ///
    /// ```
    /// use logcore_wandb::Table;
    ///
    /// assert_eq!(Table::new(["a"]).row([1]).len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns `true` if there are no rows.
    ///
    /// ```
    /// use logcore_wandb::Table;
    ///
    /// assert!(!Table::new(["a"]).row([1]).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Prepare for Table {
    fn prepare(self) -> Result<PreparedMedia, MediaError> {
        let width = self.columns.len();
        if let Some((at, row)) = self.rows.iter().enumerate().find(|(_, row)| row.len() != width) {
            let cells = row.len();
            let text = format!("row {at} of a table has {cells} cells for {width} columns");
            return Err(MediaError::Malformed(text));
        }
        let rows = &self.rows[..self.rows.len().min(MOST_ROWS)];
        let cut = self.rows.len() - rows.len();
        let columns = self.columns.iter().enumerate();
        let types: Map<String, Value> = columns
            .map(|(at, name)| (name.clone(), type_of(rows.iter().map(|row| &row[at]))))
            .collect();
        let shown = RunTableFile {
            columns: &self.columns,
            data: &rows[..rows.len().min(SHOWN_ROWS)],
        };
        let whole = ArtifactTableFile {
            kind: "table",
            column_types: json!({"params": {"type_map": types}, "wb_type": "typedDict"}),
            columns: &self.columns,
            data: rows,
            log_mode: "IMMUTABLE",
            ncols: width,
            nrows: rows.len(),
        };
        let text = |made: serde_json::Result<Vec<u8>>| made.map_err(|error| MediaError::Malformed(error.to_string()));
        Ok(PreparedMedia {
            value: json!({
                "_type": "table-file", "ncols": width, "nrows": rows.len(), "log_mode": "IMMUTABLE",
            }),
            file: Some(PreparedFile {
                folder: "table",
                suffix: ".table.json",
                bytes: text(serde_json::to_vec(&shown))?,
            }),
            artifact: Some(text(serde_json::to_vec(&whole))?),
            remark: (cut > 0).then(|| {
                let all = self.rows.len();
                format!("dropping {cut} of {all} rows of a table: W&B accepts {MOST_ROWS}")
            }),
        })
    }
}

/// The table file of the run.
#[derive(Serialize)]
struct RunTableFile<'a> {
    columns: &'a [String],
    data: &'a [Vec<Value>],
}

/// The table file of the artifact.
#[derive(Serialize)]
struct ArtifactTableFile<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    column_types: Value,
    columns: &'a [String],
    data: &'a [Vec<Value>],
    log_mode: &'a str,
    ncols: usize,
    nrows: usize,
}

/// Returns W&B's type of a column. Any cell may be null.
fn type_of<'a>(cells: impl Iterator<Item = &'a Value>) -> Value {
    let mut found: BTreeSet<&str> = cells
        .filter_map(|cell| match cell {
            Value::Null => None,
            Value::Bool(_) => Some("boolean"),
            Value::Number(_) => Some("number"),
            Value::String(_) => Some("string"),
            Value::Array(_) | Value::Object(_) => Some("any"),
        })
        .collect();
    if found.is_empty() {
        found.insert("unknown");
    }
    found.insert("none");
    let allowed: Vec<_> = found.into_iter().map(|name| json!({"wb_type": name})).collect();
    json!({"params": {"allowed_types": allowed}, "wb_type": "union"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_file_of_columns_and_rows() {
        let prepared = Table::new(["a", "b"]).row([json!(1), json!("x")]).prepare().unwrap();
        assert_eq!(prepared.value["nrows"], 1);
        assert_eq!(
            prepared.file.unwrap().bytes,
            br#"{"columns":["a","b"],"data":[[1,"x"]]}"#
        );
        let artifact: Value = serde_json::from_slice(&prepared.artifact.unwrap()).unwrap();
        let types = &artifact["column_types"]["params"]["type_map"];
        let number =
            json!({"params": {"allowed_types": [{"wb_type": "none"}, {"wb_type": "number"}]}, "wb_type": "union"});
        assert_eq!(types["a"], number);
    }

    #[test]
    fn rows_with_another_number_of_cells_are_refused() {
        assert!(Table::new(["a", "b"]).row([1]).prepare().is_err());
    }

    /// As in the official client: 10,000 rows in the file of the run, 200,000 in the artifact, and
    /// the rest is dropped.
    #[test]
    fn the_rows_of_a_long_table_are_limited() {
        for (rows, shown, kept) in [
            (SHOWN_ROWS + 1, SHOWN_ROWS, SHOWN_ROWS + 1),
            (MOST_ROWS + 2, SHOWN_ROWS, MOST_ROWS),
        ] {
            let mut table = Table::new(["a"]);
            (0..rows).for_each(|at| table.push([at]));
            let prepared = table.prepare().unwrap();
            let read = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
            let file = read(&prepared.file.unwrap().bytes);
            let artifact = read(&prepared.artifact.unwrap());
            assert_eq!(file["data"].as_array().unwrap().len(), shown);
            assert_eq!(artifact["data"].as_array().unwrap().len(), kept);
            assert_eq!(
                (&artifact["nrows"], &prepared.value["nrows"]),
                (&json!(kept), &json!(kept))
            );
            assert_eq!(artifact["data"][kept - 1], json!([kept - 1]));
            let remark = prepared.remark.unwrap_or_default();
            assert_eq!(remark.contains("2 of 200002"), rows > MOST_ROWS, "{remark}");
        }
    }
}
