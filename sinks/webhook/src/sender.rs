//! The thread that sends messages.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use logcore::{Deadline, suppress_logging};
use logcore_delivery::{
    DeliveryControl, DeliveryError, DeliveryErrorKind, DeliveryPosition, HttpClient, HttpReply, HttpSettings, Lane,
    RetryingClient, SecretFilter, quote,
};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::message::{Message, Source};
use crate::options::Destination;
use crate::outbox::Outbox;
use crate::payload::{self, PayloadKind};

/// The time in which a destination gets a number of messages.
const WINDOW: Duration = Duration::from_secs(60);

/// Sends the messages of an outbox until the run has ended.
pub(crate) struct Sender {
    outbox: Arc<Outbox>,
    control: Arc<DeliveryControl>,
    destination: Destination,
    source: Source,
    /// Times of the newest messages.
    sent_at: VecDeque<Instant>,
    /// `true` while messages wait because no more of them are allowed.
    is_limited: bool,
}

/// The requests to a destination.
struct WebhookApi {
    http: HttpClient,
    destination: Destination,
    secrets: SecretFilter,
}

impl Sender {
    /// Starts the thread, `logcore-webhook`.
    pub(crate) fn start(
        outbox: &Arc<Outbox>,
        control: &Arc<DeliveryControl>,
        destination: Destination,
        source: Source,
    ) -> io::Result<()> {
        let sender = Self {
            outbox: Arc::clone(outbox),
            control: Arc::clone(control),
            destination,
            source,
            sent_at: VecDeque::new(),
            is_limited: false,
        };
        let thread = thread::Builder::new().name("logcore-webhook".to_owned());
        thread.spawn(move || suppress_logging(|| sender.run()))?;
        Ok(())
    }

    fn run(mut self) {
        match WebhookApi::connect(&self.destination) {
            Ok(api) => {
                let client = RetryingClient {
                    api: Arc::new(api),
                    control: Arc::clone(&self.control),
                    lane: Lane::Alerts,
                };
                while let Some(message) = self.next_message() {
                    if !self.send(&client, &message) {
                        break;
                    }
                }
            }
            Err(error) => self.control.report_permanent(&error),
        }
        self.control.set_finished();
    }

    /// Waits for a message that may be sent. `None` if the run has ended, and all is sent.
    fn next_message(&mut self) -> Option<Message> {
        /// A wait that only the run interrupts.
        const LONG: Duration = Duration::from_secs(3600);
        loop {
            let is_ending = self.control.is_ending();
            if self.outbox.is_empty() {
                if is_ending {
                    return None;
                }
                self.control.wait_for_work(Deadline::after(LONG));
                continue;
            }
            let wait = self.time_to_next();
            if !wait.is_zero() {
                self.is_limited = true;
                if !is_ending {
                    self.control.wait_for_work(Deadline::after(wait));
                    continue;
                }
            }
            // Messages that came while no more of them were allowed are one message.
            if std::mem::take(&mut self.is_limited) {
                self.control
                    .drop_calls("summed up in one message", self.outbox.sum_up());
            }
            return self.outbox.first();
        }
    }

    /// Returns the time until another message is allowed.
    fn time_to_next(&self) -> Duration {
        match self.sent_at.front() {
            Some(first) if self.sent_at.len() >= self.destination.per_minute => WINDOW.saturating_sub(first.elapsed()),
            _ => Duration::ZERO,
        }
    }

    /// Sends the first message. Returns `false` if no time is left.
    fn send(&mut self, client: &RetryingClient<WebhookApi>, message: &Message) -> bool {
        let destination = &self.destination;
        let body = payload::encode(destination.kind, destination.template.as_ref(), message, &self.source);
        let sent = client.persist_unless(DeliveryError::is_of_item, |api| api.post(&body));
        match sent {
            Ok(()) => {}
            Err(error) if error.is_of_item() => {
                self.control
                    .drop_calls("refused by the server", u64::from(!message.is_left()));
                let text = format!("webhook: skipping the message `{}`: {error}", message.title);
                self.control.print_notice("message refused", &text);
            }
            Err(_) => return false,
        }
        while self.sent_at.front().is_some_and(|at| at.elapsed() >= WINDOW) {
            self.sent_at.pop_front();
        }
        self.sent_at.push_back(Instant::now());
        if self.sent_at.len() > destination.per_minute {
            self.sent_at.pop_front();
        }
        if let Err(error) = self.outbox.remove_first() {
            let text = format!("webhook: cannot note on disk what is sent: {error}; after a kill, messages may repeat");
            self.control.print_notice("state", &text);
        }
        let reached = self.outbox.sent();
        self.control.set_position(DeliveryPosition { reached, missing: 0 });
        true
    }
}

impl WebhookApi {
    fn connect(destination: &Destination) -> Result<Self, DeliveryError> {
        let settings = HttpSettings::new(destination.url.as_str(), destination.timeout);
        Ok(Self {
            http: HttpClient::start("webhook", &settings)?,
            secrets: SecretFilter::new(destination.secrets()),
            destination: destination.clone(),
        })
    }

    /// Sends a body once.
    fn post(&self, body: &str) -> Result<(), DeliveryError> {
        let request = self.http.client().post(self.destination.url.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let reply = self.http.send(request, body.to_owned())?;
        let status = reply.status.as_u16();
        if reply.status.is_success() {
            // A proxy answers with a page for people, and drops the message. Slack calls its `ok` a
            // page, too.
            return match reply.is_page() && reply.body.trim_start().starts_with('<') {
                true => Err(DeliveryError::temporary(
                    DeliveryErrorKind::NotUnderstood,
                    "the reply is a page for people, perhaps of a proxy that asks for a login",
                )),
                false => Ok(()),
            };
        }
        if reply.status.is_redirection() {
            let text = format!("the server redirects ({status}), which is not followed: use the address that it names");
            return Err(DeliveryError::permanent(DeliveryErrorKind::Refused, text));
        }
        let retry_after = reply.retry_after().max(self.retry_after_in_body(&reply));
        let meaning = match status {
            401 | 403 => Some("the server does not accept the address, or its owner may not write (401 or 403)"),
            404 | 410 => Some("the server does not know the address (404 or 410)"),
            _ => None,
        };
        let message = quote(&self.secrets.hide(&reply.body));
        let error = DeliveryError::from_status(status, meaning, &message, retry_after);
        Err(match status {
            // Another message may be accepted.
            400 | 413 | 415 | 422 => error.of_item(),
            _ => error,
        })
    }

    /// Returns the time that Discord names in the body: `{"retry_after": 1.5}`, in seconds.
    fn retry_after_in_body(&self, reply: &HttpReply) -> Option<Duration> {
        if self.destination.kind != PayloadKind::Discord {
            return None;
        }
        let body: Value = serde_json::from_str(&reply.body).ok()?;
        Duration::try_from_secs_f64(body["retry_after"].as_f64()?).ok()
    }
}
