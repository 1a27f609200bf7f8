//! One logger for a training run: levelled text, progress with throughput and ETA, metrics with windowed averages and
//! history, memory, hyper-parameters.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # fn work() {}
//! use facade::{LogConfig, setup_logging};
//!
//! let config = LogConfig { name: "trainer".into(), ..LogConfig::default() };
//! # let config = LogConfig { log_dir: folder.path().into(), ..config };
//! let logger = setup_logging(config)?;
//! logger.info("Starting process...");
//!
//! logger.start_progress(3, "Training");
//! for _ in 0..3 {
//!     work();
//!     logger.update_progress(1, 32);
//!     logger.log_metrics([("loss", 0.5), ("accuracy", 0.95)]);
//! }
//! logger.log_memory();
//!
//! let report = logger.finish();
//! # let _ = &report;
//! # #[cfg(feature = "file")]
//! assert_eq!(report.sink("file").unwrap().delivered, 1);
//! # Ok::<(), facade::LogError>(())
//! ```
//!
//! What the logger is told goes through one bounded ring to one writer thread and from there to the sinks: the terminal,
//! a text file, `metrics.jsonl`, and those of any other crate that is linked and named in the config. No call fails or
//! panics because a disk or a terminal is in trouble, and a return from `main`, `exit` and a panic lose nothing.
//!
//! # Features
//!
//! - `console`: colored lines on the terminal. On by default.
//! - `file`: the text file `training.log`, with rotation. On by default.
//! - `jsonl`: `metrics.jsonl`, `records.jsonl`, `config.json`. On by default.
//! - `progress`: throughput, ETA, bars. On by default.
//! - `metrics`: averages, statistics, history. On by default.
//! - `memory`: a sink that keeps what it gets, for tests.
//! - `gpu`: GPU and host memory.
//! - `wandb`: Weights & Biases, offline and online.
//! - `merge`: `merge_ranks`, which folds what several ranks have logged.
//! - `full`: all of them.
//!
//! The calls are the same whatever is switched on; what is left out does nothing.

mod build;
mod global;
#[cfg(feature = "gpu")]
pub mod gpu;
mod instance;
mod known;
mod limit;
mod logger;
mod manager;
mod measures;
mod memory;
mod nest;
mod panics;
mod plugins;
mod progress;
mod report;
mod roster;
mod sampling;
mod screen;
mod series;
mod signals;
mod steps;
mod summary;
mod switchboard;
mod table;
#[cfg(feature = "wandb")]
pub mod wandb;
mod watch;

pub use logcore;
pub use logcore::log::LevelFilter;
pub use logcore::{
    ConfigError, LogConfig, LogError, MetricPair, MetricValue, Number, OnFull, Point, ProbeError, Ranks, RingPlace,
    RunEnd, Secret, SinkBooks, SinkError, SinkErrorKind, Stats,
};
#[cfg(feature = "memory")]
pub use logcore_memory::MemorySink;
pub use logcore_pipeline::{Recovered, RecoveryError, recover, recover_trusted};
#[cfg(feature = "merge")]
pub use logcore_runs::{MergeError, Merged, MergedFile, merge_ranks};

pub use self::logger::{MetricHandle, Metrics, UnifiedLogger};
pub use self::manager::LogManager;
pub use self::report::FinishReport;
pub use self::screen::suspend;

/// Sets a logger up: from a name (the defaults, overlaid by the environment), or from a config as it is.
///
/// A logger of that name that is live already gets the new configuration without losing a line. The logger closes when
/// the last clone of the returned value is dropped, so a block is a context manager.
///
/// # Errors
///
/// [`LogError::Config`] if the configuration cannot work; it names the field, the value and what to do.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use facade::{LogConfig, LogError, setup_logging};
///
/// let config = LogConfig { metrics_window: 0, log_dir: folder.path().into(), ..LogConfig::default() };
/// match setup_logging(config) {
///     Err(LogError::Config(error)) => assert_eq!(error.field, "metrics_window"),
///     other => panic!("{other:?}"),
/// }
/// ```
pub fn setup_logging<C>(config: C) -> Result<UnifiedLogger, LogError>
where
    C: TryInto<LogConfig>,
    LogError: From<C::Error>,
{
    LogManager::get_instance().set_up(config.try_into()?)
}

/// The logger of this name; made, with the config of [`LogManager::configure_from_config`], if it is not there.
///
/// It never fails: trouble with its files is said once on stderr. Dropping the handle closes nothing.
pub fn get_logger(name: &str) -> UnifiedLogger {
    LogManager::get_instance().get_logger(name)
}

/// Finishes every logger and forgets the config.
pub fn cleanup_logging() {
    LogManager::get_instance().cleanup();
}

/// Metrics of mixed number types.
///
/// ```
/// use facade::MetricValue;
///
/// let values = facade::metrics! { "loss" => 0.5, "epoch" => 3, "samples" => 1_u64 << 40 };
/// assert_eq!(values[1], ("epoch", MetricValue::Int(3)));
/// ```
#[macro_export]
macro_rules! metrics {
    ($($name:expr => $value:expr),* $(,)?) => {
        [$(($name, $crate::Number::value(&$value))),*]
    };
}

/// The README's programs are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
