//! Delivers a log to the server, while it grows or afterwards.
//!
//! The uploader is a loop on one thread. It reads records up to the content of one request, sends
//! the lines, and waits for new records, a flush, the heartbeat or the end of the run. Files and
//! artifacts are uploaded on a second thread, and alerts are tried beside the rows, so that a
//! refused file delays nothing else. The first upsert comes before everything: without it there is
//! no run.

mod alerts;
mod artifact;
mod establish;
mod file_jobs;
mod transfer;
mod upsert;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use logcore::{Deadline, StopFlag};
use logcore_delivery::{DeliveryError, DeliveryErrorKind, DeliveryPosition, Lane, TransferQueue};
use prost::Message as _;
use serde_json::json;

use self::alerts::AlertQueue;
use self::transfer::{RunTarget, RunTransfer};
use crate::folder::RunFolder;
use crate::log_format::json;
use crate::log_format::proto::{ExitRecord, LogRecord};
use crate::log_format::{LiveLog, LogEntry, LogReadError, LogReader, RowView, position_of};
use crate::run_log::{LATE, describe_late};
use crate::settings::IgnoreGlobs;
use crate::upload::client::RetryingClient;
use crate::upload::client::run_identity::RunIdentity;
use crate::upload::state::progress_file::{LineRange, UploadProgress};
use crate::upload::state::uploaded_files::UploadedFiles;
use crate::upload::stream::assembler::Assembler;
use crate::upload::stream::unsent_lines::StreamLines;

/// Bytes of content in one request of the stream. Servers accept five times as much, but a backlog
/// is in memory several times.
const REQUEST_BYTES: usize = 2 << 20;
/// Interval of signs of life. After minutes without one, the server marks the run as crashed.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);
/// Time for which changes of the config are collected.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// The log to deliver, and the intervals of the delivery.
pub(crate) struct DeliveryPlan {
    pub(crate) files: Arc<RunFolder>,
    /// The writer of the log, if that is this process.
    pub(crate) live: Option<Arc<LiveLog>>,
    /// Time for which rows are collected.
    pub(crate) interval: Duration,
    /// The longest time without a request.
    pub(crate) heartbeat: Duration,
    /// The address of the web app.
    pub(crate) app_url: String,
    /// Patterns of files that are not uploaded.
    pub(crate) ignore_globs: IgnoreGlobs,
    /// `true` if the log does not grow any more.
    pub(crate) ended: bool,
    /// `true` if the server may have a run of this id.
    pub(crate) may_exist: bool,
    /// The flag that asks the program to stop.
    pub(crate) stop: StopFlag,
}

/// The result of the delivery of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryReport {
    pub(crate) outcome: DeliveryOutcome,
    /// `true` if the log has no exit record, because its process was killed.
    pub(crate) killed: bool,
}

/// The completeness of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// The server has everything.
    Complete,
    /// Something is only on disk.
    Incomplete,
}

/// Delivers the log of `plan`, until everything is delivered or no time is left. Calls `on_read`
/// with the number of bytes of the log that were read.
///
/// # Errors
///
/// If the log cannot be read, or another delivery of the log is running.
pub(crate) fn deliver(
    client: RetryingClient,
    plan: DeliveryPlan,
    on_read: &mut dyn FnMut(u64),
) -> Result<DeliveryReport, DeliveryError> {
    let reader = match &plan.live {
        Some(live) => LogReader::following(live),
        None => plan.files.open_log().map_err(LogReadError::Io).and_then(LogReader::new),
    };
    let reader = reader.map_err(unreadable)?;
    let uploaded = UploadedFiles::open(&plan.files)?;
    let progress = UploadProgress::load(&plan.files).unwrap_or_default();
    let mut uploader = Uploader {
        client,
        reader,
        assembler: Assembler::default(),
        identity: RunIdentity::default(),
        transfers: None,
        gzip: false,
        uploaded,
        damaged: None,
        first_record: None,
        missing: 0,
        refused: false,
        config_refused: None,
        late_reported: false,
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
        Ok(()) if uploader.is_complete() => DeliveryOutcome::Complete,
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

/// The delivery of one log.
struct Uploader {
    /// The requests of the lane of rows.
    client: RetryingClient,
    /// The log and the intervals.
    plan: DeliveryPlan,
    /// The reader of the log.
    reader: LogReader,
    /// The content that was read and not sent.
    assembler: Assembler,
    /// The progress on disk.
    progress: UploadProgress,
    /// The names of the run on the server.
    identity: RunIdentity,
    /// The queue of files and artifacts with its destination, once there is a file.
    transfers: Option<(TransferQueue<RunTransfer>, Arc<RunTarget>)>,
    /// `true` if the server accepts compressed requests.
    gzip: bool,
    /// The list of uploaded files.
    uploaded: UploadedFiles,
    /// The error at which reading stopped.
    damaged: Option<LogReadError>,
    /// The first record behind the run and its environment, until the position on the server is
    /// known.
    first_record: Option<LogRecord>,
    /// Number of calls whose file or artifact is not on the server (yet).
    missing: u64,
    /// `true` if a file or artifact was refused.
    refused: bool,
    /// Number of calls of a refused config.
    config_refused: Option<u64>,
    /// `true` if the steps that the server has already are reported.
    late_reported: bool,
    /// Files to upload when the run ends, each with the number of its calls.
    at_end: BTreeMap<String, u64>,
    /// Time of the last request of the stream.
    last_sent: Option<Instant>,
    /// Number of alerts at the beginning of the log that an earlier delivery has sent.
    sent_alerts: usize,
    /// The waiting alerts.
    alerts: AlertQueue,
    /// `files/output.log`.
    console: Option<File>,
}

impl Uploader {
    /// Delivers the log until its end, or until no time is left.
    fn run(&mut self, on_read: &mut dyn FnMut(u64)) -> Result<(), DeliveryError> {
        self.wait_for_run()?;
        if self.plan.ended {
            self.print_destination();
        }
        self.establish()?;
        let mut last_config = Instant::now();
        let mut next_request = Deadline::after(Duration::ZERO);
        let mut flush_requested = false;
        loop {
            let all_read = self.read_batch();
            on_read(self.reader.position());
            let over = self.assembler.exit.is_some() || self.damaged.is_some() || (self.plan.ended && all_read);
            if over && self.assembler.exit.is_none() {
                self.assembler.add_tail_summary();
            }
            let must_send_now = over || flush_requested || self.client.control.is_ending();
            if self.assembler.config_changed() && (must_send_now || last_config.elapsed() >= CONFIG_INTERVAL) {
                self.update()?;
                last_config = Instant::now();
            }
            self.queue_transfers();
            self.finish_transfers();
            let full = self.assembler.waiting() >= REQUEST_BYTES;
            let due = next_request.has_passed();
            let heartbeat = self.until_heartbeat().is_zero();
            if full || must_send_now || due || heartbeat {
                self.send(heartbeat)?;
            }
            if due {
                next_request = Deadline::after(self.plan.interval);
            }
            self.send_alerts();
            if self.nothing_is_waiting() {
                self.publish_position();
                if over {
                    return self.finish();
                }
            }
            if self.client.control.is_out_of_time(Lane::Rows) {
                return Err(DeliveryError::gave_up());
            }
            if full || (must_send_now && !self.nothing_is_waiting()) {
                continue;
            }
            flush_requested = if self.client.control.is_ending() {
                self.client.control.wait_for_message(LONGEST_WAIT_AT_END);
                false
            } else {
                let config = CONFIG_INTERVAL.saturating_sub(last_config.elapsed());
                let waits = [
                    Some(next_request.remaining()),
                    self.assembler.config_changed().then_some(config),
                    self.alerts.time_to_retry(false),
                    Some(self.until_heartbeat()),
                ];
                let wait = waits.into_iter().flatten().min().unwrap_or_default();
                self.client
                    .control
                    .wait_for_work(Deadline::after(wait.max(SHORTEST_WAIT)))
            };
        }
    }

    /// Reads the log up to the content of one request. Returns `true` if that was the rest of the
    /// log.
    fn read_batch(&mut self) -> bool {
        let all = self.read_until(|assembler| assembler.waiting() >= REQUEST_BYTES);
        self.assembler
            .files
            .retain(|file| !self.plan.ignore_globs.matches(&file.path));
        self.write_console();
        self.report_too_long();
        self.report_late();
        all
    }

    /// Counts the rows of a resumed run that the server has already, and reports the first of them.
    fn report_late(&mut self) {
        let Some(late) = self.assembler.take_late() else { return };
        self.client.control.drop_calls(LATE, late.rows);
        if !std::mem::replace(&mut self.late_reported, true) {
            let text = describe_late(late.first, late.last);
            self.client.control.print_notice(LATE, &text);
        }
    }

    /// Reports lines that were skipped because no server accepts their length. The official client
    /// skips them, too.
    fn report_too_long(&mut self) {
        if let Some(calls) = self.assembler.take_too_long() {
            self.client.control.drop_calls("longer than servers accept", calls);
            let text = "W&B: skipping a line of more than 10 MB, which no server accepts";
            self.client.control.print_notice("line too long", text);
        }
    }

    /// Reads records until `is_enough` is `true`. Returns `true` at the end of the log.
    fn read_until(&mut self, is_enough: impl Fn(&Assembler) -> bool) -> bool {
        if let Some(record) = self.first_record.take() {
            self.assembler.read(record);
        }
        while self.damaged.is_none() && !is_enough(&self.assembler) {
            if let Some(cut) = self.reader.take_rewound() {
                self.follow_cut(cut);
            }
            let assembler = &mut self.assembler;
            let read = self.reader.read_with(|payload| {
                if let Some(row) = RowView::read(payload) {
                    let num = row.num;
                    assembler.read_row(row);
                    return Ok(num);
                }
                let record = LogRecord::decode(payload)?;
                let num = record.num;
                assembler.read(record);
                Ok(num)
            });
            match read {
                Ok(true) => {}
                Ok(false) => return true,
                // The writer repairs the log at its next write.
                Err(_) if self.reader.is_live() && !self.client.control.is_ending() => return true,
                Err(error) => self.damaged = Some(error),
            }
        }
        self.damaged.is_some()
    }

    /// Adapts the positions to a log that was cut at byte `cut`. The lines behind the cut are other
    /// lines than those that were read, and follow the lines on the server, now and in any later
    /// delivery.
    fn follow_cut(&mut self, cut: u64) {
        let mut before = Assembler::default();
        let nothing_sent = LineRange {
            start: 0,
            sent: u64::MAX,
        };
        let whole = UploadProgress {
            resumed_at: self.progress.resumed_at,
            history: nothing_sent,
            events: nothing_sent,
            output: nothing_sent,
            ..UploadProgress::default()
        };
        before.begin_at(&whole);
        let file = self.plan.live.as_ref().map(|live| live.file());
        if let Some(Ok(mut reader)) = file.map(|file| file.map_err(LogReadError::Io).and_then(LogReader::new)) {
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
        self.save_progress();
    }

    /// Returns `true` if the server has accepted everything so far.
    fn is_complete(&self) -> bool {
        !self.refused && self.config_refused.is_none()
    }

    /// Publishes the position: the server has the lines of all records that were read.
    fn publish_position(&self) {
        self.client.control.set_position(DeliveryPosition {
            reached: position_of(self.assembler.num),
            missing: self.missing + self.alerts.len() as u64 + self.config_refused.unwrap_or_default(),
        });
    }

    /// Returns `true` if everything that was read is sent.
    fn nothing_is_waiting(&self) -> bool {
        let lines = [&self.assembler.history, &self.assembler.events, &self.assembler.output];
        lines.into_iter().all(StreamLines::is_empty)
            && !self.assembler.summary_changed()
            && !self.assembler.config_changed()
            && !self.uploaded.has_unannounced()
    }

    /// Sends one request of the stream, if there is content or `heartbeat` is `true`.
    fn send(&mut self, heartbeat: bool) -> Result<(), DeliveryError> {
        let mut room = REQUEST_BYTES;
        let mut counts = [0; 3];
        let summary = self.assembler.take_summary();
        let parts = [
            ("wandb-history.jsonl", &self.assembler.history),
            ("wandb-events.jsonl", &self.assembler.events),
            ("output.log", &self.assembler.output),
        ];
        // Lines are copied once, with room for the rest: a backlog is in memory several times.
        let mut body = String::with_capacity(self.assembler.waiting().min(REQUEST_BYTES) + 1024);
        body.push('{');
        for (at, (name, lines)) in parts.into_iter().enumerate() {
            if lines.is_empty() || room == 0 {
                continue;
            }
            let (count, content) = lines.portion(room);
            room = room.saturating_sub(content.len());
            counts[at] = count;
            begin_file(&mut body, name, lines.next);
            body.push_str(content);
            body.push_str("]}");
        }
        if let Some(summary) = summary {
            begin_file(&mut body, "wandb-summary.json", 0);
            json::put_string(&summary, &mut body);
            body.push_str("]}");
        }
        if body.len() > 1 {
            body.push('}');
        }
        let uploaded = self.uploaded.unannounced();
        if !uploaded.is_empty() {
            begin_member(&mut body);
            let _ = write!(body, "\"uploaded\":{}", json!(uploaded));
        }
        if std::mem::take(&mut self.assembler.preempting) {
            begin_member(&mut body);
            body.push_str("\"preempting\":true");
        }
        if body.len() == 1 && !heartbeat {
            return Ok(());
        }
        body.push('}');
        self.post(body)?;
        self.mark_announced(uploaded);
        self.assembler.history.mark_sent(counts[0]);
        self.assembler.events.mark_sent(counts[1]);
        self.assembler.output.mark_sent(counts[2]);
        self.progress.history.sent = self.assembler.history.next;
        self.progress.events.sent = self.assembler.events.next;
        self.progress.output.sent = self.assembler.output.next;
        self.save_progress();
        Ok(())
    }

    /// Notes that the stream has announced files.
    fn mark_announced(&mut self, names: Vec<String>) {
        let saved = self.uploaded.mark_announced(names);
        self.report_unsaved(saved);
    }

    /// Returns the time until the next sign of life.
    fn until_heartbeat(&self) -> Duration {
        if self.assembler.superseded {
            // Only the newest part of a run sends signs of life.
            return Duration::MAX;
        }
        let silent = self.last_sent.map(|sent| sent.elapsed());
        silent.map_or(Duration::ZERO, |silent| self.plan.heartbeat.saturating_sub(silent))
    }

    /// Sends one request of the stream.
    fn post(&mut self, body: String) -> Result<(), DeliveryError> {
        let body = Bytes::from(body);
        let RunIdentity {
            entity,
            project,
            run_id,
        } = &self.identity;
        let stopped = self
            .client
            .persist(|api| api.stream(entity, project, run_id, &body, self.gzip))?;
        self.last_sent = Some(Instant::now());
        if stopped {
            // A user asks for that on the page of the run.
            self.plan.stop.request();
        }
        Ok(())
    }

    /// Sends the alerts of the log that no earlier delivery has sent.
    fn send_alerts(&mut self) {
        let fresh = std::mem::take(&mut self.assembler.alerts);
        let sent_before = self.sent_alerts.min(fresh.len());
        self.sent_alerts -= sent_before;
        self.alerts.add(fresh.into_iter().skip(sent_before));
        let done = self.alerts.send(&self.client, &self.identity);
        if done > 0 {
            self.progress.alerts += done;
            self.save_progress();
        }
    }

    /// Uploads the last files after all rows, and then marks the run as complete.
    fn finish(&mut self) -> Result<(), DeliveryError> {
        let own = match self.assembler.superseded {
            true => Vec::new(),
            false => self.write_own_files(),
        };
        let own = own.into_iter().map(|name| (name, 0));
        let files: Vec<_> = std::mem::take(&mut self.at_end).into_iter().chain(own).collect();
        self.push_files(files);
        loop {
            self.finish_transfers();
            self.send_alerts();
            self.publish_position();
            let control = &self.client.control;
            let files_wait = self.open_transfers() > 0 && !control.is_out_of_time(Lane::Files);
            let alerts_wait = self
                .alerts
                .time_to_retry(control.is_ending())
                .is_some_and(|pause| !control.is_out_of_time_after(Lane::Alerts, pause));
            if !files_wait && !alerts_wait {
                break;
            }
            if self.until_heartbeat().is_zero() {
                self.send(true)?;
            }
            self.client.control.wait_for_message(LONGEST_WAIT_AT_END);
        }
        if self.client.control.is_out_of_time(Lane::Rows) {
            return Err(DeliveryError::gave_up());
        }
        self.refused |= self.open_transfers() > 0 || self.alerts.len() > 0;
        match self.assembler.superseded {
            true => self.send(false)?,
            false => self.send_exit()?,
        }
        self.progress.complete = self.is_complete() && self.damaged.is_none();
        self.save_progress();
        Ok(())
    }

    /// Marks the run as ended on the server.
    fn send_exit(&mut self) -> Result<(), DeliveryError> {
        // A killed process leaves no exit record, and W&B knows no other state for that than
        // failed.
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
        self.post(last.to_string())?;
        self.mark_announced(uploaded);
        Ok(())
    }

    /// Saves the progress. Without the file, a later delivery starts at the first line, which is
    /// harmless.
    fn save_progress(&self) {
        self.report_unsaved(self.progress.save(&self.plan.files));
    }

    /// Prints an error of a file beside the log.
    fn report_unsaved(&self, saved: std::io::Result<()>) {
        if let Err(error) = saved {
            let text = format!(
                "W&B: cannot save the progress of {}: {error}",
                self.plan.files.path().display()
            );
            self.client.control.print_notice("progress", &text);
        }
    }
}

/// The shortest wait before a growing log is read again.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait for a transfer or an alert after the end of the run.
const LONGEST_WAIT_AT_END: Duration = Duration::from_millis(100);

/// Begins the lines of a file in the body of a request, which `]}` ends.
fn begin_file(body: &mut String, name: &str, offset: u64) {
    begin_member(body);
    if body.len() == 1 {
        body.push_str("\"files\":{");
    }
    // Writing to a string cannot fail.
    let _ = write!(body, "\"{name}\":{{\"offset\":{offset},\"content\":[");
}

/// Separates a member of an object from the one before it.
fn begin_member(body: &mut String) {
    if !body.ends_with('{') {
        body.push(',');
    }
}

fn unreadable(error: LogReadError) -> DeliveryError {
    DeliveryError::permanent(DeliveryErrorKind::Unreadable, error.to_string())
}
