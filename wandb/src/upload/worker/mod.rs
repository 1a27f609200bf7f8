//! Delivers a log to the server, while it grows or afterwards.

mod alerts;
mod artifact;
mod establish;
mod file_jobs;
mod transfer;
mod upsert;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logcore::Deadline;
use serde_json::json;

use self::alerts::AlertQueue;
use self::transfer::TransferQueue;
use crate::folder::RunFolder;
use crate::log_format::json;
use crate::log_format::proto::{ExitRecord, LogRecord};
use crate::log_format::{LiveLog, LogEntry, LogReadError, LogReader};
use crate::settings::IgnoreGlobs;
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::retry::{GivenUp, RetryingClient, RunIdentity};
use crate::upload::state::control::{DeliveryPosition, Lane};
use crate::upload::state::progress_file::{LineRange, UploadProgress};
use crate::upload::state::uploaded_files::{InUse, UploadedFiles};
use crate::upload::stream::assembler::Assembler;
use crate::upload::stream::line_buffer::LineBuffer;

/// The content of one request of the stream. Servers take five times as much; a backlog is in memory a few times over.
const REQUEST_BYTES: usize = 2 << 20;
/// A server that has heard nothing for minutes takes the run for crashed.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);
/// Changes of the config are collected for this long.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be delivered, and how often.
pub(crate) struct DeliveryPlan {
    pub(crate) files: Arc<RunFolder>,
    /// The writer of the log, if that is this process.
    pub(crate) live: Option<Arc<LiveLog>>,
    /// A row waits at most this long for company.
    pub(crate) interval: Duration,
    /// A run is silent at most this long.
    pub(crate) heartbeat: Duration,
    /// Where the pages of runs are.
    pub(crate) app_url: String,
    /// Files that stay here.
    pub(crate) ignored: IgnoreGlobs,
    /// The log does not grow any more.
    pub(crate) ended: bool,
    /// The server may have a run of this id.
    pub(crate) may_exist: bool,
}

/// How the delivery of a log ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryReport {
    pub(crate) outcome: DeliveryOutcome,
    /// The log has no end: its process was killed.
    pub(crate) killed: bool,
}

/// How much was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// The server has everything.
    Complete,
    /// Something is only on disk.
    Incomplete,
}

/// Delivers the log of `plan`; returns when all is delivered or there is no time left. `on_read` is told how many
/// bytes of the log have been read.
pub(crate) fn deliver(
    client: RetryingClient,
    plan: DeliveryPlan,
    on_read: &mut dyn FnMut(u64),
) -> Result<DeliveryReport, UploadError> {
    let reader = match &plan.live {
        Some(live) => LogReader::following(live),
        None => plan.files.open_log().map_err(LogReadError::Io).and_then(LogReader::of),
    };
    let reader = reader.map_err(unreadable)?;
    let uploaded = UploadedFiles::open(&plan.files)
        .map_err(|InUse| UploadError::last(UploadErrorKind::InUse, "another delivery of the same log is on"))?;
    let progress = UploadProgress::load(&plan.files).unwrap_or_default();
    let mut uploader = Uploader {
        client,
        reader,
        assembler: Assembler::default(),
        identity: RunIdentity {
            entity: String::new(),
            project: String::new(),
            run_id: String::new(),
        },
        transfers: None,
        gzip: false,
        uploaded,
        damaged: None,
        held: None,
        missing: 0,
        refused: false,
        config_refused: None,
        at_end: BTreeMap::new(),
        last_sent: None,
        sent_alerts: progress.alerts,
        alerts: AlertQueue::default(),
        progress,
        console: None,
        plan,
    };
    if uploader.plan.ended {
        uploader.assembler.derive_summary();
    }
    let outcome = match uploader.run(on_read) {
        Ok(()) if uploader.nothing_refused() => DeliveryOutcome::Complete,
        _ => DeliveryOutcome::Incomplete,
    };
    match uploader.damaged {
        Some(error) => Err(unreadable(error)),
        None => Ok(DeliveryReport {
            outcome,
            killed: uploader.assembler.exit.is_none(),
        }),
    }
}

struct Uploader {
    client: RetryingClient,
    plan: DeliveryPlan,
    reader: LogReader,
    assembler: Assembler,
    progress: UploadProgress,
    identity: RunIdentity,
    transfers: Option<TransferQueue>,
    gzip: bool,
    uploaded: UploadedFiles,
    damaged: Option<LogReadError>,
    /// A record that was read before its time.
    held: Option<LogRecord>,
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
    alerts: AlertQueue,
    /// `files/output.log`.
    console: Option<File>,
}

impl Uploader {
    fn run(&mut self, on_read: &mut dyn FnMut(u64)) -> Result<(), GivenUp> {
        self.wait_for_run()?;
        if self.plan.ended {
            self.show_destination();
        }
        self.establish()?;
        let mut last_config = Instant::now();
        let mut next_look = Deadline::after(Duration::ZERO);
        let mut urged = false;
        loop {
            let all_read = self.read_on();
            on_read(self.reader.position());
            let over = self.assembler.exit.is_some() || self.damaged.is_some() || (self.plan.ended && all_read);
            if over && self.assembler.exit.is_none() {
                self.assembler.cover_all();
            }
            let hurry = over || urged || self.client.control.ending();
            if self.assembler.config_changed() && (hurry || last_config.elapsed() >= CONFIG_INTERVAL) {
                self.update()?;
                last_config = Instant::now();
            }
            self.begin_transfers();
            self.end_transfers();
            let full = self.assembler.waiting() >= REQUEST_BYTES;
            let due = next_look.has_passed();
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
            if self.client.control.too_late(Lane::Rows) {
                return Err(GivenUp);
            }
            if full || (hurry && !self.nothing_waits()) {
                continue;
            }
            urged = if self.client.control.ending() {
                self.client.control.rest_for_message(LONGEST_REST_AT_END);
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
                self.client.control.rest(Deadline::after(rest.max(SHORTEST_REST)))
            };
        }
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
        if let Some(calls) = self.assembler.take_too_long() {
            self.client.control.drop_for("longer than servers take", calls);
            let text = "W&B: a line of more than 10 MB is left out: no server takes it";
            self.client.control.say("line too long", text);
        }
    }

    fn read_some(&mut self, enough: impl Fn(&Assembler) -> bool) -> bool {
        if let Some(record) = self.held.take() {
            self.assembler.read(record);
        }
        while self.damaged.is_none() && !enough(&self.assembler) {
            let entry = self.reader.next();
            if let Some(cut) = self.reader.take_rewound() {
                self.follow_cut(cut);
            }
            match entry {
                Ok(LogEntry::Record(record)) => self.assembler.read(record),
                Ok(LogEntry::End) => return true,
                // The writer of the log finds it out at the next write, and mends it.
                Err(_) if self.reader.is_live() && !self.client.control.ending() => return true,
                Err(error) => self.damaged = Some(error),
            }
        }
        self.damaged.is_some()
    }

    /// The log was cut at this place, and goes on there: what is behind it are other lines than those that were read. They
    /// follow those on the server, here and in any later delivery.
    fn follow_cut(&mut self, cut: u64) {
        let mut before = Assembler::default();
        let nothing_sent = LineRange {
            start: 0,
            sent: u64::MAX,
        };
        let whole = UploadProgress {
            history: nothing_sent,
            events: nothing_sent,
            output: nothing_sent,
            ..UploadProgress::default()
        };
        before.begin_at(&whole);
        let file = self.plan.live.as_ref().map(|live| live.file());
        if let Some(Ok(mut reader)) = file.map(|file| file.map_err(LogReadError::Io).and_then(LogReader::of)) {
            while let Ok(LogEntry::Record(record)) = reader.next() {
                if reader.position() > cut {
                    break;
                }
                before.read(record);
            }
        }
        let progress = &mut self.progress;
        for (extent, lines, before) in [
            (&mut progress.history, &self.assembler.history, &before.history),
            (&mut progress.events, &self.assembler.events, &before.events),
            (&mut progress.output, &self.assembler.output, &before.output),
        ] {
            extent.start = lines.end().saturating_sub(before.end());
        }
        self.keep_standing();
    }

    fn nothing_refused(&self) -> bool {
        !self.refused && self.config_refused.is_none()
    }

    /// The lines of all that was read are on the server.
    fn account(&self) {
        self.client.control.set_delivered(DeliveryPosition {
            num: self.assembler.num,
            missing: self.missing + self.alerts.len() as u64 + self.config_refused.unwrap_or_default(),
        });
    }

    fn nothing_waits(&self) -> bool {
        let lines = [&self.assembler.history, &self.assembler.events, &self.assembler.output];
        lines.into_iter().all(LineBuffer::is_empty)
            && !self.assembler.summary_changed()
            && !self.assembler.config_changed()
            && !self.uploaded.any_unannounced()
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
        let uploaded = self.uploaded.unannounced();
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
        self.progress.history.sent = self.assembler.history.next;
        self.progress.events.sent = self.assembler.events.next;
        self.progress.output.sent = self.assembler.output.next;
        self.keep_standing();
        Ok(())
    }

    fn announced(&mut self, names: Vec<String>) {
        let kept = self.uploaded.announced(names);
        self.said_if_not_kept(kept);
    }

    /// How long the run may still be silent.
    fn until_heartbeat(&self) -> Duration {
        if self.assembler.superseded {
            // Whether the run is alive is not this log's to say.
            return Duration::MAX;
        }
        let silent = self.last_sent.map(|sent| sent.elapsed());
        silent.map_or(Duration::ZERO, |silent| self.plan.heartbeat.saturating_sub(silent))
    }

    fn post(&mut self, body: &str) -> Result<(), GivenUp> {
        let RunIdentity {
            entity,
            project,
            run_id,
        } = &self.identity;
        let stopped = self
            .client
            .persist(|api| api.stream(entity, project, run_id, body, self.gzip))?;
        self.last_sent = Some(Instant::now());
        if stopped {
            self.client.control.request_stop();
        }
        Ok(())
    }

    /// Alerts of the log that no earlier delivery has sent.
    fn send_alerts(&mut self) {
        let fresh = std::mem::take(&mut self.assembler.alerts);
        let sent_before = self.sent_alerts.min(fresh.len());
        self.sent_alerts -= sent_before;
        self.alerts.add(fresh.into_iter().skip(sent_before));
        let done = self.alerts.send(&self.client, &self.identity);
        if done > 0 {
            self.progress.alerts += done;
            self.keep_standing();
        }
    }

    /// All rows are there: the files that stand for the whole run, then the last word.
    fn end(&mut self) -> Result<(), GivenUp> {
        let own = match self.assembler.superseded {
            true => Vec::new(),
            false => self.write_own_files(),
        };
        let own = own.into_iter().map(|name| (name, 0));
        let files: Vec<_> = std::mem::take(&mut self.at_end).into_iter().chain(own).collect();
        self.push_files(files);
        loop {
            self.end_transfers();
            self.send_alerts();
            self.account();
            let control = &self.client.control;
            let files_wait = self.open_transfers() > 0 && !control.too_late(Lane::Files);
            let alerts_wait =
                self.alerts.len() > 0 && !control.too_late_for(Lane::Alerts, self.alerts.rest().unwrap_or_default());
            if !files_wait && !alerts_wait {
                break;
            }
            if self.until_heartbeat().is_zero() {
                self.send(true)?;
            }
            self.client.control.rest_for_message(LONGEST_REST_AT_END);
        }
        if self.client.control.too_late(Lane::Rows) {
            return Err(GivenUp);
        }
        self.refused |= self.open_transfers() > 0 || self.alerts.len() > 0;
        match self.assembler.superseded {
            true => self.send(false)?,
            false => self.say_the_end()?,
        }
        self.progress.complete = self.nothing_refused() && self.damaged.is_none();
        self.keep_standing();
        Ok(())
    }

    fn say_the_end(&mut self) -> Result<(), GivenUp> {
        // A process that was killed leaves no exit record; W&B has no other word for it than failed.
        let exit = self.assembler.exit.unwrap_or(ExitRecord {
            exit_code: 1,
            ..ExitRecord::default()
        });
        let mut last = json!({"complete": true, "exitcode": exit.exit_code});
        if exit.not_complete {
            last = json!({});
        }
        let uploaded = self.uploaded.unannounced();
        if !uploaded.is_empty() {
            last["uploaded"] = json!(uploaded);
        }
        self.post(&last.to_string())?;
        self.announced(uploaded);
        Ok(())
    }

    /// Without it a later delivery begins at the beginning, which overwrites and doubles nothing.
    fn keep_standing(&self) {
        self.said_if_not_kept(self.progress.save(&self.plan.files));
    }

    fn said_if_not_kept(&self, kept: std::io::Result<()>) {
        if let Err(error) = kept {
            let text = format!(
                "W&B: how far {} is delivered cannot be kept: {error}",
                self.plan.files.path().display()
            );
            self.client.control.say("standing", &text);
        }
    }
}

/// Between two looks at a log that grows.
const SHORTEST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST_AT_END: Duration = Duration::from_millis(100);

fn unreadable(error: LogReadError) -> UploadError {
    UploadError::last(UploadErrorKind::Unreadable, error.to_string())
}
