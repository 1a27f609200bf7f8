//! One logger, as all its handles share it.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::Location;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use logcore::log::{self, LevelFilter};
use logcore::serde_json::{Map, Value};
use logcore::{
    ConfigError, Count, Deadline, JsonCapture, LogConfig, LogError, LoggerEnd, MetricPair, Number, PerProcess, Ranks,
    Readings, RunEnd, StopFlag, WatchedLevels, is_logging_suppressed, redacted,
};
use logcore_pipeline::{
    ForkMutex, LoggerAccounts, LoggerOutcome, MetricName, NameId, Pipeline, Producer, RecordOrigin,
    count_call_after_end, print_notice, redact_in_notices,
};

use crate::build::{BuiltSinks, level_of};
use crate::known::{KnownNames, next_setup};
use crate::limit::Limiter;
use crate::measures::{Measures, Sample, Step};
use crate::memory::Memory;
use crate::nest::Told;
use crate::report::FinishReport;
use crate::sampling::Sampling;
use crate::screen::Printer;

use crate::switchboard::{Screens, Switchboard};
use crate::{panics, screen, summary};

pub(crate) struct Instance {
    name: String,
    /// An older logger has a smaller one; none has that of another.
    age: u64,
    producer: Arc<Producer>,
    /// The most verbose level that any sink wants; what lies below costs this one look.
    level: AtomicUsize,
    /// Whether anything narrows what the level lets through; if not, the switchboard has nothing to decide.
    screened: AtomicBool,
    switchboard: ArcSwap<Switchboard>,
    settings: ArcSwap<Settings>,
    metrics_on: AtomicBool,
    measures: ForkMutex<Measures>,
    /// Changes when names are sent in another form than before; what threads know of names is of one of these.
    setup: AtomicU64,
    /// Held from the choice of a call's step until the call is in the ring: sinks get steps in their order.
    order: PerProcess<Mutex<()>>,
    /// Made when it is first asked, unless a config has brought it.
    memory: PerProcess<Mutex<Option<Memory>>>,
    sampling: PerProcess<Mutex<Option<Sampling>>>,
    stop: StopFlag,
    exit_code: AtomicI32,
    /// What ended the run, if it did not end by itself.
    cut_short: PerProcess<Mutex<Option<RunEnd>>>,
    opened: Instant,
    warnings: AtomicU64,
    errors: AtomicU64,
    /// Counts the set-ups, so that a handle of an earlier one does not close a later one.
    generation: AtomicU64,
    closed: AtomicBool,
    report: PerProcess<Mutex<Option<FinishReport>>>,
}

/// The end of a logger from its beginning to its completion.
struct Ending {
    outcome: Arc<LoggerOutcome>,
    sparklines: Vec<String>,
    deadline: Deadline,
    printer: Option<Printer>,
}

/// What a running logger is set to.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) config: Arc<LogConfig>,
    pub(crate) screens: Screens,
    /// By sink.
    levels: std::collections::BTreeMap<String, LevelFilter>,
}

impl Settings {
    /// The most verbose level that a sink wants.
    pub(crate) fn level(&self) -> LevelFilter {
        self.levels.values().copied().max().unwrap_or(LevelFilter::Off)
    }
}

impl Instance {
    /// A logger without sinks; [`Instance::configure`] opens it.
    pub(crate) fn new(name: &str, producer: Producer, stop: StopFlag) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let producer = Arc::new(producer);
        Self {
            name: name.to_owned(),
            age: NEXT.fetch_add(1, Ordering::Relaxed),
            level: AtomicUsize::new(0),
            screened: AtomicBool::new(false),
            switchboard: ArcSwap::from_pointee(Switchboard::new(&producer, LevelFilter::Off, &Screens::default())),
            producer,
            settings: ArcSwap::default(),
            metrics_on: AtomicBool::new(true),
            measures: ForkMutex::default(),
            setup: AtomicU64::new(next_setup()),
            order: PerProcess::default(),
            memory: PerProcess::default(),
            sampling: PerProcess::default(),
            stop,
            exit_code: AtomicI32::new(0),
            cut_short: PerProcess::default(),
            opened: Instant::now(),
            warnings: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            report: PerProcess::default(),
        }
    }

    /// Gives the logger a config, with the sinks and probes that were built for it.
    pub(crate) fn configure(
        self: &Arc<Self>,
        config: LogConfig,
        built: BuiltSinks,
        mut memory: Memory,
        shared_sinks: bool,
    ) -> Result<(), LogError> {
        let deadline = Deadline::after(config.finish_duration());
        let screens = Screens {
            directives: config.directives()?,
            limiter: config.site_limit()?.map(|limit| Arc::new(Limiter::new(limit))),
            redaction: config.redaction()?.map(Arc::new),
        };
        if let Some(redaction) = &screens.redaction {
            redact_in_notices(redaction);
        }
        let config = Arc::new(config);
        self.tell_left_out();
        self.producer.set_policy(config.on_full, config.flush_duration());
        self.producer
            .open(config.propagate, built.folder, built.sinks, deadline)?;
        {
            let mut measures = self.measures.lock();
            measures.configure(&config, &self.producer);
            measures.start_from(built.first_step);
        }
        self.setup.store(next_setup(), Ordering::Release);
        self.metrics_on.store(config.enable_metrics, Ordering::Relaxed);
        let periodic = memory.take_periodic();
        *lock(self.memory.get()) = Some(memory);
        let mut levels = built.levels;
        if shared_sinks {
            levels.insert("shared".to_owned(), config.console_level.max(config.file_level));
        }
        self.set(Settings {
            config,
            screens,
            levels,
        });
        let start = |(probes, period)| Sampling::start(Arc::downgrade(self), probes, period);
        *lock(self.sampling.get()) = periodic.and_then(start);
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn age(&self) -> u64 {
        self.age
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// A set-up takes the logger over from those before it.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn stop(&self) -> &StopFlag {
        &self.stop
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::clone(&self.settings.load())
    }

    /// Whether some sink wants records of this level.
    #[inline]
    pub(crate) fn wants(&self, level: log::Level) -> bool {
        level as usize <= self.level.load(Ordering::Relaxed)
    }

    pub(crate) fn enabled(&self, route: RecordOrigin, metadata: &log::Metadata<'_>) -> bool {
        self.wants(metadata.level())
            && (!self.screened.load(Ordering::Acquire) || self.switchboard.load().of(route).enabled(metadata))
    }

    pub(crate) fn log(&self, route: RecordOrigin, record: &log::Record<'_>) {
        if self.wants(record.level()) {
            self.hand_over(route, record);
        }
    }

    fn hand_over(&self, route: RecordOrigin, record: &log::Record<'_>) {
        match record.level() {
            log::Level::Error => drop(self.errors.fetch_add(1, Ordering::Relaxed)),
            log::Level::Warn => drop(self.warnings.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        if self.screened.load(Ordering::Acquire) {
            self.switchboard.load().of(route).log(record);
        } else {
            self.producer.record(route, record);
        }
    }

    /// Changes the level of a sink, for records from now on.
    pub(crate) fn set_level(&self, sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        let Some(slot) = settings.levels.get_mut(sink) else {
            let known: Vec<_> = settings.levels.keys().map(String::as_str).collect();
            let remedy = format!(
                "logger `{}` has no sink of this name that takes records; it has: {}",
                self.name,
                known.join(", ")
            );
            return Err(ConfigError::new("sink", sink, remedy));
        };
        *slot = level;
        self.producer
            .set_level(sink, level, Deadline::after(settings.config.flush_duration()));
        self.set(settings);
        Ok(())
    }

    pub(crate) fn set_directives(&self, text: &str) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        settings.screens.directives = text.parse()?;
        self.set(settings);
        Ok(())
    }

    /// Whether its config has this file watched.
    pub(crate) fn watches(&self, file: &Path) -> bool {
        self.settings().config.watch_file.as_deref() == Some(file)
    }

    /// Takes over levels that a watched file names now.
    pub(crate) fn take_over(&self, levels: &WatchedLevels) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        let before = Arc::clone(&settings.config);
        levels.apply_to(Arc::make_mut(&mut settings.config));
        if levels.directives.is_some() {
            settings.screens.directives = settings.config.directives()?;
        }
        let deadline = Deadline::after(settings.config.flush_duration());
        for (sink, level) in &mut settings.levels {
            let wanted = level_of(sink, &settings.config);
            if wanted != level_of(sink, &before) {
                *level = wanted;
                self.producer.set_level(sink, wanted, deadline);
            }
        }
        self.set(settings);
        Ok(())
    }

    /// A sink that every logger has was added.
    pub(crate) fn note_shared_sink(&self) {
        let mut settings = self.settings();
        let level = settings.config.console_level.max(settings.config.file_level);
        settings.levels.insert("shared".to_owned(), level);
        self.set(settings);
    }

    pub(crate) fn log_metrics<M>(&self, step: Step, metrics: M)
    where
        M: IntoIterator<Item: MetricPair>,
    {
        if !self.takes_metrics() {
            return;
        }
        with_scratch(|Scratch { samples, known }| {
            let setup = self.setup.load(Ordering::Acquire);
            // The user's iterator, names and numbers may log, too: none is asked under a lock.
            for pair in metrics {
                let (name, value) = (pair.name(), pair.value());
                let (metric, id) = match known.find(setup, name) {
                    Some(known) => (known.metric, known.id),
                    None => self.look_up(setup, name, known),
                };
                samples.push(Sample { metric, id, value });
            }
            self.complete(step, samples);
        });
    }

    #[inline]
    fn takes_metrics(&self) -> bool {
        let is_on = self.metrics_on.load(Ordering::Relaxed) && !is_logging_suppressed();
        is_on && !self.refuses()
    }

    /// Whether the logger has ended; a call that it would have taken is counted then.
    #[inline]
    fn refuses(&self) -> bool {
        let is_closed = self.is_closed();
        if is_closed && !is_logging_suppressed() {
            count_call_after_end(&self.name);
        }
        is_closed
    }

    #[cold]
    fn look_up(&self, setup: u64, name: &str, known: &mut KnownNames) -> (u32, Option<NameId>) {
        let found = self.measures.lock().user(setup, name, &self.producer);
        let it = (found.metric, found.id);
        known.learn(found);
        it
    }

    /// Ends a call that has all its metrics.
    fn complete(&self, step: Step, samples: &mut Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let _order = lock(self.order.get());
        let step = self.measures.lock().record(step, &self.producer, samples);
        self.send(step, samples);
    }

    /// The metric of a user's name, and the name.
    pub(crate) fn metric(&self, name: &str) -> (u32, Arc<str>) {
        let setup = self.setup.load(Ordering::Acquire);
        let known = self.measures.lock().user(setup, name, &self.producer);
        (known.metric, known.logged)
    }

    pub(crate) fn record_metric(&self, metric: u32, step: u64, value: impl Number) {
        if !self.takes_metrics() {
            return;
        }
        let value = value.value();
        let recorded = self.measures.lock().record_one(metric, step, value);
        if let Some(name) = recorded {
            self.producer.metric(step, name, value);
            return;
        }
        with_scratch(|Scratch { samples, .. }| {
            self.measures.lock().add(metric, value, samples);
            self.complete(Step::At(step), samples);
        });
    }

    pub(crate) fn start_progress(&self, total: impl Count, description: &str) {
        let description = self.hidden(description);
        while self.measures.lock().gives_way_to(&description) {
            self.finish_progress();
        }
        let state = self.measures.lock().start_progress(total.count(), &description);
        if let Some(state) = state.filter(|_| !self.is_closed()) {
            state.with_record(&self.name, |event| self.producer.progress(event, true));
        }
    }

    pub(crate) fn update_progress(&self, n: u64, batch: impl Count) {
        let told = self.measures.lock().advance(n, batch);
        if let Some(told) = told {
            self.tell(told);
        }
    }

    pub(crate) fn finish_progress(&self) {
        let told = self.measures.lock().end_progress();
        if let Some(told) = told {
            self.tell(told);
        }
    }

    pub(crate) fn log_memory(&self) {
        if is_logging_suppressed() || self.refuses() {
            return;
        }
        let mut memory = lock(self.memory.get());
        let sampled = memory.get_or_insert_with(|| self.new_memory()).sample();
        drop(memory);
        self.log_readings(sampled);
    }

    /// Of a child of a fork: its parent's probes may have been in the middle of something.
    fn new_memory(&self) -> Memory {
        let built = Memory::build(&self.settings().config, &self.stop);
        let mut memory = built.unwrap_or_default();
        drop(memory.take_periodic());
        memory
    }

    /// Logs what probes have said.
    pub(crate) fn log_readings(&self, (readings, news): (Vec<Readings>, Vec<(log::Level, String)>)) {
        if self.is_closed() {
            return;
        }
        for (level, text) in news {
            self.say(level, format_args!("{text}"));
        }
        if !self.metrics_on.load(Ordering::Relaxed) {
            return;
        }
        with_scratch(|Scratch { samples, .. }| {
            let mut measures = self.measures.lock();
            for (name, value) in readings.iter().flat_map(|readings| readings.iter()) {
                measures.add_system(name, value, &self.producer, samples);
            }
            drop(measures);
            self.complete(Step::Current, samples);
        });
    }

    pub(crate) fn log_config(&self, config: &impl serde::Serialize) {
        if self.refuses() {
            return;
        }
        let JsonCapture { value, omitted, .. } = JsonCapture::new(config);
        let kept = if value.is_some() { ", and keeps the rest" } else { "" };
        if let Some(value) = value {
            self.producer
                .config(&self.hidden_in(redacted(&table_of(value))).to_string());
        }
        let Some(first) = omitted.first() else { return };
        let mut parts: Vec<String> = omitted.iter().take(NAMED).map(ToString::to_string).collect();
        if omitted.len() > NAMED {
            parts.push(format!("and {} more", omitted.len() - NAMED));
        }
        let text = format!(
            "log_config of logger `{}` leaves out what has no form in JSON{kept}: {}",
            self.name,
            parts.join(", ")
        );
        print_notice(&format!("log_config {} {}", self.name, first.path), &text);
    }

    /// `value` without what the config's patterns match.
    pub(crate) fn hidden_in(&self, mut value: Value) -> Value {
        if let Some(redaction) = self.settings().screens.redaction {
            redaction.hide_in(&mut value);
        }
        value
    }

    /// The same for a text.
    pub(crate) fn hidden(&self, text: &str) -> String {
        let redaction = self.settings().screens.redaction;
        redaction.map_or_else(|| text.to_owned(), |redaction| redaction.hide(text).into_owned())
    }

    /// Hands over what is for one sink alone.
    #[cfg(feature = "wandb")]
    pub(crate) fn message(&self, sink: &str, message: &str) {
        if !self.refuses() {
            self.producer.message(sink, message);
        }
    }

    /// The same for what belongs to a step: it is in order with the metrics.
    #[cfg(feature = "wandb")]
    pub(crate) fn message_at<E>(
        &self,
        sink: &str,
        step: Option<u64>,
        message: impl FnOnce(u64) -> Result<String, E>,
    ) -> Result<(), E> {
        let _order = lock(self.order.get());
        let step = self.measures().step_of(step);
        self.message(sink, &message(step)?);
        Ok(())
    }

    /// A record by the logger's own methods.
    #[track_caller]
    pub(crate) fn say(&self, level: log::Level, message: std::fmt::Arguments<'_>) {
        if self.wants(level) {
            let site = Location::caller();
            let record = log::Record::builder()
                .level(level)
                .target(&self.name)
                .file_static(Some(site.file()))
                .line(Some(site.line()))
                .args(message)
                .build();
            self.hand_over(RecordOrigin::Method, &record);
        }
    }

    pub(crate) fn measures(&self) -> MutexGuard<'_, Measures> {
        self.measures.lock()
    }

    pub(crate) fn flush(&self) -> Result<(), LogError> {
        if self.is_closed() {
            return Err(LogError::Closed {
                logger: self.name.clone(),
            });
        }
        self.tell_left_out();
        let deadline = Deadline::after(self.settings().config.flush_duration());
        self.producer.flush(deadline)
    }

    pub(crate) fn set_exit_code(&self, code: i32) {
        self.exit_code.store(code, Ordering::Relaxed);
    }

    /// The run is ended by something, and the process will have this exit code.
    pub(crate) fn cut_short(&self, end: Option<RunEnd>, exit_code: i32) {
        let _ = self
            .exit_code
            .compare_exchange(0, exit_code, Ordering::Relaxed, Ordering::Relaxed);
        *lock(self.cut_short.get()) = end;
    }

    /// The logger is about to end: nothing that it still says waits for longer than its end may take.
    pub(crate) fn end_soon(&self) -> Deadline {
        let deadline = Deadline::after(self.settings().config.finish_duration());
        let deadline = self.producer.end_by(deadline);
        screen::hurry(deadline);
        deadline
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the logger; a second call returns what the first did.
    pub(crate) fn finish(&self) -> FinishReport {
        let mut report = lock(self.report.get());
        if let Some(report) = &*report {
            return report.clone();
        }
        let ending = self.begin_end();
        self.refuse_from_now_on();
        let closing = self.producer.finish(Arc::clone(&ending.outcome), ending.deadline);
        report.insert(self.complete_end(ending, closing)).clone()
    }

    /// Ends the sinks that wait for others than this machine; the logger goes on with the rest.
    pub(crate) fn wind_up(&self, deadline: Deadline) {
        let (outcome, _) = self.outcome();
        if let Err(error) = self.producer.wind_up(outcome, deadline) {
            print_notice(
                &format!("wind up {}", self.name),
                &format!("logger `{}`: {error}", self.name),
            );
        }
    }

    /// Ends loggers of a process that ends: they take everything up to one moment, behind which no call returns any more.
    pub(crate) fn close_all(loggers: &[Arc<Self>], pipeline: Pipeline, deadline: Deadline) {
        let endings: Vec<Ending> = loggers.iter().map(|logger| logger.begin_end()).collect();
        let ports = loggers.iter().zip(&endings);
        let ports: Vec<(&Producer, Arc<LoggerOutcome>)> = ports
            .map(|(logger, ending)| (&*logger.producer, Arc::clone(&ending.outcome)))
            .collect();
        let (mut closings, problem) = match pipeline.close(&ports, deadline) {
            Ok(closings) => (closings.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(error)),
        };
        let problem = problem.map(|error| error.to_string());
        for (logger, ending) in loggers.iter().zip(endings) {
            let closing = closings.next().ok_or_else(|| problem.clone().unwrap_or_default());
            let done = logger.complete_end(ending, closing);
            lock(logger.report.get()).get_or_insert(done);
        }
    }

    fn begin_end(&self) -> Ending {
        if let Some(sampling) = lock(self.sampling.get()).take() {
            sampling.end();
        }
        let config = self.settings().config;
        let deadline = self.end_soon();
        while self.measures.lock().is_in_progress() {
            self.finish_progress();
        }
        self.tell_left_out();
        if std::thread::panicking() {
            // It is dropped by a panic: the run has failed, whether or not anybody had time to say so.
            self.cut_short(panics::end(), 1);
        }
        let (outcome, sparklines) = self.outcome();
        // The run of a forked child is its parent's.
        let is_told = outcome.summary.has_metrics() && !self.producer.is_inherited();
        // Of several ranks the first has the last word.
        let has_last_word = is_told && config.finish_summary && Ranks::from_config(&config).is_first();
        Ending {
            outcome,
            sparklines,
            deadline,
            printer: has_last_word.then(|| Printer::of(&config)),
        }
    }

    fn complete_end(&self, ending: Ending, closing: Result<LoggerAccounts, impl Display>) -> FinishReport {
        let (closing, problem) = match closing {
            Ok(closing) => (closing, None),
            Err(error) => (LoggerAccounts::default(), Some(self.hidden(&error.to_string()))),
        };
        let done = FinishReport {
            logger: self.name.clone(),
            end: ending.outcome.end.run_end.clone(),
            exit_code: ending.outcome.end.exit_code,
            sinks: closing.books,
            places: closing.places,
            problem,
        };
        if let Some(printer) = ending.printer {
            printer.print(
                |color| summary::render(&ending.outcome.summary, &ending.sparklines, &done, color),
                ending.deadline,
            );
        }
        let losses = done.losses();
        if !losses.is_empty() {
            print_notice(
                &format!("losses of {}", self.name),
                &format!("logger `{}`: {losses}", self.name),
            );
        }
        done
    }

    /// Later calls are counted, at the level that the logger had.
    fn refuse_from_now_on(&self) {
        self.switchboard.store(Arc::new(Switchboard::closed(&self.name)));
        self.screened.store(true, Ordering::Release);
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Whether a child of a fork has it from its parent, and it is open.
    pub(crate) fn is_inherited(&self) -> bool {
        self.producer.is_inherited() && !self.is_closed()
    }

    /// How the run ends as it stands now, and how its metrics went.
    fn outcome(&self) -> (Arc<LoggerOutcome>, Vec<String>) {
        let exit_code = self.exit_code.load(Ordering::Relaxed);
        let mut outcome = LoggerOutcome::default();
        outcome.end = match &*lock(self.cut_short.get()) {
            Some(RunEnd::Panicked { message }) => {
                let message = self.hidden(message);
                LoggerEnd::new(exit_code, RunEnd::Panicked { message })
            }
            Some(run_end) => LoggerEnd::new(exit_code, run_end.clone()),
            None => LoggerEnd::from_exit_code(exit_code),
        };
        outcome.summary.duration = self.opened.elapsed();
        outcome.summary.warnings = self.warnings.load(Ordering::Relaxed);
        outcome.summary.errors = self.errors.load(Ordering::Relaxed);
        let sparklines = self.measures.lock().summarize(&mut outcome.summary);
        (Arc::new(outcome), sparklines)
    }

    /// Says what the limit has left out so far.
    fn tell_left_out(&self) {
        if let Some(limiter) = self.settings().screens.limiter {
            limiter.tell(&self.producer);
        }
    }

    fn set(&self, settings: Settings) {
        if self.is_closed() {
            return;
        }
        let level = settings.level();
        self.switchboard
            .store(Arc::new(Switchboard::new(&self.producer, level, &settings.screens)));
        self.screened.store(!settings.screens.is_empty(), Ordering::Release);
        self.settings.store(Arc::new(settings));
        self.level.store(level as usize, Ordering::Relaxed);
    }

    fn send(&self, step: u64, samples: &[Sample]) {
        let named = |sample: &Sample, text| (sample.id.map_or(MetricName::Text(text), MetricName::Id), sample.value);
        if samples.iter().all(|sample| sample.id.is_some()) {
            return self
                .producer
                .metrics(step, samples.iter().map(|sample| named(sample, "")));
        }
        let texts = self.measures.lock().full_names(samples);
        let named = samples.iter().zip(&texts).map(|(sample, text)| named(sample, text));
        self.producer.metrics(step, named);
    }

    /// Tells the sinks of a progress.
    fn tell(&self, told: Told) {
        with_scratch(|Scratch { samples, .. }| {
            let advance = self.measures.lock().tell(told, &self.producer, samples);
            let Some(advance) = advance.filter(|_| !self.is_closed()) else {
                return;
            };
            if !samples.is_empty() {
                self.send(advance.step, samples);
            }
            advance
                .state
                .with_record(&self.name, |event| self.producer.progress(event, advance.lasting));
        });
    }
}

/// So many members that `log_config` leaves out are named in one line.
const NAMED: usize = 10;

/// Hyper-parameters are a table: anything else is one under the name `value`.
fn table_of(value: Value) -> Value {
    match value {
        Value::Object(_) => value,
        other => Map::from_iter([("value".to_owned(), other)]).into(),
    }
}

/// A lock whose holder panicked still guards whole values: every change under it is completed before user code runs.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call on a metric works with.
#[derive(Default)]
struct Scratch {
    samples: Vec<Sample>,
    known: KnownNames,
}

/// Lends the thread's own scratch; after the first calls of a thread nothing is allocated.
fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    }
    // Taken out for the call, so that a call from within the user's iterator gets one of its own.
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
    scratch.samples.clear();
    let result = work(&mut scratch);
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}
