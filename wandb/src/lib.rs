//! Weights & Biases as the sink `wandb` of [`logcore`], in pure Rust: no Python, no helper process.
//!
//! The crate has no API that programs need: link the crate, and name the sink in the configuration.
//! The crate `logcore-facade` re-exports the public items as `facade::wandb`, and only that
//! re-export is stable.
//!
//! # Offline
//!
//! A run is a folder `<log_dir>/wandb/[offline-]run-<time>-<id>`. It contains a log in the official
//! format, which the official programs `wandb sync` and `wandb leet` read, too. In the mode
//! `offline` that is all.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use logcore::{BuildContext, Deadline, LogConfig, MetricBatch, MetricValue, Notices, StopFlag, registry};
//! use logcore_wandb::find_logs;
//! use serde_json::json;
//! use std::time::Duration;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let stop = StopFlag::default();
//! let options = json!({"mode": "offline", "project": "my-project"});
//! let mut sink = registry::build_sink("wandb", &options, &BuildContext::new(&config, &stop))?;
//! sink.start(&Notices::new(|_, line| println!("{line}")))?;
//! sink.metrics(&MetricBatch::new("trainer", 0, &[("loss", MetricValue::Float(0.5))]))?;
//! sink.finish(Deadline::after(Duration::from_secs(5)))?;
//! assert_eq!(find_logs(folder.path()).len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Online
//!
//! In the mode `online` a thread of the sink follows the log and delivers it. The log is the spool:
//! while the server is down, the run continues, and nothing is lost. Without `mode`, a run is
//! online if there is an API key, and offline otherwise. The key comes from `api_key`,
//! `WANDB_API_KEY`, `~/.netrc` or a settings file, in this order.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use logcore::{BuildContext, LogConfig, StopFlag, registry};
//! use serde_json::json;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let options = json!({"mode": "online", "api_key": "too short", "base_url": "https://api.wandb.ai"});
//! let sink = registry::build_sink("wandb", &options, &BuildContext::new(&config, &StopFlag::default()));
//! assert!(sink.err().unwrap().to_string().contains("api_key"));
//! ```
//!
//! # Resume
//!
//! With `resume` and a `run_id`, a run continues an earlier run: `allow` (if there is one), `must`,
//! `never`, or `auto` (the last run in this folder that did not end well). The server is asked once
//! at setup, for at most `init_timeout` seconds.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use logcore::{BuildContext, LogConfig, StopFlag, registry};
//! use serde_json::json;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let options = json!({"mode": "offline", "run_id": "abc", "resume": "perhaps"});
//! let sink = registry::build_sink("wandb", &options, &BuildContext::new(&config, &StopFlag::default()));
//! assert!(sink.err().unwrap().to_string().contains("\"allow\", \"must\", \"never\" or \"auto\""));
//! ```
//!
//! # Sync
//!
//! [`sync`] delivers a run that is only on disk, also the run of a killed process. Repeating a sync
//! is harmless.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let log_dir = folder.path();
//! use logcore_wandb::{SyncOptions, Synced, find_logs, sync};
//!
//! for log in find_logs(log_dir) {
//!     let report = sync(&log, &SyncOptions::default(), |_, _| {})?;
//!     assert_ne!(report.outcome, Synced::Killed);
//! }
//! # Ok::<(), logcore_wandb::SyncError>(())
//! ```
//!
//! # Media
//!
//! A row can have an image, a histogram, a table or a page besides numbers; their types are those
//! of `logcore`. A [`RunHandle`] writes the file of the value on the caller's thread, as a hard
//! link to the one in `<run>/media/` where that is possible. A text is a page for W&B.
//!
//! ```
//! use logcore::{Histogram, Image, Table};
//! use serde_json::json;
//!
//! let image = Image::rgb(1, 1, [255, 0, 0]).caption("red");
//! let gradients = Histogram::of([0.0, 1.0, 1.0], 2);
//! let table = Table::new(["id", "text"]).row([json!(1), json!("x")]);
//! assert_eq!(table.len(), 1);
//! assert_ne!(image, Image::rgb(1, 1, [255, 0, 0]));
//! assert_eq!(gradients, Histogram::from_counts([1, 2], [0.0, 0.5, 1.0]));
//! ```
//!
//! # Artifacts
//!
//! An [`Artifact`] is a versioned set of files, such as a checkpoint. The files are copied at once,
//! so that the program may change them.
//!
//! ```
//! use logcore_wandb::Artifact;
//!
//! let checkpoint = Artifact::new("model", "model").file("weights.safetensors").alias("best");
//! assert_eq!(checkpoint.name(), "model");
//! ```
//!
//! # Alerts
//!
//! An alert makes W&B notify people, with the [level](logcore::AlertLevel) as its severity. The
//! sink takes it through [`Sink::alert`](logcore::Sink::alert).
//!
//! # Options and variables
//!
//! Options under `sinks.wandb`: `mode` (`online`, `offline`, `disabled`), `entity`, `project`,
//! `name`, `tags`, `run_id`, `group`, `job_type`, `notes`, `resume`, `base_url`, `app_url`,
//! `api_key`, `dir`, `console`, and in seconds `init_timeout`, `http_timeout`, `transmit_interval`.
//! Missing values come from the official environment variables, `~/.netrc` and the official
//! settings files.
//!
//! These settings have no option: `WANDB_SILENT` and `WANDB_QUIET` (print nothing, or only
//! problems), `WANDB_IGNORE_GLOBS` (files that are not uploaded), `WANDB__DISABLE_STATS` (no
//! readings of the machine), `WANDB__DISABLE_META` (no host, user and program),
//! `WANDB__EXTRA_HTTP_HEADERS`, and the proxies. Two variables have no effect:
//! `WANDB_FILE_PUSHER_TIMEOUT`, because uploads have no time limit, and `WANDB_ERROR_REPORTING`,
//! because errors are not reported to W&B.
//!
//! W&B has one value of a name per step: of several values, the last one counts.

mod artifact;
mod check;
mod definition;
mod folder;
mod handle;
mod import;
mod log_format;
mod media;
mod message;
mod run;
mod run_log;
mod settings;
mod sink;
mod sync;
mod target;
mod upload;

pub use self::artifact::Artifact;
pub use self::check::{ServerAnswer, ServerCheck};
pub use self::definition::MetricDefinition;
pub use self::handle::{MessageText, PreparedValue, RunHandle, SavePolicy, SavedFile};
pub use self::import::{LogPart, LoggedRun, read_log};
pub use self::sink::WandbSink;
pub use self::sync::{SyncError, SyncOptions, SyncReport, Synced, find_logs, sync};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::upload::fuzzing;
