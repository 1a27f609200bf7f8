//! One logger, as all its handles share it: text, levels and configuration.

use std::fmt::Arguments;
use std::ops::ControlFlow;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use logcore::log::{self, LevelFilter};
use logcore::serde_json::{Map, Value};
use logcore::sync::lock;
use logcore::{
    Alert, AlertLevel, ConfigError, Count, Deadline, FileRank, JsonCapture, LogConfig, LogError, PerProcess, RunInfo,
    StopFlag, StopReason, WatchedLevels, is_logging_suppressed, redacted,
};
use logcore_pipeline::{
    DeferredArgument, DeferredMessage, LevelRule, Producer, Propagation, RecordArrival, RecordOrigin, print_notice,
    redact_in_notices,
};

use crate::logger::bars::BarState;
use crate::logger::earlier_rows::EarlierRows;
use crate::logger::filter::{FilterRules, RecordFilter};
use crate::logger::gate::CallGate;
use crate::logger::goals::{Goal, Improved, MAX_GOALS};
use crate::logger::metrics::MetricRecorder;
use crate::logger::probe_thread::ProbeThread;
use crate::logger::probes::{ProbeReport, ProbeSet};
use crate::logger::progress::ProgressBegin;
use crate::logger::rate_limit::SiteRateLimiter;
use crate::logger::report::{FinishReport, RunOutcome};
use crate::logger::settings::LoggerSettings;
use crate::logger::sinks::{BuiltSinks, level_of};
use crate::logger::summary::ClosingPart;
use crate::logger::terminal;
use crate::process::stop_signal;
use crate::run::Run;
use crate::run::ledger::Ledger;

pub(crate) struct LoggerInner {
    pub(super) gate: Arc<CallGate>,
    /// Number in the order in which loggers were opened.
    age: u64,
    /// The most verbose level that any sink wants. The one level check of every call compares with
    /// it.
    level: AtomicUsize,
    /// `true` if the filter has rules; without rules, records pass by the filter.
    pub(super) is_filtered: AtomicBool,
    /// The most verbose level of the records that the logger takes although no name and no
    /// directive claims them. Off if it takes none.
    pub(super) foreign_level: AtomicUsize,
    /// The same for its console alone, if `RUST_LOG` sets the level there.
    foreign_console_level: AtomicUsize,
    pub(super) filter: ArcSwap<RecordFilter>,
    settings: ArcSwap<LoggerSettings>,
    pub(super) metrics: MetricRecorder,
    /// Built at the first `log_memory`, unless a configuration has brought them.
    probes: PerProcess<Mutex<Option<ProbeSet>>>,
    pub(super) probe_thread: PerProcess<Mutex<Option<ProbeThread>>>,
    stop: StopFlag,
    pub(super) outcome: RunOutcome,
    /// Number of the logger's first set-up in the process; 0 before.
    first_setup: AtomicU64,
    /// Number of handles that keep the logger open.
    handles: AtomicUsize,
    pub(super) report: PerProcess<Mutex<Option<FinishReport>>>,
    /// The logger's part of the run's closing summary, from its end on until the run takes it.
    pub(super) closing: PerProcess<Mutex<Option<ClosingPart>>>,
}

impl LoggerInner {
    /// Returns a logger without sinks; [`LoggerInner::configure`] opens it.
    pub(crate) fn new(name: &str, producer: Producer, stop: StopFlag) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let gate = Arc::new(CallGate::new(name, producer));
        Self {
            age: NEXT.fetch_add(1, Ordering::Relaxed),
            level: AtomicUsize::new(0),
            is_filtered: AtomicBool::new(false),
            foreign_level: AtomicUsize::new(0),
            foreign_console_level: AtomicUsize::new(0),
            filter: ArcSwap::from_pointee(RecordFilter::new(&gate, &FilterRules::default(), LevelFilter::Off)),
            settings: ArcSwap::default(),
            metrics: MetricRecorder::new(Arc::clone(&gate)),
            gate,
            probes: PerProcess::default(),
            probe_thread: PerProcess::default(),
            stop,
            outcome: RunOutcome::new(),
            first_setup: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            report: PerProcess::default(),
            closing: PerProcess::default(),
        }
    }

    /// Returns a logger of a program without a set-up: metrics stay in memory, warnings and errors
    /// go to stderr. [`Pipeline::connect`] and [`LoggerInner::configure`] open it.
    pub(crate) fn provisional(name: &str) -> Self {
        let logger = Self::new(name, Producer::unconnected(name), StopFlag::default());
        logger
            .metrics
            .configure(&Arc::default(), 0, None, &Arc::new(Ledger::new()));
        logger.filter.store(Arc::new(RecordFilter::to_stderr(name)));
        logger.is_filtered.store(true, Ordering::Release);
        logger.level.store(LevelFilter::Warn as usize, Ordering::Relaxed);
        logger
    }

    /// Gives the logger a config, whose `log_dir` is the folder of its run, with the sinks and
    /// probes that were built for it.
    pub(crate) fn configure(
        self: &Arc<Self>,
        config: LogConfig,
        run: &Arc<Run>,
        built: BuiltSinks,
        mut probes: ProbeSet,
        has_shared_sinks: bool,
    ) -> Result<(), LogError> {
        let deadline = Deadline::after(config.finish_duration());
        let rules = FilterRules {
            directives: config.directives()?,
            limiter: config.site_limit()?.map(|limit| Arc::new(SiteRateLimiter::new(limit))),
            redaction: config.redaction()?.map(Arc::new),
        };
        if let Some(redaction) = &rules.redaction {
            redact_in_notices(redaction);
        }
        let config = Arc::new(config);
        self.report_dropped();
        let producer = self.producer();
        producer.set_policy(config.on_full, config.flush_duration());
        let propagation = match config.propagate {
            true => Propagation::ToParents,
            false => Propagation::None,
        };
        let foreign_console_level = built.foreign_console_level();
        let takes_alerts = built.take_alerts();
        producer.open(propagation, built.folder, built.sinks, deadline)?;
        let earlier_rows = EarlierRows::of_run(run.info(), &config, run.superseded_rows().clone());
        self.metrics
            .configure(&config, built.first_step, earlier_rows, run.ledger());
        let periodic = probes.take_periodic();
        *lock(self.probes.get()) = Some(probes);
        let mut levels = built.levels;
        if has_shared_sinks {
            levels.insert(SHARED_SINKS.to_owned(), config.console_level.max(config.file_level));
        }
        let run = Some(Arc::clone(run));
        self.apply(LoggerSettings {
            config,
            run,
            rules,
            levels,
            foreign_console_level,
            takes_alerts,
            #[cfg(feature = "health")]
            tripped: built.tripped,
        });
        let logger = Arc::downgrade(self);
        let deliver = move |report| match logger.upgrade() {
            Some(logger) => {
                logger.log_report(report);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        };
        let start = |(probes, period)| ProbeThread::start(probes, period, deliver);
        *lock(self.probe_thread.get()) = periodic.and_then(start);
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        self.gate.logger()
    }

    pub(crate) fn age(&self) -> u64 {
        self.age
    }

    pub(crate) fn producer(&self) -> &Producer {
        self.gate.producer()
    }

    pub(crate) fn metrics(&self) -> &MetricRecorder {
        &self.metrics
    }

    pub(crate) fn outcome(&self) -> &RunOutcome {
        &self.outcome
    }

    pub(crate) fn stop(&self) -> &StopFlag {
        &self.stop
    }

    /// Returns `true` if the run is to stop, as the program asks.
    pub(crate) fn is_stop_requested(&self) -> bool {
        stop_signal::note_question();
        let settings = self.settings.load();
        let Some(run) = &settings.run else {
            return self.stop.is_requested();
        };
        if self.stop.is_requested() && run.stop().reason().is_none() {
            run.request_stop(StopReason::Button);
        }
        run.stop().is_requested(|| self.metrics.table().reached_step())
    }

    /// Returns the reason why the run is to stop.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        let settings = self.settings.load();
        let reason = settings.run.as_ref().and_then(|run| run.stop().reason());
        reason.or_else(|| self.stop.is_requested().then_some(StopReason::Button))
    }

    /// Returns `true` while a rule finds the values of a metric bad. In a forked child, a thread of
    /// the parent may have held the lock of the metrics.
    #[cfg(feature = "health")]
    pub(crate) fn is_tripped(&self, metric: &str) -> bool {
        !self.is_inherited() && self.settings.load().tripped.is_tripped(metric)
    }

    /// Returns `false`: there are no rules.
    #[cfg(not(feature = "health"))]
    pub(crate) fn is_tripped(&self, _: &str) -> bool {
        false
    }

    pub(crate) fn settings(&self) -> LoggerSettings {
        LoggerSettings::clone(&self.settings.load())
    }

    /// Returns the run that the logger belongs to.
    pub(crate) fn run(&self) -> RunInfo {
        let settings = self.settings();
        match &settings.run {
            Some(run) => run.info().clone(),
            None => RunInfo::from_config(&settings.config),
        }
    }

    /// Returns the path of this rank's text file.
    pub(crate) fn log_file(&self) -> PathBuf {
        let config = self.settings().config;
        let name = FileRank::from_config(&config).file_name(&config.filename);
        config.log_dir.join(name)
    }

    /// Returns `true` while the logger takes calls.
    pub(crate) fn is_open(&self) -> bool {
        !self.gate.is_closed()
    }

    /// Returns `true` if this process has the open logger from the process that forked it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.gate.is_inherited()
    }

    /// Returns `true` if the logger is open, and this process has set it up.
    pub(crate) fn is_in_place(&self) -> bool {
        self.is_open() && !self.is_inherited()
    }

    /// Returns the sort key that puts loggers in the order of their first set-ups, those that only
    /// `get_logger` has opened behind, and inherited ones last.
    pub(crate) fn seniority(&self) -> (bool, u64, u64) {
        let setup = self.first_setup.load(Ordering::Relaxed).wrapping_sub(1);
        (self.is_inherited(), setup, self.age)
    }

    /// Counts a set-up and its handle, which keeps the logger open.
    pub(crate) fn add_handle(&self) {
        static SETUPS: AtomicU64 = AtomicU64::new(0);
        let setup = SETUPS.fetch_add(1, Ordering::Relaxed) + 1;
        let _ = self
            .first_setup
            .compare_exchange(0, setup, Ordering::Relaxed, Ordering::Relaxed);
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Discounts a handle.
    pub(crate) fn remove_handle(&self) {
        self.handles.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns `true` if a handle keeps the logger open.
    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// Returns `true` if the logger takes records that no name and no directive claims.
    pub(crate) fn takes_foreign(&self) -> bool {
        self.foreign_level.load(Ordering::Relaxed) != 0
    }

    /// Returns the rule by which the logger takes a record that no name and no directive claims;
    /// `None` if it does not take the record.
    pub(crate) fn foreign_rule(&self, level: log::Level) -> Option<LevelRule> {
        let is_within = |limit: &AtomicUsize| level as usize <= limit.load(Ordering::Relaxed);
        if is_within(&self.foreign_level) {
            return Some(LevelRule::Usual);
        }
        is_within(&self.foreign_console_level).then_some(LevelRule::Foreign)
    }

    pub(crate) fn is_enabled(&self, arrival: RecordArrival, metadata: &log::Metadata<'_>) -> bool {
        self.wants(metadata.level())
            && (!self.is_filtered.load(Ordering::Acquire) || self.filter.load().for_arrival(arrival).enabled(metadata))
    }

    /// Returns `true` if people who look at stderr see such a record on the logger's console.
    pub(crate) fn shows_on_console(&self, metadata: &log::Metadata<'_>) -> bool {
        let settings = self.settings();
        let level = settings.levels.get("console").copied().unwrap_or(LevelFilter::Off);
        self.is_open()
            && metadata.level() <= level
            && self.is_enabled(RecordOrigin::Facade.into(), metadata)
            && terminal::is_seen_beside_stderr(&settings.config)
    }

    /// Logs a record from the `log` macros.
    pub(crate) fn log(&self, arrival: RecordArrival, record: &log::Record<'_>) {
        if self.wants(record.level()) {
            self.send(arrival, record);
        }
    }

    /// Logs a record without fields, whose message the writer may format. The caller formats if a
    /// filter may look at the message, and if spans add fields.
    pub(crate) fn log_deferred(
        &self,
        record: &log::Record<'_>,
        message: DeferredMessage,
        arguments: &[DeferredArgument<'_>],
    ) {
        if !self.wants(record.level()) {
            return;
        }
        let origin = RecordOrigin::Addressed;
        with_span_fields(record, |record| {
            if self.is_filtered.load(Ordering::Acquire) || record.key_values().count() > 0 {
                return self.log_complete(origin.into(), record);
            }
            self.outcome.count_record(record.level());
            self.producer().record_deferred(origin, record, message, arguments);
        });
    }

    /// Logs a message from a method of the logger.
    #[inline]
    #[track_caller]
    pub(crate) fn log_message(&self, level: log::Level, message: Arguments<'_>) {
        if self.wants(level) {
            self.send_message(level, message, Location::caller());
        }
    }

    /// Logs a line from a thread that must not wait: it is a notice if the ring is congested,
    /// because a sink that hangs would hold up the thread for good.
    pub(crate) fn log_without_waiting(&self, level: log::Level, text: &str) {
        if self.producer().is_congested() {
            print_notice(&format!("line {text}"), text);
        } else {
            self.log_message(level, format_args!("{text}"));
        }
    }

    /// Returns `true` if some sink wants records of this level.
    #[inline]
    fn wants(&self, level: log::Level) -> bool {
        level as usize <= self.level.load(Ordering::Relaxed)
    }

    fn send_message(&self, level: log::Level, message: Arguments<'_>, site: &'static Location<'static>) {
        let record = log::Record::builder()
            .level(level)
            .target(self.name())
            .file_static(Some(site.file()))
            .line(Some(site.line()))
            .args(message)
            .build();
        self.send(RecordOrigin::Method.into(), &record);
    }

    fn send(&self, arrival: RecordArrival, record: &log::Record<'_>) {
        with_span_fields(record, |record| self.log_complete(arrival, record));
    }

    /// Logs a record of a level that some sink wants, with no fields beside its own.
    pub(crate) fn log_complete(&self, arrival: RecordArrival, record: &log::Record<'_>) {
        self.outcome.count_record(record.level());
        if self.is_filtered.load(Ordering::Acquire) {
            self.filter.load().for_arrival(arrival).log(record);
        } else {
            self.producer().record(arrival, record);
        }
    }

    /// Returns `true` if the time of spans of this name is a metric.
    #[cfg(feature = "tracing")]
    pub(crate) fn has_span_metric(&self, span: &str) -> bool {
        self.settings.load().config.span_metrics.iter().any(|name| name == span)
    }

    /// Changes the level of a sink for records from now on.
    pub(crate) fn set_level(&self, sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        let Some(current) = settings.levels.get_mut(sink) else {
            let names: Vec<_> = settings.levels.keys().map(String::as_str).collect();
            let remedy = format!(
                "logger `{}` has no sink of this name that takes records; it has: {}",
                self.name(),
                names.join(", ")
            );
            return Err(ConfigError::new("sink", sink, remedy));
        };
        *current = level;
        let deadline = Deadline::after(settings.config.flush_duration());
        self.producer().set_level(sink, level, deadline);
        self.apply(settings);
        Ok(())
    }

    pub(crate) fn set_directives(&self, text: &str) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        settings.rules.directives = text.parse()?;
        self.apply(settings);
        Ok(())
    }

    pub(crate) fn add_directives(&self, text: &str) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        settings.rules.directives = settings.rules.directives.clone().or(&text.parse()?);
        self.apply(settings);
        Ok(())
    }

    /// Returns `true` if the logger's config has this file watched.
    pub(crate) fn watches(&self, file: &Path) -> bool {
        self.settings().config.watch_file.as_deref() == Some(file)
    }

    /// Applies the levels that a watched file now has.
    pub(crate) fn apply_levels(&self, levels: &WatchedLevels) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        let before = Arc::clone(&settings.config);
        levels.apply_to(Arc::make_mut(&mut settings.config));
        if levels.directives.is_some() {
            settings.rules.directives = settings.config.directives()?;
        }
        let deadline = Deadline::after(settings.config.flush_duration());
        for (sink, level) in &mut settings.levels {
            let wanted = level_of(sink, &settings.config);
            if wanted != level_of(sink, &before) {
                *level = wanted;
                self.producer().set_level(sink, wanted, deadline);
            }
        }
        self.apply(settings);
        Ok(())
    }

    /// Notes that all loggers now have a shared sink.
    pub(crate) fn note_shared_sink(&self) {
        let mut settings = self.settings();
        let level = settings.config.console_level.max(settings.config.file_level);
        settings.levels.insert(SHARED_SINKS.to_owned(), level);
        self.apply(settings);
    }

    fn apply(&self, settings: LoggerSettings) {
        // A provisional logger gets its settings with its config.
        if self.gate.is_closed() || self.producer().is_unconnected() {
            return;
        }
        let level = settings.level();
        let filter = RecordFilter::new(&self.gate, &settings.rules, settings.sinks_level());
        self.filter.store(Arc::new(filter));
        self.is_filtered.store(!settings.rules.is_empty(), Ordering::Release);
        let (foreign, on_console) = settings.foreign_levels();
        self.foreign_level.store(foreign as usize, Ordering::Relaxed);
        self.foreign_console_level.store(on_console as usize, Ordering::Relaxed);
        self.settings.store(Arc::new(settings));
        self.level.store(level as usize, Ordering::Relaxed);
    }

    pub(crate) fn log_memory(&self) {
        if is_logging_suppressed() || !self.gate.admits_call() {
            return;
        }
        let mut probes = lock(self.probes.get());
        let report = probes.get_or_insert_with(|| self.new_probes()).sample();
        drop(probes);
        self.log_report(report);
    }

    /// Builds probes in a forked child. The fork may have interrupted those of its parent in the
    /// middle of a call.
    fn new_probes(&self) -> ProbeSet {
        let built = ProbeSet::build(&self.settings().config, &self.stop);
        let mut probes = built.unwrap_or_default();
        drop(probes.take_periodic());
        probes
    }

    fn log_report(&self, report: ProbeReport) {
        if self.gate.is_closed() {
            return;
        }
        for (level, text) in report.messages {
            self.log_message(level, format_args!("{text}"));
        }
        self.metrics.log_readings(&report.readings);
    }

    pub(crate) fn log_config(&self, config: &impl serde::Serialize) {
        if !self.gate.admits_call() {
            return;
        }
        let JsonCapture { value, omitted, .. } = JsonCapture::new(config);
        let kept = if value.is_some() { ", and keeps the rest" } else { "" };
        if let Some(value) = value {
            let value = self.redact_value(redacted(&table_of(value)));
            self.producer().config(&value.to_string());
        }
        let Some(first) = omitted.first() else { return };
        let mut parts: Vec<String> = omitted.iter().take(NAMED_OMISSIONS).map(ToString::to_string).collect();
        if omitted.len() > NAMED_OMISSIONS {
            parts.push(format!("and {} more", omitted.len() - NAMED_OMISSIONS));
        }
        let text = format!(
            "log_config of logger `{}` leaves out what has no form in JSON{kept}: {}",
            self.name(),
            parts.join(", ")
        );
        print_notice(&format!("log_config {} {}", self.name(), first.path), &text);
    }

    pub(crate) fn start_progress(&self, position: u64, total: impl Count, description: &str) {
        self.metrics.start_progress(ProgressBegin {
            position,
            total: total.count().filter(|total| *total > 0),
            description: &self.redact(description),
        });
    }

    pub(crate) fn start_bar(&self, total: impl Count, description: &str) -> Option<Arc<BarState>> {
        self.metrics.start_bar(ProgressBegin {
            position: 0,
            total: total.count(),
            description: &self.redact(description),
        })
    }

    /// Sets the goal of a metric; returns the metric.
    pub(crate) fn set_goal(&self, name: &str, goal: Goal) -> u32 {
        let (metric, is_set) = self.metrics.set_goal(name, goal);
        if !is_set {
            self.log_message(
                log::Level::Warn,
                format_args!("the metric `{name}` gets no goal, because a logger has at most {MAX_GOALS} of them"),
            );
        }
        metric
    }

    /// Returns `true` if a call has improved a metric. A metric without a goal is warned about
    /// once.
    pub(crate) fn has_improved(&self, name: &str, improved: Improved) -> bool {
        let has_improved = self.metrics.table().has_improved(name, improved);
        if has_improved.is_none() {
            self.log_message(
                log::Level::Warn,
                format_args!("no value of `{name}` is the best, because the metric has no goal; set one with `goal`"),
            );
        }
        has_improved.unwrap_or(false)
    }

    /// Lets the steps of this attempt begin at `first`; returns `true` if they do.
    pub(crate) fn start_from(&self, first: u64) -> bool {
        if !self.gate.admits_call() {
            return false;
        }
        let begins = self.metrics.start_from(first).is_some();
        if !begins {
            self.log_message(
                log::Level::Warn,
                format_args!("start_from({first}) changes nothing: call it before the first update and the first row"),
            );
        }
        begins
    }

    /// Returns `true` if a sink takes alerts.
    pub(crate) fn takes_alerts(&self) -> bool {
        let settings = self.settings();
        settings.takes_alerts || settings.levels.contains_key(SHARED_SINKS)
    }

    /// Sends an alert to the sinks that take alerts, and logs it if there is none.
    pub(crate) fn alert(&self, title: &str, text: &str, level: AlertLevel) {
        if is_logging_suppressed() || !self.gate.admits_call() {
            return;
        }
        if title.trim().is_empty() {
            self.log_message(log::Level::Warn, format_args!("an alert without a title is left out"));
            return;
        }
        if !self.takes_alerts() {
            let between = if text.is_empty() { "" } else { ": " };
            self.log_message(record_level(level), format_args!("{title}{between}{text}"));
            return;
        }
        let step = self.metrics.table().current_step();
        let alert = Alert::new(self.redact(title), self.redact(text), level).at_step(step);
        self.producer().alert(&alert);
    }

    /// Returns `true` if the logger takes a call now. Counts the call if the logger has ended.
    #[cfg(feature = "media")]
    pub(crate) fn admits_call(&self) -> bool {
        self.gate.admits_call()
    }

    /// Sends a message to one sink.
    #[cfg(feature = "wandb")]
    pub(crate) fn send_to_sink(&self, sink: &str, message: &str) {
        if self.gate.admits_call() {
            self.producer().message(sink, message);
        }
    }

    /// Returns `text` without the matches of the config's patterns in `redact`.
    pub(crate) fn redact(&self, text: &str) -> String {
        let redaction = self.settings().rules.redaction;
        redaction.map_or_else(|| text.to_owned(), |redaction| redaction.hide(text).into_owned())
    }

    /// Returns `value` without the matches of the config's patterns in `redact`.
    pub(crate) fn redact_value(&self, mut value: Value) -> Value {
        if let Some(redaction) = self.settings().rules.redaction {
            redaction.hide_in(&mut value);
        }
        value
    }

    pub(crate) fn flush(&self) -> Result<(), LogError> {
        if self.gate.is_closed() {
            return Err(LogError::Closed {
                logger: self.name().to_owned(),
            });
        }
        self.report_dropped();
        let deadline = Deadline::after(self.settings().config.flush_duration());
        self.producer().flush(deadline)
    }

    /// Reports the records that the rate limit has dropped so far.
    pub(super) fn report_dropped(&self) {
        if let Some(limiter) = self.settings().rules.limiter {
            limiter.report_dropped(self.producer());
        }
    }
}

/// Gives a record with the fields of the span that the thread is in, if the program has spans.
#[inline]
fn with_span_fields(record: &log::Record<'_>, give: impl FnOnce(&log::Record<'_>)) {
    #[cfg(feature = "tracing")]
    if logcore_tracing::is_installed() {
        return logcore_tracing::with_span_fields(record, give);
    }
    give(record);
}

/// The key in a logger's levels that stands for the sinks that all loggers share, beside the names
/// of the logger's own sinks.
const SHARED_SINKS: &str = "shared";

/// Number of members that the notice of `log_config` names; it counts the rest.
const NAMED_OMISSIONS: usize = 10;

/// Returns hyper-parameters as a JSON object; any other value becomes the member `value` of one.
fn table_of(value: Value) -> Value {
    match value {
        Value::Object(_) => value,
        other => Map::from_iter([("value".to_owned(), other)]).into(),
    }
}

/// Returns the level of the record that takes the place of an alert.
fn record_level(level: AlertLevel) -> log::Level {
    match level {
        AlertLevel::Error => log::Level::Error,
        AlertLevel::Warn => log::Level::Warn,
        _ => log::Level::Info,
    }
}

#[cfg(test)]
impl LoggerInner {
    /// Returns a set-up logger without a pipeline, with these directives, that takes records of
    /// foreign targets up to `level`.
    pub(crate) fn for_routing(name: &str, level: LevelFilter, directives: &str) -> Self {
        let logger = Self::new(name, Producer::disconnected(name), StopFlag::default());
        let mut settings = logger.settings();
        settings.rules.directives = directives.parse().unwrap();
        logger.settings.store(Arc::new(settings));
        logger.foreign_level.store(level as usize, Ordering::Relaxed);
        logger.add_handle();
        logger
    }
}
