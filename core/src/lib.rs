//! The API for plugins of a logging system for machine-learning training: sinks, formatters,
//! probes, configs, errors.
//!
//! A training program logs through `logcore-facade`. Depend on this crate (and on `serde`) to write
//! a plugin: a crate that adds an output, a text form or a source of readings. Every bundled sink
//! uses only this API.
//!
//! | to … | implement | register with |
//! |---|---|---|
//! | write records and metrics to a new destination | [`Sink`] | [`register_sink!`] |
//! | give text lines another form | [`Formatter`] | [`register_formatter!`] |
//! | add readings to the metrics, such as a temperature | [`Probe`] | [`register_probe!`] |
//!
//! # Example: a sink
//!
//! A sink receives borrowed data: a [`Record`] for each message, a [`MetricBatch`] for each
//! `log_metrics` call, a [`ProgressEvent`] for each state of a progress. The options of the sink
//! are any type that serde can read.
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
//!             return Err(ConfigError::new("hook", options.hook, "use the https address from Slack"));
//!         }
//!         Ok(Self { hook: options.hook })
//!     }
//! }
//!
//! impl Sink for Slack {
//!     fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
//!         // Post record.message() to self.hook.
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
//! let options = serde_json::json!({"hok": "https://example.org"});
//! let error = registry::build_sink("slack", &options, &context).err().unwrap();
//! assert_eq!(error.field, "sinks.slack.hok");
//! assert!(error.remedy.contains("`hook`"));
//! # }
//! ```
//!
//! A program switches the sink on with a table `sinks.slack` in its config. Rust links a plugin
//! crate only if the program mentions the crate: `use my_slack as _;`.
//!
//! # Slow sinks, and sinks that buffer
//!
//! One writer thread calls all sinks, so a slow sink delays the others. Wrap a sink with network
//! access in [`Queued`]. A sink that buffers overrides [`Sink::flush`] and [`Sink::finish`]. A sink
//! that resumes its output after a kill of the process implements [`Sink::resume_point`]. The
//! [contract](Sink#contract) lists all rules.
//!
//! # Testing a sink
//!
//! A sink is a plain value: call its methods and inspect the output. The module `testing` (feature
//! `testing`) has sinks that record, fail, block or panic, for code that wraps or calls sinks.
//!
//! ```
//! use logcore::{MetricBatch, MetricValue, Sink, SinkError};
//!
//! #[derive(Default)]
//! struct LastStep(Option<u64>);
//!
//! impl Sink for LastStep {
//!     fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
//!         self.0 = Some(batch.step());
//!         Ok(())
//!     }
//! }
//!
//! let mut sink = LastStep::default();
//! sink.metrics(&MetricBatch::new("trainer", 12, &[("loss", MetricValue::Float(0.5))])).unwrap();
//! assert_eq!(sink.0, Some(12));
//! ```
//!
//! # Configs
//!
//! [`LogConfig`] holds the settings of a logger. It comes from code, from a TOML or JSON file, or
//! from `LOGCORE_…` variables. [`LogConfig::validate`] checks a config; every [`ConfigError`] names
//! the field, the value and a remedy.
//!
//! # Errors
//!
//! [`ConfigError`] refuses a config before anything starts. [`SinkError`] reports a failed call of
//! a sink, with a [kind](SinkError::kind) for code and a [reason](SinkError::reason) for the
//! [`SinkBooks`]. [`ProbeError`] reports a failed sample. [`LogError`] is the error of the logger's
//! own calls. None of them contains a secret.
//!
//! # Features
//!
//! - `testing`: sinks that record, fail, block or panic, for tests.
//!
//! # I/O
//!
//! This crate reads config files ([`LogConfig::from_file`], [`WatchedLevels::from_file`]) and
//! environment variables. It does no other I/O but for the crates that call its hidden parts.

#![warn(missing_debug_implementations)]

mod alert;
mod config;
mod deadline;
#[doc(hidden)]
pub mod digits;
mod directives;
mod error;
pub mod escape;
#[doc(hidden)]
pub mod files;
mod formatter;
mod json_capture;
#[doc(hidden)]
pub mod kill_point;
mod logger_end;
mod media;
mod metric;
pub mod nonfinite;
mod notices;
mod option_error;
mod panic_guard;
#[doc(hidden)]
pub mod panic_text;
mod per_process;
mod probe;
mod progress;
mod queued;
mod ranks;
mod record;
mod redaction;
pub mod registry;
pub mod reserved_names;
mod resume_point;
mod rows;
mod run_facts;
mod run_info;
mod run_manifest;
mod secret;
pub mod signed_time;
mod sink;
mod sink_books;
mod stop_flag;
mod stored_row;
mod suppression;
#[doc(hidden)]
pub mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
mod time_zone;
mod type_remedy;

pub use log;
pub use serde_json;

pub use self::alert::{Alert, AlertLevel};
pub use self::config::{
    LogConfig, OnFull, OnSignal, ProgressRows, RingPlace, Rule, RuleAnswer, SiteLimit, WatchedLevels,
};
pub use self::deadline::Deadline;
pub use self::directives::{Directives, canonical_name, is_same_name, is_under};
pub use self::error::{ConfigError, LogError, ProbeError, SinkError, SinkErrorKind};
pub use self::formatter::{Formatter, Style};
pub use self::json_capture::{JsonCapture, Omission};
pub use self::logger_end::{LoggerEnd, LoggerSummary, MetricSummary, RunEnd};
#[cfg(feature = "media")]
pub use self::media::Media;
#[cfg(feature = "media")]
#[doc(hidden)]
pub use self::media::{EncodedFile, EncodedMedia, StagedMedia, media_path};
pub use self::media::{
    Histogram, Html, Image, MediaContent, MediaDescription, MediaError, MediaFile, MediaItem, StoredMedia, Table, Text,
};
pub use self::metric::{MetricBatch, MetricPair, MetricValue, Number, Point, Stats};
pub use self::notices::Notices;
pub use self::panic_guard::{call_hooks, catch_panic, hide_caught_panics_from_hook, is_catching_panic};
pub use self::per_process::PerProcess;
#[doc(hidden)]
pub use self::per_process::{begin_process, process_number};
pub use self::probe::{Probe, Readings};
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
pub use self::run_facts::{GitFacts, RunFacts};
pub use self::run_info::{RunInfo, WandbRun};
pub use self::run_manifest::{CheckpointMark, RunAttempt, RunManifest, RunState};
pub use self::secret::{Secret, redacted};
pub use self::sink::{EventKind, PendingDelivery, Sink};
pub use self::sink_books::{BookUnit, SinkBooks};
pub use self::stop_flag::{StopFlag, StopReason};
pub use self::stored_row::{StoredRow, SupersededRows};
pub use self::suppression::{is_logging_suppressed, suppress_logging};
pub use self::time_zone::local_time_zone;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_errors_can_be_sent_and_shared_between_threads() {
        fn assert_send_and_sync<T: Send + Sync>() {}
        assert_send_and_sync::<ConfigError>();
        assert_send_and_sync::<LogConfig>();
        assert_send_and_sync::<LogError>();
        assert_send_and_sync::<Notices>();
        assert_send_and_sync::<ProbeError>();
        assert_send_and_sync::<Queued>();
        assert_send_and_sync::<Redaction>();
        assert_send_and_sync::<SinkError>();
        assert_send_and_sync::<StopFlag>();
        assert_send_and_sync::<PerProcess<Vec<String>>>();
    }
}
