//! The delivery of a killed process's run by the process that recovers it.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use logcore::{
    BuildContext, Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, Sink, SinkBooks, SinkError,
    suppress_logging,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::MlflowRun;
use crate::settings::{MlflowOptions, MlflowSettings};
use crate::sync::{self, SyncOptions};

/// State from which another process continues. The files of the run have the rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct MlflowResumeState {
    /// The server of the run.
    pub(crate) uri: String,
}

/// The sink of a killed process. Its calls are in the rows, which the sink `jsonl` completes.
pub(crate) struct RecoveredSink {
    dir: PathBuf,
    /// The settings of this process; `None` if it delivers to no server or another one.
    settings: Option<MlflowSettings>,
    has_ended: bool,
    books: SinkBooks,
}

/// Time after which a delivery of a killed run begins: the run may go on in this process.
const DELAY: Duration = Duration::from_secs(3);

impl RecoveredSink {
    pub(crate) fn recover(state: MlflowResumeState, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let options = context.config().sinks.get("mlflow").cloned();
        let options = options.and_then(|options| match options {
            Value::Bool(is_on) => is_on.then(MlflowOptions::default),
            options => MlflowOptions::deserialize(options).ok(),
        });
        let resolve = |options| MlflowSettings::resolve(options, &|name| std::env::var(name).ok());
        Ok(Self {
            dir: context.log_dir().to_owned(),
            settings: options
                .and_then(|options| resolve(options).ok())
                .filter(|settings| settings.server.uri == state.uri)
                .map(MlflowSettings::for_another_run),
            has_ended: false,
            books: SinkBooks::default(),
        })
    }

    /// Delivers the run on a thread of its own, if it does not go on. The program waits for
    /// nothing: `logcore sync` delivers what is left.
    fn deliver_later(&self) {
        let Some(settings) = self.settings.clone() else { return };
        let dir = self.dir.clone();
        let work = move || {
            suppress_logging(|| {
                thread::sleep(DELAY);
                if !MlflowRun::is_open(&dir) {
                    // A failure leaves the run to a sync.
                    let _ = sync::deliver_run(&dir, settings, &SyncOptions::default(), &mut |_| {});
                }
            });
        };
        let thread = thread::Builder::new().name("logcore-mlflow-recovery".to_owned());
        let _ = thread.spawn(work);
    }
}

impl Sink for RecoveredSink {
    fn wants(&self, kind: EventKind) -> bool {
        kind == EventKind::Metrics
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.books.accepted += 1;
        self.books.spooled += 1;
        Ok(())
    }

    fn logger_ended(&mut self, _: &LoggerEnd, _: &LoggerSummary) {
        self.has_ended = true;
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        if self.has_ended {
            self.deliver_later();
        }
        Ok(())
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.books.clone())
    }
}
