//! Sends alerts. An alert that the server refuses delays nothing else.

use std::collections::VecDeque;
use std::time::Duration;

use logcore_delivery::{Circuit, DeliveryControl, DeliveryError, DeliveryErrorKind, Lane};
use serde_json::Value;

use crate::log_format::proto::AlertRecord;
use crate::upload::client::RetryingClient;
use crate::upload::client::run_identity::RunIdentity;

const ALERT: &str = "mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, $runName: String!, \
     $title: String!, $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) { \
     notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, runName: $runName, \
     title: $title, text: $text, severity: $severity, waitDuration: $waitDuration}) { success } }";

/// The alerts that have not been sent, in the order of the log.
#[derive(Default)]
pub(crate) struct AlertQueue {
    waiting: VecDeque<AlertRecord>,
    /// No alert is tried while this is open.
    circuit: Circuit,
}

impl AlertQueue {
    /// Adds alerts.
    pub(crate) fn add(&mut self, alerts: impl IntoIterator<Item = AlertRecord>) {
        self.waiting.extend(alerts);
    }

    /// Returns the number of waiting alerts.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the time until the next try, if an alert waits for one.
    pub(crate) fn time_to_retry(&self, is_ending: bool) -> Option<Duration> {
        (!self.waiting.is_empty()).then(|| self.circuit.time_to_retry(is_ending))
    }

    /// Sends the alerts that are due, and returns the number of alerts that are done. Each alert is
    /// tried once, because rows wait meanwhile.
    pub(crate) fn send(&mut self, client: &RetryingClient, run: &RunIdentity) -> usize {
        let control = &client.control;
        let before = self.waiting.len();
        let is_ending = control.is_ending();
        while let Some(alert) = self.waiting.front() {
            if !self.circuit.time_to_retry(is_ending).is_zero() {
                break;
            }
            control.request_started(Lane::Alerts);
            let sent = client
                .api
                .graphql("NotifyScriptableRunAlert", ALERT, variables(alert, run));
            match sent {
                Ok(_) => control.request_succeeded(Lane::Alerts),
                Err(error) if error.is_temporary() || error.kind() == DeliveryErrorKind::KeyRefused => {
                    control.request_failed(Lane::Alerts, &error);
                    self.circuit.open(&error, is_ending);
                    break;
                }
                Err(error) => skip(control, alert, &error),
            }
            self.waiting.pop_front();
            self.circuit.close();
        }
        before - self.waiting.len()
    }
}

/// Returns the variables of the request.
fn variables(alert: &AlertRecord, run: &RunIdentity) -> Value {
    let mut variables = run.variables();
    variables["title"] = alert.title.as_str().into();
    variables["text"] = alert.text.as_str().into();
    variables["severity"] = alert.level.as_str().into();
    variables["waitDuration"] = alert.wait_duration.into();
    variables
}

/// Drops an alert that the server does not accept.
fn skip(control: &DeliveryControl, alert: &AlertRecord, error: &DeliveryError) {
    control.drop_calls("refused by the server", 1);
    control.print_notice(
        "alert refused",
        &format!("W&B: skipping the alert `{}`: {error}", alert.title),
    );
}
