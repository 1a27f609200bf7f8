//! A sink that keeps what it gets in memory, for the tests of programs that log.
//!
//! ```
//! use logcore::{Record, Sink};
//! use logcore_memory::MemorySink;
//!
//! let memory = MemorySink::default();
//! // `LogManager::add_sink("memory", Box::new(memory.clone()))` gives it to every logger.
//! let mut sink = memory.clone();
//! sink.record(&Record::new(logcore::log::Level::Warn, "trainer", "loss is NaN")).unwrap();
//! assert_eq!(memory.messages(), ["loss is NaN"]);
//! ```
//!
//! With an entry `sinks.memory` in its config a logger has one of its own, which [`MemorySink::of`] finds by the
//! logger's name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logcore::serde_json::Value;
use logcore::{
    BuildContext, ConfigError, Deadline, LoggerEnd, LoggerSummary, MetricBatch, OwnedRecord, PerProcess, Record, Row,
    RowMerger, Sink, SinkError,
};
use serde::Deserialize;

/// A sink that keeps what it gets, and the handle to read it: a clone is the same sink.
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<MemoryContents>>);

#[derive(Debug, Default)]
struct MemoryContents {
    records: Vec<OwnedRecord>,
    rows: Vec<Row>,
    open: RowMerger,
    configs: Vec<Value>,
    end: Option<(LoggerEnd, LoggerSummary)>,
    finished: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryOptions {}

impl MemorySink {
    /// The sink that the config of the newest logger of this name has switched on.
    pub fn of(logger: &str) -> Option<Self> {
        lock(BY_LOGGER.get()).as_ref()?.get(logger).cloned()
    }

    /// All records.
    pub fn records(&self) -> Vec<OwnedRecord> {
        lock(&self.0).records.clone()
    }

    /// The messages of all records.
    pub fn messages(&self) -> Vec<String> {
        lock(&self.0)
            .records
            .iter()
            .map(|record| record.message.clone())
            .collect()
    }

    /// All metrics, a row a step; a row is complete when the step moves on, on `flush` and on `finish`.
    pub fn rows(&self) -> Vec<Row> {
        lock(&self.0).rows.clone()
    }

    /// All hyper-parameters, call by call.
    pub fn configs(&self) -> Vec<Value> {
        lock(&self.0).configs.clone()
    }

    /// Returns the exit code of the run; `None` until the run has ended.
    pub fn exit_code(&self) -> Option<i32> {
        self.end().map(|end| end.exit_code)
    }

    /// Returns how the run ended; `None` until the run has ended.
    pub fn end(&self) -> Option<LoggerEnd> {
        lock(&self.0).end.as_ref().map(|(end, _)| end.clone())
    }

    /// Returns the summary that the logger gave at its end; `None` until the run has ended.
    pub fn summary(&self) -> Option<LoggerSummary> {
        lock(&self.0).end.as_ref().map(|(_, summary)| summary.clone())
    }

    /// Whether the sink was finished.
    pub fn finished(&self) -> bool {
        lock(&self.0).finished
    }

    fn build(_: MemoryOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let sink = Self::default();
        lock(BY_LOGGER.get())
            .get_or_insert_default()
            .insert(context.logger().to_owned(), sink.clone());
        Ok(sink)
    }
}

impl Sink for MemorySink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        lock(&self.0).records.push(OwnedRecord::from(record));
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let mut kept = lock(&self.0);
        let complete = kept.open.push(batch);
        kept.rows.extend(complete);
        Ok(())
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        lock(&self.0).configs.push(config.clone());
        Ok(())
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        let mut kept = lock(&self.0);
        let open = kept.open.take();
        kept.rows.extend(open);
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        lock(&self.0).end = Some((end.clone(), summary.clone()));
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.flush(deadline)?;
        lock(&self.0).finished = true;
        Ok(())
    }
}

logcore::register_sink!("memory", MemorySink::build);

static BY_LOGGER: PerProcess<Mutex<Option<HashMap<String, MemorySink>>>> = PerProcess::new(|_| Mutex::default());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use logcore::{LogConfig, MetricValue, StopFlag, registry};

    use super::*;

    #[test]
    fn a_sink_from_a_config_is_found_by_its_logger() {
        let config = LogConfig {
            name: "found".into(),
            ..LogConfig::default()
        };
        assert!(MemorySink::of("found").is_none());
        let stop = StopFlag::default();
        let mut sink = registry::build_sink("memory", &true.into(), &BuildContext::new(&config, &stop)).unwrap();
        sink.metrics(&MetricBatch::new("found", 3, &[("loss", MetricValue::Int(1))]))
            .unwrap();
        sink.logger_ended(&LoggerEnd::from_exit_code(2), &LoggerSummary::default());
        sink.finish(Deadline::after(std::time::Duration::ZERO)).unwrap();
        let memory = MemorySink::of("found").unwrap();
        assert_eq!(
            (memory.rows()[0].step, memory.exit_code(), memory.finished()),
            (3, Some(2), true)
        );
    }
}
