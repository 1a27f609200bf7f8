//! One logger for a training run: leveled text, progress with throughput and ETA, metrics with
//! windowed averages and history, memory, hyper-parameters.
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
//! Every call goes through one bounded ring to one writer thread, and from there to the sinks: the
//! terminal, a text file, `metrics.jsonl`, Weights & Biases, and the sinks of any other crate that
//! is linked and named in the config. No call fails or panics because a disk, a terminal or a
//! server is in trouble.
//!
//! # Text
//!
//! [`UnifiedLogger::info`] and its siblings log a message at a level; [`info!`] and its siblings
//! format the message and take fields. The records of the `log` macros of every crate reach a
//! logger, too: those of the modules under a logger's name reach that logger, all others the one
//! that the thread has [entered](UnifiedLogger::enter), else the one named `root`, else the first
//! that was set up, from [`LogConfig::foreign_level`] on. `log::info!(logger: logger, "…")`
//! addresses a logger directly. Structured fields are kept. Levels are set for each sink
//! ([`UnifiedLogger::set_level`]) and by target ([`UnifiedLogger::set_directives`]).
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
//! use facade::logcore::log;
//!
//! let logger = facade::setup_logging(config)?;
//! log::warn!(logger: logger, rate:? = 1e-9; "learning rate is too low");
//! logger.flush()?;
//! # #[cfg(feature = "file")]
//! assert!(std::fs::read_to_string(folder.path().join("training.log")).unwrap().contains("too low | rate=1e-9"));
//! # Ok::<(), facade::LogError>(())
//! ```
//!
//! # Progress
//!
//! [`UnifiedLogger::start_progress`] starts a progress, [`UnifiedLogger::update_progress`] advances
//! it. A terminal shows bars with rate, samples per second, ETA and the newest metrics, below the
//! log lines. Elsewhere the console prints one line every few percent. A start within an open
//! progress is nested. [`UnifiedLogger::bar`] and [`UnifiedLogger::track`] draw further bars, which
//! count no steps. [`suspend`] hands the terminal to the program.
//!
//! [`UnifiedLogger::data`] and [`UnifiedLogger::phase`] tell what the time of the run is spent on;
//! the closing summary has the ledger, which sums to the wall clock.
//!
//! # Metrics
//!
//! [`UnifiedLogger::log_metrics`] takes any pairs of name and number,
//! [`UnifiedLogger::log_metrics_at`] an explicit step, [`UnifiedLogger::metric`] returns a handle
//! for hot loops. [`UnifiedLogger::metrics`] gives averages over a window, statistics over the run,
//! and the history. With a [`UnifiedLogger::goal`], the result of a call tells whether it brought
//! the best value. All calls of one step are one row in `metrics.jsonl` and in W&B. NaN and
//! infinite values are kept and counted.
//!
//! # Runs and ranks
//!
//! A run leaves its files in `log_dir`: `training.log`, `metrics.jsonl`, `config.json`,
//! `summary.json`, and more ([guide to the files][files]). In a distributed run, [`Ranks`] come
//! from the variables of torchrun, SLURM and others: rank 0 owns the terminal, and the files of
//! other ranks have the rank in their names. `merge_ranks` (feature `merge`) merges the files
//! ([guide to ranks][ranks]).
//!
//! # Weights & Biases
//!
//! With the feature `wandb` and `enable_wandb = true`, everything is also recorded as a W&B run,
//! online or offline, with the network never in the way of the training. `UnifiedLogger::wandb`
//! adds artifacts, alerts and definitions of metrics; `wandb::sync` delivers a run that
//! is only on disk ([guide to W&B][wandb]).
//!
//! # GPU
//!
//! With the feature `gpu`, [`UnifiedLogger::log_memory`] logs the memory of the GPUs (GB = 1e9
//! bytes), and the probe `system` logs readings of GPUs, CPU and memory periodically ([guide to
//! GPUs][gpu]).
//!
//! # Ends and kills
//!
//! A return from `main`, `exit`, a panic, and the signals SIGINT, SIGTERM and SIGHUP lose nothing:
//! every accepted call is delivered. If the process is killed, the ring stays in `log_dir`. The
//! next start in this folder, or [`recover`], delivers its content, each call once ([guide to
//! reliability][reliability]). [`UnifiedLogger::finish`] returns a [`FinishReport`] with the
//! account of each sink.
//!
//! # Async
//!
//! The logger needs no runtime and works in any. Most calls never wait for I/O, but these block the
//! thread:
//!
//! - [`UnifiedLogger::error`] waits until the message is delivered, at most for `flush_timeout` (5
//!   s by default).
//! - [`UnifiedLogger::flush`] waits at most for `flush_timeout`.
//! - [`UnifiedLogger::finish`], [`cleanup_logging`] and the drop of the last handle wait at most
//!   for `finish_timeout` (30 s).
//! - Every call waits while the ring is full, unless `on_full = "drop"`.
//!
//! On a healthy disk the waits take milliseconds. If a blocked executor thread must never happen,
//! run these calls on a thread for blocking work:
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
//! let logger = facade::setup_logging(config)?;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! logger.info("does not wait for the disk");
//! let to_flush = logger.clone();
//! tokio::task::spawn_blocking(move || to_flush.flush()).await.unwrap()
//! # })?;
//! # Ok::<(), facade::LogError>(())
//! ```
//!
//! # Sinks and their options
//!
//! An entry in [`LogConfig::sinks`] sets the options of a sink and switches the sink on; `false`
//! switches it off.
//!
//! | sink | option | default | meaning |
//! |---|---|---|---|
//! | `console` | `stream` | `"stdout"` | `"stdout"` or `"stderr"` |
//! | | `color`, `bars` | `"auto"` | `"auto"`, `"always"`, `"never"` |
//! | | `keywords` | `true` | highlight words such as `Starting`, `Complete`, `Failed` |
//! | | `formatter` | `"colored"` | `"colored"`, `"plain"`, `"json"`, `"logfmt"`, or that of another crate |
//! | | `utc` | `false` | UTC instead of local time |
//! | `file` | `rotate_mb` | none | start a new file at this size (MB = 1e6 bytes) |
//! | | `rotate_daily` | `false` | start a new file each day |
//! | | `keep` | `10` | number of old files to keep |
//! | | `formatter` | `"plain"` | as for `console` |
//! | | `utc` | `false` | UTC instead of local time |
//! | `jsonl` | `records` | `false` | also write the log records, to `records.jsonl` |
//! | `memory` | | off | keeps records and rows in memory, for tests; no options |
//! | `tensorboard` | `records` | off; `false` | also write warnings and errors as a text; see the [guide to TensorBoard][tensorboard] |
//! | `kubeflow` | `metrics`, `period`, … | off | the status of a Kubeflow TrainJob; see the [guide to Kubernetes][kubernetes] |
//! | `otlp` | `endpoint`, `level`, `metrics`, … | off | records and metrics over OTLP; see the [guide to OpenTelemetry][opentelemetry] |
//! | `webhook` | `url`, `kind`, `template`, … | off | alerts and the end of the run to people; see the [guide to alerts][webhook] |
//! | `wandb` | `mode` | by the key | `"online"`, `"offline"`, `"disabled"` |
//! | | `entity`, `project`, `name`, `tags`, `group`, `job_type`, `notes` | none | as in W&B |
//! | | `run_id`, `resume` | new run | `resume`: `"allow"`, `"must"`, `"never"`, `"auto"` |
//! | | `base_url`, `app_url`, `api_key` | as for the official client | the server and its key |
//! | | `dir` | `log_dir` | the folder in which `wandb/` is made |
//! | | `console` | `true` | send log lines as console lines |
//! | | `init_timeout`, `http_timeout`, `transmit_interval` | | seconds; see the [guide to W&B][wandb] |
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use facade::{LogConfig, setup_logging};
//! use serde_json::json;
//!
//! let sinks = [("file".into(), json!({"rotate_mb": 100, "keep": 5})), ("jsonl".into(), json!({"records": true}))];
//! # #[cfg(all(feature = "file", feature = "jsonl"))] {
//! let config = LogConfig { sinks: sinks.into(), log_dir: folder.path().into(), ..LogConfig::default() };
//! let logger = setup_logging(config)?;
//! logger.info("hello");
//! logger.finish();
//! assert!(std::fs::read_to_string(logger.run_dir().join("records.jsonl")).unwrap().contains("hello"));
//! # }
//! # Ok::<(), facade::LogError>(())
//! ```
//!
//! A sink of your own implements [`logcore::Sink`] and is added by [`LogManager::add_sink`], or
//! registered by its crate with [`logcore::register_sink!`].
//!
//! # Features
//!
//! - `console`: colored lines on the terminal. On by default.
//! - `file`: the text file `training.log`, with rotation. On by default.
//! - `jsonl`: `metrics.jsonl`, `records.jsonl`, `config.json`, `summary.json`. On by default.
//! - `progress`: throughput, ETA, bars. On by default.
//! - `metrics`: on by default, and without effect: averages, statistics and history are always
//!   there.
//! - `memory`: a sink that keeps its records and rows in memory, for tests.
//! - `kubeflow`: progress and metrics in the status of a Kubeflow TrainJob.
//! - `tensorboard`: event files, which TensorBoard shows.
//! - `otlp`: records and metrics over OTLP, the protocol of OpenTelemetry.
//! - `webhook`: alerts and the end of a run to Slack, Discord, or any JSON endpoint.
//! - `gpu`: readings of the GPU and the machine.
//! - `media`: [`log_image`](UnifiedLogger::log_image) and its siblings, for every sink; see the
//!   [guide to media][media].
//! - `tracing`: a layer for the events and spans of `tracing`; see the [guide][tracing].
//! - `wandb`: Weights & Biases, offline and online.
//! - `merge`: `merge_ranks`, which merges the files of several ranks.
//! - `report`: the config field `report`, which writes a page of the run at its end.
//! - `full`: all of them.
//!
//! The calls are the same with any features; calls for a feature that is off do nothing.
//!
//! # Guides
//!
//! - [Configuration][configuration]: all fields, variables and options
//! - [Metrics and progress][metrics], [Sinks, formatters and probes of your own][extending]
//! - [Files of a run][files], [Terminal][terminal], [Ranks][ranks], [GPU][gpu], [Weights &
//!   Biases][wandb], [TensorBoard][tensorboard], [OpenTelemetry][opentelemetry], [Alerts][webhook]
//! - [Error messages: cause and remedy][failures], [Reliability][reliability], [Security][security]
//! - [Health of a run][health]: bad values, stalls, stopping well
//! - [Sweeps][sweeps], [Tests of programs that log][testing], [Crates that use tracing][tracing]
//! - [Less output][noise], [Benchmarks][benchmarks], [Comparison with other loggers][compare]
//!
//! [configuration]: https://github.com/logcore/logcore/blob/main/docs/configuration.md
//! [metrics]: https://github.com/logcore/logcore/blob/main/docs/metrics.md
//! [extending]: https://github.com/logcore/logcore/blob/main/docs/extending.md
//! [files]: https://github.com/logcore/logcore/blob/main/docs/files.md
//! [terminal]: https://github.com/logcore/logcore/blob/main/docs/terminal.md
//! [ranks]: https://github.com/logcore/logcore/blob/main/docs/ranks.md
//! [health]: https://github.com/logcore/logcore/blob/main/docs/health.md
//! [gpu]: https://github.com/logcore/logcore/blob/main/docs/gpu.md
//! [kubernetes]: https://github.com/logcore/logcore/blob/main/docs/kubernetes.md
//! [media]: https://github.com/logcore/logcore/blob/main/docs/media.md
//! [tensorboard]: https://github.com/logcore/logcore/blob/main/docs/tensorboard.md
//! [opentelemetry]: https://github.com/logcore/logcore/blob/main/docs/opentelemetry.md
//! [webhook]: https://github.com/logcore/logcore/blob/main/docs/webhook.md
//! [wandb]: https://github.com/logcore/logcore/blob/main/docs/wandb.md
//! [sweeps]: https://github.com/logcore/logcore/blob/main/docs/sweeps.md
//! [testing]: https://github.com/logcore/logcore/blob/main/docs/testing.md
//! [tracing]: https://github.com/logcore/logcore/blob/main/docs/tracing.md
//! [failures]: https://github.com/logcore/logcore/blob/main/docs/failures.md
//! [reliability]: https://github.com/logcore/logcore/blob/main/docs/reliability.md
//! [security]: https://github.com/logcore/logcore/blob/main/docs/security.md
//! [noise]: https://github.com/logcore/logcore/blob/main/docs/noise.md
//! [benchmarks]: https://github.com/logcore/logcore/blob/main/docs/benchmarks.md
//! [compare]: https://github.com/logcore/logcore/blob/main/docs/compare.md

mod api;
mod logger;
mod macros;
mod process;
mod run;

pub use logcore;
pub use logcore::log::LevelFilter;
pub use logcore::{
    AlertLevel, BookUnit, ConfigError, Histogram, Image, LogConfig, LogError, MetricPair, MetricValue, Number, OnFull,
    OnSignal, Point, ProbeError, ProgressRows, Ranks, RingPlace, Rule, RuleAnswer, RunEnd, RunInfo, Secret, SinkBooks,
    SinkError, SinkErrorKind, Stats, StopReason, Table,
};
#[cfg(feature = "memory")]
pub use logcore_memory::MemorySink;
pub use logcore_pipeline::{
    Recovered, RecoveryError, RingCall, RingContent, RingSnapshot, read_live_ring, rings_in, rings_of_process,
};
#[cfg(feature = "merge")]
pub use logcore_runs::{MergeError, Merged, MergedFile, merge_ranks};

pub use self::api::bars::{Bar, Data, Phase, Track};
#[doc(hidden)]
pub use self::api::deferred as __deferred;
pub use self::api::goals::{Best, Logged};
#[cfg(feature = "gpu")]
pub use self::api::gpu;
pub use self::api::logger::{EnteredLogger, UnifiedLogger};
pub use self::api::manager::{LogManager, cleanup_logging, get_logger, setup_logging};
pub use self::api::metrics::{MetricHandle, Metrics};
#[cfg(feature = "mlflow")]
pub use self::api::mlflow;
pub use self::api::recovery::{recover, recover_trusted};
#[cfg(feature = "tracing")]
pub use self::api::tracing;
#[cfg(feature = "wandb")]
pub use self::api::wandb;
pub use self::logger::goals::Goal;
pub use self::logger::report::FinishReport;
pub use self::logger::terminal::suspend;

/// The README's programs are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The programs of the other pages are compiled, and run unless they write files.
#[cfg(all(doctest, feature = "memory"))]
mod pages {
    #[doc = include_str!("../../docs/testing.md")]
    struct Testing;
    #[doc = include_str!("../../docs/sweeps.md")]
    struct Sweeps;
    #[cfg(feature = "mlflow")]
    #[doc = include_str!("../../docs/mlflow.md")]
    struct Mlflow;
    #[cfg(feature = "tracing")]
    #[doc = include_str!("../../docs/tracing.md")]
    struct Tracing;
    #[doc = include_str!("../../docs/kubernetes.md")]
    struct Kubernetes;
    #[doc = include_str!("../../docs/health.md")]
    struct Health;
    #[doc = include_str!("../../docs/from/env_logger.md")]
    struct FromEnvLogger;
    #[doc = include_str!("../../docs/from/indicatif.md")]
    struct FromIndicatif;
    #[cfg(all(feature = "wandb", feature = "tensorboard"))]
    #[doc = include_str!("../../docs/from/lightning.md")]
    struct FromLightning;
    #[cfg(all(feature = "wandb", feature = "media"))]
    #[doc = include_str!("../../docs/from/wandb.md")]
    struct FromWandb;
    #[doc = include_str!("../../docs/tensorboard.md")]
    struct TensorBoard;
    #[doc = include_str!("../../docs/terminal.md")]
    struct Terminal;
    #[cfg(feature = "media")]
    #[doc = include_str!("../../docs/media.md")]
    struct Media;
}
