//! Where a log stands on the server, before any of its rows goes there.

use std::fmt::Write as _;
use std::time::Duration;

use logcore::Deadline;
use serde_json::{Value, json};

use super::Uploader;
use crate::folder::RunFolder;
use crate::log_format::items;
use crate::log_format::proto::{EnvironmentRecord, RecordKind, RunRecord};
use crate::log_format::{LogEntry, LogReadError, LogReader};
use crate::run_log::environment;
use crate::settings::run_url;
use crate::upload::client::api::text;
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::retry::{GivenUp, RunIdentity};
use crate::upload::state::control::Lane;
use crate::upload::state::progress_file::{ResumeCondition, UploadProgress};
use crate::upload::state::resume::{self, ServerRun};

const FEATURES: &str = "query ServerFeaturesQuery { serverInfo { features { name isEnabled } } }";

impl Uploader {
    /// The first records of a log are there from its first moment, unless the disk was full at that moment.
    pub(super) fn wait_for_run(&mut self) -> Result<(), GivenUp> {
        loop {
            self.read_beginning();
            if self.assembler.run.is_some() && (self.held.is_some() || self.assembler.has_environment()) {
                return Ok(());
            }
            if self.assembler.run.is_some() && self.plan.ended {
                return Ok(());
            }
            if self.plan.ended || self.damaged.is_some() || self.client.control.too_late(Lane::Rows) {
                self.damaged.get_or_insert(LogReadError::Foreign);
                return Err(GivenUp);
            }
            self.client.control.rest(Deadline::after(Duration::from_secs(1)));
        }
    }

    /// Reads what a run is called and where it takes place. Where it stands must be known before any row is read: the
    /// record behind these is held back.
    fn read_beginning(&mut self) {
        while self.held.is_none() && !self.assembler.has_environment() {
            match self.reader.next() {
                Ok(LogEntry::Record(record)) => match record.kind {
                    Some(RecordKind::Header(_) | RecordKind::Run(_) | RecordKind::Environment(_)) => {
                        self.assembler.read(record)
                    }
                    _ if self.assembler.run.is_some() => self.held = Some(record),
                    _ => self.assembler.read(record),
                },
                Ok(LogEntry::End) => return,
                Err(_) if self.reader.is_live() && !self.client.control.ending() => return,
                Err(error) => {
                    self.damaged = Some(error);
                    return;
                }
            }
        }
    }

    /// Says where a log goes before anything of it is sent. The writer of the log has chosen that: not always the
    /// person who syncs it.
    pub(super) fn show_destination(&self) {
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
            "W&B: {log} goes to {}: {entity}, project `{project}`, run `{run_id}`",
            self.client.api.base()
        );
        match self.assembler.environment() {
            Some(environment) if environment::is_here(environment) => {}
            Some(EnvironmentRecord { host, username, .. }) if !host.is_empty() || !username.is_empty() => {
                let _ = write!(
                    text,
                    "; it says that it was written by `{username}` on `{host}`, which is not you here"
                );
            }
            _ => text.push_str("; it does not say who wrote it, and where"),
        }
        self.client.control.say(&format!("destination of {log}"), &text);
    }

    /// Makes the run on the server, or finds it there, and learns where it stands.
    pub(super) fn establish(&mut self) -> Result<(), GivenUp> {
        let run = self.assembler.run.clone().ok_or(GivenUp)?;
        let mut known = self.progress.is_known();
        let demand = self.progress.demand;
        if self.plan.ended || !known && (run.resume || demand.is_some() || self.plan.may_exist) {
            // Asked before the run is touched, because its config tells whether this very log was delivered before.
            let existing = self.existing()?;
            if !std::mem::replace(&mut known, true) {
                self.adopt_or_refuse(&run, existing.as_ref(), demand)?;
            }
            if let Some(existing) = existing.filter(|_| self.plan.ended && self.progress.is_known()) {
                let writer = self.assembler.writer();
                let later = existing.later_than(&writer);
                let log = &self.plan.files;
                self.progress.follow(
                    &existing,
                    later,
                    |row| has(log, row, row_time),
                    |event| has(log, event, event_time),
                );
                if later.is_some() {
                    self.supersede(&run, &existing);
                    return Ok(());
                }
            }
        }
        self.assembler.begin_at(&self.progress);
        let reply = self.upsert()?;
        if !known
            && reply["bucket"]["historyLineCount"].as_u64().unwrap_or(0) > 0
            && let Some(existing) = self.existing()?
        {
            self.adopt(&existing, false);
            self.assembler.begin_at(&self.progress);
        }
        let bucket = &reply["bucket"];
        self.identity = RunIdentity {
            entity: text(&bucket["project"]["entity"]["name"]),
            project: text(&bucket["project"]["name"]),
            run_id: text(&bucket["name"]),
        };
        self.progress.storage_id = text(&bucket["id"]);
        self.progress.entity.clone_from(&self.identity.entity);
        self.progress.project.clone_from(&self.identity.project);
        self.progress.run_id.clone_from(&self.identity.run_id);
        self.keep_standing();
        self.show_address();
        self.features();
        Ok(())
    }

    /// The run was resumed since this log was written: its lines go behind what is there, and it is not made anew.
    fn supersede(&mut self, run: &RunRecord, existing: &ServerRun) {
        let [project, run_id] = self.names(run).map(str::to_owned);
        self.identity = RunIdentity {
            entity: existing.entity.clone(),
            project,
            run_id,
        };
        self.assembler.superseded = true;
        self.assembler.begin_at(&self.progress);
        self.keep_standing();
        self.show_address();
        self.features();
    }

    fn show_address(&self) {
        let address = run_url(
            &self.plan.app_url,
            &self.identity.entity,
            &self.identity.project,
            &self.identity.run_id,
        );
        self.client.control.set_address(self.client.api.clean(&address));
    }

    /// Project and id, as the server has named them, if it has.
    fn names<'a>(&'a self, run: &'a RunRecord) -> [&'a str; 2] {
        let progress = &self.progress;
        [(&progress.project, &run.project), (&progress.run_id, &run.run_id)]
            .map(|(named, asked)| if named.is_empty() { asked } else { named })
            .map(String::as_str)
    }

    fn adopt_or_refuse(
        &mut self,
        run: &RunRecord,
        existing: Option<&ServerRun>,
        demand: Option<ResumeCondition>,
    ) -> Result<(), GivenUp> {
        let writer = self.assembler.writer();
        let has_part = |existing: &ServerRun| existing.writers.contains_key(&writer);
        match (existing, demand) {
            (Some(existing), _) if has_part(existing) => {
                // The lines of a run of its own begin at 0, whatever of them is there.
                let alone = existing.writers.len() == 1 && !run.resume && !run.resumed;
                match alone {
                    true => Ok(()),
                    false => self.refuse(
                        "it was delivered in part, and the file beside it that says how far is gone; nothing more is \
                         sent, so that no row is overwritten",
                    ),
                }
            }
            (Some(existing), Some(ResumeCondition::Never)) if existing.started => {
                self.refuse("the server has a run of this id already, and `resume` is \"never\"; it stays on disk")
            }
            (existing, Some(ResumeCondition::Must)) if existing.is_none_or(|existing| !existing.started) => {
                self.refuse("the server has no run of this id, and `resume` is \"must\"; it stays on disk")
            }
            (Some(existing), _) => {
                let resumed = run.resume && existing.started;
                self.adopt(existing, resumed);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn refuse(&self, why: &str) -> Result<(), GivenUp> {
        let text = format!("{}: {why}", self.plan.files.path().display());
        self.client
            .control
            .lasting(&UploadError::last(UploadErrorKind::Refused, text));
        Err(GivenUp)
    }

    fn existing(&self) -> Result<Option<ServerRun>, GivenUp> {
        let Some(run) = &self.assembler.run else {
            return Ok(None);
        };
        let entity = [&self.progress.entity, &run.entity];
        let entity = entity.into_iter().find(|name| !name.is_empty());
        let [project, run_id] = self.names(run);
        self.client
            .persist(|api| resume::ask(api, entity.map(String::as_str), project, run_id))
    }

    /// Goes on behind the lines of a run that the server has; if it is resumed, with its steps, config and summary. If
    /// nobody asked to resume it, its lines stay and these follow.
    fn adopt(&mut self, existing: &ServerRun, resumed: bool) {
        let alerts = self.progress.alerts;
        self.progress = match resumed {
            true => UploadProgress::beginning(Some(existing), None),
            false => UploadProgress::behind(existing),
        };
        self.progress.alerts = alerts;
        // Before the run is touched: afterwards its config names this log, too.
        self.keep_standing();
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

    /// What the server can do beyond the ordinary; it is not asked again, and what is not known is off.
    fn features(&mut self) {
        let reply = self.client.api.graphql("ServerFeaturesQuery", FEATURES, json!({}));
        let reply = reply.unwrap_or_default();
        let has = |name: &str| {
            let mut all = reply["serverInfo"]["features"].as_array().into_iter().flatten();
            all.any(|feature| feature["name"] == name && feature["isEnabled"] == true)
        };
        self.gzip = has("FILESTREAM_GZIP");
        self.assembler.structured_console = has("STRUCTURED_CONSOLE_LOGS");
    }
}

/// Whether a line that the server has is of a record in the log: no two have the same time.
fn has(files: &RunFolder, line: &Value, time_of: impl Fn(&RecordKind) -> Option<f64>) -> bool {
    let reader = files.open_log().map_err(LogReadError::Io).and_then(LogReader::of);
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

fn row_time(kind: &RecordKind) -> Option<f64> {
    let RecordKind::History(history) = kind else {
        return None;
    };
    let item = history.item.iter().find(|item| items::path(item) == ["_timestamp"])?;
    items::value(item).parse().ok()
}

fn event_time(kind: &RecordKind) -> Option<f64> {
    let RecordKind::Stats(stats) = kind else { return None };
    Some(stats.timestamp?.seconds())
}
