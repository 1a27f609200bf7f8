use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::folder::RunFolder;
use crate::upload::state::resume::ServerRun;

/// How far the delivery of a log has come: a file beside the log, so that a later delivery of the same log neither
/// doubles nor omits anything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UploadProgress {
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run_id: String,
    /// The server's own id of the run.
    pub(crate) storage_id: String,
    /// Where each file of the stream began and stands, in lines.
    pub(crate) history: LineRange,
    pub(crate) events: LineRange,
    pub(crate) output: LineRange,
    /// The first step that the server did not have when the delivery began, or went on behind lines of others.
    pub(crate) first_step: i64,
    /// The number of the first row that it is for.
    pub(crate) first_row: u64,
    pub(crate) earlier_runtime: f64,
    /// Who wrote earlier parts of the run, as the config names them.
    pub(crate) earlier_writers: Map<String, Value>,
    /// Who has written the newest part of the run, if that is later than this one.
    pub(crate) later: Option<String>,
    /// What the run is to be, where nobody has asked the server yet.
    pub(crate) demand: Option<ResumeCondition>,
    /// Alerts that were sent.
    pub(crate) alerts: usize,
    /// Everything was delivered, the end of the run included.
    pub(crate) complete: bool,
}

/// On which condition a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResumeCondition {
    /// The server has it.
    Must,
    /// The server has it not.
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineRange {
    /// The number of the log's first line.
    pub(crate) start: u64,
    /// The number of the first line that the server has not.
    pub(crate) sent: u64,
}

impl LineRange {
    pub(crate) fn at(start: u64) -> Self {
        Self { start, sent: start }
    }

    /// The server has so many lines. If those that nobody has told of are not this log's own, what is left of it goes behind
    /// them; returns whether it does.
    fn follow(&mut self, lines: u64, own: impl FnOnce() -> bool) -> bool {
        if lines <= self.sent || own() {
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
    /// Of a log that begins: behind what the server has of the run, if that is known.
    pub(crate) fn beginning(existing: Option<&ServerRun>, demand: Option<ResumeCondition>) -> Self {
        let Some(existing) = existing else {
            return Self {
                demand,
                ..Self::default()
            };
        };
        Self {
            entity: existing.entity.clone(),
            first_step: i64::try_from(existing.next_step).unwrap_or(i64::MAX),
            earlier_runtime: existing.runtime,
            ..Self::behind(existing)
        }
    }

    /// Behind the lines of a run that is not resumed.
    pub(crate) fn behind(existing: &ServerRun) -> Self {
        Self {
            storage_id: existing.storage_id.clone(),
            history: LineRange::at(existing.history),
            events: LineRange::at(existing.events),
            output: LineRange::at(existing.output),
            earlier_writers: existing.writers.clone(),
            ..Self::default()
        }
    }

    /// Of the log of a run; `None` if its delivery has not begun.
    pub(crate) fn load(files: &RunFolder) -> Option<Self> {
        let kept = files.folder().read(&files.beside("upload"), LONGEST).ok()?;
        serde_json::from_slice(&kept).ok()
    }

    /// Replaces what was kept. It is small, and it is kept before what it stands for is relied on.
    pub(crate) fn save(&self, files: &RunFolder) -> io::Result<()> {
        files.replace(&files.beside("upload"), &serde_json::to_vec(self)?)?;
        if !self.is_known() {
            return Ok(());
        }
        // What the official client looks for when it syncs the same log.
        let own_state = format!(
            "{{\"starting_step\":{},\"starting_runtime\":{}}}",
            self.first_step,
            // In milliseconds.
            (self.earlier_runtime * 1e3) as i64
        );
        files.replace(&files.beside("syncstate"), own_state.as_bytes())?;
        if self.complete {
            files.replace(&files.beside("synced"), b"")?;
        }
        Ok(())
    }

    /// Goes on behind lines that other logs of the run have left since. `later` is who has written the newest part of it, if
    /// that is another; `own` says whether a row, or a reading, that the server has is of this log.
    pub(crate) fn follow(
        &mut self,
        existing: &ServerRun,
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
        // The server shows none of the console's lines.
        let known = self.later.as_deref() == later;
        self.output.follow(existing.output, || known && !rows);
        self.later = later.map(str::to_owned);
    }

    pub(crate) fn is_known(&self) -> bool {
        !self.storage_id.is_empty()
    }
}

/// Whether the official client has delivered this log.
pub(crate) fn synced_by_other(files: &RunFolder) -> bool {
    files.folder().open_file(&files.beside("synced")).is_ok()
}

/// The writers of the parts of a run are in it, and no run has that many.
const LONGEST: u64 = 16 << 20;
