//! Alerts go beside the rows: one that a server does not take holds nothing else up.

use std::collections::VecDeque;
use std::time::Duration;

use logcore::Deadline;
use serde_json::Value;

use crate::log_format::proto::AlertRecord;
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::retry::{Backoff, RetryingClient, RunIdentity};
use crate::upload::state::control::{DeliveryControl, Lane};

const ALERT: &str = "mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, $runName: String!, \
     $title: String!, $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) { \
     notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, runName: $runName, \
     title: $title, text: $text, severity: $severity, waitDuration: $waitDuration}) { success } }";

/// Alerts that have not been sent, in their order.
#[derive(Default)]
pub(crate) struct AlertQueue {
    waiting: VecDeque<AlertRecord>,
    /// When the first may be tried again.
    next: Option<Deadline>,
    backoff: Backoff,
    /// A try has failed before the run ended.
    failed_before_end: bool,
}

impl AlertQueue {
    pub(crate) fn add(&mut self, alerts: impl IntoIterator<Item = AlertRecord>) {
        self.waiting.extend(alerts);
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How long until there is something to do, if anything waits.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.next
            .filter(|_| !self.waiting.is_empty())
            .map(|next| next.remaining())
    }

    /// Sends those whose time has come; returns how many are done with. Each is tried once: rows wait meanwhile.
    pub(crate) fn send(&mut self, client: &RetryingClient, run: &RunIdentity) -> usize {
        let control = &client.control;
        let before = self.waiting.len();
        let ending = control.ending();
        if self.failed_before_end && ending {
            // The end deserves a try of its own.
            (self.failed_before_end, self.next) = (false, None);
        }
        while let Some(alert) = self.waiting.front() {
            if self.next.is_some_and(|next| !next.has_passed()) {
                break;
            }
            control.begin(Lane::Alerts);
            let sent = client
                .api
                .graphql("NotifyScriptableRunAlert", ALERT, variables(alert, run));
            match sent {
                Ok(_) => control.well(Lane::Alerts),
                Err(error) if error.again || error.trouble == UploadErrorKind::KeyRefused => {
                    control.trouble(Lane::Alerts, &error);
                    self.failed_before_end = !ending && error.after.is_none();
                    self.next = Some(Deadline::after(self.backoff.next(&error, ending)));
                    break;
                }
                Err(error) => leave_out(control, alert, &error),
            }
            self.waiting.pop_front();
            self.next = None;
            self.backoff = Backoff::default();
        }
        before - self.waiting.len()
    }
}

fn variables(alert: &AlertRecord, run: &RunIdentity) -> Value {
    let mut variables = run.variables();
    variables["title"] = alert.title.as_str().into();
    variables["text"] = alert.text.as_str().into();
    variables["severity"] = alert.level.as_str().into();
    variables["waitDuration"] = alert.wait_duration.into();
    variables
}

fn leave_out(control: &DeliveryControl, alert: &AlertRecord, error: &UploadError) {
    control.drop_for("refused by the server", 1);
    control.say(
        "alert refused",
        &format!("W&B: the alert `{}` is left out: {error}", alert.title),
    );
}
