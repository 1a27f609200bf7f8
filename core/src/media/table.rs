//! Tables.

#[cfg(feature = "media")]
use serde::Serialize;
use serde_json::Value;

#[cfg(feature = "media")]
use super::{EncodedMedia, MediaContent, MediaError, sealed::Encode};

/// Rows of values under named columns.
///
/// ```
/// use logcore::Table;
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
    /// use logcore::Table;
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
    /// use logcore::Table;
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
    /// use logcore::Table;
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
    /// use logcore::Table;
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
    /// use logcore::Table;
    ///
    /// assert!(!Table::new(["a"]).row([1]).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the names of the columns.
    ///
    /// ```
    /// use logcore::Table;
    ///
    /// assert_eq!(Table::new(["id", "text"]).columns(), ["id", "text"]);
    /// ```
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the cells, row by row.
    ///
    /// ```
    /// use logcore::Table;
    ///
    /// assert_eq!(Table::new(["a"]).row([1]).rows()[0], [1]);
    /// ```
    #[must_use]
    pub fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }
}

#[cfg(feature = "media")]
impl Encode for Table {
    fn encode(self) -> Result<EncodedMedia, MediaError> {
        let width = self.columns.len();
        if let Some((at, row)) = self.rows.iter().enumerate().find(|(_, row)| row.len() != width) {
            let cells = row.len();
            let text = format!("row {at} of a table has {cells} cells for {width} columns");
            return Err(MediaError::Malformed(text));
        }
        let file = TableFile {
            columns: &self.columns,
            data: &self.rows,
        };
        let bytes = serde_json::to_vec(&file).map_err(|error| MediaError::Malformed(error.to_string()))?;
        let content = MediaContent::Table {
            columns: width as u64,
            rows: self.rows.len() as u64,
        };
        Ok(EncodedMedia {
            table: Some(self),
            ..EncodedMedia::new(content).with_file(".table.json", bytes)
        })
    }
}

/// The file of a table, in the form of W&B.
#[cfg(feature = "media")]
#[derive(Serialize)]
struct TableFile<'a> {
    columns: &'a [String],
    data: &'a [Vec<Value>],
}

#[cfg(all(test, feature = "media"))]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_a_file_of_columns_and_rows() {
        let encoded = Table::new(["a", "b"]).row([json!(1), json!("x")]).encode().unwrap();
        assert_eq!(encoded.content, MediaContent::Table { columns: 2, rows: 1 });
        assert_eq!(
            encoded.file.unwrap().bytes,
            br#"{"columns":["a","b"],"data":[[1,"x"]]}"#
        );
    }

    #[test]
    fn rows_with_another_number_of_cells_are_refused() {
        assert!(Table::new(["a", "b"]).row([1]).encode().is_err());
    }
}
