//! The sink `kubeflow`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, Notices, PendingDelivery,
    ProgressEvent, RunEnd, Sink, SinkBooks, SinkError,
};
use logcore_delivery::DeliveryControl;

use crate::options::{KubeflowOptions, StatusServer};
use crate::reporter::Reporter;
use crate::status::Status;

/// The right to report. One sink of a process has it, because a TrainJob has one status.
struct ReportRight;

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

impl ReportRight {
    /// Takes the right; `None` if another sink has it.
    fn take() -> Option<Self> {
        (!IS_TAKEN.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for ReportRight {
    fn drop(&mut self) {
        IS_TAKEN.store(false, Ordering::Release);
    }
}

/// Reports progress and metrics to Kubeflow Trainer. It is registered as `kubeflow`.
///
/// ```
/// use logcore_kubeflow as _;
///
/// assert!(logcore::registry::sink_names().unwrap().contains(&"kubeflow"));
/// ```
pub struct KubeflowSink {
    /// The way to the status, or the reason why there is none.
    server: Result<StatusServer, String>,
    is_first_rank: bool,
    status: Arc<Status>,
    control: Arc<DeliveryControl>,
    options: KubeflowOptions,
    /// `None` before the start, after the end, and in a sink that does not report.
    right: Option<ReportRight>,
}

impl KubeflowSink {
    fn build(options: KubeflowOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        options.check()?;
        let config = context.config();
        Ok(Self {
            server: options.find_server(&|name| std::env::var(name).ok()),
            is_first_rank: context.ranks().is_first(),
            status: Arc::new(Status::new(options.metrics(), &config.metrics_prefix)),
            control: Arc::new(DeliveryControl::new("Kubeflow", None).keeping("the newest status waits")),
            options,
            right: None,
        })
    }
}

impl Sink for KubeflowSink {
    fn wants(&self, kind: EventKind) -> bool {
        let has_status = self.is_first_rank && self.server.is_ok();
        has_status && matches!(kind, EventKind::Metrics | EventKind::Progress)
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.control.set_notices(notices.clone());
        if !self.is_first_rank {
            return Ok(());
        }
        let server = match &self.server {
            Ok(server) => server.clone(),
            Err(reason) => {
                notices.print("kubeflow", reason);
                return Ok(());
            }
        };
        if let Some(right) = ReportRight::take() {
            let reporter = Reporter {
                status: Arc::clone(&self.status),
                control: Arc::clone(&self.control),
                server,
                period: self.options.period(),
            };
            reporter.start()?;
            self.right = Some(right);
        }
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        if self.right.is_some() && self.status.take_metrics(batch) {
            self.control.notify();
        }
        Ok(())
    }

    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        if self.right.is_some() && self.status.take_progress(event) {
            self.control.notify();
        }
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        self.status.end(end.run_end == RunEnd::Finished);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        if self.right.is_some() {
            self.control.run_ended(deadline);
        }
        Ok(())
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        // Nobody runs the pending delivery of a sink that another replaces, which may report at
        // once.
        drop(self.right.take()?);
        let (status, control) = (Arc::clone(&self.status), Arc::clone(&self.control));
        Some(Box::new(move |deadline| {
            control.wait_until_finished(deadline);
            (count(&status, true), Ok(()))
        }))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(count(&self.status, false))
    }
}

impl Drop for KubeflowSink {
    fn drop(&mut self) {
        if self.right.is_some() {
            self.control.run_ended(Deadline::after(Duration::ZERO));
        }
    }
}

impl fmt::Debug for KubeflowSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeflowSink")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Returns the books. A call counts as delivered once the server has a status with it in it.
fn count(status: &Status, has_ended: bool) -> SinkBooks {
    let (calls, reported) = status.counts();
    let mut books = SinkBooks::default();
    books.accepted = calls;
    books.delivered = reported;
    match has_ended {
        true => books.drop_for("status not sent", calls - reported),
        false => books.spooled = calls - reported,
    }
    books
}

logcore::register_sink!("kubeflow", KubeflowSink::build);
