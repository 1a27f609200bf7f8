//! The thread that posts the status.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use logcore::{Deadline, suppress_logging};
use logcore_delivery::{
    Circuit, DeliveryControl, DeliveryError, DeliveryErrorKind, HttpClient, HttpSettings, Lane, SecretFilter, quote,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use crate::options::StatusServer;
use crate::status::{Status, StatusReport};

/// Time of a request without progress.
const TIMEOUT: Duration = Duration::from_secs(10);
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
        let mut circuit = Circuit::default();
        let mut api = None;
        let mut next = Instant::now();
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            let wait = wait.max(circuit.time_to_retry(false));
            if !wait.is_zero() && !self.control.is_ending() {
                self.control.wait_for_work(Deadline::after(wait));
                continue;
            }
            let is_ending = self.control.is_ending();
            if !is_ending && !self.status.is_news() {
                self.control.wait_for_work(Deadline::after(self.period));
                continue;
            }
            next = Instant::now() + self.period;
            let report = self.status.report();
            match self.post(&mut api, &report) {
                Ok(()) => {
                    circuit.close();
                    self.control.request_succeeded(Lane::Rows);
                    self.status.note_reported(&report);
                }
                Err(error) => {
                    // The certificate may have changed, so the next request reads it again.
                    api = None;
                    circuit.open(&error, is_ending);
                    self.control.request_failed(Lane::Rows, &error);
                    let pause = circuit.time_to_retry(true).max(Duration::from_secs(1));
                    if is_ending && self.control.wait_to_retry(Lane::Rows, pause, false) {
                        continue;
                    }
                }
            }
            if is_ending {
                break;
            }
        }
        self.control.set_finished();
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
            return Ok(());
        }
        let secrets = SecretFilter::new([token.to_owned()]);
        let message = quote(&secrets.hide(&reply.body));
        let status = reply.status.as_u16();
        // All of them may pass: a token rotates, a job is told of later than its pods.
        let error = DeliveryError::from_status(status, None, &message, reply.retry_after());
        Err(match error.is_temporary() {
            true => error,
            false => DeliveryError::temporary(DeliveryErrorKind::Refused, error.to_string()),
        })
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
    let read = File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(LONGEST_FILE).read_to_string(&mut text).map(|_| text)
    });
    read.map_err(|error| unreadable(path, what, &error.to_string()))
}

fn unreadable(path: &Path, what: &str, why: &str) -> DeliveryError {
    let text = format!("cannot read {what} {}: {why}", path.display());
    DeliveryError::temporary(DeliveryErrorKind::Unreadable, text)
}
