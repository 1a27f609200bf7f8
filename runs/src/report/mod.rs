//! One HTML file that shows runs: their curves, text lines, config, environment, summary,
//! ledger, events and ranks.
//!
//! The file needs nothing else. A browser opens it from `file://` and makes no request, which the
//! page's own content security policy forbids. The data stand in it as JSON, with at most 8 MB.
//! More values are thinned, and each bucket of neighboring values keeps its extremes.
//!
//! A folder of a run may come from anybody. Links in it are not followed, sizes are bounded, and
//! the page shows foreign text as text.

mod curve_data;
mod health_data;
mod live;
mod media_data;
mod page;
mod run_data;
mod text_lines;

use std::fmt::{self, Display};
use std::io;

pub use self::live::{LiveMedia, LiveNews, LivePage, LiveRuns};
use crate::StoredRun;
use crate::report::page::Page;
use crate::report::run_data::ReportData;

/// Most bytes of the data in a report.
pub const MAX_DATA_BYTES: usize = 8_000_000;

/// Facts about a report; returned by [`write_report`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportFacts {
    /// Size of the whole page in bytes.
    pub bytes: u64,
    /// Bytes of the data in it.
    pub data_bytes: u64,
    /// Number of runs in the page.
    pub runs: usize,
    /// Number of curves.
    pub curves: usize,
    /// Number of text lines.
    pub lines: usize,
    /// Most neighboring values that one bucket of a curve stands for; 1 if the page has every
    /// value.
    pub widest_bucket: u64,
    /// Texts of all that is not in the page, or could not be read. The page shows them, too.
    pub notes: Vec<String>,
}

/// The reason why a report could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReportError {
    /// The page could not be written.
    Unwritable {
        /// Error of the system.
        error: io::Error,
    },
}

impl Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable { error } => write!(
                f,
                "cannot write the report: {error}. Choose a file in a folder that has room for 10 MB"
            ),
        }
    }
}

// The text already contains the system's error, so `source` returns none.
impl std::error::Error for ReportError {}

/// Writes one HTML page that shows the runs, in their order.
///
/// A file of a run that is absent leaves a gap; one that cannot be read leaves a note in the page.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_runs::StoredRun;
/// use logcore_runs::report::write_report;
/// use std::fs;
///
/// fs::write(folder.path().join("run.json"), r#"{"name":"mnist","state":"finished"}"#).unwrap();
/// fs::write(folder.path().join("metrics.jsonl"), "{\"step\":7,\"time\":1.0,\"logger\":\"a\",\"loss\":0.5}\n").unwrap();
///
/// let run = StoredRun::open(folder.path())?;
/// let mut page = Vec::new();
/// let facts = write_report(&[run], &mut page)?;
/// assert_eq!((facts.runs, facts.curves, facts.widest_bucket), (1, 1, 1));
/// assert!(String::from_utf8(page)?.starts_with("<!doctype html>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If `out` fails.
pub fn write_report(runs: &[StoredRun], out: &mut dyn io::Write) -> Result<ReportFacts, ReportError> {
    let ReportData { json, mut facts } = ReportData::read(runs, MAX_DATA_BYTES);
    facts.data_bytes = json.len() as u64;
    let page = Page::new(&json);
    for part in page.parts() {
        facts.bytes += part.len() as u64;
        out.write_all(part.as_bytes())
            .map_err(|error| ReportError::Unwritable { error })?;
    }
    out.flush().map_err(|error| ReportError::Unwritable { error })?;
    Ok(facts)
}

#[cfg(test)]
mod tests;
