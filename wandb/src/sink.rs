use std::sync::Arc;
use std::time::Duration;

use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, Notices, PendingDelivery,
    Record, ResumePoint, Sink, SinkBooks, SinkError, redacted,
};
use serde_json::Value;

use crate::message::Message;
use crate::recovered::RecoveredSink;
use crate::run::prepare;
use crate::run::{ABANDONED, WandbRun};
use crate::settings::{self, RunMode, WandbOptions};

/// Writes a W&B run.
///
/// It is made by its name, for which its crate has to be linked.
///
/// ```
/// use logcore_wandb as _;
///
/// assert!(logcore::registry::sink_names().unwrap().contains(&"wandb"));
/// ```
pub struct WandbSink {
    /// `None` where W&B is switched off.
    run: Option<Arc<WandbRun>>,
    exit_code: Option<i32>,
    finished: bool,
}

impl WandbSink {
    fn build(options: WandbOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let settings = settings::resolve(options, context.config(), &|name| std::env::var(name).ok())?;
        if settings.mode == RunMode::Disabled {
            return Ok(Self {
                run: None,
                exit_code: None,
                finished: false,
            });
        }
        // A new configuration of a run that goes on is no new run.
        let open = WandbRun::of(context.logger()).filter(|open| open.settings.same_run(&settings));
        let run = match open {
            Some(run) => run,
            None => prepare::prepare(settings, context)?,
        };
        run.add_user();
        Ok(Self {
            run: Some(run),
            exit_code: None,
            finished: false,
        })
    }

    fn write(
        &self,
        call: impl FnOnce(&mut crate::run_log::RunLog) -> Result<(), crate::run_log::CallRejection>,
    ) -> Result<(), SinkError> {
        self.run.as_ref().map_or(Ok(()), |run| run.write(call))
    }
}

impl Sink for WandbSink {
    fn wants(&self, what: EventKind) -> bool {
        match (&self.run, what) {
            (None, _) => false,
            (Some(run), EventKind::Record) => run.settings.console,
            (_, EventKind::Metrics | EventKind::Config) => true,
            _ => false,
        }
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.run.as_ref().map_or(Ok(()), |run| run.start(notices))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.write(|log| log.console(record))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.write(|log| log.metrics(batch))
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.write(|log| log.config(&redacted(config)))
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        let message = read_message(message)?;
        self.write(|log| message.write_to(log))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        let Some(run) = &self.run else { return Ok(()) };
        run.write_out()
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        self.run.as_ref()?.resume_point()
    }

    /// Everything is in the log when this returns; the server gets it without being waited for.
    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        let Some(run) = &self.run else { return Ok(()) };
        run.write_out()?;
        run.control.urge();
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        self.exit_code = Some(end.exit_code);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.finished = true;
        let Some(run) = &self.run else { return Ok(()) };
        let others = run.drop_user();
        if self.exit_code.is_none() && others {
            let written = run.write_out();
            // From here on the other sink speaks for the run: its account has what this one was given.
            self.run = None;
            return written;
        }
        run.end(self.exit_code.unwrap_or(0), deadline);
        settings::forget_after(&run.settings, self.exit_code);
        match self.exit_code {
            // What waits for room on the disk holds up nobody but those who wait for the remainder.
            Some(_) => Ok(()),
            None => run.write_end(Deadline::after(Duration::ZERO)),
        }
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let run = Arc::clone(self.run.as_ref().filter(|_| self.exit_code.is_some())?);
        Some(Box::new(move |deadline| run.settle(deadline)))
    }

    fn is_remote(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.is_online())
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.run.as_ref().map(|run| run.books()).unwrap_or_default())
    }
}

/// What a program has said to its run alone.
pub(crate) fn read_message(text: &str) -> Result<Message, SinkError> {
    serde_json::from_str(text)
        .map_err(|error| SinkError::new(format!("a message that is none: {error}")).with_reason("not understood"))
}

impl Drop for WandbSink {
    fn drop(&mut self) {
        if let Some(run) = self.run.as_ref().filter(|_| !self.finished)
            && !run.drop_user()
        {
            run.end(0, Deadline::after(ABANDONED));
        }
    }
}

logcore::register_sink!("wandb", WandbSink::build, RecoveredSink::recover);
