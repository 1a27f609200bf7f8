//! The resume point of a run: the state from which another process continues the log.
//!
//! The names in the JSON form are part of the format of rings on disk.

use std::borrow::Cow;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::log_format::LogEnd;

/// The owner of the run, which artifact records repeat for the official client.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct RunOwner {
    /// Id of the run.
    pub(super) run_id: String,
    /// Project of the run, as configured.
    pub(super) project: String,
    /// User or team, as configured. Empty for the default of the API key.
    pub(super) entity: String,
}

/// The progress of a run, besides the values of its columns.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct RunLogState {
    /// Start of this part of the run.
    #[serde(with = "logcore::signed_time")]
    pub(super) started: SystemTime,
    /// Seconds for which earlier parts of the run lasted.
    #[serde(rename = "earlier")]
    pub(super) earlier_runtime: f64,
    /// Time of the newest call.
    #[serde(with = "logcore::signed_time")]
    pub(super) newest: SystemTime,
    /// `true` if readings of the machine are written.
    #[serde(rename = "stats")]
    pub(super) has_stats: bool,
    /// The row that is not written yet.
    pub(super) open: Option<OpenRow>,
    /// The newest step of a closed row, or of a row on the server.
    pub(super) highest: Option<u64>,
    /// Time of the newest closed row.
    #[serde(with = "logcore::signed_time::option")]
    pub(super) last_row: Option<SystemTime>,
    /// `last_row` when the summary was written.
    #[serde(with = "logcore::signed_time::option")]
    #[serde(rename = "summarised")]
    pub(super) summarized: Option<SystemTime>,
    /// Bytes of rows since the last summary.
    #[serde(rename = "summary_debt")]
    pub(super) row_bytes_since_summary: usize,
    /// Bytes of the last summary.
    pub(super) summary_size: usize,
}

/// The row that later calls of the same step extend.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OpenRow {
    /// Step of the row.
    pub(super) step: u64,
    /// Time of the newest call of the row.
    #[serde(with = "logcore::signed_time")]
    pub(super) time: SystemTime,
    /// Number of calls in the row.
    pub(super) calls: u64,
}

/// The position of a log and the state that is not in the log itself, for a process that continues
/// the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogResumePoint<'a> {
    /// Path of the log, relative to its folder.
    pub(super) path: Cow<'a, Path>,
    /// End of the records in the file.
    pub(super) end: LogEnd,
    /// Progress of the run.
    pub(super) course: RunLogState,
    /// Owner of the run.
    pub(super) owner: Cow<'a, RunOwner>,
    /// Names and values of the open row.
    pub(super) row: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Names whose summary the program has set since their last value.
    #[serde(rename = "said")]
    pub(super) set_summaries: Vec<Cow<'a, str>>,
}

impl LogResumePoint<'_> {
    /// Returns the path of the log, relative to its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The resume point of the sink: the position of the log, and the settings that a recovery needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunResumePoint<'a> {
    /// `true` if log records become console lines.
    pub(crate) console: bool,
    /// The folder above the W&B folder, if that is not the log directory.
    #[serde(default)]
    pub(crate) dir: Option<Cow<'a, Path>>,
    /// The position of the log, with a path relative to that folder.
    pub(crate) log: LogResumePoint<'a>,
}
