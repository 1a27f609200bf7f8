//! The progress of a delivery, in a file beside the log.
//!
//! The file `<log>.upload` has the range of lines of each file of the stream, and is written before
//! anything relies on it. After a crash, a later delivery sends the lines since the last saved
//! number again. They have the same numbers, so that the server overwrites and never doubles them.
//! The files `<log>.syncstate` and `<log>.synced` have the names and the content that the official
//! client expects.

use std::io;

use logcore_delivery::{load_position, save_position};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resume::RemoteRun;
use crate::folder::RunFolder;
use crate::settings::ResumeCondition;

/// The progress of the delivery of a log. With this file, a later delivery of the same log neither
/// doubles nor omits a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UploadProgress {
    /// User or team, as the server named it.
    pub(crate) entity: String,
    /// Project, as the server named it.
    pub(crate) project: String,
    /// Id of the run, as the server named it.
    pub(crate) run_id: String,
    /// The server's internal id of the run.
    pub(crate) storage_id: String,
    /// The lines of the history, of the events and of the console.
    pub(crate) history: LineRange,
    pub(crate) events: LineRange,
    pub(crate) output: LineRange,
    /// The lowest step for rows from `first_row` on.
    pub(crate) first_step: i64,
    /// The number of the first row with a step of at least `first_step`.
    pub(crate) first_row: u64,
    /// The first step that the server did not have when the run was resumed.
    pub(crate) resumed_at: i64,
    pub(crate) earlier_runtime: f64,
    /// The writers of earlier parts of the run, as the config names them.
    pub(crate) earlier_writers: Map<String, Value>,
    /// The writer of the newest part of the run, if that part is newer than this log.
    #[serde(rename = "later")]
    pub(crate) later_writer: Option<String>,
    /// The condition to check, if the server could not be asked at setup.
    #[serde(rename = "demand")]
    pub(crate) condition: Option<ResumeCondition>,
    /// Number of alerts that were sent.
    pub(crate) alerts: usize,
    /// `true` if everything is delivered, the end of the run included.
    pub(crate) complete: bool,
}

/// The lines of a log in one file of the run on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineRange {
    /// The number of the first line of the log.
    pub(crate) start: u64,
    /// The number of the first line that the server does not have.
    pub(crate) sent: u64,
}

impl LineRange {
    /// Creates a range without sent lines.
    pub(crate) fn at(start: u64) -> Self {
        Self { start, sent: start }
    }

    /// The server has `lines` lines. If the unexpected ones are not lines of this log, moves the
    /// rest of this log behind them and returns `true`.
    fn follow(&mut self, lines: u64, are_own: impl FnOnce() -> bool) -> bool {
        if lines <= self.sent || are_own() {
            return false;
        }
        let had = self.sent.saturating_sub(self.start);
        *self = Self {
            start: lines.saturating_sub(had),
            sent: lines,
        };
        true
    }
}

impl UploadProgress {
    /// Creates the progress of a new log, behind the lines that the server has of a resumed run.
    pub(crate) fn at_start(existing: Option<&RemoteRun>, condition: Option<ResumeCondition>) -> Self {
        let Some(existing) = existing else {
            return Self {
                condition,
                ..Self::default()
            };
        };
        Self {
            entity: existing.entity.clone(),
            first_step: i64::try_from(existing.next_step).unwrap_or(i64::MAX),
            resumed_at: i64::try_from(existing.next_step).unwrap_or(i64::MAX),
            earlier_runtime: existing.runtime,
            ..Self::behind(existing)
        }
    }

    /// Creates the progress of a new log behind the lines of a run that is not resumed.
    pub(crate) fn behind(existing: &RemoteRun) -> Self {
        Self {
            storage_id: existing.storage_id.clone(),
            history: LineRange::at(existing.history),
            events: LineRange::at(existing.events),
            output: LineRange::at(existing.output),
            earlier_writers: existing.writers.clone(),
            ..Self::default()
        }
    }

    /// Reads the progress of a log; `None` if no delivery has begun.
    pub(crate) fn load(files: &RunFolder) -> Option<Self> {
        load_position(&files.folder(), &files.name_with("upload"))
            .ok()
            .flatten()
    }

    /// Writes the file. The progress is saved before anything relies on it.
    pub(crate) fn save(&self, files: &RunFolder) -> io::Result<()> {
        save_position(&files.folder(), &files.name_with("upload"), self)?;
        if !self.has_run() {
            return Ok(());
        }
        // The official client reads this file when it syncs the same log.
        let official_state = format!(
            "{{\"starting_step\":{},\"starting_runtime\":{}}}",
            self.first_step,
            // In milliseconds.
            (self.earlier_runtime * 1e3) as i64
        );
        files.replace(&files.name_with("syncstate"), official_state.as_bytes())?;
        if self.complete {
            files.replace(&files.name_with("synced"), b"")?;
        }
        Ok(())
    }

    /// Moves the rest of the log behind the lines that other logs of the run have added since.
    /// `later` is the writer of the newest part of the run, if that is another. `own_row` and
    /// `own_event` return `true` if a row, or a reading, on the server is of this log.
    pub(crate) fn follow(
        &mut self,
        existing: &RemoteRun,
        later: Option<&str>,
        own_row: impl FnOnce(&Value) -> bool,
        own_event: impl FnOnce(&Value) -> bool,
    ) {
        let rows = self.history.follow(existing.history, || own_row(&existing.last_row));
        if rows {
            self.first_step = i64::try_from(existing.next_step).unwrap_or(i64::MAX);
            self.first_row = existing.history;
        }
        self.events.follow(existing.events, || own_event(&existing.last_event));
        // The server does not return console lines.
        let same_writer = self.later_writer.as_deref() == later;
        self.output.follow(existing.output, || same_writer && !rows);
        self.later_writer = later.map(str::to_owned);
    }

    /// Returns `true` if the server has created or found the run.
    pub(crate) fn has_run(&self) -> bool {
        !self.storage_id.is_empty()
    }
}

/// Returns `true` if the official client has delivered this log.
pub(crate) fn synced_by_official(files: &RunFolder) -> bool {
    files.folder().open_file(&files.name_with("synced")).is_ok()
}
