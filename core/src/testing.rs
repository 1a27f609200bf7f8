//! Test doubles: sinks that record, fail, block or panic, and a check for sinks that wrap other
//! sinks.
//!
//! Needs the feature `testing`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use log::Level;
use serde_json::Value;

use crate::{
    Alert, AlertLevel, ConfigError, Deadline, EventKind, FieldValue, LogConfig, LoggerEnd, LoggerSummary, MediaContent,
    MediaDescription, MediaItem, MetricBatch, MetricValue, Notices, PendingDelivery, ProgressEvent, ProgressKind,
    Record, ResumePoint, Sink, SinkBooks, SinkError, sync,
};

/// Creates a sink that records every call, and a handle to read the calls.
///
/// ```
/// use logcore::{Record, Sink};
///
/// let (handle, mut sink) = logcore::testing::recording();
/// sink.record(&Record::new(logcore::log::Level::Warn, "trainer", "hot")).unwrap();
/// assert_eq!(handle.calls(), ["record WARN trainer hot"]);
/// ```
#[must_use]
pub fn recording() -> (RecordedCalls, RecordingSink) {
    let calls = RecordedCalls::default();
    (calls.clone(), RecordingSink(calls))
}

/// The calls that a [`RecordingSink`] received. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct RecordedCalls(Arc<Mutex<Vec<String>>>);

impl RecordedCalls {
    /// Returns all calls so far, one line each, without `deliver`, whose calls depend on timing.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        sync::lock(&self.0).clone()
    }

    fn push(&self, call: String) {
        sync::lock(&self.0).push(call);
    }
}

/// A sink that records every call. Created by [`recording`].
#[derive(Debug)]
pub struct RecordingSink(RecordedCalls);

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
        self.0.push(call);
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let mut call = format!("metrics {} {}", batch.logger(), batch.step());
        for (name, value) in batch.iter() {
            call += &format!(" {name}={value:?}");
        }
        self.0.push(call);
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
            .push(format!("progress {logger} {description} {kind:?} {position}"));
        Ok(())
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.0.push(format!("config {config}"));
        Ok(())
    }

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        self.0.push(format!("alert {} {}", alert.level, alert.title));
        Ok(())
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        let (logger, key, step) = (item.logger(), item.key(), item.step());
        self.0
            .push(format!("media {logger} {key} {step} {}", item.content().kind()));
        Ok(())
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.push("flush".to_owned());
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        self.0.push(format!("logger_ended {}", end.exit_code));
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.push("finish".to_owned());
        Ok(())
    }
}

/// Checks that a sink which wraps another sink forwards every method of [`Sink`] and every result.
///
/// The wrapper may return an error with a later call. A `flush` after each call gives a wrapper
/// with its own thread time to make the call.
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
/// If the wrapper does not forward a method or a result.
pub fn check_forwarding(wrap: impl FnOnce(Box<dyn Sink>) -> Box<dyn Sink>) {
    let expected = drive(|sink| sink);
    for method in METHODS {
        let is_driven = expected.iter().any(|line| line.starts_with(&format!("{method}(")));
        assert!(is_driven, "the check itself does not call `{method}`");
    }
    assert_eq!(
        drive(wrap),
        expected,
        "left: calls through the wrapper, right: direct calls"
    );
}

/// Every method of [`Sink`]. A test compares the list with the trait.
const METHODS: [&str; 20] = [
    "wants",
    "wants_places",
    "start",
    "record",
    "metrics",
    "progress",
    "config",
    "alert",
    "media",
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

/// Calls every method of a wrapped [`ScriptedSink`]. Returns the calls that it received, and the
/// results of the wrapper.
fn drive(wrap: impl FnOnce(Box<dyn Sink>) -> Box<dyn Sink>) -> Vec<String> {
    let (calls_inside, printed) = (RecordedCalls::default(), RecordedCalls::default());
    let mut sink = wrap(Box::new(ScriptedSink(calls_inside.clone(), 0)));
    let deadline = Deadline::after(Duration::from_secs(60));
    let mut results = read_properties(&*sink);
    results.extend(make_fallible_calls(&mut *sink, &printed, deadline));
    results.push(format!("resume_point() {:?}", sink.resume_point()));
    results.push(format!("books() {:?}", sink.books()));
    results.extend(end(&mut *sink, deadline));
    results.extend(printed.calls());
    // A wrapper may flush more often.
    let mut all = calls_inside.calls();
    all.dedup_by(|next, line| next == line && line.starts_with("flush"));
    all.extend(results);
    all
}

fn read_properties(sink: &dyn Sink) -> Vec<String> {
    let kinds = [
        EventKind::Record,
        EventKind::Metrics,
        EventKind::Progress,
        EventKind::Config,
        EventKind::Alert,
        EventKind::Media,
    ];
    let wants = kinds.map(|kind| format!("wants({kind:?}) {}", sink.wants(kind)));
    let others = [
        format!("wants_places() {}", sink.wants_places()),
        format!("destination() {:?}", sink.destination()),
        format!("is_remote() {}", sink.is_remote()),
        format!("folds_repeats() {}", sink.folds_repeats()),
    ];
    wants.into_iter().chain(others).collect()
}

/// A call whose error may come later.
type FallibleCall<'a> = dyn Fn(&mut dyn Sink) -> Result<(), SinkError> + 'a;

/// Makes every call that takes a value and may fail. Notices of the sink go to `printed`.
fn make_fallible_calls(sink: &mut dyn Sink, printed: &RecordedCalls, deadline: Deadline) -> Vec<String> {
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
    let event = scripted_progress();
    let notices = Notices::new({
        let printed = printed.clone();
        move |kind, text| printed.push(format!("{kind}: {text}"))
    });
    let mut alert = Alert::new("loss is NaN", "at step 3", AlertLevel::Error).at_step(3);
    alert.time = UNIX_EPOCH;
    let content = MediaContent::Histogram {
        counts: vec![1],
        edges: vec![0.0, 1.0],
    };
    let media = MediaDescription::new("grad", 12, content);
    let calls: [(&str, &FallibleCall<'_>); 9] = [
        ("start", &|sink| sink.start(&notices)),
        ("record", &|sink| sink.record(&record)),
        ("metrics", &|sink| {
            sink.metrics(&MetricBatch::at(UNIX_EPOCH, "trainer", 12, &values))
        }),
        ("progress", &|sink| sink.progress(&event)),
        ("config", &|sink| sink.config(&serde_json::json!({"lr": [1, null]}))),
        ("alert", &|sink| sink.alert(&alert)),
        ("media", &|sink| {
            sink.media(&MediaItem::new(UNIX_EPOCH, "trainer", &media))
        }),
        ("message", &|sink| sink.message("to this sink")),
        ("deliver", &|sink| sink.deliver()),
    ];
    let results = calls.map(|(name, call)| {
        // The flush may return the error of the call.
        let outcomes = [call(sink), sink.flush(deadline)];
        let reason = outcomes.iter().find_map(|result| result.as_ref().err());
        let result = format!("{name} failed for {:?}", reason.map(SinkError::reason));
        // Takes a late error, which the next call would return.
        let _ = sink.flush(deadline);
        result
    });
    results.into()
}

fn scripted_progress() -> ProgressEvent<'static> {
    let mut event = ProgressEvent::new(ProgressKind::Advanced, 7, "trainer", "work");
    (event.time, event.position, event.total) = (UNIX_EPOCH, 3, Some(9));
    (event.samples, event.rate, event.samples_per_sec) = (Some(96), Some(2.0), Some(64.0));
    (event.eta, event.elapsed) = (Some(Duration::from_secs(3)), Duration::from_secs(2));
    (event.line, event.leave) = (4, false);
    event
}

fn end(sink: &mut dyn Sink, deadline: Deadline) -> [String; 2] {
    let mut summary = LoggerSummary::default();
    (summary.last_step, summary.warnings) = (Some(12), 1);
    sink.logger_ended(&LoggerEnd::from_exit_code(3), &summary);
    let finished = sink.finish(deadline);
    let finished = format!("finish failed for {:?}", finished.err().as_ref().map(SinkError::reason));
    let pending = match sink.pending_delivery() {
        None => "pending_delivery() None".to_owned(),
        Some(wait) => {
            let (books, result) = wait(deadline);
            let reason = result.err().map(|error| error.reason().to_owned());
            format!("pending_delivery() {books:?} {reason:?}")
        }
    };
    [finished, pending]
}

/// A sink that records every call, and returns a result that differs from the default.
struct ScriptedSink(RecordedCalls, u64);

impl ScriptedSink {
    fn take(&mut self, call: String, reason: Option<&'static str>) -> Result<(), SinkError> {
        self.1 += 1;
        self.0.push(call);
        reason.map_or(Ok(()), |reason| Err(SinkError::new("made to fail").with_reason(reason)))
    }

    fn scripted_books(&self) -> SinkBooks {
        let mut books = SinkBooks::default();
        (books.accepted, books.delivered, books.spooled) = (self.1 + 5, self.1, 2);
        books.drop_for("a reason of the sink", 3);
        books
    }
}

impl Sink for ScriptedSink {
    fn wants(&self, what: EventKind) -> bool {
        matches!(what, EventKind::Record | EventKind::Progress)
    }

    fn wants_places(&self) -> bool {
        true
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        notices.print("address", "http://localhost");
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

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        self.take(format!("alert({alert:?})"), Some("alert"))
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        self.take(format!("media({item:?})"), Some("media"))
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        self.take(format!("message({message})"), Some("message"))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.0.push("deliver()".to_owned());
        Err(SinkError::new("made to fail").with_reason("deliver"))
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        ResumePoint::new(&self.1)
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.push("flush()".to_owned());
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        self.0.push(format!("logger_ended({end:?} {summary:?})"));
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.take("finish()".to_owned(), Some("finish"))
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let books = self.scripted_books();
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
        Some(self.scripted_books())
    }

    fn destination(&self) -> Option<String> {
        Some("a destination".to_owned())
    }
}

/// A sink that fails at every record and metric, with the given [reason](SinkError::reason).
///
/// ```
/// use logcore::testing::FailingSink;
/// use logcore::{Record, Sink};
///
/// let record = Record::new(logcore::log::Level::Info, "trainer", "hello");
/// assert_eq!(FailingSink("disk full").record(&record).unwrap_err().reason(), "disk full");
/// ```
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

/// A sink that panics at every record.
#[derive(Debug)]
pub struct PanickingSink;

impl Sink for PanickingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        panic!("made to panic")
    }
}

/// A sink that blocks at every record until its gate is open.
#[derive(Debug)]
pub struct BlockingSink(pub SinkGate);

impl Sink for BlockingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        self.0.pass();
        Ok(())
    }
}

/// Does the same as [`LogConfig::with_env`], with these variables instead of the process
/// environment, which all tests share. The names have no `LOGCORE_`.
///
/// ```
/// use logcore::LogConfig;
/// use logcore::testing::with_variables;
///
/// let variables = [("FILENAME".to_owned(), "run.log".to_owned())];
/// assert_eq!(with_variables(LogConfig::default(), variables)?.filename, "run.log");
/// # Ok::<(), logcore::ConfigError>(())
/// ```
///
/// # Errors
///
/// Those of [`LogConfig::with_env`].
pub fn with_variables(
    config: LogConfig,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<LogConfig, ConfigError> {
    config.with_variables(variables.into_iter().map(|(name, value)| (name, Ok(value))))
}

/// The gate of a [`BlockingSink`]. A new gate is closed; clones share one gate.
///
/// ```
/// use logcore::testing::{BlockingSink, SinkGate};
/// use logcore::{Record, Sink};
///
/// let gate = SinkGate::default();
/// let mut sink = BlockingSink(gate.clone());
/// let writer = std::thread::spawn(move || {
///     sink.record(&Record::new(logcore::log::Level::Info, "trainer", "hello"))
/// });
/// gate.wait_for_visitor();
/// gate.open();
/// writer.join().unwrap().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct SinkGate(Arc<(Mutex<SinkGateState>, Condvar)>);

impl SinkGate {
    /// Opens the gate for good.
    pub fn open(&self) {
        self.lock().open = true;
        self.0.1.notify_all();
    }

    /// Waits until a call has reached the gate.
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

    fn lock(&self) -> MutexGuard<'_, SinkGateState> {
        sync::lock(&self.0.0)
    }
}

#[derive(Debug, Default)]
struct SinkGateState {
    open: bool,
    visitors: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_forwarding_calls_every_method_of_the_trait() {
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
            "add the new method to `drive`, to `ScriptedSink` and to every wrapper"
        );
    }

    #[test]
    fn box_forwards_every_method() {
        // The outer box is the wrapper.
        check_forwarding(|sink| Box::new(sink));
    }

    #[test]
    #[should_panic(expected = "calls through the wrapper")]
    fn check_forwarding_finds_an_incomplete_wrapper() {
        struct IncompleteWrapper(Box<dyn Sink>);
        impl Sink for IncompleteWrapper {
            fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
                self.0.record(record)
            }
        }
        check_forwarding(|sink| Box::new(IncompleteWrapper(sink)));
    }
}
