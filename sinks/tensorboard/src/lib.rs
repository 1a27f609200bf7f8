//! The sink `tensorboard`: the metrics of a run as event files, which TensorBoard shows while the
//! run goes on.
//!
//! ```sh
//! pip install tensorboard 'setuptools<81'
//! tensorboard --logdir logs
//! ```
//!
//! | in TensorBoard | from |
//! |---|---|
//! | SCALARS | each metric, at its step and with the time of the call |
//! | IMAGES `images/…`, HISTOGRAMS `histograms/…`, TEXT `text/…` | images, histograms and texts, files up to 8 MiB |
//! | HPARAMS | the hyper-parameters, `model.width` for `{"model": {"width": 3}}`; the status of the run |
//! | TEXT `text/config` | the hyper-parameters as a table |
//! | TEXT `text/log` | warnings and errors, with `sinks.tensorboard.records = true` |
//!
//! - The files are `<run>/tensorboard/events.out.tfevents.…`, so the folder of all runs is a
//!   `--logdir`. The first logger of a run has that folder, every other one a folder of its own
//!   within: `<run>/tensorboard/eval/`. A run of several ranks has the files of rank 0.
//! - TensorBoard's numbers have single precision: digits beyond the seventh are lost, and numbers
//!   beyond 3.4e38 are infinite. NaN and the infinities stay what they are. The sink `jsonl` has
//!   all digits.
//! - A step has one value of a metric, the last one. It is written when the step moves on, on
//!   `flush` and on `finish`.
//! - TensorBoard forgets what it has of a metric from the step of a new value on. So a value behind
//!   the newest step of its metric is left out and counted as `late`. Each attempt of a run begins
//!   a file, and may begin at a lower step: its values take the place of the earlier ones.
//! - TensorBoard shows the hyper-parameters that are logged before the first row. Later ones are in
//!   the text only.
//!
//! # Options
//!
//! Under `sinks.tensorboard` in the config:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `records` | bool | `false` | write warnings and errors as a text, at most 64 KiB for a step |
//!
//! # Example
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use std::time::Duration;
//!
//! use logcore::{BuildContext, Deadline, LogConfig, MetricBatch, MetricValue, StopFlag, registry, serde_json};
//! use logcore_tensorboard::{EventContent, EventReader};
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let stop = StopFlag::default();
//! let context = BuildContext::new(&config, &stop);
//! let mut sink = registry::build_sink("tensorboard", &serde_json::json!({}), &context).unwrap();
//! sink.metrics(&MetricBatch::new("trainer", 12, &[("metrics/loss", MetricValue::Float(0.5))])).unwrap();
//! sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
//!
//! let file = std::fs::read_dir(folder.path().join("tensorboard")).unwrap().next().unwrap().unwrap();
//! let bytes = std::fs::read(file.path()).unwrap();
//! let mut events = EventReader::new(&*bytes);
//! assert!(matches!(events.next_event().unwrap().unwrap().content, EventContent::File { .. }));
//! assert_eq!(events.next_event().unwrap().unwrap().content, EventContent::SessionStart);
//! assert_eq!(events.next_event().unwrap().unwrap().step, 12);
//! ```
//!
//! For curves that hide no spike, use `logcore serve`: TensorBoard draws a random 1,000 of the
//! points.

mod earlier_ends;
mod event;
mod event_file;
mod event_log;
mod file_name;
mod framing;
mod hyper_parameters;
mod message;
mod reader;
mod record_text;
mod tag_steps;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, LoggerEnd, LoggerSummary, MediaItem, MetricBatch, Record,
    ResumePoint, RunEnd, Sink, SinkBooks, SinkError, epoch_seconds, redacted,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::event::{EventBuffer, SessionStatus};
use self::event_file::{EventFile, FilePosition};
use self::event_log::{EventLog, EventLogResumeState};
pub use self::file_name::{EventFileName, logger_folder};
pub use self::reader::{Event, EventContent, EventReadError, EventReader, TagContent, TaggedValue};

/// The folder of the event files, in that of the run.
const FOLDER: &str = "tensorboard";

/// The sink that writes event files. It is registered as `tensorboard`, and built from a config.
pub struct TensorBoardSink {
    /// `None` on ranks above 0.
    log: Option<EventLog>,
    has_records: bool,
    /// The folder of the files, relative to that of the run.
    folder: PathBuf,
    /// The folder of the run, in which the files of media are.
    run: PathBuf,
    status: Option<SessionStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TensorBoardOptions {
    records: bool,
}

/// State from which another process continues the files. The folder of the run may have moved, so
/// the path is relative.
#[derive(Serialize, Deserialize)]
struct TensorBoardResumeState<L> {
    folder: PathBuf,
    has_records: bool,
    log: L,
}

impl TensorBoardSink {
    fn build(options: TensorBoardOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let log_dir = context.log_dir();
        if log_dir.exists() && !log_dir.is_dir() {
            return Err(ConfigError::new(
                "log_dir",
                log_dir.display(),
                "it is a file; name a folder",
            ));
        }
        let mut folder = PathBuf::from(FOLDER);
        folder.extend(logger_folder(context.run().name(), context.logger()));
        let log = context
            .ranks()
            .is_first()
            .then(|| begin(&log_dir.join(&folder), context));
        Ok(Self {
            log,
            has_records: options.records,
            folder,
            run: log_dir.to_owned(),
            status: None,
        })
    }

    /// Continues the file of a killed process.
    fn recover(
        state: TensorBoardResumeState<EventLogResumeState>,
        context: &BuildContext<'_>,
    ) -> Result<Self, SinkError> {
        let file = state.folder.join(state.log.file.name.to_string());
        let path = context.resolve_beneath(&file)?;
        let folder = path.parent().unwrap_or(context.log_dir());
        Ok(Self {
            log: Some(EventLog::recover(folder.to_owned(), state.log)?),
            has_records: state.has_records,
            folder: state.folder,
            run: context.log_dir().to_owned(),
            status: None,
        })
    }
}

/// Prepares the file of an attempt.
fn begin(folder: &Path, context: &BuildContext<'_>) -> EventLog {
    let begun = epoch_seconds(SystemTime::now());
    let (run, attempt) = (context.run().id(), context.run().attempt());
    #[expect(clippy::cast_sign_loss, reason = "a negative time becomes 0")]
    let position = FilePosition {
        name: EventFileName::newest_in(folder, run, attempt, begun as u64),
        length: 0,
        begun,
    };
    let config = context.config().redacted_hyper_parameters();
    EventLog::new(EventFile::new(folder.to_owned(), position), attempt, config)
}

impl Sink for TensorBoardSink {
    fn wants(&self, what: EventKind) -> bool {
        match what {
            EventKind::Record => self.has_records && self.log.is_some(),
            EventKind::Metrics | EventKind::Config | EventKind::Media => self.log.is_some(),
            _ => false,
        }
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        if let Some(log) = &mut self.log {
            log.record(record);
        }
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        if let Some(log) = &mut self.log {
            log.metrics(batch);
        }
        Ok(())
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        if let Some(log) = &mut self.log {
            log.config(redacted(config));
        }
        Ok(())
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        let run = &self.run;
        self.log.as_mut().map_or(Ok(()), |log| log.media(item, run))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.log.as_mut().map_or(Ok(()), EventLog::write_out)
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let (log, is_written) = self.log.as_ref()?.resume_state();
        let point = ResumePoint::new(&TensorBoardResumeState {
            folder: self.folder.clone(),
            has_records: self.has_records,
            log,
        })?;
        Some(if is_written { point } else { point.incomplete() })
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.log.as_mut().map_or(Ok(()), EventLog::flush)
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        self.status = Some(match (end.exit_code, &end.run_end) {
            (0, RunEnd::Finished) => SessionStatus::Success,
            _ => SessionStatus::Failure,
        });
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        let status = self.status;
        self.log.as_mut().map_or(Ok(()), |log| log.finish(status))
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.log.as_ref().map(EventLog::books).unwrap_or_default())
    }

    fn destination(&self) -> Option<String> {
        let folder = self.log.as_ref()?.folder();
        Some(folder.to_string_lossy().into_owned())
    }
}

impl fmt::Debug for TensorBoardSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorBoardSink")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

logcore::register_sink!("tensorboard", TensorBoardSink::build, TensorBoardSink::recover);
