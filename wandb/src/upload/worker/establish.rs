//! Creates or finds the run on the server, and the lines from which the delivery starts.
//!
//! Each line of the stream has a number on the server, and sending a number again overwrites the
//! line. So before the first line is sent, this module decides at which number the log starts:
//!
//! - A new run starts at 0.
//! - A resumed run starts behind the lines of the server, and keeps its steps, config and summary.
//! - A run whose id the server has already, without `resume`, also starts behind these lines.
//! - A log that was delivered in part continues where its progress file ends.
//! - A log without that file whose writer the config of the run names was delivered before. The log
//!   starts at 0 if it is the whole run, and is refused otherwise: its lines on the server cannot
//!   be distinguished from other lines.
//! - A log whose run was resumed since (only in a sync) continues behind the lines of the newer
//!   part, and no longer changes the run itself.

use std::fmt::Write as _;
use std::time::Duration;

use logcore::Deadline;
use logcore_delivery::{DeliveryError, DeliveryErrorKind, Lane};
use serde_json::{Value, json};

use super::Uploader;
use crate::folder::RunFolder;
use crate::log_format::items;
use crate::log_format::proto::{EnvironmentRecord, RecordKind, RunRecord};
use crate::log_format::{LogEntry, LogReadError, LogReader};
use crate::run_log::environment;
use crate::settings::ResumeCondition;
use crate::settings::run_url;
use crate::upload::client::replies::ServerInfo;
use crate::upload::client::run_identity::RunIdentity;
use crate::upload::state::progress_file::UploadProgress;
use crate::upload::state::resume::{self, RemoteRun};

/// The query of the official client.
const FEATURES: &str = "query ServerFeaturesQuery { serverInfo { features { name isEnabled } } }";

impl Uploader {
    /// Waits for the first records of the log. They exist from the start, unless the disk was full
    /// then.
    pub(super) fn wait_for_run(&mut self) -> Result<(), DeliveryError> {
        loop {
            self.read_beginning();
            if self.assembler.run.is_some() && (self.first_record.is_some() || self.assembler.has_environment()) {
                return Ok(());
            }
            if self.assembler.run.is_some() && self.plan.ended {
                return Ok(());
            }
            if self.plan.ended || self.damaged.is_some() || self.client.control.is_out_of_time(Lane::Rows) {
                self.damaged.get_or_insert(LogReadError::NotALog);
                return Err(DeliveryError::gave_up());
            }
            self.client
                .control
                .wait_for_work(Deadline::after(Duration::from_secs(1)));
        }
    }

    /// Reads the names and the environment of the run. The next record is held back: no row may be
    /// read before the position on the server is known.
    fn read_beginning(&mut self) {
        while self.first_record.is_none() && !self.assembler.has_environment() {
            match self.reader.next() {
                Ok(LogEntry::Record(record)) => match record.kind {
                    Some(RecordKind::Header(_) | RecordKind::Run(_) | RecordKind::Environment(_)) => {
                        self.assembler.read(record)
                    }
                    _ if self.assembler.run.is_some() => self.first_record = Some(record),
                    _ => self.assembler.read(record),
                },
                Ok(LogEntry::End) => return,
                Err(_) if self.reader.is_live() && !self.client.control.is_ending() => return,
                Err(error) => {
                    self.damaged = Some(error);
                    return;
                }
            }
        }
    }

    /// Prints the destination of the log before anything is sent. The writer of the log chose the
    /// destination, and may be another person than the user who syncs the log.
    pub(super) fn print_destination(&self) {
        let Some(run) = &self.assembler.run else { return };
        let entity = [&self.progress.entity, &run.entity]
            .into_iter()
            .find(|name| !name.is_empty());
        let entity = entity.map_or_else(
            || "your default entity".to_owned(),
            |entity| format!("entity `{entity}`"),
        );
        let [project, run_id] = self.names(run);
        let log = self.plan.files.path().display();
        let mut text = format!(
            "W&B: sending {log} to {}: {entity}, project `{project}`, run `{run_id}`",
            self.client.api.base_url()
        );
        match self.assembler.environment() {
            Some(environment) if environment::is_of_this_user(environment) => {}
            Some(EnvironmentRecord { host, username, .. }) if !host.is_empty() || !username.is_empty() => {
                let _ = write!(
                    text,
                    "; the log names another writer than you: `{username}` on `{host}`"
                );
            }
            _ => text.push_str("; the log does not name its writer"),
        }
        self.client
            .control
            .print_notice(&format!("destination of {log}"), &text);
    }

    /// Creates the run on the server or finds it there, and determines the position of the log's
    /// lines.
    pub(super) fn establish(&mut self) -> Result<(), DeliveryError> {
        let run = self.assembler.run.clone().ok_or_else(DeliveryError::gave_up)?;
        let mut has_run = self.progress.has_run();
        let condition = self.progress.condition;
        if self.plan.ended || !has_run && (run.resume || condition.is_some() || self.plan.may_exist) {
            // The server is asked before the upsert, which adds this log to the writers in the
            // config.
            let existing = self.existing()?;
            if !std::mem::replace(&mut has_run, true) {
                self.adopt_or_refuse(&run, existing.as_ref(), condition)?;
            }
            if let Some(existing) = existing.filter(|_| self.plan.ended && self.progress.has_run()) {
                let writer = self.assembler.writer_id();
                let later = existing.writer_after(&writer);
                let log = &self.plan.files;
                self.progress.follow(
                    &existing,
                    later,
                    |row| has_record_of(log, row, row_time),
                    |event| has_record_of(log, event, event_time),
                );
                if later.is_some() {
                    self.supersede(&run, &existing);
                    return Ok(());
                }
            }
        }
        self.assembler.begin_at(&self.progress);
        let bucket = self.upsert()?;
        if !has_run
            && bucket.history_line_count > 0
            && let Some(existing) = self.existing()?
        {
            self.adopt(&existing, false);
            self.assembler.begin_at(&self.progress);
        }
        self.identity = RunIdentity {
            entity: bucket.project.entity.name.unwrap_or_default(),
            project: bucket.project.name,
            run_id: bucket.name,
        };
        self.progress.storage_id = bucket.id;
        self.progress.entity.clone_from(&self.identity.entity);
        self.progress.project.clone_from(&self.identity.project);
        self.progress.run_id.clone_from(&self.identity.run_id);
        self.save_progress();
        self.print_address();
        self.query_features();
        Ok(())
    }

    /// Continues a run that was resumed since this log was written. The remaining lines go behind
    /// those of the server, and the run itself is not changed.
    fn supersede(&mut self, run: &RunRecord, existing: &RemoteRun) {
        let [project, run_id] = self.names(run).map(str::to_owned);
        self.identity = RunIdentity {
            entity: existing.entity.clone(),
            project,
            run_id,
        };
        self.assembler.superseded = true;
        self.assembler.begin_at(&self.progress);
        self.save_progress();
        self.print_address();
        self.query_features();
    }

    /// Publishes the address of the page of the run.
    fn print_address(&self) {
        let address = run_url(
            &self.plan.app_url,
            &self.identity.entity,
            &self.identity.project,
            &self.identity.run_id,
        );
        self.client.control.set_address(self.client.api.hide_secrets(&address));
    }

    /// Returns the project and the id of the run: the names of the server, or else those of the
    /// log.
    fn names<'a>(&'a self, run: &'a RunRecord) -> [&'a str; 2] {
        let progress = &self.progress;
        [(&progress.project, &run.project), (&progress.run_id, &run.run_id)]
            .map(|(named, asked)| if named.is_empty() { asked } else { named })
            .map(String::as_str)
    }

    /// Decides how a new log continues a run of the server.
    fn adopt_or_refuse(
        &mut self,
        run: &RunRecord,
        existing: Option<&RemoteRun>,
        condition: Option<ResumeCondition>,
    ) -> Result<(), DeliveryError> {
        let writer = self.assembler.writer_id();
        let has_part = |existing: &RemoteRun| existing.writers.contains_key(&writer);
        match (existing, condition) {
            (Some(existing), _) if has_part(existing) => {
                // Without other writers, the lines of the log begin at 0, so that sending them
                // again is harmless.
                let alone = existing.writers.len() == 1 && !run.resume && !run.resumed;
                match alone {
                    true => Ok(()),
                    false => self.refuse(
                        "it was delivered in part, and the file with its progress is missing; nothing more is sent, so \
                         that no row is overwritten",
                    ),
                }
            }
            (Some(existing), Some(ResumeCondition::Never)) if existing.started => {
                self.refuse("the server already has a run of this id, and `resume` is \"never\"; the run stays on disk")
            }
            (existing, Some(ResumeCondition::Must)) if existing.is_none_or(|existing| !existing.started) => {
                self.refuse("the server has no run of this id, and `resume` is \"must\"; the run stays on disk")
            }
            (Some(existing), _) => {
                let resumed = run.resume && existing.started;
                self.adopt(existing, resumed);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// Reports why the log is not sent, and stops the delivery.
    fn refuse(&self, why: &str) -> Result<(), DeliveryError> {
        let text = format!("{}: {why}", self.plan.files.path().display());
        self.client
            .control
            .report_permanent(&DeliveryError::permanent(DeliveryErrorKind::Refused, text));
        Err(DeliveryError::gave_up())
    }

    /// Asks the server for the run.
    fn existing(&self) -> Result<Option<RemoteRun>, DeliveryError> {
        let Some(run) = &self.assembler.run else {
            return Ok(None);
        };
        let entity = [&self.progress.entity, &run.entity];
        let entity = entity.into_iter().find(|name| !name.is_empty());
        let [project, run_id] = self.names(run);
        self.client
            .persist(|api| resume::query(api, entity.map(String::as_str), project, run_id))
    }

    /// Continues behind the lines of a run that the server has. A resumed run also keeps its steps,
    /// config and summary.
    fn adopt(&mut self, existing: &RemoteRun, resumed: bool) {
        let alerts = self.progress.alerts;
        self.progress = match resumed {
            true => UploadProgress::at_start(Some(existing), None),
            false => UploadProgress::behind(existing),
        };
        self.progress.alerts = alerts;
        // The progress is saved before the upsert, which adds this log to the writers in the
        // config.
        self.save_progress();
        if !resumed {
            return;
        }
        self.assembler.inherit(&existing.config, &existing.summary);
        if let Some(run) = &mut self.assembler.run {
            if run.tags.is_empty() {
                run.tags.clone_from(&existing.tags);
            }
            if run.notes.is_empty() {
                run.notes.clone_from(&existing.notes);
            }
        }
    }

    /// Asks for the optional features of the server. They stay off if the request fails.
    fn query_features(&mut self) {
        let api = &self.client.api;
        let reply = api.query("ServerFeaturesQuery", FEATURES, &json!({}), "/serverInfo");
        let info: ServerInfo = reply.unwrap_or_default();
        self.gzip = info.has("FILESTREAM_GZIP");
        self.assembler.structured_console = info.has("STRUCTURED_CONSOLE_LOGS");
    }
}

/// Returns `true` if a line of the server is of a record in the log. Times identify records.
fn has_record_of(files: &RunFolder, line: &Value, time_of: impl Fn(&RecordKind) -> Option<f64>) -> bool {
    let reader = files.open_log().map_err(LogReadError::Io).and_then(LogReader::new);
    let (Some(time), Ok(mut reader)) = (line["_timestamp"].as_f64(), reader) else {
        return false;
    };
    while let Ok(LogEntry::Record(record)) = reader.next() {
        if record.kind.as_ref().and_then(&time_of) == Some(time) {
            return true;
        }
    }
    false
}

/// Returns the time of a row.
fn row_time(kind: &RecordKind) -> Option<f64> {
    let RecordKind::History(history) = kind else {
        return None;
    };
    let item = history.item.iter().find(|item| items::path(item) == ["_timestamp"])?;
    items::value(item).parse().ok()
}

/// Returns the time of a reading.
fn event_time(kind: &RecordKind) -> Option<f64> {
    let RecordKind::Stats(stats) = kind else { return None };
    Some(stats.timestamp?.seconds())
}
