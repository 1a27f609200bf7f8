//! One logger, as all its handles share it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;
use logcore::log::{self, LevelFilter};
use logcore::{ConfigError, Count, Deadline, Directives, LogConfig, LogError, MetricPair, Number, StopFlag, is_quiet};
use logcore_pipeline::{Port, Route, notice};

use crate::build::BuiltSinks;
use crate::measures::{Advance, Measures, Sample, Step};
use crate::memory::Memory;
use crate::report::FinishReport;
use crate::switchboard::Switchboard;

pub(crate) struct Instance {
    name: String,
    port: Arc<Port>,
    /// The most verbose level that any sink wants; what lies below costs this one look.
    level: AtomicUsize,
    switchboard: ArcSwap<Switchboard>,
    settings: RwLock<Settings>,
    metrics_on: AtomicBool,
    measures: Mutex<Measures>,
    /// Held from the choice of a call's step until the call is in the ring: sinks get steps in their order.
    order: Mutex<()>,
    memory: Mutex<Memory>,
    stop: StopFlag,
    exit_code: AtomicI32,
    /// Counts the set-ups, so that a handle of an earlier one does not close a later one.
    generation: AtomicU64,
    closed: AtomicBool,
    report: Mutex<Option<FinishReport>>,
}

/// What a running logger is set to.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) config: Arc<LogConfig>,
    pub(crate) directives: Directives,
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
    pub(crate) fn new(name: &str, port: Port, stop: StopFlag) -> Self {
        let port = Arc::new(port);
        Self {
            name: name.to_owned(),
            level: AtomicUsize::new(0),
            switchboard: ArcSwap::from_pointee(Switchboard::new(&port, LevelFilter::Off, &Directives::default())),
            port,
            settings: RwLock::default(),
            metrics_on: AtomicBool::new(true),
            measures: Mutex::default(),
            order: Mutex::default(),
            memory: Mutex::default(),
            stop,
            exit_code: AtomicI32::new(0),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            report: Mutex::default(),
        }
    }

    /// Gives the logger a config, with the sinks and probes that were built for it.
    pub(crate) fn configure(
        &self,
        config: LogConfig,
        built: BuiltSinks,
        memory: Memory,
        shared_sinks: bool,
    ) -> Result<(), LogError> {
        let deadline = Deadline::after(config.finish_duration());
        let directives = config.directives()?;
        let config = Arc::new(config);
        self.port.set_policy(config.on_full, config.flush_duration());
        self.port.open(config.propagate, built.sinks, deadline)?;
        {
            let mut measures = lock(&self.measures);
            measures.configure(&config, &self.port);
            measures.start_from(built.first_step);
        }
        self.metrics_on.store(config.enable_metrics, Ordering::Relaxed);
        *lock(&self.memory) = memory;
        let mut levels = built.levels;
        if shared_sinks {
            levels.insert("shared".to_owned(), config.console_level.max(config.file_level));
        }
        self.set(Settings {
            config,
            directives,
            levels,
        });
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
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
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether some sink wants records of this level.
    #[inline]
    pub(crate) fn wants(&self, level: log::Level) -> bool {
        level as usize <= self.level.load(Ordering::Relaxed)
    }

    pub(crate) fn enabled(&self, route: Route, metadata: &log::Metadata<'_>) -> bool {
        self.wants(metadata.level()) && self.switchboard.load().of(route).enabled(metadata)
    }

    pub(crate) fn log(&self, route: Route, record: &log::Record<'_>) {
        if self.wants(record.level()) {
            self.switchboard.load().of(route).log(record);
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
        self.port
            .set_level(sink, level, Deadline::after(settings.config.flush_duration()));
        self.set(settings);
        Ok(())
    }

    pub(crate) fn set_directives(&self, text: &str) -> Result<(), ConfigError> {
        let mut settings = self.settings();
        settings.directives = text.parse()?;
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
        if !self.metrics_on.load(Ordering::Relaxed) || is_quiet() || self.is_closed() {
            return;
        }
        with_samples(|samples| {
            // The user's iterator may log, too: it is not run under the lock. Sixteen items at a time go through the stack.
            let mut pairs = metrics.into_iter();
            let mut chunk: [Option<M::Item>; 16] = [const { None }; 16];
            loop {
                let mut more = true;
                for slot in &mut chunk {
                    *slot = if more { pairs.next() } else { None };
                    more = slot.is_some();
                }
                let _order = (!more).then(|| lock(&self.order));
                let mut measures = lock(&self.measures);
                for pair in chunk.iter().flatten() {
                    measures.add_user(pair, &self.port, samples);
                }
                if !more {
                    if samples.is_empty() {
                        return;
                    }
                    let step = measures.record(step, &self.port, samples);
                    drop(measures);
                    self.send(step, samples);
                    return;
                }
            }
        });
    }

    pub(crate) fn metric(&self, name: &str) -> u32 {
        lock(&self.measures).handle(name, &self.port)
    }

    pub(crate) fn record_metric(&self, metric: u32, step: u64, value: impl Number) {
        if !self.metrics_on.load(Ordering::Relaxed) || is_quiet() || self.is_closed() {
            return;
        }
        let value = value.value();
        let recorded = lock(&self.measures).record_one(metric, step, value);
        if let Some(name) = recorded {
            self.port.metric(step, name, value);
            return;
        }
        with_samples(|samples| {
            let mut measures = lock(&self.measures);
            measures.add(metric, value, samples);
            let step = measures.record(Step::At(step), &self.port, samples);
            drop(measures);
            self.send(step, samples);
        });
    }

    pub(crate) fn start_progress(&self, total: impl Count, description: String) {
        self.finish_progress();
        let state = lock(&self.measures).start_progress(total.count(), description);
        if let Some(state) = state.filter(|_| !self.is_closed()) {
            state.lend(&self.name, |event| self.port.progress(event, true));
        }
    }

    pub(crate) fn update_progress(&self, n: u64, batch: impl Count) {
        let due = lock(&self.measures).advance(n, batch);
        if let Some(kind) = due {
            with_samples(|samples| {
                let advance = lock(&self.measures).tell(kind, &self.port, samples);
                self.tell(advance, samples);
            });
        }
    }

    pub(crate) fn finish_progress(&self) {
        with_samples(|samples| {
            let advance = lock(&self.measures).end_progress(&self.port, samples);
            self.tell(advance, samples);
        });
    }

    pub(crate) fn log_memory(&self) {
        if is_quiet() || self.is_closed() {
            return;
        }
        let (readings, news) = lock(&self.memory).sample();
        for text in news {
            self.say(log::Level::Info, format_args!("{text}"));
        }
        if !self.metrics_on.load(Ordering::Relaxed) {
            return;
        }
        with_samples(|samples| {
            let mut measures = lock(&self.measures);
            for (name, value) in readings.iter().flat_map(|readings| readings.iter()) {
                measures.add_system(name, value, &self.port, samples);
            }
            if samples.is_empty() {
                return;
            }
            let step = measures.record(Step::Current, &self.port, samples);
            drop(measures);
            self.send(step, samples);
        });
    }

    pub(crate) fn log_config(&self, config: &impl serde::Serialize) {
        if self.is_closed() {
            return;
        }
        match serde_json::to_string(config) {
            Ok(json) => self.port.config(&json),
            Err(error) => {
                let text = format!(
                    "log_config of logger `{}` has no form in JSON and is left out: {error}",
                    self.name
                );
                notice(&format!("log_config {}", self.name), &text);
            }
        }
    }

    /// Hands over what is for one sink alone.
    #[cfg(feature = "wandb")]
    pub(crate) fn message(&self, sink: &str, message: &str) {
        if !self.is_closed() {
            self.port.message(sink, message);
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
        let _order = lock(&self.order);
        let step = self.measures().step_of(step);
        self.message(sink, &message(step)?);
        Ok(())
    }

    /// A record by the logger's own methods.
    pub(crate) fn say(&self, level: log::Level, message: std::fmt::Arguments<'_>) {
        if self.wants(level) {
            let record = log::Record::builder()
                .level(level)
                .target(&self.name)
                .args(message)
                .build();
            self.switchboard.load().of(Route::Method).log(&record);
        }
    }

    pub(crate) fn measures(&self) -> MutexGuard<'_, Measures> {
        lock(&self.measures)
    }

    pub(crate) fn flush(&self) -> Result<(), LogError> {
        if self.is_closed() {
            return Err(LogError::Closed {
                logger: self.name.clone(),
            });
        }
        let deadline = Deadline::after(self.settings().config.flush_duration());
        self.port.flush(deadline)
    }

    pub(crate) fn set_exit_code(&self, code: i32) {
        self.exit_code.store(code, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the logger; a second call returns what the first did.
    pub(crate) fn finish(&self) -> FinishReport {
        let mut report = lock(&self.report);
        if let Some(report) = &*report {
            return report.clone();
        }
        self.finish_progress();
        self.closed.store(true, Ordering::Relaxed);
        self.level.store(0, Ordering::Relaxed);
        let exit_code = match self.exit_code.load(Ordering::Relaxed) {
            // A logger that is dropped by a panic belongs to a run that has failed, whether or not anybody had time to say so.
            0 if std::thread::panicking() => 1,
            code => code,
        };
        let deadline = Deadline::after(self.settings().config.finish_duration());
        let (sinks, problem) = match self.port.finish(exit_code, deadline) {
            Ok(sinks) => (sinks, None),
            Err(error) => (Default::default(), Some(error.to_string())),
        };
        let done = FinishReport {
            logger: self.name.clone(),
            exit_code,
            sinks,
            problem,
        };
        let losses = done.losses();
        if !losses.is_empty() {
            notice(
                &format!("losses of {}", self.name),
                &format!("logger `{}`: {losses}", self.name),
            );
        }
        report.insert(done).clone()
    }

    fn set(&self, settings: Settings) {
        let level = settings.level();
        self.switchboard
            .store(Arc::new(Switchboard::new(&self.port, level, &settings.directives)));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        if !self.is_closed() {
            self.level.store(level as usize, Ordering::Relaxed);
        }
    }

    fn send(&self, step: u64, samples: &[Sample]) {
        self.port.metrics(step, samples.iter().map(Sample::named));
    }

    fn tell(&self, advance: Option<Advance>, samples: &[Sample]) {
        let Some(advance) = advance.filter(|_| !self.is_closed()) else {
            return;
        };
        if !samples.is_empty() {
            self.send(advance.step, samples);
        }
        advance
            .state
            .lend(&self.name, |event| self.port.progress(event, advance.lasting));
    }
}

/// A lock whose holder panicked still guards whole values: every change under it is completed before user code runs.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lends the thread's own list of samples; after the first calls of a thread nothing is allocated.
fn with_samples<T>(work: impl FnOnce(&mut Vec<Sample>) -> T) -> T {
    thread_local! {
        static SAMPLES: RefCell<Vec<Sample>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out for the call, so that a call from within the user's iterator gets a list of its own.
    let mut samples = SAMPLES.try_with(RefCell::take).unwrap_or_default();
    samples.clear();
    let result = work(&mut samples);
    let _ = SAMPLES.try_with(|kept| kept.replace(samples));
    result
}
