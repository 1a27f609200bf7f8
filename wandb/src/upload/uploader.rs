//! Delivers a log to the server, while it grows or afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logcore::Deadline;
use serde_json::{Value, json};

use super::alerts::Alerts;
use super::api::{Api, some, text};
use super::assembler::{Assembler, Lines};
use super::control::{Lane, Reached};
use super::failure::{Failure, Trouble};
use super::link::{GivenUp, Identity, Link};
use super::receipts::{InUse, Receipts};
use super::resume::{self, Existing};
use super::standing::{Demand, Standing};
use super::transfer::{Done, End, Job, Transfers, What};
use crate::json;
use crate::proto::{Artifact, Exit, Kind, Record, Run};
use crate::settings::{Ignored, run_url};
use crate::transaction_log::{Entry, LogReader, ReadError};

const UPSERT: &str = "mutation UpsertBucket($id: String, $name: String, $project: String, $entity: String, \
     $groupName: String, $description: String, $displayName: String, $notes: String, $commit: String, \
     $config: JSONString, $host: String, $debug: Boolean, $program: String, $repo: String, $jobType: String, \
     $state: String, $sweep: String, $tags: [String!], $summaryMetrics: JSONString) { upsertBucket(input: {id: $id, \
     name: $name, groupName: $groupName, modelName: $project, entityName: $entity, description: $description, \
     displayName: $displayName, notes: $notes, config: $config, commit: $commit, host: $host, debug: $debug, \
     jobProgram: $program, jobRepo: $repo, jobType: $jobType, state: $state, sweep: $sweep, tags: $tags, \
     summaryMetrics: $summaryMetrics}) { bucket { id name displayName description config sweepName historyLineCount \
     project { id name entity { id name } } } inserted } }";
const FEATURES: &str = "query ServerFeaturesQuery { serverInfo { features { name isEnabled } } }";

/// The content of one request of the stream. Servers take five times as much; a backlog is in memory a few times over.
const REQUEST_BYTES: usize = 2 << 20;
/// A server that has heard nothing for minutes takes the run for crashed.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);
/// Changes of the config are collected for this long.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be delivered, and how often.
pub(crate) struct Plan {
    pub(crate) log: PathBuf,
    /// A row waits at most this long for company.
    pub(crate) interval: Duration,
    /// A run is silent at most this long.
    pub(crate) heartbeat: Duration,
    /// Where the pages of runs are.
    pub(crate) app_url: String,
    /// Files that stay here.
    pub(crate) ignored: Ignored,
    /// The log does not grow any more.
    pub(crate) ended: bool,
    /// The server may have a run of this id.
    pub(crate) may_exist: bool,
}

/// How the delivery of a log ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) outcome: Outcome,
    /// The log has no end: its process was killed.
    pub(crate) killed: bool,
}

/// How much was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server has everything.
    Complete,
    /// Something is only on disk.
    Incomplete,
}

/// Delivers the log of `plan`; returns when all is delivered or there is no time left. `progress` is told how many
/// bytes of the log have been read.
pub(crate) fn deliver(link: Link, plan: Plan, progress: &mut dyn FnMut(u64)) -> Result<Delivered, Failure> {
    let reader = LogReader::open(&plan.log).map_err(unreadable)?;
    let receipts = Receipts::open(&plan.log)
        .map_err(|InUse| Failure::last(Trouble::InUse, "another delivery of the same log is on"))?;
    let standing = Standing::load(&plan.log).unwrap_or_default();
    let mut uploader = Uploader {
        link,
        reader,
        assembler: Assembler::default(),
        identity: Identity {
            entity: String::new(),
            project: String::new(),
            run_id: String::new(),
        },
        transfers: None,
        gzip: false,
        receipts,
        damaged: None,
        held: None,
        missing: 0,
        refused: false,
        config_refused: None,
        at_end: BTreeMap::new(),
        last_sent: None,
        sent_alerts: standing.alerts,
        alerts: Alerts::default(),
        standing,
        console: None,
        plan,
    };
    if uploader.plan.ended {
        uploader.assembler.derive_summary();
    }
    let outcome = match uploader.run(progress) {
        Ok(()) if uploader.nothing_refused() => Outcome::Complete,
        _ => Outcome::Incomplete,
    };
    match uploader.damaged {
        Some(error) => Err(unreadable(error)),
        None => Ok(Delivered {
            outcome,
            killed: uploader.assembler.exit.is_none(),
        }),
    }
}

struct Uploader {
    link: Link,
    plan: Plan,
    reader: LogReader,
    assembler: Assembler,
    standing: Standing,
    identity: Identity,
    transfers: Option<Transfers>,
    gzip: bool,
    receipts: Receipts,
    damaged: Option<ReadError>,
    /// A record that was read before its time.
    held: Option<Record>,
    /// Calls whose file or artifact is not on the server, or not yet.
    missing: u64,
    /// A file or artifact was refused.
    refused: bool,
    /// The calls of a config that was refused.
    config_refused: Option<u64>,
    /// Files that go when the run ends, with the calls that asked for each.
    at_end: BTreeMap<String, u64>,
    last_sent: Option<Instant>,
    /// Alerts at the beginning of the log that an earlier delivery has sent.
    sent_alerts: usize,
    alerts: Alerts,
    /// `files/output.log`.
    console: Option<File>,
}

impl Uploader {
    fn run(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), GivenUp> {
        self.wait_for_run()?;
        self.establish()?;
        let mut last_config = Instant::now();
        let mut next_look = Deadline::after(Duration::ZERO);
        let mut urged = false;
        loop {
            let all_read = self.read_on();
            progress(self.reader.position());
            let over = self.assembler.exit.is_some() || self.damaged.is_some() || (self.plan.ended && all_read);
            if over && self.assembler.exit.is_none() {
                self.assembler.cover_all();
            }
            let hurry = over || urged || self.link.control.ending();
            if self.assembler.config_changed() && (hurry || last_config.elapsed() >= CONFIG_INTERVAL) {
                self.update()?;
                last_config = Instant::now();
            }
            self.begin_transfers();
            self.end_transfers();
            let full = self.assembler.waiting() >= REQUEST_BYTES;
            let due = next_look.passed();
            let beat = self.until_heartbeat().is_zero();
            if full || hurry || due || beat {
                self.send(beat)?;
            }
            if due {
                next_look = Deadline::after(self.plan.interval);
            }
            self.send_alerts();
            if self.nothing_waits() {
                self.account();
                if over {
                    return self.end();
                }
            }
            if self.link.control.too_late(Lane::Rows) {
                return Err(GivenUp);
            }
            if full || (hurry && !self.nothing_waits()) {
                continue;
            }
            urged = if self.link.control.ending() {
                self.link.control.rest_for_message(LONGEST_REST_AT_END);
                false
            } else {
                let config = CONFIG_INTERVAL.saturating_sub(last_config.elapsed());
                let rests = [
                    Some(next_look.remaining()),
                    self.assembler.config_changed().then_some(config),
                    self.alerts.rest(),
                    Some(self.until_heartbeat()),
                ];
                let rest = rests.into_iter().flatten().min().unwrap_or_default();
                self.link.control.rest(Deadline::after(rest.max(SHORTEST_REST)))
            };
        }
    }

    /// The first records of a log are there from its first moment, unless the disk was full at that moment.
    fn wait_for_run(&mut self) -> Result<(), GivenUp> {
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

    /// Makes the run on the server, or finds it there, and learns where it stands.
    fn establish(&mut self) -> Result<(), GivenUp> {
        let run = self.assembler.run.clone().ok_or(GivenUp)?;
        let mut known = self.standing.is_known();
        let demand = self.standing.demand;
        if !known && (run.resume || demand.is_some() || self.plan.may_exist) {
            // Asked before the run is touched, because its config tells whether this very log was delivered before.
            let existing = self.existing()?;
            self.adopt_or_refuse(&run, existing, demand)?;
            known = true;
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
        self.link.control.set_address(run_url(
            &self.plan.app_url,
            &self.identity.entity,
            &self.identity.project,
            &self.identity.run_id,
        ));
        self.features();
        Ok(())
    }

    fn adopt_or_refuse(
        &mut self,
        run: &Run,
        existing: Option<Existing>,
        demand: Option<Demand>,
    ) -> Result<(), GivenUp> {
        let writer = self.assembler.writer();
        let has_part = |existing: &Existing| existing.writers.contains_key(&writer);
        match (existing, demand) {
            (Some(existing), _) if has_part(&existing) => {
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
            (existing, Some(Demand::Must)) if existing.as_ref().is_none_or(|existing| !existing.started) => {
                self.refuse("the server has no run of this id, and `resume` is \"must\"; it stays on disk")
            }
            (Some(existing), _) => {
                let resumed = run.resume && existing.started;
                self.adopt(&existing, resumed);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn refuse(&self, why: &str) -> Result<(), GivenUp> {
        let text = format!("{}: {why}", self.plan.log.display());
        self.link.control.lasting(&Failure::last(Trouble::Refused, text));
        Err(GivenUp)
    }

    fn existing(&self) -> Result<Option<Existing>, GivenUp> {
        let Some(run) = &self.assembler.run else {
            return Ok(None);
        };
        let entity = (!run.entity.is_empty()).then_some(run.entity.as_str());
        self.link
            .persist(|api| resume::ask(api, entity, &run.project, &run.run_id))
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

    /// Makes the run on the server. Nothing goes before that, so that a refusal holds everything back.
    fn upsert(&mut self) -> Result<Value, GivenUp> {
        let variables = self.variables(true).ok_or(GivenUp)?;
        let reply = self.link.persist(|api| send_upsert(api, &variables));
        if reply.is_err() {
            self.assembler.return_config();
        }
        reply
    }

    /// Sends what has changed about the run. What the server refuses for good is left out; rows go on.
    fn update(&mut self) -> Result<(), GivenUp> {
        let whole = self.assembler.take_about_changed();
        let variables = self.variables(whole).ok_or(GivenUp)?;
        let refused = |failure: &Failure| failure.trouble == Trouble::Refused;
        match self.link.persist_unless(refused, |api| send_upsert(api, &variables)) {
            // It was the whole of it.
            Ok(_) => {
                self.config_refused = None;
                self.assembler.take_config_calls();
                Ok(())
            }
            Err(Some(failure)) => {
                let text = format!("a change of the config is not on the server: {failure}");
                self.link.control.lasting(&Failure { text, ..failure });
                let calls = self.config_refused.unwrap_or_default() + self.assembler.take_config_calls();
                self.config_refused = Some(calls);
                Ok(())
            }
            Err(None) => {
                self.assembler.return_config();
                Err(GivenUp)
            }
        }
    }

    /// What is sent about the run: the config, and if it is `whole` the rest.
    fn variables(&mut self, whole: bool) -> Option<Value> {
        let config = self.assembler.take_config().unwrap_or_default();
        let run = self.assembler.run.as_ref()?;
        let name = match self.identity.run_id.is_empty() {
            true => run.run_id.clone(),
            false => self.identity.run_id.clone(),
        };
        let project = [&self.identity.project, &run.project]
            .into_iter()
            .find(|name| !name.is_empty());
        let entity = [&self.identity.entity, &self.standing.entity, &run.entity]
            .into_iter()
            .find(|name| !name.is_empty());
        let mut variables = json!({"name": name, "project": project, "entity": entity, "config": some(&config)});
        if whole {
            let more = json!({
                "id": some(&self.standing.storage_id), "groupName": some(&run.run_group), "jobType": some(&run.job_type),
                "displayName": some(&run.display_name), "notes": some(&run.notes), "host": some(&run.host),
                "sweep": some(&run.sweep_id), "program": self.assembler.program(),
                "tags": (!run.tags.is_empty()).then_some(&run.tags),
            });
            if let (Value::Object(all), Value::Object(more)) = (&mut variables, more) {
                all.extend(more);
            }
        }
        Some(variables)
    }

    /// Reads what the log has, up to a request's worth; returns whether that is all of it.
    fn read_on(&mut self) -> bool {
        let all = self.read_some(|assembler| assembler.waiting() >= REQUEST_BYTES);
        self.assembler.files.retain(|file| !self.plan.ignored.has(&file.path));
        self.write_console();
        self.say_too_long();
        all
    }

    /// What no server takes is left out, here as by the official client.
    fn say_too_long(&mut self) {
        let lines = self.assembler.take_too_long();
        if lines > 0 {
            self.link.control.drop_for("longer than servers take", lines);
            let text = "W&B: a line of more than 10 MB is left out: no server takes it";
            self.link.control.say("line too long", text);
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
                Err(error) => {
                    self.damaged = Some(error);
                    return;
                }
            }
        }
    }

    fn read_some(&mut self, enough: impl Fn(&Assembler) -> bool) -> bool {
        if let Some(record) = self.held.take() {
            self.assembler.read(record);
        }
        while self.damaged.is_none() && !enough(&self.assembler) {
            match self.reader.next() {
                Ok(Entry::Record(record)) => self.assembler.read(record),
                Ok(Entry::End) => return true,
                Err(error) => self.damaged = Some(error),
            }
        }
        self.damaged.is_some()
    }

    fn open_transfers(&self) -> usize {
        self.transfers.as_ref().map_or(0, Transfers::open)
    }

    fn nothing_refused(&self) -> bool {
        !self.refused && self.config_refused.is_none()
    }

    /// The lines of all that was read are on the server.
    fn account(&self) {
        self.link.control.set_delivered(Reached {
            num: self.assembler.num,
            missing: self.missing + self.alerts.len() as u64 + self.config_refused.unwrap_or_default(),
        });
    }

    fn nothing_waits(&self) -> bool {
        let lines = [&self.assembler.history, &self.assembler.events, &self.assembler.output];
        lines.into_iter().all(Lines::is_empty)
            && !self.assembler.summary_changed()
            && !self.assembler.config_changed()
            && !self.receipts.any_unannounced()
    }

    /// Sends one request of the stream, if there is something to send or to show that the run is alive.
    fn send(&mut self, beat: bool) -> Result<(), GivenUp> {
        let mut room = REQUEST_BYTES;
        let mut files = Vec::new();
        let mut counts = [0; 3];
        let parts = [
            ("wandb-history.jsonl", &self.assembler.history),
            ("wandb-events.jsonl", &self.assembler.events),
            ("output.log", &self.assembler.output),
        ];
        for (at, (name, lines)) in parts.into_iter().enumerate() {
            if lines.is_empty() || room == 0 {
                continue;
            }
            let (count, content) = lines.portion(room);
            room = room.saturating_sub(content.len());
            counts[at] = count;
            files.push(format!(
                "\"{name}\":{{\"offset\":{},\"content\":[{content}]}}",
                lines.next
            ));
        }
        if let Some(summary) = self.assembler.take_summary() {
            let mut line = String::new();
            json::put_string(&summary, &mut line);
            files.push(format!("\"wandb-summary.json\":{{\"offset\":0,\"content\":[{line}]}}"));
        }
        let mut members = Vec::new();
        if !files.is_empty() {
            members.push(format!("\"files\":{{{}}}", files.join(",")));
        }
        let uploaded = self.receipts.unannounced();
        if !uploaded.is_empty() {
            members.push(format!("\"uploaded\":{}", json!(uploaded)));
        }
        if std::mem::take(&mut self.assembler.preempting) {
            members.push("\"preempting\":true".to_owned());
        }
        if members.is_empty() && !beat {
            return Ok(());
        }
        self.post(&format!("{{{}}}", members.join(",")))?;
        self.announced(uploaded);
        self.assembler.history.sent(counts[0]);
        self.assembler.events.sent(counts[1]);
        self.assembler.output.sent(counts[2]);
        self.standing.history.sent = self.assembler.history.next;
        self.standing.events.sent = self.assembler.events.next;
        self.standing.output.sent = self.assembler.output.next;
        self.keep_standing();
        Ok(())
    }

    fn announced(&mut self, names: Vec<String>) {
        let kept = self.receipts.announced(names);
        self.said_if_not_kept(kept);
    }

    /// How long the run may still be silent.
    fn until_heartbeat(&self) -> Duration {
        let silent = self.last_sent.map(|sent| sent.elapsed());
        silent.map_or(Duration::ZERO, |silent| self.plan.heartbeat.saturating_sub(silent))
    }

    fn post(&mut self, body: &str) -> Result<(), GivenUp> {
        let Identity {
            entity,
            project,
            run_id,
        } = &self.identity;
        let stopped = self
            .link
            .persist(|api| api.stream(entity, project, run_id, body, self.gzip))?;
        self.last_sent = Some(Instant::now());
        if stopped {
            self.link.control.request_stop();
        }
        Ok(())
    }

    /// Alerts of the log that no earlier delivery has sent.
    fn send_alerts(&mut self) {
        let fresh = std::mem::take(&mut self.assembler.alerts);
        let sent_before = self.sent_alerts.min(fresh.len());
        self.sent_alerts -= sent_before;
        self.alerts.add(fresh.into_iter().skip(sent_before));
        let done = self.alerts.send(&self.link, &self.identity);
        if done > 0 {
            self.standing.alerts += done;
            self.keep_standing();
        }
    }

    fn begin_transfers(&mut self) {
        let mut now = BTreeMap::<String, u64>::new();
        for file in std::mem::take(&mut self.assembler.files) {
            self.missing += 1;
            match file.policy {
                AT_END => *self.at_end.entry(file.path).or_default() += 1,
                policy => {
                    // One that is sent whenever it changes is sent again at the end, if it has.
                    if policy == LIVE {
                        self.at_end.entry(file.path.clone()).or_default();
                    }
                    *now.entry(file.path).or_default() += 1;
                }
            }
        }
        self.push_files(now);
        for artifact in std::mem::take(&mut self.assembler.artifacts) {
            if !self.receipts.has_artifact(&artifact.client_id) {
                self.missing += 1;
                self.push(Job {
                    calls: 1,
                    what: What::Artifact(Box::new(artifact)),
                });
            }
        }
    }

    fn push_files(&mut self, files: impl IntoIterator<Item = (String, u64)>) {
        for (name, calls) in files {
            let known = self.receipts.digest(&name).cloned();
            self.push(Job {
                calls,
                what: What::File { name, known },
            });
        }
    }

    fn push(&mut self, job: Job) {
        if self.transfers.is_none() {
            self.transfers = Transfers::start(self.link.clone(), self.identity.clone(), self.files_folder());
        }
        match &mut self.transfers {
            Some(transfers) => transfers.push(job),
            None => self.refused = true,
        }
    }

    fn end_transfers(&mut self) {
        let done = self.transfers.as_mut().map(Transfers::poll).unwrap_or_default();
        for Done { calls, end } in done {
            self.missing -= calls;
            match end {
                End::Known => {}
                End::File { name, digest } => {
                    let kept = self.receipts.file(name, digest);
                    self.said_if_not_kept(kept);
                }
                End::Artifact(artifact) => {
                    let kept = self.receipts.artifact(artifact.client_id.clone());
                    self.said_if_not_kept(kept);
                    forget_copies(&artifact, &self.run_folder());
                }
                End::Missing { name } => {
                    self.link.control.drop_for("file not there", calls);
                    let text = format!("W&B: the file {name} of the run is not there and is left out");
                    self.link.control.say("file missing", &text);
                }
                End::GivenUp(failure) => {
                    self.missing += calls;
                    self.refused = true;
                    self.link.control.lasting(&failure);
                }
            }
        }
    }

    /// All rows are there: the files that stand for the whole run, then the last word.
    fn end(&mut self) -> Result<(), GivenUp> {
        let own = self.write_own_files().into_iter().map(|name| (name, 0));
        let files: Vec<_> = std::mem::take(&mut self.at_end).into_iter().chain(own).collect();
        self.push_files(files);
        loop {
            self.end_transfers();
            self.send_alerts();
            self.account();
            let control = &self.link.control;
            let files_wait = self.open_transfers() > 0 && !control.too_late(Lane::Files);
            let alerts_wait = self.alerts.len() > 0 && !control.too_late(Lane::Alerts);
            if !files_wait && !alerts_wait {
                break;
            }
            if self.until_heartbeat().is_zero() {
                self.send(true)?;
            }
            self.link.control.rest_for_message(LONGEST_REST_AT_END);
        }
        if self.link.control.too_late(Lane::Rows) {
            return Err(GivenUp);
        }
        self.refused |= self.open_transfers() > 0 || self.alerts.len() > 0;
        // A process that was killed leaves no exit record; W&B has no other word for it than failed.
        let exit = self.assembler.exit.unwrap_or(Exit {
            exit_code: 1,
            ..Exit::default()
        });
        let mut last = json!({"complete": true, "exitcode": exit.exit_code});
        if exit.not_complete {
            last = json!({});
        }
        let uploaded = self.receipts.unannounced();
        if !uploaded.is_empty() {
            last["uploaded"] = json!(uploaded);
        }
        self.post(&last.to_string())?;
        self.announced(uploaded);
        self.standing.complete = self.nothing_refused() && self.damaged.is_none();
        self.keep_standing();
        Ok(())
    }

    /// Writes the files that W&B's page looks for; returns the names of those that could be.
    fn write_own_files(&mut self) -> Vec<String> {
        self.write_console();
        let folder = self.files_folder();
        let mut texts = vec![
            ("config.yaml", self.assembler.config_yaml()),
            ("wandb-summary.json", self.assembler.summary_text()),
        ];
        texts.extend(self.assembler.metadata().map(|text| ("wandb-metadata.json", text)));
        let mut names: Vec<String> = texts
            .into_iter()
            .filter(|(name, text)| {
                fs::create_dir_all(&folder)
                    .and_then(|()| fs::write(folder.join(name), text))
                    .is_ok()
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        if self.console.is_some() {
            names.push("output.log".to_owned());
        }
        names.retain(|name| !self.plan.ignored.has(name));
        names
    }

    fn write_console(&mut self) {
        if self.assembler.console.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.assembler.console);
        if self.console.is_none() {
            let folder = self.files_folder();
            let open = || {
                fs::create_dir_all(&folder)?;
                OpenOptions::new()
                    .create(true)
                    .write(true)
                    .truncate(true)
                    .open(folder.join("output.log"))
            };
            self.console = open().ok();
        }
        if let Some(file) = &mut self.console {
            // The lines themselves are in the log and in the stream; the file is a copy for downloads.
            let _ = file.write_all(text.as_bytes());
        }
    }

    fn run_folder(&self) -> PathBuf {
        self.plan.log.parent().unwrap_or(Path::new(".")).to_owned()
    }

    fn files_folder(&self) -> PathBuf {
        self.run_folder().join("files")
    }

    /// Without it a later delivery begins at the beginning, which overwrites and doubles nothing.
    fn keep_standing(&self) {
        self.said_if_not_kept(self.standing.save(&self.plan.log));
    }

    fn said_if_not_kept(&self, kept: std::io::Result<()>) {
        if let Err(error) = kept {
            let text = format!(
                "W&B: how far {} is delivered cannot be kept: {error}",
                self.plan.log.display()
            );
            self.link.control.say("standing", &text);
        }
    }
}

/// The copies of an artifact's files have served their purpose.
fn forget_copies(artifact: &Artifact, run: &Path) {
    let staging = std::path::absolute(run.join("artifacts")).unwrap_or_default();
    let entries = artifact.manifest.iter().flat_map(|manifest| &manifest.contents);
    let folders: BTreeSet<_> = entries
        .filter_map(|entry| Path::new(&entry.local_path).parent())
        .collect();
    // A log that somebody else wrote may name any place.
    for folder in folders.into_iter().filter(|folder| folder.parent() == Some(&*staging)) {
        let _ = fs::remove_dir_all(folder);
    }
    // It goes when the last one has gone.
    let _ = fs::remove_dir(staging);
}

const AT_END: i32 = 1;
const LIVE: i32 = 2;
/// Between two looks at a log that grows.
const SHORTEST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST_AT_END: Duration = Duration::from_millis(100);

fn send_upsert(api: &Api, variables: &Value) -> Result<Value, Failure> {
    let data = api.graphql("UpsertBucket", UPSERT, variables.clone())?;
    let reply = &data["upsertBucket"];
    match reply["bucket"]["project"]["entity"]["name"].is_string() {
        true => Ok(reply.clone()),
        false => Err(Failure::again(
            Trouble::NotUnderstood,
            "the reply does not say whose the run is",
        )),
    }
}

fn unreadable(error: ReadError) -> Failure {
    Failure::last(Trouble::Unreadable, error.to_string())
}
