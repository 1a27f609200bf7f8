//! Sinks for tests: one that records, one that fails, one that blocks, one that panics; and an environment of one's own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use log::Level;
use serde_json::Value;

use crate::{
    ConfigError, Deadline, EventKind, FieldValue, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricValue,
    Notices, PendingDelivery, ProgressEvent, ProgressKind, Record, ResumePoint, Sink, SinkBooks, SinkError, sync,
};

/// A sink that writes down every call, and the handle to read them.
///
/// ```
/// use logcore::{Record, Sink};
///
/// let (handle, mut sink) = logcore::testing::recording();
/// sink.record(&Record::new(logcore::log::Level::Warn, "trainer", "hot")).unwrap();
/// assert_eq!(handle.calls(), ["record WARN trainer hot"]);
/// ```
pub fn recording() -> (Recorded, RecordingSink) {
    let recorded = Recorded::default();
    (recorded.clone(), RecordingSink(recorded))
}

/// What a [`RecordingSink`] was given.
#[derive(Debug, Clone, Default)]
pub struct Recorded(Arc<Mutex<Vec<String>>>);

impl Recorded {
    /// Every call so far, one line each; `deliver`, which comes at any time, is left out.
    pub fn calls(&self) -> Vec<String> {
        sync::lock(&self.0).clone()
    }

    fn note(&self, call: String) {
        sync::lock(&self.0).push(call);
    }
}

/// Writes down every call. Made by [`recording`].
#[derive(Debug)]
pub struct RecordingSink(Recorded);

impl Sink for RecordingSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let mut call = format!(
            "record {} {} {}",
            record.level(),
            record.display_name(),
            record.message()
        );
        for (name, value) in record.fields() {
            call += &format!(" {name}={value}");
        }
        self.0.note(call);
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let mut call = format!("metrics {} {}", batch.logger(), batch.step());
        for (name, value) in batch.iter() {
            call += &format!(" {name}={value:?}");
        }
        self.0.note(call);
        Ok(())
    }

    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        let ProgressEvent {
            logger,
            description,
            kind,
            position,
            ..
        } = event;
        self.0
            .note(format!("progress {logger} {description} {kind:?} {position}"));
        Ok(())
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.0.note(format!("config {config}"));
        Ok(())
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.note("flush".to_owned());
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        self.0.note(format!("logger_ended {}", end.exit_code));
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.note("finish".to_owned());
        Ok(())
    }
}

/// Checks that a sink which wraps another passes on every call of [`Sink`] and every answer, an error at the latest with the
/// next call. A wrapper that works on a thread of its own is given time by a `flush` after each call.
///
/// ```
/// use logcore::Queued;
/// use logcore::testing::check_forwarding;
///
/// check_forwarding(|sink| Box::new(Queued::new(sink)));
/// ```
///
/// # Panics
///
/// If the wrapper keeps something to itself.
pub fn check_forwarding(wrap: impl FnOnce(Box<dyn Sink>) -> Box<dyn Sink>) {
    let expected = drive(|sink| sink);
    for method in METHODS {
        let is_driven = expected.iter().any(|line| line.starts_with(&format!("{method}(")));
        assert!(is_driven, "the check itself does not call `{method}`");
    }
    assert_eq!(drive(wrap), expected, "left: the wrapped sink, right: the sink alone");
}

/// Every method of [`Sink`]; a test compares them with the trait's.
const METHODS: [&str; 17] = [
    "wants",
    "start",
    "record",
    "metrics",
    "progress",
    "config",
    "message",
    "deliver",
    "resume_point",
    "flush",
    "logger_ended",
    "finish",
    "pending_delivery",
    "is_remote",
    "folds_repeats",
    "books",
    "destination",
];

/// One of the calls whose errors may come later.
type Call<'a> = dyn Fn(&mut dyn Sink) -> Result<(), SinkError> + 'a;

/// Calls every method; returns what a [`Telling`] sink within was given, and what its answers were by the way out.
fn drive(wrap: impl FnOnce(Box<dyn Sink>) -> Box<dyn Sink>) -> Vec<String> {
    let told = Recorded::default();
    let mut sink = wrap(Box::new(Telling(told.clone(), 0)));
    let soon = Deadline::after(Duration::from_secs(60));
    let mut answers = Vec::new();
    for what in [
        EventKind::Record,
        EventKind::Metrics,
        EventKind::Progress,
        EventKind::Config,
    ] {
        answers.push(format!("wants({what:?}) {}", sink.wants(what)));
    }
    answers.push(format!("destination() {:?}", sink.destination()));
    answers.push(format!("is_remote() {}", sink.is_remote()));
    answers.push(format!("folds_repeats() {}", sink.folds_repeats()));

    let fields = [
        ("lr", FieldValue::Float(0.5)),
        ("batch", FieldValue::Json("[1]".into())),
    ];
    let record = Record::at(UNIX_EPOCH, Level::Warn, "trainer", "a message")
        .with_facade_target("app::data")
        .with_fields(&fields);
    let values = [
        ("loss", MetricValue::Float(0.5)),
        ("epoch", MetricValue::UInt(u64::MAX)),
    ];
    let mut event = ProgressEvent::new(ProgressKind::Advanced, 7, "trainer", "work");
    (event.time, event.position, event.total) = (UNIX_EPOCH, 3, Some(9));
    (event.samples, event.rate, event.samples_per_sec) = (Some(96), Some(2.0), Some(64.0));
    (event.eta, event.elapsed) = (Some(Duration::from_secs(3)), Duration::from_secs(2));
    (event.line, event.leave) = (4, false);
    let said = Recorded::default();
    let notices = Notices::new({
        let said = said.clone();
        move |kind, text| said.note(format!("{kind}: {text}"))
    });
    let calls: [(&str, &Call<'_>); 7] = [
        ("start", &|sink| sink.start(&notices)),
        ("record", &|sink| sink.record(&record)),
        ("metrics", &|sink| {
            sink.metrics(&MetricBatch::at(UNIX_EPOCH, "trainer", 12, &values))
        }),
        ("progress", &|sink| sink.progress(&event)),
        ("config", &|sink| sink.config(&serde_json::json!({"lr": [1, null]}))),
        ("message", &|sink| sink.message("for it alone")),
        ("deliver", &|sink| sink.deliver()),
    ];
    for (name, call) in calls {
        // An error of the call may be told by the flush.
        let results = [call(&mut *sink), sink.flush(soon)];
        let reason = results.iter().find_map(|result| result.as_ref().err());
        answers.push(format!("{name} failed for {:?}", reason.map(SinkError::reason)));
        // So that the next call is not told of this one.
        let _ = sink.flush(soon);
    }
    answers.push(format!("resume_point() {:?}", sink.resume_point()));
    answers.push(format!("books() {:?}", sink.books()));
    let mut summary = LoggerSummary::default();
    (summary.last_step, summary.warnings) = (Some(12), 1);
    sink.logger_ended(&LoggerEnd::from_exit_code(3), &summary);
    let finished = sink.finish(soon);
    answers.push(format!(
        "finish failed for {:?}",
        finished.err().as_ref().map(SinkError::reason)
    ));
    answers.push(match sink.pending_delivery() {
        None => "pending_delivery() None".to_owned(),
        Some(wait) => {
            let (books, result) = wait(soon);
            let reason = result.err().map(|error| error.reason().to_owned());
            format!("pending_delivery() {books:?} {reason:?}")
        }
    });
    answers.extend(said.calls());
    // Asking and flushing may be done as often as a wrapper needs to.
    let mut told = told.calls();
    told.dedup_by(|next, line| next == line && line.starts_with("flush"));
    told.extend(answers);
    told
}

/// Tells of every call, and has an answer to each that is not the default.
struct Telling(Recorded, u64);

impl Telling {
    fn take(&mut self, call: String, reason: Option<&'static str>) -> Result<(), SinkError> {
        self.1 += 1;
        self.0.note(call);
        reason.map_or(Ok(()), |reason| Err(SinkError::new("made to fail").with_reason(reason)))
    }

    fn account(&self) -> SinkBooks {
        let mut books = SinkBooks::default();
        (books.accepted, books.delivered, books.spooled) = (self.1 + 5, self.1, 2);
        books.drop_for("its own reason", 3);
        books
    }
}

impl Sink for Telling {
    fn wants(&self, what: EventKind) -> bool {
        matches!(what, EventKind::Record | EventKind::Progress)
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        notices.print("address", "it is here");
        self.take("start()".to_owned(), Some("start"))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.take(format!("record({record:?})"), Some("record"))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let values: Vec<_> = batch.iter().collect();
        let (logger, step, time) = (batch.logger(), batch.step(), batch.time());
        self.take(format!("metrics({logger} {step} {time:?} {values:?})"), Some("metrics"))
    }

    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        self.take(format!("progress({event:?})"), None)
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.take(format!("config({config})"), Some("config"))
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        self.take(format!("message({message})"), Some("message"))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.0.note("deliver()".to_owned());
        Err(SinkError::new("made to fail").with_reason("deliver"))
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        ResumePoint::new(&self.1)
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.note("flush()".to_owned());
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        self.0.note(format!("logger_ended({end:?} {summary:?})"));
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.take("finish()".to_owned(), Some("finish"))
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let books = self.account();
        Some(Box::new(move |_| {
            (books, Err(SinkError::new("made to fail").with_reason("remainder")))
        }))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn folds_repeats(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.account())
    }

    fn destination(&self) -> Option<String> {
        Some("a place".to_owned())
    }
}

/// Fails at every record and metric, for the reason it is given.
#[derive(Debug)]
pub struct FailingSink(pub &'static str);

impl Sink for FailingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        Err(SinkError::new("made to fail").with_reason(self.0))
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Err(SinkError::new("made to fail").with_reason(self.0))
    }
}

/// Panics at every record.
#[derive(Debug)]
pub struct PanickingSink;

impl Sink for PanickingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        panic!("made to panic")
    }
}

/// Blocks at every record until its gate is opened.
#[derive(Debug)]
pub struct BlockingSink(pub Gate);

impl Sink for BlockingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        self.0.pass();
        Ok(())
    }
}

/// [`LogConfig::with_env`] with these variables in the place of the environment, which a test cannot change for itself alone.
/// Their names are those behind `LOGCORE_`.
///
/// # Errors
///
/// The same.
///
/// ```
/// use logcore::LogConfig;
/// use logcore::testing::with_variables;
///
/// let variables = [("FILENAME".to_owned(), "run.log".to_owned())];
/// assert_eq!(with_variables(LogConfig::default(), variables)?.filename, "run.log");
/// # Ok::<(), logcore::ConfigError>(())
/// ```
pub fn with_variables(
    config: LogConfig,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<LogConfig, ConfigError> {
    config.with_variables(variables.into_iter().map(|(name, value)| (name, Ok(value))))
}

/// Holds up a [`BlockingSink`]; closed at first.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

impl Gate {
    /// Lets everything through from now on.
    pub fn open(&self) {
        self.lock().open = true;
        self.0.1.notify_all();
    }

    /// Waits until something stands before the gate.
    pub fn wait_for_visitor(&self) {
        let mut state = self.lock();
        while state.visitors == 0 {
            state = sync::wait(&self.0.1, state);
        }
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.visitors += 1;
        self.0.1.notify_all();
        while !state.open {
            state = sync::wait(&self.0.1, state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        sync::lock(&self.0.0)
    }
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    visitors: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_of_wrappers_calls_every_method_there_is() {
        let text = include_str!("sink.rs");
        let body = text
            .split_once("pub trait Sink")
            .and_then(|(_, rest)| rest.split_once("\n}\n"));
        let methods: Vec<&str> = body
            .map_or("", |(body, _)| body)
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("fn ")?.split(['(', '<']).next())
            .collect();
        assert_eq!(
            methods, METHODS,
            "add the new method to `drive`, to `Telling` and to every wrapper"
        );
    }

    #[test]
    fn a_box_forwards_everything() {
        // A box of a box: the outer one is the wrapper.
        check_forwarding(|sink| Box::new(sink));
    }

    #[test]
    #[should_panic(expected = "the wrapped sink")]
    fn a_wrapper_that_keeps_something_to_itself_is_found() {
        struct Forgetful(Box<dyn Sink>);
        impl Sink for Forgetful {
            fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
                self.0.record(record)
            }
        }
        check_forwarding(|sink| Box::new(Forgetful(sink)));
    }
}
