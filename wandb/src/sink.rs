//! The sink `wandb`.

use std::path::Path;

use logcore::{
    Alert, BuildContext, ConfigError, Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, Notices,
    PendingDelivery, Record, ResumePoint, Sink, SinkBooks, SinkError, redacted,
};
use serde_json::Value;

use crate::message;
use crate::run::prepare;
use crate::run_log::RunResumePoint;
use crate::settings::{self, RunMode, WandbOptions};
use crate::target::{LogTarget, OpenRun, RecoveredRun};

/// Writes a W&B run: of this process, or of a killed process.
///
/// The registry creates this sink under the name `wandb`. For that, the program has to link this
/// crate.
///
/// ```
/// use logcore_wandb as _;
///
/// assert!(logcore::registry::sink_names().unwrap().contains(&"wandb"));
/// ```
pub struct WandbSink {
    /// `None` in the mode `disabled`.
    target: Option<Box<dyn LogTarget>>,
    exit_code: Option<i32>,
}

impl std::fmt::Debug for WandbSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WandbSink")
            .field("enabled", &self.target.is_some())
            .finish_non_exhaustive()
    }
}

impl WandbSink {
    /// Builds the sink for a logger that is being configured.
    fn build(options: WandbOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let settings = settings::resolve(options, context.config(), root(context), &|name| {
            std::env::var(name).ok()
        })?;
        if settings.mode == RunMode::Disabled {
            return Ok(Self {
                target: None,
                exit_code: None,
            });
        }
        let run = prepare::open_or_create(settings, context)?;
        Ok(Self::new(OpenRun::new(run)))
    }

    /// Builds the sink for the run of a killed process.
    fn recover(point: RunResumePoint<'static>, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        Ok(Self::new(RecoveredRun::open(&point, context)?))
    }

    fn new(target: impl LogTarget + 'static) -> Self {
        Self {
            target: Some(Box::new(target)),
            exit_code: None,
        }
    }
}

impl Sink for WandbSink {
    fn wants(&self, what: EventKind) -> bool {
        let Some(target) = &self.target else { return false };
        match what {
            EventKind::Record => target.has_console(),
            EventKind::Metrics | EventKind::Config | EventKind::Alert => true,
            _ => false,
        }
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.target.as_mut().map_or(Ok(()), |target| target.start(notices))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let Some(target) = &mut self.target else { return Ok(()) };
        target.write(&mut |log| log.console(record))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let Some(target) = &mut self.target else { return Ok(()) };
        target.write(&mut |log| log.metrics(batch))
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        let Some(target) = &mut self.target else { return Ok(()) };
        target.write(&mut |log| log.config(&redacted(config)))
    }

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        let Some(target) = &mut self.target else { return Ok(()) };
        target.write(&mut |log| log.alert(alert))
    }

    fn message(&mut self, text: &str) -> Result<(), SinkError> {
        let mut message = Some(message::parse(text)?);
        let Some(target) = &mut self.target else { return Ok(()) };
        target.write(&mut |log| message.take().map_or(Ok(()), |message| message.write_to(log)))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.target.as_mut().map_or(Ok(()), |target| target.write_out())
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        self.target.as_mut()?.resume_point()
    }

    /// Writes everything to the log. The server gets the log later.
    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.target.as_mut().map_or(Ok(()), |target| target.flush())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        self.exit_code = Some(end.exit_code);
        let best = summary
            .metrics
            .iter()
            .filter_map(|metric| Some((&metric.name, metric.best?)));
        let best: Vec<_> = best.collect();
        let energy = summary.gpu_energy_kwh;
        let is_empty = best.is_empty() && energy.is_none();
        let Some(target) = self.target.as_mut().filter(|_| !is_empty) else {
            return;
        };
        // A refusal is counted; there is no caller left to tell.
        let _ = target.write(&mut |log| {
            for (name, best) in &best {
                log.set_summary(&format!("best/{name}"), &best.value.into())?;
                log.set_summary(&format!("best/{name}_step"), &best.step.into())?;
            }
            // Readings of the machine are no rows in W&B, and so not in its summary.
            if let Some(energy) = energy {
                log.set_summary("gpu_energy_kwh", &energy.into())?;
            }
            Ok(())
        });
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let exit_code = self.exit_code;
        let Some(target) = &mut self.target else { return Ok(()) };
        target.finish(exit_code, deadline)
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        self.exit_code?;
        self.target.as_mut()?.pending_delivery()
    }

    fn is_remote(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.is_remote())
    }

    fn destination(&self) -> Option<String> {
        let folder = self.target.as_ref()?.folder()?;
        Some(folder.to_string_lossy().into_owned())
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.target.as_ref().map(|target| target.books()).unwrap_or_default())
    }
}

/// Returns the folder above the log directories of all runs; the log directory itself for a run
/// without a folder of its own.
fn root<'a>(context: &BuildContext<'a>) -> &'a Path {
    let log_dir = context.log_dir();
    match context.run().id().is_empty() || context.config().run == "flat" {
        true => log_dir,
        false => log_dir.parent().unwrap_or(log_dir),
    }
}

logcore::register_sink!("wandb", WandbSink::build, WandbSink::recover);
