//! The sink `webhook`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use logcore::{
    Alert, BuildContext, ConfigError, Deadline, EventKind, LoggerEnd, LoggerSummary, Notices, PendingDelivery, Record,
    ResumePoint, Sink, SinkBooks, SinkError,
};
use logcore_delivery::{DeliveryControl, DeliveryPosition, SpoolBooks};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::{Message, Source};
use crate::options::{Destination, RecordChoice, WebhookOptions, WebhookSettings};
use crate::outbox::Outbox;
use crate::sender::Sender;
use crate::state_file::{SavedState, StateFile};

/// Time for the messages of a killed process, which a thread of the next process sends.
const TIME_AFTER_KILL: Duration = Duration::from_secs(600);
/// Time for which a start waits for them, so that a program that ends soon sends them, too.
const WAIT_AFTER_KILL: Duration = Duration::from_secs(1);

/// Sends alerts and the end of a run.
///
/// The registry creates this sink under the name `webhook`. For that, the program has to link this
/// crate.
///
/// ```
/// use logcore_webhook as _;
///
/// assert!(logcore::registry::sink_names().unwrap().contains(&"webhook"));
/// assert!(logcore::registry::can_recover("webhook"));
/// ```
pub struct WebhookSink {
    /// `None` if the config of the process that recovers the run has another destination.
    destination: Option<Destination>,
    source: Source,
    records: RecordChoice,
    /// Whether the end of the logger is a message.
    has_end: bool,
    outbox: Arc<Outbox>,
    run_dir: PathBuf,
    control: Arc<DeliveryControl>,
    books: SpoolBooks,
    /// Number of accepted calls.
    calls: u64,
    is_sending: bool,
    is_recovered: bool,
}

/// State from which another process continues.
#[derive(Serialize, Deserialize)]
struct WebhookResumeState {
    source: Source,
    destination: String,
    records: RecordChoice,
    has_end: bool,
    calls: u64,
    /// The messages that wait, without those of earlier attempts, which the file has.
    waiting: Vec<Message>,
    /// The file of the state, relative to the folder of the run.
    file: PathBuf,
}

impl WebhookSink {
    fn build(options: WebhookOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let WebhookSettings {
            destination,
            records,
            has_end,
        } = options.resolve()?;
        let source = Source::of(context);
        let fingerprint = destination.fingerprint();
        let saved = SavedState {
            source: source.clone(),
            destination: fingerprint,
            ..SavedState::default()
        };
        Ok(Self {
            destination: Some(destination),
            // One message tells the end of the run, however many loggers and ranks it has.
            has_end: has_end && context.ranks().is_first() && source.logger == source.run,
            source,
            records,
            outbox: Arc::new(Outbox::new(Vec::new(), saved, StateFile::new(context.log_dir()))),
            run_dir: context.log_dir().to_owned(),
            control: new_control(),
            books: SpoolBooks::default(),
            calls: 0,
            is_sending: false,
            is_recovered: false,
        })
    }

    /// Continues the delivery of a killed process.
    fn recover(state: WebhookResumeState, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        context.resolve_beneath(&state.file)?;
        let mut file = StateFile::at(context.log_dir(), &state.file);
        // Children of the killed process may have inherited the lock.
        if !file.lock()? && !context.is_for_dead_process() {
            return Err(io::Error::from(io::ErrorKind::ResourceBusy).into());
        }
        let on_disk = file.load()?;
        let sent = on_disk.sent;
        let left = on_disk.unsent.into_iter().filter(Message::is_left);
        let waiting = state.waiting.into_iter().filter(|message| message.number > sent);
        let saved = SavedState {
            source: state.source.clone(),
            destination: state.destination.clone(),
            sent,
            unsent: Vec::new(),
        };
        let control = new_control();
        control.set_position(DeliveryPosition {
            reached: sent,
            missing: 0,
        });
        Ok(Self {
            destination: destination_of_start(context).filter(|found| found.fingerprint() == state.destination),
            source: state.source,
            records: state.records,
            has_end: state.has_end,
            outbox: Arc::new(Outbox::new(left.chain(waiting).collect(), saved, file)),
            run_dir: context.log_dir().to_owned(),
            control,
            books: SpoolBooks::default(),
            calls: state.calls,
            is_sending: false,
            is_recovered: true,
        })
    }

    /// Takes a call with a message.
    fn take(&mut self, message: Message) -> Result<(), SinkError> {
        self.calls += 1;
        self.books.accept();
        let number = self.calls;
        if number <= self.outbox.sent() {
            // The killed process has sent it.
            self.books.spool();
            self.books.mark(number, 0);
            return Ok(());
        }
        if !self.outbox.push(Message { number, ..message }) {
            self.books.reject("queue full");
            return Err(SinkError::new("no room: 100 messages wait for the server").with_reason("queue full"));
        }
        self.books.spool();
        self.books.mark(number, 0);
        match self.is_recovered {
            // The calls of the killed process come first.
            true => Ok(()),
            false => self.start_sending(),
        }
    }

    /// Wakes the thread, and starts it before the first message.
    fn start_sending(&mut self) -> Result<(), SinkError> {
        let Some(destination) = &self.destination else {
            return Ok(());
        };
        if !self.is_sending {
            Sender::start(&self.outbox, &self.control, destination.clone(), self.source.clone())?;
            self.is_sending = true;
        }
        // A flush is remembered until the thread has seen it.
        self.control.request_flush();
        Ok(())
    }

    fn current_books(&self) -> SinkBooks {
        count(&self.books, &self.control)
    }
}

impl Sink for WebhookSink {
    fn wants(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Record => self.records != RecordChoice::Off,
            EventKind::Alert => true,
            _ => false,
        }
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.control.set_notices(notices.clone());
        if self.is_recovered {
            return Ok(());
        }
        // Not before, because a sink may be built only to try a config.
        let taken = self.outbox.take_left(&self.run_dir);
        if !self.outbox.is_empty() {
            self.start_sending()?;
        }
        taken.map_err(|error| SinkError::from(error).doing("take over the messages of an earlier attempt"))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        match self.records.includes(record.level()) {
            true => self.take(Message::record(record)),
            false => Ok(()),
        }
    }

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        self.take(Message::alert(alert))
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let destination = self.destination.as_ref()?.fingerprint();
        ResumePoint::new(&WebhookResumeState {
            source: self.source.clone(),
            destination,
            records: self.records,
            has_end: self.has_end,
            calls: self.calls,
            waiting: self.outbox.waiting_in_memory(),
            file: self.outbox.relative_path(),
        })
    }

    /// The thread sends at once; there is nothing to write.
    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        if self.has_end {
            // The end always has room. If the thread does not start, `finish` tells.
            let _ = self.take(Message::end(&self.source.run, end, summary));
        }
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let saved = self.outbox.close();
        if self.outbox.is_empty() && !self.is_sending {
            return Ok(());
        }
        let deadline = match self.is_recovered {
            true => Deadline::after(TIME_AFTER_KILL),
            false => deadline,
        };
        self.start_sending()?;
        self.control.run_ended(deadline);
        if self.destination.is_none() {
            let text = format!(
                "webhook: {} of a killed run are not sent, because this start has no such webhook; they are in {}",
                messages(self.outbox.len()),
                self.outbox.path().display()
            );
            self.control.print_notice("not sent", &text);
        }
        if self.is_recovered && self.is_sending {
            self.control.wait_until_finished(Deadline::after(WAIT_AFTER_KILL));
        }
        saved.map_err(|error| SinkError::from(error).doing("keep the messages on disk until they are sent"))
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        if !self.is_sending {
            return None;
        }
        let (outbox, control) = (Arc::clone(&self.outbox), Arc::clone(&self.control));
        let books = self.books.clone();
        Some(Box::new(move |deadline| {
            control.wait_until_finished(deadline);
            let left = outbox.len();
            let result = match (left, control.current_error()) {
                (0, _) => Ok(()),
                (left, error) => {
                    let cause = error.map_or_else(|| "no time was left".to_owned(), |error| error.to_string());
                    let place = outbox.path();
                    let text = format!(
                        "{} are not sent: {cause}; they are in {}",
                        messages(left),
                        place.display()
                    );
                    Err(SinkError::new(text).with_reason("not sent"))
                }
            };
            (count(&books, &control), result)
        }))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn folds_repeats(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.current_books())
    }
}

impl fmt::Debug for WebhookSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSink")
            .field("source", &self.source)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

fn new_control() -> Arc<DeliveryControl> {
    Arc::new(DeliveryControl::new("webhook", None).keeping("its messages wait"))
}

/// Returns the books as far as the delivery has come.
fn count(books: &SpoolBooks, control: &DeliveryControl) -> SinkBooks {
    let mut counted = books.clone().delivered_to(control.position());
    control.book_dropped(&mut counted);
    counted
}

/// Returns the destination in the config of this start.
fn destination_of_start(context: &BuildContext<'_>) -> Option<Destination> {
    let options = context.config().sinks.get("webhook")?;
    if !matches!(options, Value::Object(_)) {
        return None;
    }
    let options: WebhookOptions = serde_json::from_value(options.clone()).ok()?;
    options.resolve().ok().map(|settings| settings.destination)
}

/// Counts messages in words.
fn messages(count: usize) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

logcore::register_sink!("webhook", WebhookSink::build, WebhookSink::recover);
