//! A logger's way into the ring.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter};
use logcore::{Deadline, LogError, MetricValue, OnFull, ProgressEvent, SinkBooks, is_logging_suppressed};

use crate::caller::command::{Command, Ended, LoggerAccounts, LoggerOutcome, NamedSink, Reply};
use crate::caller::shared::{NoRoom, ORPHANED, Patience, Shared};
use crate::frame::body::{
    LoggerId, MetricName, RecordOrigin, encode_config, encode_message, encode_metric, encode_metrics, encode_progress,
    encode_record, rewrite_record,
};
use crate::frame::buffer::with_buffer;
use crate::pipeline::FolderNumber;
use crate::process::late_calls::count_call_after_end;
use crate::process::notice::notice_soon;
use crate::process::signals::wait_for_the_end;
use crate::ring::name_table::NameId;
use crate::ring::queue::{Kind, Ring};

/// A logger's way into the ring: encodes what it is told and returns.
///
/// What is said on the writer's own thread, or on a sink's (see [`logcore::suppress_logging`]), goes nowhere.
pub struct Producer {
    shared: Arc<Shared>,
    id: LoggerId,
    logger: String,
    drops: AtomicBool,
    /// The logger ends: nothing that it still says is waited for beyond this.
    ends_by: OnceLock<Deadline>,
    error_wait_ms: AtomicU64,
    counters: Arc<Counters>,
    /// Where delivery stood when waiting for an error was given up; it is not waited for again until it moves.
    stalled_at: AtomicU64,
    /// Accounts of sinks that ended before the logger.
    wound_up: Mutex<BTreeMap<String, SinkBooks>>,
}

impl Producer {
    pub(crate) fn new(shared: Arc<Shared>, id: LoggerId, logger: &str) -> Self {
        Self {
            shared,
            id,
            logger: logger.to_owned(),
            drops: AtomicBool::new(false),
            ends_by: OnceLock::new(),
            error_wait_ms: AtomicU64::new(5000),
            counters: Arc::default(),
            stalled_at: AtomicU64::new(u64::MAX),
            wound_up: Mutex::default(),
        }
    }

    /// A way to nowhere, for a logger that could not be opened: what it is told is dropped and counted.
    pub fn dead(logger: &str) -> Self {
        let shared = Shared::new(Ring::dead());
        shared.delivered.end();
        shared.ring.close();
        let producer = Self::new(Arc::new(shared), LoggerId(0), logger);
        producer.drops.store(true, Ordering::Relaxed);
        producer
    }

    /// What to do when the ring is full, and how long an error may be waited for.
    pub fn set_policy(&self, on_full: OnFull, error_wait: Duration) {
        self.drops.store(on_full == OnFull::Drop, Ordering::Relaxed);
        let millis = u64::try_from(error_wait.as_millis()).unwrap_or(u64::MAX);
        self.error_wait_ms.store(millis, Ordering::Relaxed);
    }

    /// The logger is about to end: from now on no call waits for room beyond `deadline`. Only the first counts; returns that.
    pub fn end_by(&self, deadline: Deadline) -> Deadline {
        *self.ends_by.get_or_init(|| deadline)
    }

    /// Gives the logger its sinks, in place of those that it had, which are finished first. Their files are in `folder`, should
    /// another process have to go on with them.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] if the writer did not get to it before the deadline.
    pub fn open(
        &self,
        propagate: bool,
        folder: Option<FolderNumber>,
        sinks: Vec<NamedSink>,
        deadline: Deadline,
    ) -> Result<(), LogError> {
        let reply = Reply::new();
        let command = Command::Open {
            id: self.id,
            name: self.logger.clone(),
            propagate,
            folder,
            sinks,
            counters: Arc::clone(&self.counters),
            deadline,
            reply: reply.clone(),
        };
        self.ask("setup", command, &reply, deadline)
    }

    /// Changes the level of one sink, for records from now on.
    pub fn set_level(&self, sink: &str, level: LevelFilter, deadline: Deadline) {
        let command = Command::Level {
            id: self.id,
            sink: sink.to_owned(),
            level,
        };
        let _ = self.shared().send(command, deadline);
    }

    /// Hands over a record. One of level ERROR is delivered when this returns, if delivery is possible.
    pub fn record(&self, route: RecordOrigin, record: &log::Record<'_>) {
        self.edited_record(route, record, |_| {});
    }

    /// The same, with every text in it, but for names, as `rewrite` has it.
    pub fn rewritten_record(
        &self,
        route: RecordOrigin,
        record: &log::Record<'_>,
        rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>,
    ) {
        self.edited_record(route, record, |body| rewrite_record(body, rewrite));
    }

    /// Counts a record that the logger's limit has left out.
    pub fn over_limit(&self, level: Level) {
        self.counters.over_limit[level as usize].fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn edited_record(&self, route: RecordOrigin, record: &log::Record<'_>, edit: impl FnOnce(&mut Vec<u8>)) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_record(body, self.id, route, record);
            edit(body);
            self.shared.push(Kind::Record, body, self.patience())
        });
        match pushed {
            Ok(end) if record.level() == Level::Error => self.wait_for_delivery(end),
            Ok(_) => {}
            Err(NoRoom) => self.dropped(&self.counters.records[record.level() as usize]),
        }
    }

    /// Hands over the metrics of one call.
    pub fn metrics<'a>(&self, step: u64, values: impl Iterator<Item = (MetricName<'a>, MetricValue)>) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_metrics(body, self.id, step, values);
            self.shared.push(Kind::Metrics, body, self.patience())
        });
        if pushed.is_err() {
            self.dropped(&self.counters.metrics);
        }
    }

    /// Hands over one metric.
    pub fn metric(&self, step: u64, name: NameId, value: MetricValue) {
        if is_logging_suppressed() {
            return;
        }
        let body = encode_metric(self.id, step, name, value);
        if self.shared.push(Kind::Metrics, &body, self.patience()).is_err() {
            self.dropped(&self.counters.metrics);
        }
    }

    /// Hands over the state of a progress; where there is no room it is left out, unless it is the first or the last.
    pub fn progress(&self, event: &ProgressEvent<'_>, lasting: bool) {
        if is_logging_suppressed() {
            return;
        }
        let patience = if lasting { self.patience() } else { Patience::Never };
        let _ = with_buffer(|body| {
            encode_progress(body, self.id, event);
            self.shared.push(Kind::Progress, body, patience)
        });
    }

    /// Hands over hyper-parameters, as JSON.
    pub fn config(&self, json: &str) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_config(body, self.id, json);
            self.shared.push(Kind::Config, body, self.patience())
        });
        if pushed.is_err() {
            self.dropped(&self.counters.configs);
        }
    }

    /// Hands over what is for one of the logger's sinks alone.
    pub fn message(&self, sink: &str, message: &str) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_message(body, self.id, sink, message);
            self.shared.push(Kind::Message, body, self.patience())
        });
        if pushed.is_err() {
            self.dropped(&self.counters.messages);
        }
    }

    /// The short form in which a metric's name travels, if there is room for one more name.
    pub fn intern(&self, name: &str) -> Option<NameId> {
        let shared = self.shared();
        // Two processes that add to it would write over each other's names.
        if shared.is_inherited() {
            return None;
        }
        shared.dictionary.intern(name)
    }

    /// Whether the writer is that of another process, from which this one was forked.
    pub fn is_inherited(&self) -> bool {
        self.shared().is_inherited()
    }

    /// The process that has the writer, or had it.
    pub fn writer_pid(&self) -> u64 {
        self.shared().ring.pid()
    }

    pub(crate) fn id(&self) -> LoggerId {
        self.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.shared.current()
    }

    /// Waits until everything said before is delivered.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline, [`LogError::Sink`] if a sink could not deliver.
    pub fn flush(&self, deadline: Deadline) -> Result<(), LogError> {
        if is_logging_suppressed() {
            // On the writer's own thread: waiting for it would be for ever.
            return Ok(());
        }
        if self.is_inherited() && !self.wait_for_parent("flush", deadline)? {
            return Ok(());
        }
        let reply = Reply::new();
        let command = Command::Flush {
            id: self.id,
            deadline,
            reply: reply.clone(),
        };
        self.ask("flush", command, &reply, deadline)?
    }

    /// Ends the logger: its sinks deliver and are let go. In a child of a fork that has it from its parent, who ends it, all that was
    /// said here is waited for.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline, [`LogError::Sink`] if the writer is gone with the parent.
    pub fn finish(&self, outcome: Arc<LoggerOutcome>, deadline: Deadline) -> Result<LoggerAccounts, LogError> {
        let reply = Reply::new();
        let command = Command::Finish {
            id: self.id,
            outcome,
            deadline,
            reply: reply.clone(),
        };
        if is_logging_suppressed() {
            let _ = self.shared().send(command, Deadline::after(Duration::ZERO));
            return Ok(LoggerAccounts::default());
        }
        if self.is_inherited() && !self.wait_for_parent("finish", deadline)? {
            return Ok(LoggerAccounts::default());
        }
        let ended = self.ask("finish", command, &reply, deadline)?;
        Ok(self.settle(ended, deadline))
    }

    /// Ends those of the logger's sinks that wait for others than this machine; what is said meanwhile goes to the rest.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline.
    pub fn wind_up(&self, outcome: Arc<LoggerOutcome>, deadline: Deadline) -> Result<(), LogError> {
        let reply = Reply::new();
        let command = Command::WindUp {
            id: self.id,
            outcome,
            deadline,
            reply: reply.clone(),
        };
        let ended = self.ask("finish", command, &reply, deadline)?;
        *self.wound_up.lock().unwrap_or_else(PoisonError::into_inner) = self.settle(ended, deadline).books;
        Ok(())
    }

    /// Waits for what sinks have left to others, and completes the accounts.
    pub(crate) fn settle(&self, mut ended: Ended, deadline: Deadline) -> LoggerAccounts {
        for remainder in ended.remainders {
            let sink = remainder.sink.clone();
            ended.closing.books.insert(sink, remainder.settle(deadline));
        }
        let wound_up = std::mem::take(&mut *self.wound_up.lock().unwrap_or_else(PoisonError::into_inner));
        for (sink, books) in wound_up {
            ended.closing.books.entry(sink).or_default().add(&books);
        }
        ended.closing
    }

    /// In a child of a fork: waits until the parent's writer has taken what was said here; returns whether it is gone, and this
    /// process has a writer of its own instead.
    fn wait_for_parent(&self, call: &'static str, deadline: Deadline) -> Result<bool, LogError> {
        let shared = self.shared();
        let released = shared.wait_for_release(call, deadline);
        if released.is_err() && shared.is_orphaned() {
            shared.take_over();
        }
        match self.is_inherited() {
            true => released.map(|()| false),
            false => Ok(true),
        }
    }

    fn ask<T>(
        &self,
        call: &'static str,
        command: Command,
        reply: &Reply<T>,
        deadline: Deadline,
    ) -> Result<T, LogError> {
        ask(self.shared(), call, command, reply, deadline)
    }

    fn patience(&self) -> Patience {
        match self.ends_by.get() {
            _ if self.drops.load(Ordering::Relaxed) => Patience::Never,
            Some(deadline) => Patience::Until(*deadline),
            None => Patience::Forever,
        }
    }

    fn wait_for_delivery(&self, end: u64) {
        let shared = self.shared();
        if shared.is_inherited() || self.drops.load(Ordering::Relaxed) {
            return shared.wake();
        }
        let delivered = &shared.delivered;
        if self.stalled_at.load(Ordering::Relaxed) == delivered.position() {
            return;
        }
        shared.wake();
        let wait = Duration::from_millis(self.error_wait_ms.load(Ordering::Relaxed));
        let deadline = match self.ends_by.get() {
            Some(end) => Deadline::after(wait.min(end.remaining())),
            None => Deadline::after(wait),
        };
        let stalled_at = match delivered.wait_while(|| delivered.position() < end, deadline) {
            true => u64::MAX,
            false => delivered.position(),
        };
        if stalled_at != u64::MAX {
            let sink = shared.busy_sink().unwrap_or_else(|| "a sink".to_owned());
            notice_soon(
                &format!("error of {} waits", self.logger),
                &format!(
                    "an error of logger `{}` is not delivered yet and is waited for no longer: {sink} is slow or hangs",
                    self.logger
                ),
            );
        }
        self.stalled_at.store(stalled_at, Ordering::Relaxed);
    }

    #[cold]
    fn dropped(&self, counter: &AtomicU64) {
        if !self.drops.load(Ordering::Relaxed) {
            // A call that returns when a signal ends the process is in the ring; what is not was not promised.
            wait_for_the_end();
        }
        let shared = self.shared();
        if shared.is_orphaned() {
            counter.fetch_add(1, Ordering::Relaxed);
            let text = format!("logger `{}` drops calls: {}", self.logger, shared.orphaned());
            notice_soon(&format!("{} {ORPHANED}", self.logger), &text);
            return;
        }
        if shared.ring.is_closed() {
            wait_for_the_end();
            return count_call_after_end(&self.logger);
        }
        counter.fetch_add(1, Ordering::Relaxed);
        let advice = match self.drops.load(Ordering::Relaxed) {
            true => "(`on_full = \"wait\"` would wait, a larger `ring_bytes` helps with bursts)",
            false => "and the time for its end is over",
        };
        let text = format!(
            "logger `{}` drops calls: the ring is full {advice}; they are counted as `{RING_FULL}`",
            self.logger
        );
        notice_soon(&format!("dropping {}", self.logger), &text);
    }
}

/// The reason in the books for what the ring had no room for.
pub const RING_FULL: &str = "ring full";

/// The reason in the books for what a place in the code said beyond its limit.
pub const OVER_LIMIT: &str = "limit";

/// What a logger lost before any sink saw it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// By level, as the `log` crate numbers them, from 1.
    pub(crate) records: [AtomicU64; 6],
    /// The same, of those that were over the limit for their place in the code.
    pub(crate) over_limit: [AtomicU64; 6],
    pub(crate) metrics: AtomicU64,
    pub(crate) configs: AtomicU64,
    /// To single sinks, which are not told apart here.
    pub(crate) messages: AtomicU64,
}

/// The sum of what is counted of `level` and graver.
pub(crate) fn up_to(level: LevelFilter, counts: &[AtomicU64; 6]) -> u64 {
    let counts = counts[..=level as usize].iter();
    counts.map(|count| count.load(Ordering::Relaxed)).sum()
}

/// Sends a command and waits for its answer.
pub(crate) fn ask<T>(
    shared: &Shared,
    call: &'static str,
    command: Command,
    reply: &Reply<T>,
    deadline: Deadline,
) -> Result<T, LogError> {
    let timeout = || LogError::Timeout {
        call,
        sink: shared.busy_sink(),
    };
    shared.send(command, deadline).map_err(|NoRoom| timeout())?;
    // The sinks have until the deadline; the answer may need a moment more.
    let grace = Deadline::after(deadline.remaining().saturating_add(ANSWER_GRACE));
    reply.wait(grace).ok_or_else(timeout)
}

const ANSWER_GRACE: Duration = Duration::from_millis(50);
