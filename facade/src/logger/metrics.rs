//! The recorder of a logger's metrics: from a call's names and values to a frame in the ring.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwapOption;
use logcore::sync::lock;
use logcore::{Count, LogConfig, LoggerSummary, MetricPair, Number, PerProcess, Readings, is_logging_suppressed};
use logcore_pipeline::{ForkMutex, MetricName, NameId};

use crate::logger::bars::{BarList, BarState};
use crate::logger::earlier_rows::{EarlierRows, EarlierState};
use crate::logger::gate::CallGate;
use crate::logger::goals::{Goal, Improved};
use crate::logger::metric_names::{NameCache, next_names_version};
use crate::logger::metric_table::{MetricSample, MetricTable, StepChoice, shows_progress};
use crate::logger::progress::{ProgressBegin, ProgressUpdate};
#[cfg(feature = "tracing")]
use crate::logger::span_times::StepTimes;
use crate::run::ledger::Ledger;

/// Records the metrics and the progress of one logger.
pub(crate) struct MetricRecorder {
    gate: Arc<CallGate>,
    enabled: AtomicBool,
    /// Version of the names that the sinks get. The version changes with their form, and so
    /// invalidates the name caches.
    names_version: AtomicU64,
    /// Held from the choice of a call's step until the call is in the ring, so that sinks get steps
    /// in order. Taken before the lock of the table.
    order: PerProcess<Mutex<()>>,
    table: ForkMutex<MetricTable>,
    bars: ForkMutex<BarList>,
    /// `None` if the logger shows no progress.
    ledger: ArcSwapOption<Ledger>,
}

/// The progress of a logger. A logger that moves has other values a moment later.
#[cfg(feature = "health")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Movement {
    /// The present step; `None` before this attempt has used one.
    pub(crate) step: Option<u64>,
    /// How often the program has gone to another step, also to a lower one.
    turns: u64,
    /// The positions of its progresses and bars, summed.
    pub(crate) position: u64,
}

impl MetricRecorder {
    pub(crate) fn new(gate: Arc<CallGate>) -> Self {
        let interning = Arc::clone(&gate);
        let table = MetricTable::new(Box::new(move |name| interning.producer().intern(name)));
        Self {
            gate,
            enabled: AtomicBool::new(true),
            names_version: AtomicU64::new(next_names_version()),
            order: PerProcess::default(),
            table: ForkMutex::new(table),
            bars: ForkMutex::default(),
            ledger: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn configure(
        &self,
        config: &Arc<LogConfig>,
        first_step: u64,
        earlier_rows: Option<EarlierRows>,
        ledger: &Arc<Ledger>,
    ) {
        let ledger = Some(ledger).filter(|_| shows_progress(config));
        self.table.lock().configure(config, first_step, earlier_rows, ledger);
        self.ledger.store(ledger.cloned());
        self.names_version.store(next_names_version(), Ordering::Release);
        self.enabled.store(config.enable_metrics, Ordering::Relaxed);
    }

    /// Makes `first` the first step of this attempt; see [`MetricTable::start_from`].
    pub(crate) fn start_from(&self, first: u64) -> Option<EarlierState> {
        let _order = lock(self.order.get());
        self.table.lock().start_from(first)
    }

    /// Returns the metrics so far.
    pub(crate) fn table(&self) -> MutexGuard<'_, MetricTable> {
        self.table.lock()
    }

    /// Returns the highest step so far.
    pub(crate) fn last_step(&self) -> Option<u64> {
        self.table.lock().last_step()
    }

    /// Returns how far the logger has come.
    #[cfg(feature = "health")]
    pub(crate) fn movement(&self) -> Movement {
        let table = self.table.lock();
        let (step, turns) = (table.reached_step(), table.step_turns());
        let position = table.progress_position();
        drop(table);
        Movement {
            step,
            turns,
            position: position.saturating_add(self.bars.lock().position()),
        }
    }

    /// Logs the metrics of one call; returns its step, and the goals that it has come closer to.
    pub(crate) fn log<M>(&self, step: StepChoice, metrics: M) -> (u64, Improved)
    where
        M: IntoIterator<Item: MetricPair>,
    {
        if !self.admits_metrics() {
            return self.nothing_at(step);
        }
        with_scratch(|Scratch { samples, names }| {
            let names_version = self.names_version.load(Ordering::Acquire);
            // The iterator, the names and the numbers are user code and may log, too: no lock is
            // held here.
            for pair in metrics {
                let (name, value) = (pair.name(), pair.value());
                let (metric, id) = match names.find(names_version, name) {
                    Some(cached) => (cached.metric, cached.id),
                    None => self.look_up(names_version, name, names),
                };
                samples.push(MetricSample { metric, id, value });
            }
            self.complete(step, samples)
        })
    }

    /// Returns the metric of a user's name, and the name, for a handle.
    pub(crate) fn handle(&self, name: &str) -> (u32, Arc<str>) {
        let names_version = self.names_version.load(Ordering::Acquire);
        let cached = self.table.lock().metric_of_user_name(names_version, name);
        (cached.metric, cached.given)
    }

    /// Logs one value of a metric from [`handle`](Self::handle).
    pub(crate) fn record(&self, metric: u32, step: u64, value: impl Number) {
        if !self.admits_metrics() {
            return;
        }
        let value = value.value();
        let recorded = self.table.lock().record_one(metric, step, value);
        if let Some(name) = recorded {
            self.gate.producer().metric(step, name, value);
            return;
        }
        with_scratch(|Scratch { samples, .. }| {
            self.table.lock().add(metric, value, samples);
            self.complete(StepChoice::At(step), samples);
        });
    }

    /// Logs the readings of probes at the current step.
    pub(crate) fn log_readings(&self, readings: &[Readings]) {
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        with_scratch(|Scratch { samples, .. }| {
            let mut table = self.table.lock();
            for (name, value) in readings.iter().flat_map(|readings| readings.iter()) {
                table.add_system(name, value, samples);
            }
            drop(table);
            self.complete(StepChoice::Current, samples);
        });
    }

    /// Adds the time of a span to the current step, and logs the times of the step before.
    #[cfg(feature = "tracing")]
    pub(crate) fn add_span_time(&self, span: &'static str, seconds: f64) {
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let _order = lock(self.order.get());
        let mut table = self.table.lock();
        let ended = table.take_ended_times();
        table.add_span_time(span, seconds);
        drop(table);
        self.send_times(ended);
    }

    /// Logs the times of spans at the current step, because the logger ends.
    #[cfg(feature = "tracing")]
    pub(crate) fn log_span_times(&self) {
        let _order = lock(self.order.get());
        let times = self.table.lock().take_span_times();
        self.send_times(times);
    }

    /// Runs `send` at a step, in order with the metrics; `None` is the current step.
    #[cfg(feature = "media")]
    pub(crate) fn at_step<T>(&self, step: Option<u64>, send: impl FnOnce(u64) -> T) -> T {
        let _order = lock(self.order.get());
        let step = self.table.lock().step_of(step);
        send(step)
    }

    pub(crate) fn start_progress(&self, begin: ProgressBegin<'_>) {
        while self.table.lock().must_end_before(begin.description) {
            self.finish_progress();
        }
        let snapshot = self.table.lock().start_progress(begin);
        if let Some(snapshot) = snapshot.filter(|_| !self.gate.is_closed()) {
            snapshot.with_event(self.gate.logger(), |event| self.gate.producer().progress(event));
        }
    }

    #[inline]
    pub(crate) fn update_progress(&self, n: u64, batch: impl Count) {
        let update = self.table.lock().advance(n, batch);
        if let Some(update) = update {
            self.send_progress(update);
        }
    }

    pub(crate) fn finish_progress(&self) {
        let update = self.table.lock().end_progress();
        if let Some(update) = update {
            self.send_progress(update);
        }
    }

    pub(crate) fn finish_all_progress(&self) {
        while self.table.lock().is_in_progress() {
            self.finish_progress();
        }
        let bars = self.bars.lock().take();
        bars.iter().for_each(|bar| bar.end());
    }

    /// Starts a bar; `None` if the logger shows no progress.
    pub(crate) fn start_bar(&self, begin: ProgressBegin<'_>) -> Option<Arc<BarState>> {
        if self.gate.is_closed() {
            return None;
        }
        let meter = self.table.lock().meter_for_bar(begin)?;
        let bar = BarState::start(&self.gate, meter);
        self.bars.lock().add(&bar);
        Some(bar)
    }

    /// Returns the ledger of the run; `None` if the logger shows no progress.
    pub(crate) fn ledger(&self) -> Option<Arc<Ledger>> {
        self.ledger.load_full()
    }

    /// Sets the goal of a metric; returns the metric, and `false` if there are too many goals.
    pub(crate) fn set_goal(&self, name: &str, goal: Goal) -> (u32, bool) {
        let (metric, _) = self.handle(name);
        (metric, self.table.lock().set_goal(metric, goal))
    }

    /// Completes the summary of the run; returns the sparklines of the user's first metrics.
    pub(crate) fn summarize(&self, summary: &mut LoggerSummary) -> Vec<String> {
        self.table.lock().summarize(summary)
    }

    #[inline]
    fn admits_metrics(&self) -> bool {
        let is_on = self.enabled.load(Ordering::Relaxed) && !is_logging_suppressed();
        is_on && self.gate.admits_call()
    }

    #[cold]
    fn look_up(&self, names_version: u64, name: &str, names: &mut NameCache) -> (u32, Option<NameId>) {
        let found = self.table.lock().metric_of_user_name(names_version, name);
        let metric = (found.metric, found.id);
        names.insert(found);
        metric
    }

    /// Completes a call that has all its samples, and sends it.
    fn complete(&self, step: StepChoice, samples: &mut Vec<MetricSample>) -> (u64, Improved) {
        if samples.is_empty() {
            return self.nothing_at(step);
        }
        let _order = lock(self.order.get());
        let mut table = self.table.lock();
        let (step, improved) = table.record(step, samples);
        #[cfg(feature = "tracing")]
        let ended = table.take_ended_times();
        drop(table);
        #[cfg(feature = "tracing")]
        self.send_times(ended);
        self.send(step, samples);
        (step, improved)
    }

    /// Returns the result of a call that logs nothing.
    #[cold]
    fn nothing_at(&self, step: StepChoice) -> (u64, Improved) {
        let step = match step {
            StepChoice::At(step) => step,
            StepChoice::Next | StepChoice::Current => self.table.lock().current_step(),
        };
        (step, Improved::default())
    }

    fn send(&self, step: u64, samples: &[MetricSample]) {
        let named =
            |sample: &MetricSample, text| (sample.id.map_or(MetricName::Text(text), MetricName::Id), sample.value);
        let producer = self.gate.producer();
        if samples.iter().all(|sample| sample.id.is_some()) {
            return producer.metrics(step, samples.iter().map(|sample| named(sample, "")));
        }
        let texts = self.table.lock().written_names(samples);
        let named = samples.iter().zip(&texts).map(|(sample, text)| named(sample, text));
        producer.metrics(step, named);
    }

    /// Sends the times of spans, before the row of a later step.
    #[cfg(feature = "tracing")]
    fn send_times(&self, times: Option<StepTimes>) {
        if let Some(times) = times.filter(|_| !self.gate.is_closed()) {
            self.send(times.step, &times.sums);
        }
    }

    /// Sends an update of a progress with the metrics derived from it.
    fn send_progress(&self, update: ProgressUpdate) {
        with_scratch(|Scratch { samples, .. }| {
            let mut table = self.table.lock();
            let row = table.progress_row(update, samples);
            #[cfg(feature = "tracing")]
            let ended = table.take_ended_times();
            drop(table);
            #[cfg(feature = "tracing")]
            self.send_times(ended);
            let Some(row) = row.filter(|_| !self.gate.is_closed()) else {
                return;
            };
            if !samples.is_empty() {
                self.send(row.step, samples);
            }
            let producer = self.gate.producer();
            row.snapshot
                .with_event(self.gate.logger(), |event| match row.is_lasting {
                    true => producer.progress(event),
                    false => producer.progress_if_room(event),
                });
        });
    }
}

/// The memory that a metrics call works with.
#[derive(Default)]
struct Scratch {
    samples: Vec<MetricSample>,
    names: NameCache,
}

/// Lends the thread's own scratch memory; after the first calls of a thread nothing is allocated.
fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    }
    // The call takes the memory out, so that a call from within the user's iterator gets memory of
    // its own.
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
    scratch.samples.clear();
    let result = work(&mut scratch);
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}
