//! Weights & Biases as the sink `wandb`, in pure Rust: no Python, no helper process.
//!
//! A run is a folder `<log_dir>/wandb/[offline-]run-<time>-<id>` with a transaction log in the official format, which the
//! official `wandb sync` and `wandb leet` read. Online, a thread of the sink's own reads the log as it grows and delivers
//! it; the log is the spool, so that a server that is down costs nothing but time. [`sync`] delivers it afterwards.
//!
//! Options, under `sinks.wandb`: `mode` (`online`, `offline`, `disabled`), `entity`, `project`, `name`, `tags`, `run_id`,
//! `group`, `job_type`, `notes`, `resume` (`allow`, `must`, `never`, `auto`), `base_url`, `app_url`, `api_key`, `dir`,
//! `console`, and in seconds `init_timeout`, `http_timeout`, `transmit_interval`. What is not said there comes from the
//! official environment variables, `~/.netrc` and the official settings files. Without `mode`, a run is online if there
//! is a key, and offline if not.
//!
//! Only there: `WANDB_SILENT` and `WANDB_QUIET` (nothing, or only trouble, on the terminal), `WANDB_IGNORE_GLOBS` (files
//! that are not uploaded), `WANDB__DISABLE_STATS` (no readings of the machine), `WANDB__DISABLE_META` (not where the run takes
//! place), `WANDB__EXTRA_HTTP_HEADERS`, and the proxies. Without effect are `WANDB_FILE_PUSHER_TIMEOUT`, because a file takes as
//! long as it takes, and `WANDB_ERROR_REPORTING`, because nothing is reported.
//!
//! W&B has one value of a name at a step: of several the last one counts.
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

mod artifact;
mod definition;
mod folder;
mod handle;
mod log_format;
mod media;
mod message;
mod recovered;
mod run;
mod run_log;
mod settings;
mod sink;
mod sync;
mod upload;

pub use self::artifact::Artifact;
pub use self::definition::MetricDefinition;
pub use self::handle::{AlertLevel, MessageText, PreparedValue, RunHandle, SavePolicy, SavedFile};
pub use self::media::{Histogram, Html, Image, Media, MediaError, Table};
pub use self::sink::WandbSink;
pub use self::sync::{SyncError, SyncOptions, SyncReport, Synced, find_logs, sync};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::upload::fuzzing;
