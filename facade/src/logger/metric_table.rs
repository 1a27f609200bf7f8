//! The metrics of a logger behind one lock: names, steps, windows, history, and the open
//! progresses.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logcore::{Count, LogConfig, LoggerSummary, MetricSummary, MetricValue, Point, ProgressKind, ProgressRows, Stats};
use logcore_metrics::{Tracker, TrackerOptions};
use logcore_pipeline::{NameId, print_notice};
use logcore_progress::Throughput;

use crate::logger::earlier_rows::{EarlierRows, EarlierState};
use crate::logger::goals::{Goal, GoalTable, Improved};
use crate::logger::metric_names::{CachedName, Interner, MetricNames};
use crate::logger::progress::{
    NestedAdvance, ProgressBegin, ProgressMeter, ProgressSnapshot, ProgressStack, ProgressUpdate,
};
#[cfg(feature = "tracing")]
use crate::logger::span_times::{SpanTimes, StepTimes};
use crate::logger::steps::StepCounter;
use crate::logger::summary::{SHOWN_METRICS, sparkline};
use crate::run::ledger::Ledger;

/// Memory budget of a logger's history. The whole history is on disk.
const HISTORY_BYTES: usize = 24 << 20;

/// Minimum time between two rows with derived metrics, with `progress_rows = "sparse"`.
const SPARSE_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of names without a goal that are warned about.
const MAX_WARNED: usize = 100;

/// The rate whose average is taken over the whole run.
const SAMPLES_PER_SEC: &str = "throughput/samples_per_sec";
/// The share of the peak operations that the samples take.
const MFU: &str = "throughput/mfu";
/// The reading of the probe `system` that the summary has.
const GPU_ENERGY: &str = "system/gpu_energy_kwh";
/// Time with an open progress after which an average is trusted: work that is only queued for a
/// device makes the first steps too fast.
const TRUSTED_AFTER: Duration = Duration::from_secs(10);

/// The metrics of one logger.
pub(crate) struct MetricTable {
    config: Arc<LogConfig>,
    steps: StepCounter,
    names: MetricNames,
    /// Index of the last sample of each metric in the call at hand.
    last_sample: Vec<usize>,
    /// `None` until the logger is configured.
    tracker: Option<Tracker>,
    progress: ProgressStack,
    /// Throughput of the progresses before the newest.
    throughput: Throughput,
    accumulated_samples: u64,
    /// `None` in the first attempt of a run.
    earlier_rows: Option<EarlierRows>,
    /// The newest step whose row was given the metrics derived from the progress, or was left
    /// without them by `progress_rows`.
    derived_step: Option<u64>,
    /// Time of the newest row with derived metrics, where `progress_rows` limits their number.
    derived_at: Option<Instant>,
    /// Share of the peak operations that one sample a second takes; `None` if it is unknown.
    mfu_of_sample: Option<f64>,
    /// `true` if a notice has told of a share above 1.
    has_told_of_mfu: bool,
    goals: GoalTable,
    /// Names of [`is_best`](crate::Logged::is_best) that have no goal and were warned about.
    without_goal: Vec<String>,
    /// `None` if the logger shows no progress.
    ledger: Option<Arc<Ledger>>,
    #[cfg(feature = "tracing")]
    span_times: SpanTimes,
}

/// A metric of one call, on its way into the ring.
#[derive(Clone, Copy)]
pub(crate) struct MetricSample {
    pub(crate) metric: u32,
    /// The short form of the name, if there is one.
    pub(crate) id: Option<NameId>,
    pub(crate) value: MetricValue,
}

/// An update of a progress for the sinks.
pub(crate) struct ProgressRow {
    pub(crate) snapshot: ProgressSnapshot,
    /// `true` for the first and the last update.
    pub(crate) is_lasting: bool,
    /// The step of the derived metrics.
    pub(crate) step: u64,
}

/// The step of a metrics call.
#[derive(Clone, Copy)]
pub(crate) enum StepChoice {
    /// The step that the user gives.
    At(u64),
    /// The next step.
    Next,
    /// The step of the newest progress or call.
    Current,
}

impl MetricTable {
    pub(crate) fn new(intern: Interner) -> Self {
        Self {
            config: Arc::default(),
            steps: StepCounter::default(),
            names: MetricNames::new(intern),
            last_sample: Vec::new(),
            tracker: None,
            progress: ProgressStack::default(),
            throughput: Throughput::default(),
            accumulated_samples: 0,
            earlier_rows: None,
            derived_step: None,
            derived_at: None,
            mfu_of_sample: None,
            has_told_of_mfu: false,
            goals: GoalTable::default(),
            without_goal: Vec::new(),
            ledger: None,
            #[cfg(feature = "tracing")]
            span_times: SpanTimes::default(),
        }
    }

    /// Configures the table. The steps continue at `first_step` or behind the earlier rows of the
    /// run.
    pub(crate) fn configure(
        &mut self,
        config: &Arc<LogConfig>,
        first_step: u64,
        earlier_rows: Option<EarlierRows>,
        ledger: Option<&Arc<Ledger>>,
    ) {
        let options = TrackerOptions {
            window: config.metrics_window,
            history: config.metrics_history,
            budget_bytes: HISTORY_BYTES,
        };
        match &mut self.tracker {
            Some(tracker) => tracker.reconfigure(options),
            None => {
                let mut tracker = Tracker::new(options);
                for _ in 0..self.names.len() {
                    tracker.add();
                }
                self.tracker = Some(tracker);
            }
        }
        self.names.set_prefix(&config.metrics_prefix);
        self.mfu_of_sample = config
            .flops_per_sample
            .zip(config.peak_flops)
            .map(|(operations, peak)| operations / peak);
        self.config = Arc::clone(config);
        self.steps.continue_from(first_step);
        if self.earlier_rows.as_ref().map(EarlierRows::attempt) != earlier_rows.as_ref().map(EarlierRows::attempt) {
            self.continue_after(earlier_rows);
        }
        let is_other = self.ledger.as_ref().map(Arc::as_ptr) != ledger.map(Arc::as_ptr);
        if is_other && self.progress.is_measured() {
            self.ledger.iter().for_each(|ledger| ledger.close_progress());
            ledger.iter().for_each(|ledger| ledger.open_progress());
        }
        self.ledger = ledger.cloned();
    }

    /// Continues the steps and the samples of a logger's earlier rows, if the logger has logged
    /// nothing since.
    fn continue_after(&mut self, earlier_rows: Option<EarlierRows>) {
        self.earlier_rows = earlier_rows;
        if let Some(rows) = self.earlier_rows.as_ref().filter(|_| !self.steps.has_begun()) {
            let state = rows.read_state();
            self.steps.continue_from(state.next_step);
            self.accumulated_samples = state.accumulated_samples;
        }
    }

    /// Makes `first` the first step of this attempt, and returns the state that the rows before
    /// have left. Returns `None`, and changes nothing, if the logger has logged a row already.
    pub(crate) fn start_from(&mut self, first: u64) -> Option<EarlierState> {
        if !self.steps.start_from(first) {
            return None;
        }
        let Some(rows) = &mut self.earlier_rows else {
            return Some(EarlierState::default());
        };
        rows.supersede_from(first);
        let state = rows.read_state();
        self.accumulated_samples = state.accumulated_samples;
        if let Some(open) = self.progress.meter() {
            open.set_prior_samples(state.accumulated_samples);
        }
        if let (Some(ledger), Some(superseded)) = (&self.ledger, &state.superseded) {
            ledger.lose(superseded);
        }
        for at in 0..self.goals.len() {
            let (metric, goal) = self.goals.goal(at);
            let best = self.earlier_best(metric, goal);
            self.goals.restart(at, best);
        }
        Some(state)
    }

    #[cfg(feature = "wandb")]
    pub(crate) fn names(&self) -> &MetricNames {
        &self.names
    }

    /// Returns the step of a call that logs no metric. Only a step that the program names is noted:
    /// a file that is saved before the first row begins no step.
    #[cfg(feature = "media")]
    pub(crate) fn step_of(&mut self, explicit: Option<u64>) -> u64 {
        match explicit {
            Some(step) => self.steps.note(step),
            #[cfg(feature = "health")]
            None => self.steps.note_without_step(),
            #[cfg(not(feature = "health"))]
            None => {}
        }
        explicit.unwrap_or_else(|| self.steps.current())
    }

    /// Adds the time of a span to those of the current step. The times of a step that is over must
    /// be [taken](Self::take_span_times) before.
    #[cfg(feature = "tracing")]
    pub(crate) fn add_span_time(&mut self, span: &'static str, seconds: f64) {
        let metric = self.span_times.metric(span).unwrap_or_else(|| {
            let (metric, _) = self.names.metric_of_system_name(&format!("time/{span}_ms"));
            self.track_new();
            self.span_times.set_metric(span, metric);
            metric
        });
        let time = MetricSample {
            metric,
            id: self.names.id(metric),
            value: (seconds * 1e3).into(),
        };
        self.span_times.add(self.steps.current(), time);
    }

    /// Takes the times of spans at a step that is over; `None` if there are none.
    #[cfg(feature = "tracing")]
    #[inline]
    pub(crate) fn take_ended_times(&mut self) -> Option<StepTimes> {
        self.span_times
            .have_ended(self.steps.current())
            .then(|| self.take_span_times())
            .flatten()
    }

    /// Takes the times of spans, also at the current step; `None` if there are none.
    #[cfg(feature = "tracing")]
    #[cold]
    pub(crate) fn take_span_times(&mut self) -> Option<StepTimes> {
        let times = self.span_times.take()?;
        self.track(times.step, &times.sums);
        for sum in &times.sums {
            // No call of the program has logged the sum, so none learns that it is the best.
            let mut improved = Improved::default();
            self.goals
                .note(sum.metric, times.step, sum.value.as_f64(), &mut improved);
        }
        Some(times)
    }

    /// Returns the step of a call that logs nothing.
    pub(crate) fn current_step(&self) -> u64 {
        self.steps.current()
    }

    /// Returns the metric of a user's name, for a thread that does not have it in its cache.
    pub(crate) fn metric_of_user_name(&mut self, names_version: u64, name: &str) -> CachedName {
        let cached = self.names.metric_of_user_name(names_version, name);
        self.track_new();
        cached
    }

    /// Adds a sample of a metric in the system's own families.
    pub(crate) fn add_system(&mut self, name: &str, value: MetricValue, samples: &mut Vec<MetricSample>) {
        let (metric, id) = self.names.metric_of_system_name(name);
        self.track_new();
        samples.push(MetricSample { metric, id, value });
    }

    pub(crate) fn add(&mut self, metric: u32, value: MetricValue, samples: &mut Vec<MetricSample>) {
        let id = self.names.id(metric);
        samples.push(MetricSample { metric, id, value });
    }

    /// Completes a call: chooses its step, adds derived metrics, and updates windows and history.
    pub(crate) fn record(&mut self, choice: StepChoice, samples: &mut Vec<MetricSample>) -> (u64, Improved) {
        let step = match choice {
            StepChoice::Next => self.steps.next(),
            // Readings of probes begin no step: a resumed program may name its first step after
            // them.
            StepChoice::Current => self.steps.current(),
            StepChoice::At(step) => {
                self.steps.note(step);
                step
            }
        };
        if self.derived_step != Some(step) && self.steps.progress_step() == Some(step) {
            self.add_derived(step, samples);
        }
        self.keep_last_of_each(samples);
        self.track(step, samples);
        let mut improved = Improved::default();
        if !self.goals.is_empty() {
            for sample in samples.iter() {
                self.goals
                    .note(sample.metric, step, sample.value.as_f64(), &mut improved);
            }
        }
        (step, improved)
    }

    /// Records one metric by itself. `None` if the metric needs a whole call, because its row has
    /// no derived metrics yet, its name has no short form, it has a goal, or the times of spans go
    /// before it.
    pub(crate) fn record_one(&mut self, metric: u32, step: u64, value: MetricValue) -> Option<NameId> {
        let starts_row = self.derived_step != Some(step) && self.steps.progress_step() == Some(step);
        if starts_row && self.progress.has_meter() || self.goals.concern(metric) {
            return None;
        }
        let id = self.names.id(metric)?;
        self.steps.note(step);
        #[cfg(feature = "tracing")]
        if self.span_times.have_ended(self.steps.current()) {
            return None;
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.record(metric as usize, step, value.as_f64());
        }
        Some(id)
    }

    /// Returns `true` if the innermost progress must end before one of this description starts.
    pub(crate) fn must_end_before(&mut self, description: &str) -> bool {
        self.progress.must_end_before(description)
    }

    /// Returns `true` if a progress is open.
    pub(crate) fn is_in_progress(&self) -> bool {
        self.progress.is_open()
    }

    /// Starts a progress: nested in the open one, else one whose positions are steps.
    pub(crate) fn start_progress(&mut self, begin: ProgressBegin<'_>) -> Option<ProgressSnapshot> {
        let is_nested = self.progress.is_open();
        if !is_nested {
            if let Some(meter) = self.progress.meter() {
                meter.add_to(&mut self.throughput);
                self.accumulated_samples = meter.accumulated_samples();
            }
            self.steps.start_progress();
            self.derived_step = None;
        }
        let samples_before = if is_nested { 0 } else { self.accumulated_samples };
        // Without the feature, a progress counts steps and shows nothing.
        let meter = shows_progress(&self.config).then(|| ProgressMeter::start(&self.config, begin, samples_before));
        if let Some(ledger) = self.ledger.as_ref().filter(|_| meter.is_some() && !is_nested) {
            ledger.open_progress();
        }
        self.progress.start(begin, meter);
        self.progress.started()
    }

    /// Returns the meter of a bar; `None` if the logger shows no progress.
    pub(crate) fn meter_for_bar(&self, begin: ProgressBegin<'_>) -> Option<ProgressMeter> {
        shows_progress(&self.config).then(|| ProgressMeter::start(&self.config, begin, 0))
    }

    /// Advances the innermost progress; returns an update for the sinks if one is due.
    #[inline]
    pub(crate) fn advance(&mut self, n: u64, batch: impl Count) -> Option<ProgressUpdate> {
        if let Some(ledger) = &self.ledger {
            ledger.note_update();
        }
        let batch = batch.count();
        if !self.progress.has_no_nested() {
            match self.progress.advance_nested(n, batch) {
                NestedAdvance::Due(update) => return Some(update),
                NestedAdvance::NotDue => return None,
                NestedAdvance::NotNested => {}
            }
        }
        self.steps.advance(n);
        self.progress.advance_outermost(n, batch)
    }

    /// Ends the innermost progress, if it is open.
    pub(crate) fn end_progress(&mut self) -> Option<ProgressUpdate> {
        self.progress.end_innermost()
    }

    /// Turns an update into a row for the sinks. Only the outermost progress has derived metrics.
    pub(crate) fn progress_row(
        &mut self,
        update: ProgressUpdate,
        samples: &mut Vec<MetricSample>,
    ) -> Option<ProgressRow> {
        let step = self.steps.current();
        let kind = match update {
            ProgressUpdate::Nested { snapshot, is_lasting } => {
                return Some(ProgressRow {
                    snapshot,
                    is_lasting,
                    step,
                });
            }
            ProgressUpdate::Outermost(kind) => kind,
        };
        self.steps.note(step);
        if let Some(ledger) = self.ledger.as_ref().filter(|_| kind == ProgressKind::Finished) {
            ledger.close_progress();
        }
        if self.config.enable_metrics {
            self.add_derived(step, samples);
            self.add_shares(samples);
            self.track(step, samples);
        }
        Some(ProgressRow {
            snapshot: self.progress.meter()?.snapshot(kind),
            is_lasting: kind != ProgressKind::Advanced,
            step,
        })
    }

    /// Sets the goal of a metric. Returns `false` if there are too many goals.
    pub(crate) fn set_goal(&mut self, metric: u32, goal: Goal) -> bool {
        if self.goals.has(metric, goal) {
            return true;
        }
        let earlier = self.earlier_best(metric, goal);
        let history = self
            .tracker
            .as_mut()
            .and_then(|tracker| tracker.history(metric as usize));
        let values = earlier.into_iter().chain(history.unwrap_or_default());
        self.goals.set(metric, goal, values)
    }

    /// Returns the best value of a metric in the rows of earlier attempts.
    fn earlier_best(&self, metric: u32, goal: Goal) -> Option<Point> {
        let rows = self.earlier_rows.as_ref()?;
        let best = rows.read_best(self.names.written(metric), |value, than| goal.is_better(value, than));
        best.map(|(value, step)| Point::new(step, value))
    }

    /// Returns the best value of a metric with a goal.
    pub(crate) fn best(&self, metric: u32) -> Option<Point> {
        self.goals.best(metric as usize)
    }

    /// Returns whether a call has improved a metric. `None` if the metric has no goal, at the first
    /// question of this name; `false` from then on.
    pub(crate) fn has_improved(&mut self, name: &str, improved: Improved) -> Option<bool> {
        let metric = self.names.find(name);
        let known = metric.and_then(|metric| self.goals.has_improved(metric, improved));
        let was_warned = self.without_goal.len() >= MAX_WARNED || self.without_goal.iter().any(|known| known == name);
        if known.is_none() && !was_warned {
            self.without_goal.push(name.to_owned());
            return None;
        }
        Some(known.unwrap_or(false))
    }

    /// Returns the names that the sinks get for these samples.
    pub(crate) fn written_names(&self, samples: &[MetricSample]) -> Vec<Arc<str>> {
        let name = |sample: &MetricSample| Arc::clone(self.names.written(sample.metric));
        samples.iter().map(name).collect()
    }

    pub(crate) fn average(&mut self, name: &str) -> Option<f64> {
        if !self.names.has_user(name) && self.config.enable_metrics {
            match name {
                SAMPLES_PER_SEC => return self.total_throughput().samples_per_sec(),
                MFU => return self.mfu_of(self.total_throughput()),
                _ => {}
            }
        }
        let metric = self.names.find(name)?;
        self.tracker.as_mut()?.average(metric)
    }

    pub(crate) fn averages(&mut self) -> Vec<(String, f64)> {
        let names: Vec<_> = (0..self.names.len())
            .map(|at| Arc::clone(self.names.given(at)))
            .collect();
        let mut averages: Vec<_> = names
            .iter()
            .filter_map(|name| Some((name.to_string(), self.average(name)?)))
            .collect();
        averages.sort_by(|a, b| a.0.cmp(&b.0));
        averages
    }

    pub(crate) fn stats(&mut self, name: &str) -> Option<Stats> {
        let metric = self.names.find(name)?;
        self.stats_of(metric)
    }

    pub(crate) fn history(&mut self, name: &str) -> Option<Vec<Point>> {
        let metric = self.names.find(name)?;
        self.tracker.as_mut()?.history(metric)
    }

    /// Returns the present step; `None` before this attempt has used one.
    pub(crate) fn reached_step(&self) -> Option<u64> {
        self.steps.has_begun().then(|| self.steps.current())
    }

    /// Returns how often the program has gone to another step.
    #[cfg(feature = "health")]
    pub(crate) fn step_turns(&self) -> u64 {
        self.steps.turns()
    }

    /// Returns the sum of the positions of all progresses that are kept.
    #[cfg(feature = "health")]
    pub(crate) fn progress_position(&self) -> u64 {
        self.progress.position()
    }

    /// Returns the highest step so far.
    pub(crate) fn last_step(&self) -> Option<u64> {
        self.steps.highest()
    }

    /// Completes the summary of the run; returns the sparklines of the user's first metrics.
    pub(crate) fn summarize(&mut self, summary: &mut LoggerSummary) -> Vec<String> {
        summary.last_step = self.steps.highest();
        let throughput = self.total_throughput();
        summary.steps_per_sec = throughput.units_per_sec();
        summary.samples_per_sec = throughput.samples_per_sec();
        summary.mfu = self.mfu_of(throughput);
        if let Some(mfu) = summary.mfu {
            self.tell_of_mfu(mfu);
        }
        let energy = self.names.find(GPU_ENERGY).and_then(|metric| self.stats_of(metric));
        summary.gpu_energy_kwh = energy.map(|stats| stats.last);
        if let Some(ledger) = &self.ledger {
            ledger.summarize(summary);
        }
        let mut sparklines = Vec::new();
        for at in 0..self.names.len() {
            let Some(stats) = self.stats_of(at) else { continue };
            let mut metric = MetricSummary::new(&**self.names.given(at), stats);
            metric.best = self.goals.best(at);
            let window = self.config.metrics_window.max(1) as u64;
            metric.mean_of = (stats.count > window).then_some(window);
            if !self.names.is_user(at) {
                summary.system_metrics.push(metric);
                continue;
            }
            if sparklines.len() < SHOWN_METRICS {
                let values = self.tracker.as_mut().and_then(|tracker| tracker.values(at));
                sparklines.push(values.map_or_else(String::new, |(count, values)| sparkline(count, values)));
            }
            summary.metrics.push(metric);
        }
        sparklines
    }

    fn stats_of(&mut self, metric: usize) -> Option<Stats> {
        Some(self.tracker.as_mut()?.stats(metric)).filter(|stats| stats.count > 0)
    }

    /// Returns the throughput of all progresses so far.
    fn total_throughput(&self) -> Throughput {
        let mut throughput = self.throughput;
        if let Some(meter) = self.progress.last_meter() {
            meter.add_to(&mut throughput);
        }
        throughput
    }

    /// Returns the share of the peak operations that a throughput takes, if it is known.
    fn mfu_of(&self, throughput: Throughput) -> Option<f64> {
        Some(throughput.samples_per_sec()? * self.mfu_of_sample?)
    }

    /// Adds the share of the peak operations that the rate among the samples takes, `of_sample` for
    /// one sample a second.
    // Cold, so that a logger without the two numbers does not pay for it.
    #[cold]
    fn add_mfu(&mut self, of_sample: f64, samples: &mut Vec<MetricSample>) {
        let (metric, _) = self.names.metric_of_system_name(SAMPLES_PER_SEC);
        self.track_new();
        let rate = samples.iter().rfind(|sample| sample.metric == metric);
        let Some(mfu) = rate.map(|rate| rate.value.as_f64() * of_sample) else {
            return;
        };
        self.add_system(MFU, mfu.into(), samples);
        if mfu > 1.0 && !self.has_told_of_mfu {
            let throughput = self.total_throughput();
            if let Some(average) = self.mfu_of(throughput).filter(|_| throughput.time() >= TRUSTED_AFTER) {
                self.tell_of_mfu(average);
            }
        }
    }

    /// Prints a notice if a share of the peak operations is above 1, once.
    fn tell_of_mfu(&mut self, mfu: f64) {
        if mfu > 1.0 && !mem::replace(&mut self.has_told_of_mfu, true) {
            print_notice(
                "mfu above 1",
                &format!(
                    "{MFU} is {mfu:.2}, and no device does more than its peak: `flops_per_sample` or `peak_flops` \
                     is wrong. `peak_flops` is the sum over all devices of the process, in the precision of the \
                     training"
                ),
            );
        }
    }

    /// Gives a metric that a look-up has added its place in the tracker.
    fn track_new(&mut self) {
        while self.last_sample.len() < self.names.len() {
            self.last_sample.push(0);
            if let Some(tracker) = &mut self.tracker {
                tracker.add();
            }
        }
    }

    fn track(&mut self, step: u64, samples: &[MetricSample]) {
        let Some(tracker) = &mut self.tracker else { return };
        for sample in samples {
            tracker.record(sample.metric as usize, step, sample.value.as_f64());
        }
    }

    /// Drops all but the last sample of each metric.
    fn keep_last_of_each(&mut self, samples: &mut Vec<MetricSample>) {
        let mut has_doubles = false;
        for (at, sample) in samples.iter().enumerate() {
            let before = mem::replace(&mut self.last_sample[sample.metric as usize], at);
            // An index from an earlier call is harmless: the sample at that index is compared
            // again.
            has_doubles |= before < at && samples[before].metric == sample.metric;
        }
        if has_doubles {
            let mut at = 0..;
            samples.retain(|sample| at.next() == Some(self.last_sample[sample.metric as usize]));
        }
    }

    /// Adds the metrics derived from the outermost progress, if it has a meter.
    fn add_derived(&mut self, step: u64, samples: &mut Vec<MetricSample>) {
        if !self.progress.has_meter() {
            return;
        }
        self.derived_step = Some(step);
        if !self.admits_derived() {
            return;
        }
        let Some(meter) = self.progress.meter() else { return };
        for (name, value) in meter.derived_metrics() {
            self.add_system(name, value, samples);
        }
        if let Some(of_sample) = self.mfu_of_sample {
            self.add_mfu(of_sample, samples);
        }
    }

    /// Returns `true` if the row at hand may have derived metrics.
    fn admits_derived(&mut self) -> bool {
        match self.config.progress_rows {
            ProgressRows::All => true,
            ProgressRows::Sparse => {
                let now = Instant::now();
                let is_due = self.derived_at.is_none_or(|before| now - before >= SPARSE_INTERVAL);
                self.derived_at = if is_due { Some(now) } else { self.derived_at };
                is_due
            }
            _ => false,
        }
    }

    /// Adds the shares of the run's time, every ten seconds.
    fn add_shares(&mut self, samples: &mut Vec<MetricSample>) {
        if let Some(ledger) = self.ledger.clone() {
            ledger.add_shares(|name, value| self.add_system(name, value, samples));
        }
    }
}

/// Returns `true` if a logger of this config measures and shows progresses.
pub(crate) fn shows_progress(config: &LogConfig) -> bool {
    cfg!(feature = "progress") && config.enable_progress
}
