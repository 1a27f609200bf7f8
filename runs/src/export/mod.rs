//! Writes the rows of a run for other programs.

mod csv;
mod jsonl;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "tensorboard")]
mod tensorboard;

use std::collections::HashSet;
use std::io::Write;

use crate::{LeftOutLines, RunError, StoredRun};

/// A form of exported rows.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_runs::{ExportFormat, StoredRun};
/// use std::fs;
///
/// fs::write(folder.path().join("run.json"), r#"{"state":"finished"}"#).unwrap();
/// let rows = concat!(
///     r#"{"step":1,"time":10.5,"logger":"a","loss":0.5}"#, "\n",
///     r#"{"step":2,"time":11.5,"logger":"a","loss":null,"nonfinite":"{\"loss\":\"NaN\"}","lr":1}"#, "\n",
/// );
/// fs::write(folder.path().join("metrics.jsonl"), rows).unwrap();
/// let run = StoredRun::open(folder.path())?;
///
/// let mut csv = Vec::new();
/// assert_eq!(run.export(0, ExportFormat::Csv, &mut csv)?.rows, 2);
/// assert_eq!(String::from_utf8(csv).unwrap(), "step,time,logger,attempt,loss,lr\n1,10.5,a,1,0.5,\n2,11.5,a,1,nan,1\n");
/// # Ok::<(), logcore_runs::RunError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// A line for each row, a column for each metric. A value that is missing is empty; values that
    /// are no finite numbers are `nan`, `inf` and `-inf`, which pandas, polars and DuckDB read.
    Csv,
    /// The form of `metrics.jsonl`, with every column in the first row.
    Jsonl,
    /// Columns of doubles, compressed: a tenth of the bytes. Integers beyond 2^53 are rounded. A
    /// value that is missing is null; NaN and the infinities are values.
    #[cfg(feature = "parquet")]
    Parquet,
}

/// The result of an export; returned by [`StoredRun::export`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_runs::{ExportFormat, StoredRun};
/// use std::fs;
///
/// fs::write(folder.path().join("run.json"), r#"{"state":"killed"}"#).unwrap();
/// fs::write(folder.path().join("metrics.jsonl"), "{\"step\":1,\"time\":1.0,\"logger\":\"a\"}\n{\"st").unwrap();
/// let exported = StoredRun::open(folder.path())?.export(0, ExportFormat::Csv, &mut Vec::new())?;
/// assert_eq!(exported.rows, 1);
/// assert_eq!(exported.left_out.to_string(), "the last line is incomplete, and is left out");
/// # Ok::<(), logcore_runs::RunError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Number of rows that were written.
    pub rows: u64,
    /// Lines that could not be read as rows.
    pub left_out: LeftOutLines,
}

impl StoredRun {
    /// Writes the rows of a rank, of each step and logger those of the newest attempt. Several
    /// values of one name at one step are reduced to the last one. Numbers keep all their digits.
    ///
    /// The rows are read twice, the first time for the names of the columns: a metric that a live
    /// run logs for the first time meanwhile is left out.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or `out` cannot be written: [`RunError::Unwritable`].
    pub fn export(&self, rank: u32, format: ExportFormat, out: &mut (dyn Write + Send)) -> Result<Exported, RunError> {
        let names = self.names(rank)?;
        let mut rows = self.rows(rank)?;
        let count = match format {
            ExportFormat::Csv => csv::write(&names, &mut rows, out),
            ExportFormat::Jsonl => jsonl::write(&names, &mut rows, out),
            #[cfg(feature = "parquet")]
            ExportFormat::Parquet => parquet::write(&names, &mut rows, out),
        };
        Ok(Exported {
            rows: count?,
            left_out: rows.left_out().clone(),
        })
    }

    /// Returns the names of the metrics, in the order in which they first appear.
    fn names(&self, rank: u32) -> Result<Vec<String>, RunError> {
        let mut names: Vec<String> = Vec::new();
        let mut known = HashSet::new();
        for row in self.rows(rank)? {
            for (name, _) in row?.values {
                if !known.contains(&name) {
                    known.insert(name.clone());
                    names.push(name);
                }
            }
        }
        Ok(names)
    }
}
