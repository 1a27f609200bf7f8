//! Everything that a logger measures, behind one lock: names, steps, windows, history, progress.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use logcore::{Count, LogConfig, LoggerSummary, MetricSummary, MetricValue, Point, ProgressKind, Stats};
use logcore_pipeline::{NameId, Producer, print_notice};

use crate::known::{Known, KnownNames};
use crate::nest::{Nest, Told};
use crate::progress::{Meter, State, Throughput};
use crate::series::Series;
use crate::steps::Steps;
use crate::summary::{SHOWN, sparkline};

/// Columns of `metrics.jsonl` that a user's name must not take.
const RESERVED: [&str; 3] = logcore::families::ROW_COLUMNS;

/// The columns that W&B makes itself.
#[cfg(feature = "wandb")]
const WANDB_OWN: [&str; 3] = ["_step", "_runtime", "_timestamp"];

/// How the names of the system's own metrics begin, and those that a program may want to draw others over.
#[cfg(feature = "wandb")]
const FAMILIES: [&str; 4] = logcore::families::SYSTEM_FAMILIES;
#[cfg(feature = "wandb")]
const FIGURES: [&str; 5] = [
    "throughput/samples_per_sec",
    "throughput/batch_time_ms",
    "throughput/accumulated_samples",
    "progress/eta_seconds",
    "progress/percent",
];

/// The names of the system's own families do not change with a set-up.
const SYSTEM: u64 = u64::MAX;

/// The rate whose average is that of the whole run.
const SAMPLES_PER_SEC: &str = "throughput/samples_per_sec";

#[derive(Default)]
pub(crate) struct Measures {
    config: Arc<LogConfig>,
    steps: Steps,
    names: Vec<Metric>,
    /// By the name as the user logs it.
    user: HashMap<String, u32>,
    /// The system's own families, by their full names.
    system: HashMap<String, u32>,
    /// The same in the order in which they come.
    known_system: KnownNames,
    series: Series,
    progress: Nest,
    /// The throughput of the progresses before the newest.
    throughput: Throughput,
    accumulated_samples: u64,
    /// The newest step whose row has the figures of the progress.
    figures_step: Option<u64>,
}

struct Metric {
    /// What the sinks call it.
    full: Arc<str>,
    logged: Arc<str>,
    id: Option<NameId>,
    user: bool,
    /// Where in the call at hand it came last.
    last_at: usize,
}

/// A metric of one call, on its way into the ring.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) metric: u32,
    /// The short form of its name, if it has one.
    pub(crate) id: Option<NameId>,
    pub(crate) value: MetricValue,
}

/// An update of a progress as the sinks get it, besides its metrics.
pub(crate) struct Advance {
    pub(crate) state: State,
    /// It is the first or the last.
    pub(crate) lasting: bool,
    /// The step of the metrics.
    pub(crate) step: u64,
}

/// The step of a metrics call.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// As the user says.
    At(u64),
    /// The next one.
    Next,
    /// The one that is being worked on.
    Current,
}

impl Measures {
    pub(crate) fn configure(&mut self, config: &Arc<LogConfig>, producer: &Producer) {
        self.series.configure(config);
        let prefix_changed = self.config.metrics_prefix != config.metrics_prefix;
        self.config = Arc::clone(config);
        if prefix_changed {
            for at in 0..self.names.len() {
                if self.names[at].user {
                    let full = self.full_name(&self.names[at].logged);
                    self.names[at].id = producer.intern(&full);
                    self.names[at].full = full.into();
                }
            }
        }
    }

    /// The run goes on from an earlier one.
    pub(crate) fn start_from(&mut self, first_step: u64) {
        self.steps.start_from(first_step);
    }

    /// The step of something that is no metric.
    #[cfg(feature = "wandb")]
    pub(crate) fn step_of(&mut self, explicit: Option<u64>) -> u64 {
        let step = explicit.unwrap_or_else(|| self.steps.current());
        self.steps.note(step);
        step
    }

    /// The names that sinks may have for a metric of this name: as a user's, and, where it can be, as one of the system's own
    /// or as it is shown already. Which of them will be logged, nobody knows yet. Of a family (`progress/*`), the same.
    #[cfg(feature = "wandb")]
    pub(crate) fn shown_names(&self, name: &str) -> Vec<String> {
        if WANDB_OWN.contains(&name) {
            return vec![name.to_owned()];
        }
        let mut names = vec![self.full_name(name)];
        let prefix = self.config.metrics_prefix.as_str();
        let as_it_is = name.starts_with(prefix)
            || FAMILIES.iter().any(|family| name.starts_with(family))
            || self.system.contains_key(name);
        if as_it_is && !names.contains(&name.to_owned()) {
            names.push(name.to_owned());
        }
        names
    }

    /// The one name of these that most likely is: that of a metric that there is, else of a figure of the system's own, else
    /// a user's.
    #[cfg(feature = "wandb")]
    pub(crate) fn shown_name(&self, name: &str) -> String {
        let mut names = self.shown_names(name);
        let is_there = |full: &String| {
            let shown = |metric: &Metric| *metric.full == **full;
            self.names.iter().any(shown) || FIGURES.contains(&full.as_str())
        };
        let at = names.iter().position(is_there).unwrap_or(0);
        names.swap_remove(at)
    }

    /// The metric of a user's name, for a thread that does not know it.
    pub(crate) fn user(&mut self, setup: u64, name: &str, producer: &Producer) -> Known {
        let metric = match self.user.get(name) {
            Some(metric) => *metric,
            None => {
                let full = self.full_name(name);
                // Without a prefix, a name of the system's own is the same metric, whoever logs it.
                let system = self.system.get(&full).copied();
                let metric = system.unwrap_or_else(|| self.new_metric(name.into(), full, true, producer));
                self.user.insert(name.to_owned(), metric);
                metric
            }
        };
        self.known(setup, metric)
    }

    /// The same for a reading of the system's own.
    pub(crate) fn add_system(
        &mut self,
        name: &str,
        value: MetricValue,
        producer: &Producer,
        samples: &mut Vec<Sample>,
    ) {
        if let Some(known) = self.known_system.find(SYSTEM, name) {
            let Known { metric, id, .. } = *known;
            samples.push(Sample { metric, id, value });
            return;
        }
        let metric = match self.system.get(name) {
            Some(metric) => *metric,
            None => {
                let user = self.names.iter().position(|metric| *metric.full == *name);
                let metric = match user {
                    Some(at) => at as u32,
                    None => self.new_metric(name.into(), name.into(), false, producer),
                };
                self.system.insert(name.to_owned(), metric);
                metric
            }
        };
        self.known_system.learn(self.known(SYSTEM, metric));
        self.add(metric, value, samples);
    }

    /// Adds the figures of the progress, if the call belongs to its step and the row has none yet.
    pub(crate) fn add_figures(&mut self, step: u64, producer: &Producer, samples: &mut Vec<Sample>) {
        if self.figures_step == Some(step) || self.steps.of_progress() != Some(step) {
            return;
        }
        self.put_figures(step, producer, samples);
    }

    /// Completes a call: chooses its step, updates windows and history.
    pub(crate) fn record(&mut self, step: Step, producer: &Producer, samples: &mut Vec<Sample>) -> u64 {
        let step = match step {
            Step::Next => self.steps.next(),
            Step::Current => self.steps.current(),
            Step::At(step) => step,
        };
        self.steps.note(step);
        self.add_figures(step, producer, samples);
        self.keep_last_of_each(samples);
        for sample in samples.iter() {
            self.series.record(sample.metric as usize, step, sample.value.as_f64());
        }
        step
    }

    /// Records one metric by itself; `None` if it needs company, because the row has no figures of the progress yet, or if
    /// its name has no short form.
    pub(crate) fn record_one(&mut self, metric: u32, step: u64, value: MetricValue) -> Option<NameId> {
        let first_of_its_row = self.figures_step != Some(step) && self.steps.of_progress() == Some(step);
        if first_of_its_row && self.progress.has_meter() {
            return None;
        }
        let id = self.names[metric as usize].id?;
        self.steps.note(step);
        self.series.record(metric as usize, step, value.as_f64());
        Some(id)
    }

    /// Whether the innermost progress ends before one of this description starts.
    pub(crate) fn gives_way_to(&mut self, description: &str) -> bool {
        self.progress.gives_way_to(description)
    }

    /// Whether a progress is still going.
    pub(crate) fn is_in_progress(&self) -> bool {
        self.progress.is_open()
    }

    /// Starts a progress: within the one that is going, or else one whose positions are steps.
    pub(crate) fn start_progress(&mut self, total: Option<u64>, description: &str) -> Option<State> {
        let total = total.filter(|total| *total > 0);
        let is_inner = self.progress.is_open();
        if !is_inner {
            if let Some(meter) = self.progress.meter() {
                meter.add_to(&mut self.throughput);
                self.accumulated_samples = meter.accumulated_samples();
            }
            self.steps.start_progress();
            self.figures_step = None;
        }
        let samples_before = if is_inner { 0 } else { self.accumulated_samples };
        let meter =
            (self.config.enable_progress).then(|| Meter::start(&self.config, total, description, samples_before));
        self.progress.start(total, description, meter);
        self.progress.started()
    }

    /// Advances the innermost progress; returns what the sinks are to be told, if it is time to.
    #[inline]
    pub(crate) fn advance(&mut self, n: u64, batch: impl Count) -> Option<Told> {
        let batch = batch.count();
        if !self.progress.is_flat()
            && let Some(told) = self.progress.advance_inner(n, batch)
        {
            return told;
        }
        self.steps.advance(n);
        self.progress.advance_outermost(n, batch)
    }

    /// Ends the innermost progress, if it is still going.
    pub(crate) fn end_progress(&mut self) -> Option<Told> {
        self.progress.end_innermost()
    }

    /// The news of a progress for the sinks. Only the outermost has metrics.
    pub(crate) fn tell(&mut self, told: Told, producer: &Producer, samples: &mut Vec<Sample>) -> Option<Advance> {
        let step = self.steps.current();
        let kind = match told {
            Told::Inner { state, lasting } => return Some(Advance { state, lasting, step }),
            Told::Outermost(kind) => kind,
        };
        self.steps.note(step);
        if self.config.enable_metrics && self.put_figures(step, producer, samples) {
            for sample in samples.iter() {
                self.series.record(sample.metric as usize, step, sample.value.as_f64());
            }
        }
        Some(Advance {
            state: self.progress.meter()?.state(kind),
            lasting: kind != ProgressKind::Advanced,
            step,
        })
    }

    /// The throughput of all progresses so far.
    fn throughput(&mut self) -> Throughput {
        let mut throughput = self.throughput;
        if let Some(meter) = self.progress.meter() {
            meter.add_to(&mut throughput);
        }
        throughput
    }

    fn known(&self, setup: u64, metric: u32) -> Known {
        let entry = &self.names[metric as usize];
        Known {
            setup,
            logged: Arc::clone(&entry.logged),
            metric,
            id: entry.id,
        }
    }

    pub(crate) fn add(&mut self, metric: u32, value: MetricValue, samples: &mut Vec<Sample>) {
        let id = self.names[metric as usize].id;
        samples.push(Sample { metric, id, value });
    }

    /// What the sinks call the metrics of these samples, for those that have no short form.
    pub(crate) fn full_names(&self, samples: &[Sample]) -> Vec<Arc<str>> {
        let name = |sample: &Sample| Arc::clone(&self.names[sample.metric as usize].full);
        samples.iter().map(name).collect()
    }

    pub(crate) fn average(&mut self, name: &str) -> Option<f64> {
        if name == SAMPLES_PER_SEC && !self.user.contains_key(name) && self.config.enable_metrics {
            return self.throughput().samples_per_sec();
        }
        let metric = self.look_up(name)?;
        self.series.average(metric)
    }

    pub(crate) fn averages(&mut self) -> Vec<(String, f64)> {
        let names: Vec<_> = self.names.iter().map(|metric| Arc::clone(&metric.logged)).collect();
        let mut averages: Vec<_> = names
            .iter()
            .filter_map(|name| Some((name.to_string(), self.average(name)?)))
            .collect();
        averages.sort_by(|a, b| a.0.cmp(&b.0));
        averages
    }

    pub(crate) fn stats(&mut self, name: &str) -> Option<Stats> {
        let metric = self.look_up(name)?;
        self.series.stats(metric)
    }

    pub(crate) fn history(&mut self, name: &str) -> Option<Vec<Point>> {
        let metric = self.look_up(name)?;
        self.series.history(metric)
    }

    /// Completes the summary of the run; returns the sparklines of the user's first metrics.
    pub(crate) fn summarize(&mut self, summary: &mut LoggerSummary) -> Vec<String> {
        summary.last_step = self.steps.highest();
        let throughput = self.throughput();
        summary.steps_per_sec = throughput.units_per_sec();
        summary.samples_per_sec = throughput.samples_per_sec();
        let mut sparklines = Vec::new();
        for at in 0..self.names.len() {
            let Some(stats) = self.series.stats(at) else { continue };
            let Metric { logged, user, .. } = &self.names[at];
            let metric = MetricSummary::new(&**logged, stats);
            if !user {
                summary.system_metrics.push(metric);
                continue;
            }
            if sparklines.len() < SHOWN {
                let history = self.series.history(at).unwrap_or_default();
                let values: Vec<f64> = history.iter().map(|point| point.value).collect();
                sparklines.push(sparkline(&values));
            }
            summary.metrics.push(metric);
        }
        sparklines
    }

    fn look_up(&self, name: &str) -> Option<usize> {
        let metric = self.user.get(name).or_else(|| self.system.get(name))?;
        Some(*metric as usize)
    }

    fn new_metric(&mut self, logged: Arc<str>, full: String, user: bool, producer: &Producer) -> u32 {
        let metric = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Metric {
            id: producer.intern(&full),
            full: full.into(),
            logged,
            user,
            last_at: 0,
        });
        self.series.add();
        metric
    }

    fn full_name(&self, name: &str) -> String {
        let mut full = format!("{}{name}", self.config.metrics_prefix);
        // The user may have `step` and `step_`, and each has a column of its own.
        let clashes = |full: &str| {
            RESERVED.contains(&full)
                || (RESERVED.contains(&full.trim_end_matches('_'))
                    && self.names.iter().any(|known| *known.full == *full))
        };
        if clashes(&full) {
            while clashes(&full) {
                full.push('_');
            }
            print_notice(
                &format!("reserved metric name {full}"),
                &format!("the metric `{name}` is written as `{full}`, because metrics.jsonl has such a column already"),
            );
        }
        full
    }

    /// A name twice in a call: the last wins.
    fn keep_last_of_each(&mut self, samples: &mut Vec<Sample>) {
        let mut twice = false;
        for (at, sample) in samples.iter().enumerate() {
            let before = mem::replace(&mut self.names[sample.metric as usize].last_at, at);
            // What an earlier call left there is of no matter: it is looked at what stands there now.
            twice |= before < at && samples[before].metric == sample.metric;
        }
        if twice {
            let mut at = 0..;
            samples.retain(|sample| at.next() == Some(self.names[sample.metric as usize].last_at));
        }
    }

    fn put_figures(&mut self, step: u64, producer: &Producer, samples: &mut Vec<Sample>) -> bool {
        let Some(meter) = self.progress.meter() else {
            return false;
        };
        for (name, value) in meter.figures() {
            self.add_system(name, value, producer, samples);
        }
        self.figures_step = Some(step);
        true
    }
}
