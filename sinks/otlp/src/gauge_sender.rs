//! The thread that sends the metrics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use logcore::{Deadline, suppress_logging};
use logcore_delivery::{Circuit, DeliveryControl, DeliveryError, Lane, RetryingClient};

use crate::client::OtlpClient;
use crate::gauges::{GaugeExport, Gauges};
use crate::message::{MetricsRequest, Resource, ResourceMetrics, Scope, ScopeMetrics};
use crate::settings::Endpoint;

/// Sends the newest values each period, until the run has ended.
pub(crate) struct GaugeSender {
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) counts: Arc<GaugeCounts>,
    pub(crate) control: Arc<DeliveryControl>,
    pub(crate) endpoint: Endpoint,
    pub(crate) resource: Resource,
    pub(crate) period: Duration,
}

/// Numbers of calls by their outcome.
#[derive(Debug, Default)]
pub(crate) struct GaugeCounts {
    pub(crate) delivered: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl GaugeSender {
    /// Starts the thread, `logcore-otlp-metrics`.
    pub(crate) fn start(self) -> io::Result<()> {
        let thread = thread::Builder::new().name("logcore-otlp-metrics".to_owned());
        thread.spawn(move || suppress_logging(|| self.run()))?;
        Ok(())
    }

    fn run(self) {
        match OtlpClient::start("otlp-metrics", &self.endpoint) {
            Ok(api) => self.deliver(&RetryingClient {
                api: Arc::new(api),
                control: Arc::clone(&self.control),
                lane: Lane::Rows,
            }),
            Err(error) => self.control.report_permanent(&error),
        }
        self.control.set_finished();
    }

    fn deliver(&self, client: &RetryingClient<OtlpClient>) {
        let mut circuit = Circuit::default();
        let mut next = Instant::now() + self.period;
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            self.control
                .wait_for_work(Deadline::after(wait.max(circuit.time_to_retry(false))));
            if self.control.is_ending() {
                // The last values have until the deadline.
                if let Some(export) = self.gauges.export() {
                    let sent = client.persist_unless(DeliveryError::is_of_item, |api| api.send(&self.request(&export)));
                    match sent {
                        Ok(refused) => self.count(&export, refused.rejected, &refused.error_message),
                        Err(error) if error.is_of_item() => self.count(&export, i64::MAX, &error.to_string()),
                        Err(_) => self.gauges.take_back(&export),
                    }
                }
                return;
            }
            next = Instant::now() + self.period;
            if !circuit.time_to_retry(false).is_zero() {
                continue;
            }
            let Some(export) = self.gauges.export() else { continue };
            match client.api.send(&self.request(&export)) {
                Ok(refused) => {
                    circuit.close();
                    self.control.request_succeeded(client.lane);
                    self.count(&export, refused.rejected, &refused.error_message);
                }
                Err(error) if error.is_of_item() => self.count(&export, i64::MAX, &error.to_string()),
                Err(error) => {
                    circuit.open(&error, false);
                    self.control.request_failed(client.lane, &error);
                    self.gauges.take_back(&export);
                }
            }
        }
    }

    fn request(&self, export: &GaugeExport) -> MetricsRequest {
        MetricsRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(Scope::of_logcore()),
                    metrics: export.metrics.clone(),
                }],
            }],
        }
    }

    /// Counts the calls of an export, of which the receiver has refused a number of values. A call
    /// of which one value is missing counts as refused.
    fn count(&self, export: &GaugeExport, rejected: i64, why: &str) {
        let rejected = u64::try_from(rejected).unwrap_or(0).min(export.calls);
        self.counts
            .delivered
            .fetch_add(export.calls - rejected, Ordering::Relaxed);
        self.counts.refused.fetch_add(rejected, Ordering::Relaxed);
        if rejected > 0 {
            let why = logcore_delivery::quote(why);
            let text = format!("OpenTelemetry: the receiver refuses metrics, which are dropped: {why}");
            self.control.print_notice("metrics refused", &text);
        }
    }
}
