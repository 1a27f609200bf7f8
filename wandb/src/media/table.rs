use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::sealed::Prepare;
use super::{MediaError, Prepared, PreparedFile};

/// The rows of a table that a run shows.
const MOST_ROWS: usize = 10_000;

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
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item: Into<String>>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has a cell for each column.
    pub fn row(mut self, cells: impl IntoIterator<Item: Into<Value>>) -> Self {
        self.push(cells);
        self
    }

    /// Adds a row in place.
    pub fn push(&mut self, cells: impl IntoIterator<Item: Into<Value>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Prepare for Table {
    fn prepare(self) -> Result<Prepared, MediaError> {
        let width = self.columns.len();
        if let Some((at, row)) = self.rows.iter().enumerate().find(|(_, row)| row.len() != width) {
            return Err(MediaError::Malformed(format!(
                "a table of {width} columns whose row {at} has {} cells",
                row.len()
            )));
        }
        if self.rows.len() > MOST_ROWS {
            return Err(MediaError::Malformed(format!(
                "a table of {} rows; W&B shows at most {MOST_ROWS}, log a part of them",
                self.rows.len()
            )));
        }
        let content = json!({"columns": self.columns, "data": self.rows}).to_string();
        let columns = self.columns.iter().enumerate();
        let types: Map<String, Value> = columns
            .map(|(at, name)| (name.clone(), type_of(self.rows.iter().map(|row| &row[at]))))
            .collect();
        let with_types = json!({
            "_type": "table", "columns": self.columns, "data": self.rows, "log_mode": "IMMUTABLE",
            "ncols": width, "nrows": self.rows.len(),
            "column_types": {"params": {"type_map": types}, "wb_type": "typedDict"},
        });
        Ok(Prepared {
            value: json!({
                "_type": "table-file", "ncols": width, "nrows": self.rows.len(), "log_mode": "IMMUTABLE",
            }),
            file: Some(PreparedFile {
                folder: "table",
                ending: ".table.json",
                bytes: content.into_bytes(),
            }),
            artifact: Some(with_types.to_string().into_bytes()),
        })
    }
}

/// The type of a column, in W&B's words: each may be missing in a row.
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
    fn rows_that_do_not_fit_are_refused() {
        assert!(Table::new(["a", "b"]).row([1]).prepare().is_err());
        let mut long = Table::new(["a"]);
        (0..=MOST_ROWS).for_each(|at| long.push([at]));
        assert!(long.prepare().is_err());
    }
}
