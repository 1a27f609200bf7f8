//! The logger, as programs hold it.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use logcore::log::{Level, LevelFilter, Log, Metadata, Record};
use logcore::{AlertLevel, ConfigError, Count, LogError, MetricPair, RunInfo, StopReason};
use logcore_pipeline::RecordOrigin;
use serde::Serialize;

use crate::api::bars::{Bar, Data, Phase, Track};
use crate::api::deferred::Message;
use crate::api::goals::{Best, Logged};
use crate::api::metrics::{MetricHandle, Metrics};
use crate::logger::goals::Goal;
use crate::logger::inner::LoggerInner;
use crate::logger::metric_table::StepChoice;
use crate::logger::report::FinishReport;
use crate::process::{entered, registry};

/// One logger for everything that a training run reports.
///
/// A clone is the same logger. It is a [`log::Log`](logcore::log::Log): `log::info!(logger: logger,
/// "…")` reaches it, as do the plain `log` macros in all modules under its name.
///
/// Calls are cheap and do not wait for disks or servers, with these exceptions:
///
/// - [`error`](Self::error) waits until the message is delivered, at most for `flush_timeout`.
/// - [`flush`](Self::flush) waits at most for `flush_timeout`, [`finish`](Self::finish) at most for
///   `finish_timeout`.
/// - Every call waits while the ring is full, if `on_full` is `"wait"` (the default).
///
/// In async code, run these in `spawn_blocking`; see [the front page](crate#async).
#[derive(Clone)]
#[must_use = "bind it to a name, such as `logger` or `_logger`: the logger closes when its last value is dropped, and \
              `let _ = …` drops at once"]
pub struct UnifiedLogger {
    inner: Arc<LoggerInner>,
    /// Held by the values that a set-up returned; the last of all set-ups closes the logger.
    _handle: Option<Arc<OpenHandle>>,
}

impl UnifiedLogger {
    pub(crate) fn inner(&self) -> &LoggerInner {
        &self.inner
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn shared(&self) -> &Arc<LoggerInner> {
        &self.inner
    }

    pub(crate) fn borrowing(inner: Arc<LoggerInner>) -> Self {
        Self { inner, _handle: None }
    }

    /// Returns a logger that has a handle.
    pub(crate) fn owning(inner: Arc<LoggerInner>) -> Self {
        let handle = OpenHandle(Arc::clone(&inner));
        Self {
            inner,
            _handle: Some(Arc::new(handle)),
        }
    }

    /// Returns the logger's name.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// assert_eq!(logger.name(), "root");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Returns the run that the logger belongs to: its id, its folder, its attempt.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let log_dir = folder.path();
    /// use facade::{LogConfig, setup_logging};
    ///
    /// let config = LogConfig { name: "trainer".into(), log_dir: log_dir.into(), ..LogConfig::default() };
    /// let logger = setup_logging(config)?;
    /// let run = logger.run();
    /// assert_eq!((run.name(), run.attempt()), ("trainer", 1));
    /// assert_eq!(run.id().len(), 8);
    /// assert_eq!(run.dir().parent(), Some(log_dir));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn run(&self) -> RunInfo {
        self.inner.run()
    }

    /// Returns the folder of the run, as an absolute path, for checkpoints and other files of the
    /// program. The folder is made if it is not there.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// std::fs::write(logger.run_dir().join("step-500.ckpt"), "weights").unwrap();
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        registry::run_dir(&self.inner)
    }

    /// Returns the path of the text file, whether or not the logger writes one. Ranks above 0 have
    /// a file of their own: `training.rank3.log`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// assert_eq!(logger.log_file(), logger.run_dir().join("training.log"));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.inner.log_file()
    }

    /// Logs at TRACE.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// # if cfg!(feature = "file") {
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_level("file", facade::LevelFilter::Trace)?;
    /// logger.trace("weights loaded");
    /// logger.flush()?;
    /// let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
    /// assert!(text.contains("TRACE | root | weights loaded"), "{text}");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[track_caller]
    pub fn trace(&self, message: impl Display) {
        self.inner.log_message(Level::Trace, format_args!("{message}"));
    }

    /// Logs at DEBUG.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// # if cfg!(feature = "file") {
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_level("file", facade::LevelFilter::Trace)?;
    /// logger.debug(format_args!("batch {}", 7));
    /// logger.flush()?;
    /// let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
    /// assert!(text.contains("DEBUG | root | batch 7"), "{text}");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[track_caller]
    pub fn debug(&self, message: impl Display) {
        self.inner.log_message(Level::Debug, format_args!("{message}"));
    }

    /// Logs at INFO.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// # if cfg!(feature = "file") {
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_level("file", facade::LevelFilter::Trace)?;
    /// logger.info("Starting process...");
    /// logger.flush()?;
    /// let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
    /// assert!(text.contains("INFO  | root | Starting process..."), "{text}");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[track_caller]
    pub fn info(&self, message: impl Display) {
        self.inner.log_message(Level::Info, format_args!("{message}"));
    }

    /// Logs at WARN.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// # if cfg!(feature = "file") {
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_level("file", facade::LevelFilter::Trace)?;
    /// logger.warning("learning rate is 0");
    /// logger.flush()?;
    /// let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
    /// assert!(text.contains("WARN  | root | learning rate is 0"), "{text}");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[track_caller]
    pub fn warning(&self, message: impl Display) {
        self.inner.log_message(Level::Warn, format_args!("{message}"));
    }

    /// Logs at ERROR; the message is delivered when this returns.
    ///
    /// Blocks until the sinks have the message, at most for `flush_timeout` (5 s by default).
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.error("loss is NaN");
    /// # #[cfg(feature = "file")]
    /// assert!(std::fs::read_to_string(folder.path().join("training.log")).unwrap().contains("loss is NaN"));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[track_caller]
    pub fn error(&self, message: impl Display) {
        self.inner.log_message(Level::Error, format_args!("{message}"));
    }

    /// Starts a progress over `total` units. `None` and 0 mean that the total is unknown.
    ///
    /// Until the next start, metrics without a step belong to the step of the progress: the highest
    /// step so far plus the position of the progress.
    ///
    /// A start while another progress is open and below its total starts a nested progress, such as
    /// a validation during the training. A nested progress has a bar of its own and nothing else:
    /// its updates are no steps, and its samples and rates do not count for the run. The outer
    /// progress continues when the nested one ends.
    ///
    /// A start first ends the innermost progress if its total is unknown. It also ends a progress
    /// whose description is the same but for its digits, with all progresses nested in it, because
    /// `Epoch 1` follows `Epoch 0`.
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
    /// assert_eq!(logger.metrics().history("val_loss").unwrap().last().unwrap().step, 3);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn start_progress(&self, total: impl Count, description: impl Into<String>) {
        self.inner.start_progress(0, total, &description.into());
    }

    /// Starts a progress of which `position` units are done already, because the run resumes.
    ///
    /// The position counts for the bar, the percentage and the ETA, and for no rate. The steps do
    /// not follow from it: they count on from the highest step so far.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.start_progress_at(500, 1000, "Training");
    /// logger.update_progress(1, 32);
    /// logger.log_metrics([("loss", 0.5)]);
    /// # #[cfg(feature = "progress")]
    /// assert_eq!(logger.metrics().stats("progress/percent").unwrap().last, 50.1);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn start_progress_at(&self, position: u64, total: impl Count, description: impl Into<String>) {
        self.inner.start_progress(position, total, &description.into());
    }

    /// Advances the progress by `n` units with `batch_size` samples; `None` if samples are not
    /// counted.
    ///
    /// The rates, the ETA and the percentage go to the sinks as metrics of the families
    /// `throughput/` and `progress/`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.start_progress(1000, "Train");
    /// logger.update_progress(1, 32);
    /// logger.update_progress(1, 32);
    /// # #[cfg(feature = "progress")]
    /// assert!(logger.metrics().average("throughput/samples_per_sec").unwrap() > 0.0);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn update_progress(&self, n: u64, batch_size: impl Count) {
        self.inner.metrics().update_progress(n, batch_size);
    }

    /// Ends the innermost progress.
    ///
    /// A progress also ends when it reaches its total, when a start replaces it, and with
    /// [`finish`](Self::finish). If the innermost progress has reached its total and no update came
    /// since, this call ends nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.start_progress(None, "Reading");
    /// logger.update_progress(7, None);
    /// logger.finish_progress();
    /// logger.log_metrics([("files", 7)]);
    /// assert_eq!(logger.metrics().history("files").unwrap()[0].step, 7);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn finish_progress(&self) {
        self.inner.metrics().finish_progress();
    }

    /// Says at which step a resumed run goes on: `step` is the first that it logs now. After a
    /// checkpoint at step 500, that is 501.
    ///
    /// The first update of the next progress brings the step to `step`; without a progress, the
    /// first row without a step of its own has it. Rows of earlier attempts from `step` on are
    /// superseded: they stay in the files, and readers take the newer ones. Without this call a
    /// resumed run counts on behind its last row.
    ///
    /// Call it before the first update and the first row. Later it changes nothing, and a WARN says
    /// so.
    ///
    /// Blocks while the rows of earlier attempts are read.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.start_from(501);
    /// logger.start_progress(500, "Training");
    /// logger.update_progress(1, 32);
    /// logger.log_metrics([("loss", 0.5)]);
    /// assert_eq!(logger.metrics().history("loss").unwrap()[0].step, 501);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn start_from(&self, step: u64) {
        registry::start_from(&self.inner, step);
    }

    /// Starts a bar over `total` units. `None` and 0 mean that the total is unknown.
    ///
    /// A bar is a progress for the eyes: it counts no steps, has no samples, and writes no metrics.
    /// There may be several, on any threads, beside the progress. It ends when the value is
    /// dropped.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let epochs = logger.bar(3, "Epochs");
    /// for epoch in 0..3 {
    ///     logger.start_progress(10, format!("Epoch {epoch}"));
    ///     for _ in 0..10 {
    ///         logger.update_progress(1, 32);
    ///     }
    ///     logger.log_metrics([("val/loss", 0.5)]);
    ///     epochs.advance(1);
    /// }
    /// assert_eq!(logger.metrics().history("val/loss").unwrap()[2].step, 30);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn bar(&self, total: impl Count, description: impl Into<String>) -> Bar {
        Bar::new(self.inner.start_bar(total, &description.into()))
    }

    /// Shows a [`bar`](Self::bar) while a loop takes these items. The total is that of the
    /// iterator, if it knows its length.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let mut words = 0;
    /// for line in logger.track(["a b", "c d e"], "Tokenising") {
    ///     words += line.split(' ').count();
    /// }
    /// assert_eq!(words, 5);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn track<I: IntoIterator>(&self, items: I, description: impl Into<String>) -> Track<I::IntoIter> {
        let items = items.into_iter();
        let (least, most) = items.size_hint();
        let total = most.filter(|most| *most == least).map(|total| total as u64);
        Track::new(items, self.bar(total, description))
    }

    /// Counts the time in which a loop waits for these items as `data` in the ledger of the run.
    ///
    /// The [ledger](Self::phase) is in the closing summary.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let batches = vec![vec![1.0, 2.0], vec![3.0]];
    /// logger.start_progress(batches.len(), "Train");
    /// for batch in logger.data(&batches) {
    ///     logger.update_progress(1, batch.len());
    /// }
    /// assert_eq!(logger.data(&batches).len(), 2);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn data<I: IntoIterator>(&self, items: I) -> Data<I::IntoIter> {
        Data::new(items.into_iter(), self.inner.metrics().ledger())
    }

    /// Counts the time until the value is dropped as a phase of the run.
    ///
    /// The **ledger** of a run books each second of the wall clock to one use: `startup` before the
    /// first update of a progress, `step` while a progress is open, `data` while
    /// [`data`](Self::data) waits, `eval`, `checkpoint` and any other phase by its name, and
    /// `other`. Within phases the innermost counts. The thread that updates the progress is the
    /// run's; the phases of other threads are summed apart. The ledger is in the closing summary
    /// and in `summary.json`, with the **goodput**: the share of `step` and of phases with names of
    /// the program's own. Every ten seconds, rows have `time/<phase>_fraction`, the shares since
    /// the last ones, and `time/goodput`, that of the run so far.
    ///
    /// With several ranks, put the exchange between them into a phase on each rank, such as
    /// `allreduce`: a rank for which the others wait there is then found.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.start_progress(2, "Train");
    /// for _ in 0..2 {
    ///     let forward = logger.phase("forward");
    ///     std::thread::sleep(std::time::Duration::from_millis(1));
    ///     drop(forward);
    ///     logger.update_progress(1, 32);
    /// }
    /// {
    ///     let _phase = logger.phase("eval");
    /// }
    /// logger.finish();
    /// # #[cfg(all(feature = "jsonl", feature = "progress"))]
    /// assert!(std::fs::read_to_string(folder.path().join("summary.json")).unwrap().contains("\"forward\""));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn phase(&self, name: &str) -> Phase {
        Phase::enter(name, self.inner.metrics().ledger())
    }

    /// Waits on purpose, for as long as the returned value lives: for an order, for the data of
    /// another program. This time is no stall, and `idle` in the ledger.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// {
    ///     let _idle = logger.idle();
    ///     // Wait for the next order, for hours.
    ///     std::thread::sleep(std::time::Duration::from_millis(1));
    /// }
    /// logger.finish();
    /// # #[cfg(feature = "jsonl")]
    /// assert!(std::fs::read_to_string(folder.path().join("summary.json")).unwrap().contains("\"idle\""));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn idle(&self) -> Phase {
        Phase::enter_idle(self.inner.metrics().ledger())
    }

    /// Logs metrics at the next step: the step of the progress, else one more than the highest step
    /// so far, from 0.
    ///
    /// Takes pairs of a name and any number: arrays, vectors, maps, by value or by reference. If a
    /// name appears twice in a call, the last value wins.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// use std::collections::BTreeMap;
    ///
    /// logger.log_metrics([("loss", 0.5), ("accuracy", 0.95)]);
    /// logger.log_metrics(&BTreeMap::from([("epoch", 3_u64)]));
    /// logger.log_metrics(vec![(String::from("lr"), 1e-4_f32)]);
    /// assert_eq!(logger.metrics().averages().len(), 4);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_metrics<M>(&self, metrics: M) -> Logged<'_>
    where
        M: IntoIterator<Item: MetricPair>,
    {
        Logged::new(&self.inner, self.inner.metrics().log(StepChoice::Next, metrics))
    }

    /// Logs metrics at the given step. A step may come late or again; all values are kept.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics_at(120, [("loss", 0.5)]);
    /// logger.log_metrics([("loss", 0.4)]);
    /// let steps: Vec<u64> = logger.metrics().history("loss").unwrap().iter().map(|point| point.step).collect();
    /// assert_eq!(steps, [120, 121]);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_metrics_at<M>(&self, step: u64, metrics: M) -> Logged<'_>
    where
        M: IntoIterator<Item: MetricPair>,
    {
        Logged::new(&self.inner, self.inner.metrics().log(StepChoice::At(step), metrics))
    }

    /// Sets the goal of a metric, so that its best value and the step of that value are known: from
    /// [`Best`], from [`Logged::is_best`], in the closing summary and in `summary.json`.
    ///
    /// Values that were logged before count. A logger has at most 64 goals.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::Goal;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let best = logger.goal("val/loss", Goal::Min);
    /// if logger.log_metrics([("val/loss", 0.3)]).is_best("val/loss") {
    ///     // Save a checkpoint.
    /// }
    /// assert_eq!(best.value(), Some(0.3));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn goal(&self, name: &str, goal: Goal) -> Best {
        Best::new(&self.inner, self.inner.set_goal(name, goal))
    }

    /// Returns a handle to one metric, for hot loops: the name is looked up once.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let loss = logger.metric("loss");
    /// for step in 0..4 {
    ///     loss.record(step, 1.0 / (step + 1) as f64);
    /// }
    /// assert_eq!(logger.metrics().stats("loss").unwrap().last, 0.25);
    ///
    /// // Several metrics of a step are cheaper in one call, in which a handle stands for its name.
    /// let accuracy = logger.metric("accuracy");
    /// logger.log_metrics_at(4, [(&loss, 0.2), (&accuracy, 0.9)]);
    /// assert_eq!(logger.metrics().stats("loss").unwrap().last, 0.2);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn metric(&self, name: &str) -> MetricHandle {
        MetricHandle::new(&self.inner, name)
    }

    /// Returns the metrics so far.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics([("loss", 0.5)]);
    /// assert_eq!(logger.metrics().average("loss"), Some(0.5));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics(&self.inner)
    }

    /// Logs memory: `memory/gpu_allocated_gb` and `memory/gpu_reserved_gb` (GB = 1e9 bytes), and
    /// the readings of the config's other probes. Logs nothing where nothing can be read.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_memory();
    /// # #[cfg(feature = "gpu")] {
    /// facade::gpu::gauge(0).set(1_500_000_000, 2_000_000_000);
    /// logger.log_memory();
    /// assert_eq!(logger.metrics().stats("memory/gpu_reserved_gb").unwrap().last, 2.0);
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_memory(&self) {
        self.inner.log_memory();
    }

    /// Logs hyper-parameters: any value that serde can serialize. Later calls add to the earlier
    /// ones.
    ///
    /// Secrets are hidden: see [`redacted`](logcore::redacted).
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_config(&serde_json::json!({"lr": 1e-4, "api_key": "s3cr3t"}));
    /// logger.finish();
    /// # #[cfg(feature = "jsonl")] {
    /// let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    /// assert!(config.contains("\"lr\": 0.0001") && !config.contains("s3cr3t"));
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_config(&self, config: &impl Serialize) {
        self.inner.log_config(config);
    }

    /// Sends a message to people who do not look at the run: through W&B, a webhook, and each other
    /// sink that takes alerts. Without such a sink, the alert becomes a line of the log. `title` is
    /// one line, `text` may be empty.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::AlertLevel;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// logger.alert("loss is NaN", "the learning rate was 0.1", AlertLevel::Error);
    /// # if cfg!(feature = "file") {
    /// let log = std::fs::read_to_string(logger.log_file()).unwrap();
    /// assert!(log.contains("loss is NaN: the learning rate was 0.1"), "no sink takes alerts");
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn alert(&self, title: impl AsRef<str>, text: impl AsRef<str>, level: AlertLevel) {
        self.inner.alert(title.as_ref(), text.as_ref(), level);
    }

    /// Returns the calls that only a W&B run takes: artifacts, alerts, definitions of metrics.
    /// Without such a run they do nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// assert_eq!(logger.wandb().url(), None, "`enable_wandb` is off");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[cfg(feature = "wandb")]
    pub fn wandb(&self) -> crate::wandb::Wandb<'_> {
        crate::wandb::Wandb::new(&self.inner)
    }

    /// Delivers everything that was logged before.
    ///
    /// Blocks until everything is delivered, at most for `flush_timeout`.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] after `flush_timeout`, [`LogError::Sink`] if a sink cannot deliver,
    /// [`LogError::Closed`] once the logger is finished.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.info("hello");
    /// logger.flush()?;
    /// # #[cfg(feature = "file")]
    /// assert!(std::fs::read_to_string(folder.path().join("training.log")).unwrap().ends_with("hello\n"));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn flush(&self) -> Result<(), LogError> {
        self.inner.flush()
    }

    /// Sets the exit code of the run, for the sinks that record it. 0 means success.
    ///
    /// Without this call, a logger that a panic drops ends with 1. A logger that is open when the
    /// process exits ends with the exit code of the process, where the C library reports it
    /// (glibc). An error that `main` returns drops the logger first: call this before.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_exit_code(3);
    /// assert_eq!(logger.finish().exit_code, 3);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn set_exit_code(&self, code: i32) {
        self.inner.outcome().set_exit_code(code);
    }

    /// Returns `true` if the run is to stop: after a click on W&B's stop button, a file `STOP` in
    /// the folder of the run, a rule whose answer is to stop, near the end of the job
    /// (`stop_before`), and after SIGTERM or SIGUSR1 with `on_signal = "ask"`. See
    /// [`stop_reason`](Self::stop_reason).
    ///
    /// Several ranks answer true from one step on, which they agree on within about three seconds;
    /// so ask once a step, after `update_progress`. A run that has heard this and ends with exit
    /// code 0 is `preempted` after a signal or near the end of the job, `interrupted` after the
    /// button and the file, and `failed` after a rule. A program that never asks ends as before.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// for _ in 0..3 {
    ///     if logger.stop_requested() {
    ///         break;
    ///     }
    /// }
    /// assert!(!logger.stop_requested());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.inner.is_stop_requested()
    }

    /// Returns the reason why the run is to stop; `None` before there is one.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::StopReason;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// assert_eq!(logger.stop_reason(), None);
    /// std::fs::write(logger.run_dir().join("STOP"), "")?;
    /// while !logger.stop_requested() {
    ///     std::thread::sleep(std::time::Duration::from_millis(50));
    /// }
    /// assert_eq!(logger.stop_reason(), Some(StopReason::File));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.inner.stop_reason()
    }

    /// Returns `true` while a rule of the config finds the values of a metric bad, so that the
    /// program can leave out a step or go back. The answer may be some milliseconds late. A child
    /// of a fork that logs by the logger of its parent is told `false`: the parent looks at the
    /// values.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics([("loss", f64::NAN)]);
    /// logger.flush()?;
    /// # #[cfg(feature = "health")]
    /// assert!(logger.tripped("loss"));
    /// assert!(!logger.tripped("accuracy"));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn tripped(&self, metric: &str) -> bool {
        self.inner.is_tripped(metric)
    }

    /// Changes the level of one sink (`console`, `file`, …) for records from now on.
    ///
    /// # Errors
    ///
    /// If the logger has no such sink.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// use facade::LevelFilter;
    ///
    /// # #[cfg(feature = "file")]
    /// logger.set_level("file", LevelFilter::Debug)?;
    /// assert!(logger.set_level("carrier pigeon", LevelFilter::Debug).is_err());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn set_level(&self, sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
        self.inner.set_level(sink, level)?;
        registry::publish(&self.inner);
        Ok(())
    }

    /// Changes the levels by target for records from now on. The syntax is that of
    /// [`Directives`](logcore::Directives).
    ///
    /// # Errors
    ///
    /// If the directives are invalid.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_directives("warn,root=info")?;
    /// assert!(logger.set_directives("root=loud").is_err());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn set_directives(&self, directives: &str) -> Result<(), ConfigError> {
        self.inner.set_directives(directives)?;
        registry::publish(&self.inner);
        Ok(())
    }

    /// Adds levels by target to those that the logger has. A target keeps a level that it has.
    ///
    /// This is for libraries that quieten a crate without touching the user's directives.
    ///
    /// # Errors
    ///
    /// If the directives are invalid.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::logcore::log;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// logger.set_directives("quiet=info")?;
    /// logger.add_directives("quiet=off,noisy=warn")?;
    /// log::info!(target: "noisy", "left out");
    /// log::info!(target: "quiet", "kept");
    /// logger.flush()?;
    /// # #[cfg(feature = "file")] {
    /// let text = std::fs::read_to_string(logger.run_dir().join("training.log")).unwrap();
    /// assert!(text.contains("kept") && !text.contains("left out"));
    /// # }
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn add_directives(&self, directives: &str) -> Result<(), ConfigError> {
        self.inner.add_directives(directives)?;
        registry::publish(&self.inner);
        Ok(())
    }

    /// Makes this the logger that takes what no name claims on this thread: the records of the
    /// `log` macros in other crates, and panics. Without it, the logger named `root` takes them,
    /// else the first that was set up.
    ///
    /// So several runs in one process, such as those of a sweep, each have their own lines. The
    /// guard ends this when it is dropped; guards nest. A guard does not keep the logger open, and
    /// cannot leave the thread. A thread that is started meanwhile has to enter the logger itself.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let quiet = facade::LogConfig { enable_console: false, run: "flat".into(), ..Default::default() };
    /// use facade::logcore::log;
    /// use facade::{LogConfig, setup_logging};
    ///
    /// std::thread::scope(|scope| {
    ///     for run in ["lr_0.1", "lr_0.2"] {
    ///         # let (folder, quiet) = (&folder, &quiet);
    ///         scope.spawn(move || {
    ///             let config = LogConfig { name: run.into(), log_dir: folder.path().join(run), ..quiet.clone() };
    ///             let logger = setup_logging(config).unwrap();
    ///             let _entered = logger.enter();
    ///             log::info!("of the run {run}");
    ///         });
    ///     }
    /// });
    /// # #[cfg(feature = "file")]
    /// let text = std::fs::read_to_string(folder.path().join("lr_0.2").join("training.log")).unwrap();
    /// # #[cfg(feature = "file")]
    /// assert!(text.contains("of the run lr_0.2") && !text.contains("lr_0.1"));
    /// ```
    pub fn enter(&self) -> EnteredLogger {
        EnteredLogger {
            number: entered::enter(&self.inner),
            _not_send: PhantomData,
        }
    }

    /// Ends the logger: delivers everything, closes files and bars, and reports what each sink
    /// delivered. A repeated call returns the same report.
    ///
    /// Blocks until everything is delivered, at most for `finish_timeout` (30 s by default).
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics([("loss", 0.5)]);
    /// let report = logger.finish();
    /// assert!(report.all_delivered());
    /// assert_eq!(logger.finish(), report);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn finish(&self) -> FinishReport {
        registry::finish(&self.inner)
    }
}

impl UnifiedLogger {
    /// Logs a record of [`info!`](crate::info) and its siblings.
    pub(crate) fn log_deferred(&self, record: &Record<'_>, message: &Message<'_>) {
        match message.deferred {
            Some(deferred) => self.inner.log_deferred(record, deferred, message.arguments),
            None => self.log(record),
        }
    }
}

/// A record that names the logger is taken with any target.
impl Log for UnifiedLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.is_enabled(RecordOrigin::Addressed.into(), metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.inner.log(RecordOrigin::Addressed.into(), record);
    }

    fn flush(&self) {
        let _ = self.inner.flush();
    }
}

impl fmt::Debug for UnifiedLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnifiedLogger")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// Keeps the logger open, with the handles of its other set-ups.
struct OpenHandle(Arc<LoggerInner>);

impl Drop for OpenHandle {
    fn drop(&mut self) {
        registry::drop_handle(&self.0);
    }
}

/// A logger takes what no name claims on a thread, until this is dropped there; see
/// [`UnifiedLogger::enter`].
#[must_use = "the thread leaves the logger when this is dropped"]
pub struct EnteredLogger {
    number: u64,
    /// The entry belongs to one thread.
    _not_send: PhantomData<*const ()>,
}

impl Drop for EnteredLogger {
    fn drop(&mut self) {
        entered::leave(self.number);
    }
}

impl fmt::Debug for EnteredLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnteredLogger").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_can_go_to_other_threads() {
        fn assert_send_sync<T: Send + Sync>() {}
        assert_send_sync::<UnifiedLogger>();
        assert_send_sync::<MetricHandle>();
        assert_send_sync::<Metrics<'static>>();
        assert_send_sync::<FinishReport>();
        assert_send_sync::<crate::LogManager>();
        #[cfg(feature = "wandb")]
        assert_send_sync::<crate::wandb::Wandb<'static>>();
    }
}
