use std::fmt::{self, Display};
use std::sync::Arc;

use logcore::log::{Level, LevelFilter, Log, Metadata, Record};
use logcore::{ConfigError, Count, LogError, MetricPair, Number, Point, Stats};
use logcore_pipeline::RecordOrigin;
use serde::Serialize;

use crate::instance::Instance;
use crate::manager::LogManager;
use crate::measures::Step;
use crate::report::FinishReport;

/// One logger for everything that a run has to say.
///
/// A clone is the same logger. It is a [`log::Log`](logcore::log::Log), so `log::info!(logger: logger, "…")` reaches it,
/// as do the plain `log` macros of all modules that lie under its name.
#[derive(Clone)]
#[must_use = "the logger closes when this value is dropped"]
pub struct UnifiedLogger {
    instance: Arc<Instance>,
    /// Held by the values that a set-up returned: the last of them closes the logger.
    _owner: Option<Arc<Owner>>,
}

impl UnifiedLogger {
    pub(crate) fn borrowing(instance: Arc<Instance>) -> Self {
        Self { instance, _owner: None }
    }

    pub(crate) fn owning(instance: Arc<Instance>) -> Self {
        let owner = Owner {
            generation: instance.next_generation(),
            instance: Arc::clone(&instance),
        };
        Self {
            instance,
            _owner: Some(Arc::new(owner)),
        }
    }

    /// The logger's name.
    pub fn name(&self) -> &str {
        self.instance.name()
    }

    /// Logs at TRACE.
    #[track_caller]
    pub fn trace(&self, message: impl Display) {
        self.say(Level::Trace, message);
    }

    /// Logs at DEBUG.
    #[track_caller]
    pub fn debug(&self, message: impl Display) {
        self.say(Level::Debug, message);
    }

    /// Logs at INFO.
    #[track_caller]
    pub fn info(&self, message: impl Display) {
        self.say(Level::Info, message);
    }

    /// Logs at WARN.
    #[track_caller]
    pub fn warning(&self, message: impl Display) {
        self.say(Level::Warn, message);
    }

    /// Logs at ERROR; the message is delivered when this returns.
    #[track_caller]
    pub fn error(&self, message: impl Display) {
        self.say(Level::Error, message);
    }

    /// Begins a progress over `total` units; `None` and 0 are "not known".
    ///
    /// From now on, and until the next start, metrics without a step of their own belong to the step that the progress
    /// stands at, counted on from the highest step so far.
    ///
    /// A start while another progress has not reached its total begins one within that: a validation amid the training. It
    /// has a bar of its own and nothing else: its updates are no steps, and its samples and rates are none of the run's. The
    /// outer progress goes on when it ends. A start ends the innermost progress whose total is not known; and one whose
    /// description is the same but for its digits, with all within it, because `Epoch 1` comes after `Epoch 0`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.start_progress(100, "Train");
    /// for _ in 0..3 {
    ///     logger.update_progress(1, 32);
    ///     logger.start_progress(10, "Validate");
    ///     for _ in 0..10 {
    ///         logger.update_progress(1, 32);
    ///     }
    ///     logger.log_metrics([("val_loss", 0.5)]);
    /// }
    /// # #[cfg(feature = "metrics")]
    /// assert_eq!(logger.metrics().history("val_loss").unwrap().last().unwrap().step, 3);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn start_progress(&self, total: impl Count, description: impl Into<String>) {
        self.instance.start_progress(total, &description.into());
    }

    /// Advances the progress by `n` units, in which `batch_size` samples were done, if samples are counted at all.
    ///
    /// Rates, ETA and percentage go to the sinks as metrics on their own; see the families `throughput/` and `progress/`.
    pub fn update_progress(&self, n: u64, batch_size: impl Count) {
        self.instance.update_progress(n, batch_size);
    }

    /// Ends the innermost progress. Reaching the total, a start that takes its place and [`finish`](Self::finish) do so, too;
    /// where the innermost has reached its total and nothing was updated since, there is nothing left to end.
    pub fn finish_progress(&self) {
        self.instance.finish_progress();
    }

    /// Logs metrics at the next step: that of the progress, else one more than the highest so far, from 0.
    ///
    /// Takes pairs of a name and any number: arrays, vectors, maps, by value or by reference. A name twice in a call: the
    /// last wins.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use std::collections::BTreeMap;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics([("loss", 0.5), ("accuracy", 0.95)]);
    /// logger.log_metrics(&BTreeMap::from([("epoch", 3_u64)]));
    /// logger.log_metrics(vec![(String::from("lr"), 1e-4_f32)]);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_metrics<M>(&self, metrics: M)
    where
        M: IntoIterator<Item: MetricPair>,
    {
        self.instance.log_metrics(Step::Next, metrics);
    }

    /// Logs metrics at the given step. A step may come late or again; all values are kept.
    pub fn log_metrics_at<M>(&self, step: u64, metrics: M)
    where
        M: IntoIterator<Item: MetricPair>,
    {
        self.instance.log_metrics(Step::At(step), metrics);
    }

    /// A handle to one metric, for hot loops: the name is looked up once.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let loss = logger.metric("loss");
    /// for step in 0..4 {
    ///     loss.record(step, 1.0 / (step + 1) as f64);
    /// }
    /// # #[cfg(feature = "metrics")]
    /// assert_eq!(logger.metrics().stats("loss").unwrap().last, 0.25);
    ///
    /// // Several at once are cheaper in one call, where a handle stands for its name.
    /// let accuracy = logger.metric("accuracy");
    /// logger.log_metrics_at(4, [(&loss, 0.2), (&accuracy, 0.9)]);
    /// # #[cfg(feature = "metrics")]
    /// assert_eq!(logger.metrics().stats("loss").unwrap().last, 0.2);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn metric(&self, name: &str) -> MetricHandle {
        let (metric, name) = self.instance.metric(name);
        MetricHandle {
            instance: Arc::clone(&self.instance),
            metric,
            name,
        }
    }

    /// What the metrics have been so far.
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics(&self.instance)
    }

    /// Logs memory: `memory/gpu_allocated_gb` and `memory/gpu_reserved_gb` (GB = 1e9 bytes), and what other probes of the
    /// config read. Where nothing can be known, nothing is logged.
    pub fn log_memory(&self) {
        self.instance.log_memory();
    }

    /// Logs hyper-parameters: anything that serde can write. Calls add up.
    pub fn log_config(&self, config: &impl Serialize) {
        self.instance.log_config(config);
    }

    /// What only a W&B run takes: images, tables, definitions of metrics. Without such a run the calls do nothing.
    #[cfg(feature = "wandb")]
    pub fn wandb(&self) -> crate::wandb::Wandb<'_> {
        crate::wandb::Wandb::new(&self.instance)
    }

    /// Delivers everything said before.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] after `flush_timeout`, [`LogError::Sink`] if a sink could not deliver, [`LogError::Closed`]
    /// once the logger is finished.
    pub fn flush(&self) -> Result<(), LogError> {
        self.instance.flush()
    }

    /// Says how the run ended, for the sinks that record it; 0 is well. If nothing was said, a logger that a panic drops has
    /// ended with 1, and one that is still open when the process exits with the exit code, where the C library tells it
    /// (glibc).
    pub fn set_exit_code(&self, code: i32) {
        self.instance.set_exit_code(code);
    }

    /// Whether someone asked the run to stop, through a sink that can be asked.
    pub fn stop_requested(&self) -> bool {
        self.instance.stop().is_requested()
    }

    /// Changes the level of one sink (`console`, `file`, …) for records from now on.
    ///
    /// # Errors
    ///
    /// If the logger has no such sink.
    pub fn set_level(&self, sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
        self.instance.set_level(sink, level)?;
        LogManager::get_instance().publish(&self.instance);
        Ok(())
    }

    /// Changes the levels by target for records from now on; see [`Directives`](logcore::Directives).
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn set_directives(&self, directives: &str) -> Result<(), ConfigError> {
        self.instance.set_directives(directives)?;
        LogManager::get_instance().publish(&self.instance);
        Ok(())
    }

    /// Ends the logger: delivers everything, lets go of files and bars, and says what became of all that it was told.
    /// EscapingFormatter when repeated.
    pub fn finish(&self) -> FinishReport {
        LogManager::get_instance().finish(&self.instance)
    }

    #[track_caller]
    fn say(&self, level: Level, message: impl Display) {
        if self.instance.wants(level) {
            self.instance.say(level, format_args!("{message}"));
        }
    }
}

/// A record that names the logger is taken whatever its target.
impl Log for UnifiedLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.instance.enabled(RecordOrigin::Addressed, metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.instance.log(RecordOrigin::Addressed, record);
    }

    fn flush(&self) {
        let _ = self.instance.flush();
    }
}

impl fmt::Debug for UnifiedLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnifiedLogger")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A metric whose name has been looked up. Made by [`UnifiedLogger::metric`].
#[derive(Clone)]
pub struct MetricHandle {
    instance: Arc<Instance>,
    metric: u32,
    name: Arc<str>,
}

impl MetricHandle {
    /// Logs a value at a step.
    pub fn record(&self, step: u64, value: impl Number) {
        self.instance.record_metric(self.metric, step, value);
    }
}

/// The name that the handle was made with.
impl AsRef<str> for MetricHandle {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for MetricHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricHandle")
            .field("logger", &self.instance.name())
            .finish_non_exhaustive()
    }
}

/// What the metrics of a logger have been so far. Names are as they were logged, without the prefix.
pub struct Metrics<'a>(&'a Instance);

impl Metrics<'_> {
    /// The mean of the finite values in the window (`metrics_window`); `None` if there are none.
    pub fn average(&self, name: &str) -> Option<f64> {
        self.0.measures().average(name)
    }

    /// All averages, sorted by name.
    pub fn averages(&self) -> Vec<(String, f64)> {
        self.0.measures().averages()
    }

    /// The statistics of a metric; `None` if it was never logged.
    pub fn stats(&self, name: &str) -> Option<Stats> {
        self.0.measures().stats(name)
    }

    /// The values of a metric in the order in which they were logged; `None` if it was never logged, or history is off.
    ///
    /// Memory stays bounded: past 24 MiB a logger keeps one point in [`history_stride`](Stats::history_stride) of its
    /// longest series. All points are in `metrics.jsonl`.
    pub fn history(&self, name: &str) -> Option<Vec<Point>> {
        self.0.measures().history(name)
    }
}

/// Closes the logger when the last value of its set-up is gone.
struct Owner {
    instance: Arc<Instance>,
    generation: u64,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A later set-up of the same name has taken over.
        if self.instance.generation() == self.generation {
            LogManager::get_instance().finish(&self.instance);
        }
    }
}
