//! Sinks for tests: one that records, one that fails, one that blocks, one that panics; and an environment of one's own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde_json::Value;

use crate::{ConfigError, Deadline, LogConfig, MetricBatch, ProgressEvent, Record, Sink, SinkError};

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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, call: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// Writes down every call. Made by [`recording`].
#[derive(Debug)]
pub struct RecordingSink(Recorded);

impl Sink for RecordingSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let mut call = format!("record {} {} {}", record.level(), record.origin(), record.message());
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

    fn exit_code(&mut self, code: i32) {
        self.0.note(format!("exit_code {code}"));
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.0.note("finish".to_owned());
        Ok(())
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
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.visitors += 1;
        self.0.1.notify_all();
        while !state.open {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    visitors: usize,
}
