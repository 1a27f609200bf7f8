//! The thread that posts the status.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use logcore::{Deadline, files, suppress_logging};
use logcore_delivery::{
    Circuit, DeliveryControl, DeliveryError, DeliveryErrorKind, HttpClient, HttpSettings, Lane, SecretFilter, quote,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use crate::options::StatusServer;
use crate::status::{Status, StatusReport};

/// Time of a request without progress: that of Kubeflow's own client.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the longest token, and of the longest certificate.
const LONGEST_FILE: u64 = 1 << 20;

/// Posts the newest status, until the run has ended.
pub(crate) struct Reporter {
    pub(crate) status: Arc<Status>,
    pub(crate) control: Arc<DeliveryControl>,
    pub(crate) server: StatusServer,
    pub(crate) period: Duration,
}

impl Reporter {
    /// Starts the thread, `logcore-kubeflow`.
    pub(crate) fn start(self) -> io::Result<()> {
        let thread = thread::Builder::new().name("logcore-kubeflow".to_owned());
        thread.spawn(move || suppress_logging(|| self.run()))?;
        Ok(())
    }

    fn run(self) {
        let (mut api, mut circuit) = (None, Circuit::default());
        let mut next = Instant::now();
        while !self.control.is_ending() {
            let wait = next.saturating_duration_since(Instant::now());
            let wait = match wait.max(circuit.time_to_retry(false)) {
                Duration::ZERO if !self.status.is_news() => self.period,
                wait => wait,
            };
            if !wait.is_zero() {
                self.control.wait_for_work(Deadline::after(wait));
                continue;
            }
            next = Instant::now() + self.period;
            self.report(&mut api, &mut circuit);
        }
        // A run that goes on with another sink has no last status.
        while self.status.has_ended()
            && self
                .control
                .wait_to_retry(Lane::Rows, circuit.time_to_retry(true), true)
            && !self.report(&mut api, &mut circuit)
        {}
        self.control.set_finished();
    }

    /// Reports the newest status. Returns `false` if the server does not have it.
    fn report(&self, api: &mut Option<HttpClient>, circuit: &mut Circuit) -> bool {
        let is_ending = self.control.is_ending();
        let report = self.status.report();
        match self.post(api, &report) {
            Ok(()) => {
                circuit.close();
                self.control.request_succeeded(Lane::Rows);
                self.status.note_reported(&report);
                true
            }
            Err(error) => {
                // The certificate may have changed, so the next request reads it again.
                *api = None;
                // Every trouble may pass: tokens and certificates rotate, and the server may know
                // of the job later than its pods.
                let error = error.into_temporary();
                circuit.open(&error, is_ending);
                self.control.request_failed(Lane::Rows, &error);
                false
            }
        }
    }

    /// Posts a report once.
    fn post(&self, api: &mut Option<HttpClient>, report: &StatusReport) -> Result<(), DeliveryError> {
        let http = match api {
            Some(http) => http,
            None => api.insert(self.connect()?),
        };
        let token = read_text(&self.server.token_file, "the token")?;
        let token = token.trim();
        let mut login = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| unreadable(&self.server.token_file, "the token", "it is no token"))?;
        login.set_sensitive(true);
        let request = http.client().post(self.server.url.clone());
        let request = request
            .header(AUTHORIZATION, login)
            .header(CONTENT_TYPE, "application/json");
        let reply = http.send(request, report.body.clone())?;
        if reply.status.is_success() {
            return match reply.is_page() {
                true => Err(DeliveryError::temporary(
                    DeliveryErrorKind::NotUnderstood,
                    "the reply is a page for people, perhaps of a proxy that asks for a login",
                )),
                false => Ok(()),
            };
        }
        let message = quote(&SecretFilter::new([token.to_owned()]).hide(&reply.body));
        let meaning = match reply.status.as_u16() {
            // The server has this one answer for every token that it does not accept.
            403 => Some("the server does not accept the token for this TrainJob (403)"),
            404 => Some("the server does not know this TrainJob (404)"),
            422 => Some("the server does not accept the status (422)"),
            _ => None,
        };
        Err(DeliveryError::from_status(
            reply.status.as_u16(),
            meaning,
            &message,
            reply.retry_after(),
        ))
    }

    fn connect(&self) -> Result<HttpClient, DeliveryError> {
        let mut settings = HttpSettings::new(self.server.url.as_str(), TIMEOUT);
        if let Some(path) = &self.server.ca_file {
            settings = settings.authorities(read_text(path, "the certificate")?);
        }
        HttpClient::start("kubeflow", &settings)
    }
}

fn read_text(path: &Path, what: &str) -> Result<String, DeliveryError> {
    files::read_to_string(path, LONGEST_FILE).map_err(|error| unreadable(path, what, &error.to_string()))
}

fn unreadable(path: &Path, what: &str, why: &str) -> DeliveryError {
    let text = format!("cannot read {what} {}: {why}", path.display());
    DeliveryError::temporary(DeliveryErrorKind::Unreadable, text)
}
