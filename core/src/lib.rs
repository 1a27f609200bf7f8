//! The traits and data of a logging system for machine-learning training.
//!
//! A program logs through `logcore-facade`. This crate is what the parts have in common: [`Sink`], [`Formatter`] and
//! [`Probe`]; what they are given ([`Record`], [`MetricBatch`], [`ProgressEvent`]); the [`LogConfig`]; typed errors;
//! and the [`registry`] through which a crate's sink is switched on by config alone.
//!
//! # A sink of one's own
//!
//! ```
//! use logcore::{BuildContext, ConfigError, MetricBatch, Record, Sink, SinkError};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct SlackOptions { hook: String }
//!
//! struct Slack { hook: String }
//!
//! impl Slack {
//!     fn build(options: SlackOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
//!         if !options.hook.starts_with("https://") {
//!             return Err(ConfigError::new("hook", options.hook, "use the https address that Slack gave you"));
//!         }
//!         Ok(Self { hook: options.hook })
//!     }
//! }
//!
//! impl Sink for Slack {
//!     fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
//!         // post record.message() to self.hook
//!         # let _ = (record.message(), &self.hook);
//!         Ok(())
//!     }
//! }
//!
//! logcore::register_sink!("slack", Slack::build);
//!
//! # fn main() {
//! use logcore::{LogConfig, StopFlag, registry};
//! let (config, stop) = (LogConfig::default(), StopFlag::default());
//! let context = BuildContext::new(&config, &stop);
//! let wrong = serde_json::json!({"hok": "https://example.org"});
//! let error = registry::build_sink("slack", &wrong, &context).err().unwrap();
//! assert_eq!(error.field, "sinks.slack.hok");
//! assert!(error.remedy.contains("`hook`"));
//! # }
//! ```
//!
//! # Features
//!
//! - `testing`: sinks that record, fail, block or panic, for tests.
//!
//! This crate does no I/O but reading a config file ([`LogConfig::from_file`], [`WatchedLevels::from_file`]) and the environment.

mod books;
mod config;
mod deadline;
mod directives;
mod error;
pub mod escape;
mod formatter;
mod json_capture;
#[doc(hidden)]
pub mod kill_point;
mod logger_end;
mod metric;
mod notices;
mod panic_guard;
mod probe;
mod process;
mod progress;
mod queued;
mod ranks;
mod record;
mod redaction;
pub mod registry;
mod resume_point;
mod rows;
mod secret;
pub mod signed_time;
mod sink;
mod stop;
mod suggest;
mod suppression;
#[doc(hidden)]
pub mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;

pub use log;
pub use serde_json;

pub use self::books::SinkBooks;
pub use self::config::{LogConfig, OnFull, RingPlace, SiteLimit, WatchedLevels};
pub use self::deadline::Deadline;
pub use self::directives::{Directives, canonical_name, is_under};
pub use self::error::{ConfigError, LogError, ProbeError, SinkError};
pub use self::formatter::{Formatter, Style};
pub use self::json_capture::{JsonCapture, Omission};
pub use self::logger_end::{LoggerEnd, LoggerSummary, MetricSummary, RunEnd};
pub use self::metric::{MetricBatch, MetricPair, MetricValue, Number, Point, Stats};
pub use self::notices::Notices;
pub use self::panic_guard::{catch_panic, hide_caught_panics_from_hook, is_catching_panic};
pub use self::probe::{Probe, Readings};
pub use self::process::PerProcess;
#[doc(hidden)]
pub use self::process::{begin_process, process_number};
pub use self::progress::{Count, ProgressEvent, ProgressKind};
pub use self::queued::Queued;
pub use self::ranks::{FileRank, Ranks};
pub use self::record::{FieldValue, OwnedRecord, Record, epoch_seconds};
pub use self::redaction::Redaction;
#[doc(hidden)]
pub use self::registry::__private;
pub use self::registry::BuildContext;
pub use self::resume_point::ResumePoint;
pub use self::rows::{Row, RowMerger};
pub use self::secret::{Secret, redacted};
pub use self::sink::{EventKind, PendingDelivery, Sink};
pub use self::stop::StopFlag;
pub use self::suppression::{is_logging_suppressed, suppress_logging};
