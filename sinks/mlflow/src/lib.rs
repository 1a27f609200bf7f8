//! The sink `mlflow`: a run on an MLflow server, while the run goes on.
//!
//! ```sh
//! pip install mlflow
//! mlflow server --port 5000
//! export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
//! ```
//!
//! | in MLflow | from |
//! |---|---|
//! | metrics | the rows of `metrics.jsonl`, each value at its step and with the time of the call |
//! | params | the hyper-parameters, `model.width` for `{"model": {"width": 3}}` |
//! | tags | git, source, user and host of the run, and `sinks.mlflow.tags` |
//! | artifacts | `config.json`, `summary.json`, the files of `media/`; `metrics.jsonl` if its values were thinned |
//! | status | the end of the run: `FINISHED`, `FAILED`, or `KILLED` by a signal |
//!
//! - **The rows on disk are the queue.** A thread reads `metrics.jsonl` as it grows, and notes in
//!   `mlflow.json` how far the server has it. So the sink needs the sink `jsonl`. A server that is
//!   away costs the program nothing, and `logcore sync --to mlflow` delivers what is only on disk.
//! - Nothing is doubled. After a lost reply or a kill, rows are sent again with the times of their
//!   calls, and MLflow keeps equal values once.
//! - The delivery is from rank 0. The first logger of a run has plain names, every other one its
//!   own name as a prefix: `eval/metrics/loss`.
//! - MLflow refuses some characters. `top@1` becomes `top_x40_1`, and no two names become one.
//! - NaN stays NaN. MLflow keeps the infinities as ±1.8e308, so the tag `logcore.infinite.<name>`
//!   names the first one. `metrics.jsonl` has all of them.
//! - MLflow never changes a param. A hyper-parameter that gets another value becomes the tag
//!   `config.<name>`.
//! - A run that goes on after a kill is the same run on the server. Rows that the later attempt
//!   writes again are there twice if the server had them before.
//!
//! # Options
//!
//! Under `sinks.mlflow` in the config:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `uri` | text | `MLFLOW_TRACKING_URI` | address of the server |
//! | `experiment` | text | `MLFLOW_EXPERIMENT_NAME` or `…_ID`, else `Default` | created if missing |
//! | `run_id` | text | `MLFLOW_RUN_ID` | an existing run, which goes on |
//! | `run_name` | text | the name of the run | display name |
//! | `parent_run_id` | text | | the run above this one |
//! | `tags` | table | | tags of the run |
//! | `note` | text | | description of the run, as Markdown |
//! | `username`, `password` | text | `MLFLOW_TRACKING_USERNAME`, `…_PASSWORD`, `~/.mlflow/credentials` | login |
//! | `token` | text | `MLFLOW_TRACKING_TOKEN` | login in place of a name |
//! | `ca_file` | path | `MLFLOW_TRACKING_SERVER_CERT_PATH` | certificate authorities in PEM |
//! | `rate` | number | `500` | values a second, beyond which metrics are thinned |
//! | `interval` | seconds | `5` | time between two looks at the rows |
//! | `artifacts` | bool | `true` | upload files at the end |
//! | `http_timeout` | seconds | `MLFLOW_HTTP_REQUEST_TIMEOUT`, else `120` | longest silence of a request |
//!
//! Beyond the rate, each metric keeps the first, the least, the greatest and the last value of
//! several parts of each five seconds, and `metrics.jsonl` is uploaded at the end of the run.

mod api;
mod batches;
mod books;
mod documents;
mod names;
mod recovery;
mod run;
mod settings;
mod spool;
mod state;
mod sync;
mod uploader;
mod window;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, Notices, PendingDelivery,
    ResumePoint, RunInfo, Sink, SinkBooks, SinkError, registry,
};
use serde_json::Value;

use crate::recovery::{MlflowResumeState, RecoveredSink};
use crate::run::MlflowRun;
use crate::settings::{MlflowOptions, MlflowSettings};
pub use crate::sync::{SyncError, SyncOptions, SyncReport, Synced, find_runs, sync};

/// The sink that writes the rows.
const ROWS_SINK: &str = "jsonl";
/// The name of the destination in messages.
const NAME: &str = "MLflow";

/// The sink that delivers a run to an MLflow server. It is registered as `mlflow`, and built from a
/// config.
pub struct MlflowSink {
    logger: String,
    dir: PathBuf,
    info: RunInfo,
    /// `None` on ranks above 0.
    settings: Option<MlflowSettings>,
    /// `None` before the start, and without a thread.
    run: Option<Arc<MlflowRun>>,
    end: SinkEnd,
}

/// How the part of a sink in its run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinkEnd {
    /// The sink takes calls, or another configuration has taken its place.
    Open,
    /// The logger has ended.
    LoggerEnded,
    /// The sink has finished, and other loggers of the run go on.
    Left,
    /// The sink has finished, and was the last one.
    LeftLast,
}

impl MlflowSink {
    fn build(options: MlflowOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let is_first = context.ranks().is_first();
        let resolve = || MlflowSettings::resolve(options, &|name| std::env::var(name).ok());
        // Another rank delivers nothing, and may lack the variables and files of rank 0.
        let settings = is_first.then(resolve).transpose()?;
        let is_off = context.config().sinks.get(ROWS_SINK) == Some(&Value::Bool(false));
        let has_rows = registry::sink_names()?.contains(&ROWS_SINK) && !is_off;
        if is_first && !has_rows {
            return Err(ConfigError::new(
                "sinks.mlflow",
                "",
                "the rows in `metrics.jsonl` are what is delivered: switch on the feature and the sink `jsonl`, too",
            ));
        }
        Ok(Self {
            logger: context.logger().to_owned(),
            dir: context.log_dir().to_owned(),
            info: context.run().clone(),
            settings,
            run: None,
            end: SinkEnd::Open,
        })
    }
}

impl Sink for MlflowSink {
    fn wants(&self, kind: EventKind) -> bool {
        kind == EventKind::Metrics && self.settings.is_some()
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        if let (Some(settings), None) = (&self.settings, &self.run) {
            self.run = Some(MlflowRun::join(&self.dir, settings, &self.logger, &self.info, notices)?);
        }
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        if let Some(run) = &self.run {
            run.add_call(&self.logger, batch.step());
        }
        Ok(())
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        self.run.as_ref()?;
        let uri = self.settings.as_ref()?.server.uri.clone();
        ResumePoint::new(&MlflowResumeState { uri })
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        if let Some(run) = &self.run {
            run.request_flush();
        }
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        if let Some(run) = &self.run {
            run.note_end(end);
            self.end = SinkEnd::LoggerEnded;
        }
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        match (&self.run, self.end) {
            (Some(run), SinkEnd::LoggerEnded) if run.leave() => self.end = SinkEnd::LeftLast,
            (_, SinkEnd::LoggerEnded) => self.end = SinkEnd::Left,
            // Another configuration begins, and its sink goes on with the run and its books.
            (Some(run), SinkEnd::Open) => {
                run.hand_over();
                self.run = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let run = Arc::clone(self.run.as_ref()?);
        let (logger, is_last) = (self.logger.clone(), self.end == SinkEnd::LeftLast);
        Some(Box::new(move |deadline| {
            // All sinks have finished, so that the rows are complete.
            let delivered = match is_last {
                true => run.end(deadline),
                false => {
                    run.wait_for_logger(&logger, deadline);
                    Ok(())
                }
            };
            (run.books(&logger), delivered)
        }))
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.run.as_ref().map(|run| run.books(&self.logger)).unwrap_or_default())
    }

    fn destination(&self) -> Option<String> {
        let uri = || Some(self.settings.as_ref()?.server.uri.clone());
        self.run.as_ref().and_then(|run| run.address()).or_else(uri)
    }
}

impl fmt::Debug for MlflowSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlflowSink")
            .field("logger", &self.logger)
            .finish_non_exhaustive()
    }
}

logcore::register_sink!("mlflow", MlflowSink::build, RecoveredSink::recover);
