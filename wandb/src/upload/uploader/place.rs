//! Where a log stands on the server, before any of its rows goes there.

use std::fmt::Write as _;
use std::time::Duration;

use logcore::Deadline;
use serde_json::{Value, json};

use super::Uploader;
use crate::environment;
use crate::proto::{Environment, Kind, Run};
use crate::run_files::RunFiles;
use crate::settings::run_url;
use crate::transaction_log::{Entry, LogReader, ReadError};
use crate::tree;
use crate::upload::api::text;
use crate::upload::control::Lane;
use crate::upload::failure::{Failure, Trouble};
use crate::upload::link::{GivenUp, Identity};
use crate::upload::resume::{self, Existing};
use crate::upload::standing::{Demand, Standing};

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
            if self.plan.ended || self.damaged.is_some() || self.link.control.too_late(Lane::Rows) {
                self.damaged.get_or_insert(ReadError::Foreign);
                return Err(GivenUp);
            }
            self.link.control.rest(Deadline::after(Duration::from_secs(1)));
        }
    }

    /// Reads what a run is called and where it takes place. Where it stands must be known before any row is read: the
    /// record behind these is held back.
    fn read_beginning(&mut self) {
        while self.held.is_none() && !self.assembler.has_environment() {
            match self.reader.next() {
                Ok(Entry::Record(record)) => match record.kind {
                    Some(Kind::Header(_) | Kind::Run(_) | Kind::Environment(_)) => self.assembler.read(record),
                    _ if self.assembler.run.is_some() => self.held = Some(record),
                    _ => self.assembler.read(record),
                },
                Ok(Entry::End) => return,
                Err(_) if self.reader.is_live() && !self.link.control.ending() => return,
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
        let entity = [&self.standing.entity, &run.entity]
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
            self.link.api.base()
        );
        match self.assembler.environment() {
            Some(environment) if environment::is_here(environment) => {}
            Some(Environment { host, username, .. }) if !host.is_empty() || !username.is_empty() => {
                let _ = write!(
                    text,
                    "; it says that it was written by `{username}` on `{host}`, which is not you here"
                );
            }
            _ => text.push_str("; it does not say who wrote it, and where"),
        }
        self.link.control.say(&format!("destination of {log}"), &text);
    }

    /// Makes the run on the server, or finds it there, and learns where it stands.
    pub(super) fn establish(&mut self) -> Result<(), GivenUp> {
        let run = self.assembler.run.clone().ok_or(GivenUp)?;
        let mut known = self.standing.is_known();
        let demand = self.standing.demand;
        if self.plan.ended || !known && (run.resume || demand.is_some() || self.plan.may_exist) {
            // Asked before the run is touched, because its config tells whether this very log was delivered before.
            let existing = self.existing()?;
            if !std::mem::replace(&mut known, true) {
                self.adopt_or_refuse(&run, existing.as_ref(), demand)?;
            }
            if let Some(existing) = existing.filter(|_| self.plan.ended && self.standing.is_known()) {
                let writer = self.assembler.writer();
                let later = existing.later_than(&writer);
                let log = &self.plan.files;
                self.standing.follow(
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
        self.assembler.begin_at(&self.standing);
        let reply = self.upsert()?;
        if !known
            && reply["bucket"]["historyLineCount"].as_u64().unwrap_or(0) > 0
            && let Some(existing) = self.existing()?
        {
            self.adopt(&existing, false);
            self.assembler.begin_at(&self.standing);
        }
        let bucket = &reply["bucket"];
        self.identity = Identity {
            entity: text(&bucket["project"]["entity"]["name"]),
            project: text(&bucket["project"]["name"]),
            run_id: text(&bucket["name"]),
        };
        self.standing.storage_id = text(&bucket["id"]);
        self.standing.entity.clone_from(&self.identity.entity);
        self.standing.project.clone_from(&self.identity.project);
        self.standing.run_id.clone_from(&self.identity.run_id);
        self.keep_standing();
        self.show_address();
        self.features();
        Ok(())
    }

    /// The run was resumed since this log was written: its lines go behind what is there, and it is not made anew.
    fn supersede(&mut self, run: &Run, existing: &Existing) {
        let [project, run_id] = self.names(run).map(str::to_owned);
        self.identity = Identity {
            entity: existing.entity.clone(),
            project,
            run_id,
        };
        self.assembler.superseded = true;
        self.assembler.begin_at(&self.standing);
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
        self.link.control.set_address(self.link.api.clean(&address));
    }

    /// Project and id, as the server has named them, if it has.
    fn names<'a>(&'a self, run: &'a Run) -> [&'a str; 2] {
        let standing = &self.standing;
        [(&standing.project, &run.project), (&standing.run_id, &run.run_id)]
            .map(|(named, asked)| if named.is_empty() { asked } else { named })
            .map(String::as_str)
    }

    fn adopt_or_refuse(
        &mut self,
        run: &Run,
        existing: Option<&Existing>,
        demand: Option<Demand>,
    ) -> Result<(), GivenUp> {
        let writer = self.assembler.writer();
        let has_part = |existing: &Existing| existing.writers.contains_key(&writer);
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
            (Some(existing), Some(Demand::Never)) if existing.started => {
                self.refuse("the server has a run of this id already, and `resume` is \"never\"; it stays on disk")
            }
            (existing, Some(Demand::Must)) if existing.is_none_or(|existing| !existing.started) => {
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
        self.link.control.lasting(&Failure::last(Trouble::Refused, text));
        Err(GivenUp)
    }

    fn existing(&self) -> Result<Option<Existing>, GivenUp> {
        let Some(run) = &self.assembler.run else {
            return Ok(None);
        };
        let entity = [&self.standing.entity, &run.entity];
        let entity = entity.into_iter().find(|name| !name.is_empty());
        let [project, run_id] = self.names(run);
        self.link
            .persist(|api| resume::ask(api, entity.map(String::as_str), project, run_id))
    }

    /// Goes on behind the lines of a run that the server has; if it is resumed, with its steps, config and summary. If
    /// nobody asked to resume it, its lines stay and these follow.
    fn adopt(&mut self, existing: &Existing, resumed: bool) {
        let alerts = self.standing.alerts;
        self.standing = match resumed {
            true => Standing::beginning(Some(existing), None),
            false => Standing::behind(existing),
        };
        self.standing.alerts = alerts;
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
        let reply = self.link.api.graphql("ServerFeaturesQuery", FEATURES, json!({}));
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
fn has(files: &RunFiles, line: &Value, time_of: impl Fn(&Kind) -> Option<f64>) -> bool {
    let reader = files.open_log().map_err(ReadError::Io).and_then(LogReader::of);
    let (Some(time), Ok(mut reader)) = (line["_timestamp"].as_f64(), reader) else {
        return false;
    };
    while let Ok(Entry::Record(record)) = reader.next() {
        if record.kind.as_ref().and_then(&time_of) == Some(time) {
            return true;
        }
    }
    false
}

fn row_time(kind: &Kind) -> Option<f64> {
    let Kind::History(history) = kind else { return None };
    let item = history.item.iter().find(|item| tree::path(item) == ["_timestamp"])?;
    tree::value(item).parse().ok()
}

fn event_time(kind: &Kind) -> Option<f64> {
    let Kind::Stats(stats) = kind else { return None };
    Some(stats.timestamp?.seconds())
}
