//! The sink `memory`: keeps everything in memory, for the tests of programs that log.
//!
//! There are two ways to use it. A program can build the sink and add it to its loggers:
//!
//! ```
//! use logcore::{Record, Sink};
//! use logcore_memory::MemorySink;
//!
//! let memory = MemorySink::default();
//! // `LogManager::add_sink("memory", Box::new(memory.clone()))` adds it to every logger.
//! let mut sink = memory.clone();
//! sink.record(&Record::new(logcore::log::Level::Warn, "trainer", "loss is NaN")).unwrap();
//! assert_eq!(memory.messages(), ["loss is NaN"]);
//! ```
//!
//! Or a config switches it on: with an entry `sinks.memory = true`, each logger has a sink of its
//! own, which [`MemorySink::of`] finds by the logger's name. The sink has no options.
//!
//! The sink keeps everything until it is dropped, so it is not meant for long runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use logcore::serde_json::Value;
use logcore::sync::lock;
use logcore::{
    Alert, BuildContext, ConfigError, Deadline, LoggerEnd, LoggerSummary, MediaDescription, MediaItem, MetricBatch,
    OwnedRecord, PerProcess, Record, Row, RowMerger, Sink, SinkError,
};
use serde::Deserialize;

/// A sink that keeps records, metrics, configs and media in memory. It is its own reading handle: a
/// clone is the same sink.
///
/// ```
/// use logcore::{MetricBatch, MetricValue, Sink};
/// use logcore_memory::MemorySink;
///
/// let memory = MemorySink::default();
/// let mut sink = memory.clone();
/// for (step, loss) in [(1, 0.5), (2, 0.25)] {
///     sink.metrics(&MetricBatch::new("trainer", step, &[("loss", MetricValue::Float(loss))])).unwrap();
/// }
/// assert_eq!(memory.rows().len(), 1, "the row of step 2 is still open");
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<MemoryContents>>);

#[derive(Debug, Default)]
struct MemoryContents {
    records: Vec<OwnedRecord>,
    rows: Vec<Row>,
    open: RowMerger,
    configs: Vec<Value>,
    alerts: Vec<Alert>,
    media: Vec<MediaDescription>,
    end: Option<(LoggerEnd, LoggerSummary)>,
    finished: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryOptions {}

impl MemorySink {
    /// Returns the sink that the config of the newest logger of this name has switched on.
    ///
    /// ```
    /// use logcore::{BuildContext, LogConfig, StopFlag, registry};
    /// use logcore_memory::MemorySink;
    ///
    /// let config = LogConfig { name: "trainer".into(), ..LogConfig::default() };
    /// let stop = StopFlag::default();
    /// registry::build_sink("memory", &true.into(), &BuildContext::new(&config, &stop)).unwrap();
    /// assert!(MemorySink::of("trainer").is_some());
    /// assert!(MemorySink::of("other").is_none());
    /// ```
    #[must_use]
    pub fn of(logger: &str) -> Option<Self> {
        lock(BY_LOGGER.get()).as_ref()?.get(logger).cloned()
    }

    /// Returns all records.
    ///
    /// ```
    /// use logcore::{Record, Sink, log::Level};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// sink.record(&Record::new(Level::Warn, "trainer", "loss is NaN")).unwrap();
    /// assert_eq!(sink.records()[0].level, Level::Warn);
    /// ```
    #[must_use]
    pub fn records(&self) -> Vec<OwnedRecord> {
        lock(&self.0).records.clone()
    }

    /// Returns the messages of all records.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        lock(&self.0)
            .records
            .iter()
            .map(|record| record.message.clone())
            .collect()
    }

    /// Returns all complete rows of metrics. A row is complete when the step moves on, on `flush`
    /// and on `finish`.
    ///
    /// ```
    /// use logcore::{MetricBatch, MetricValue, Sink};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// sink.metrics(&MetricBatch::new("trainer", 1, &[("loss", MetricValue::Float(0.5))])).unwrap();
    /// sink.metrics(&MetricBatch::new("trainer", 2, &[("loss", MetricValue::Float(0.4))])).unwrap();
    /// assert_eq!(sink.rows()[0].step, 1);
    /// ```
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        lock(&self.0).rows.clone()
    }

    /// Returns all hyper-parameters, one value per call.
    ///
    /// ```
    /// use logcore::{Sink, serde_json::json};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// sink.config(&json!({"lr": 1e-4})).unwrap();
    /// assert_eq!(sink.configs(), [json!({"lr": 1e-4})]);
    /// ```
    #[must_use]
    pub fn configs(&self) -> Vec<Value> {
        lock(&self.0).configs.clone()
    }

    /// Returns the alerts.
    ///
    /// ```
    /// use logcore::{Alert, AlertLevel, Sink};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// sink.alert(&Alert::new("loss is NaN", "", AlertLevel::Error)).unwrap();
    /// assert_eq!(sink.alerts()[0].title, "loss is NaN");
    /// ```
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        lock(&self.0).alerts.clone()
    }

    /// Returns all media values. Their files are in the folder of the run.
    ///
    /// ```
    /// use std::time::SystemTime;
    ///
    /// use logcore::{MediaContent, MediaDescription, MediaItem, Sink};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// let note = MediaDescription::new("note", 12, MediaContent::Text);
    /// sink.media(&MediaItem::new(SystemTime::now(), "trainer", &note)).unwrap();
    /// assert_eq!(sink.media_values(), [note]);
    /// ```
    #[must_use]
    pub fn media_values(&self) -> Vec<MediaDescription> {
        lock(&self.0).media.clone()
    }

    /// Returns the exit code of the run; `None` until the run has ended.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.end().map(|end| end.exit_code)
    }

    /// Returns the end of the run; `None` until the run has ended.
    ///
    /// ```
    /// use logcore::{LoggerEnd, LoggerSummary, Sink};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// assert!(sink.end().is_none() && sink.summary().is_none());
    /// sink.logger_ended(&LoggerEnd::from_exit_code(3), &LoggerSummary::default());
    /// assert_eq!(sink.end().unwrap().exit_code, 3);
    /// assert!(sink.summary().unwrap().metrics.is_empty());
    /// ```
    #[must_use]
    pub fn end(&self) -> Option<LoggerEnd> {
        lock(&self.0).end.as_ref().map(|(end, _)| end.clone())
    }

    /// Returns the summary that the logger gave at its end; `None` until the run has ended.
    #[must_use]
    pub fn summary(&self) -> Option<LoggerSummary> {
        lock(&self.0).end.as_ref().map(|(_, summary)| summary.clone())
    }

    /// Returns `true` if the sink was finished.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use logcore::{Deadline, Sink};
    /// use logcore_memory::MemorySink;
    ///
    /// let mut sink = MemorySink::default();
    /// assert!(!sink.finished());
    /// sink.finish(Deadline::after(Duration::from_secs(1))).unwrap();
    /// assert!(sink.finished());
    /// ```
    #[must_use]
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
        let mut contents = lock(&self.0);
        let complete = contents.open.push(batch);
        contents.rows.extend(complete);
        Ok(())
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        lock(&self.0).configs.push(config.clone());
        Ok(())
    }

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        lock(&self.0).alerts.push(alert.clone());
        Ok(())
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        lock(&self.0).media.push(item.description().clone());
        Ok(())
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        let mut contents = lock(&self.0);
        let open = contents.open.take();
        contents.rows.extend(open);
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

#[cfg(test)]
mod tests {
    use logcore::{LogConfig, MetricValue, StopFlag, registry};

    use super::*;

    #[test]
    fn of_finds_the_sink_of_a_config_by_its_logger() {
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
