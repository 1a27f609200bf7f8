//! Calls that wait in a queue.

use std::time::SystemTime;

use serde_json::Value;

use crate::{
    Alert, Deadline, LoggerEnd, LoggerSummary, MediaDescription, MediaItem, MetricBatch, MetricValue, Notices,
    OwnedRecord, ProgressEvent, Sink, SinkError,
};

/// A call of a sink method, with owned arguments.
pub(super) enum QueuedCall {
    Start(Notices),
    Record(OwnedRecord),
    Metrics(OwnedBatch),
    Progress(OwnedProgress),
    Config(Value),
    Alert(Alert),
    Media(OwnedMedia),
    Message(String),
    Deliver,
    Flush(Deadline),
    LoggerEnded(LoggerEnd, Box<LoggerSummary>),
    Finish(Deadline),
}

impl QueuedCall {
    /// Returns 1 if the call counts in the books, or else 0.
    pub(super) fn weight(&self) -> u64 {
        u64::from(matches!(
            self,
            Self::Record(_) | Self::Metrics(_) | Self::Config(_) | Self::Alert(_) | Self::Media(_) | Self::Message(_)
        ))
    }

    /// Returns `true` if a caller waits for the end of the call.
    pub(super) fn has_waiter(&self) -> bool {
        matches!(self, Self::Flush(_) | Self::Finish(_))
    }

    /// Calls the sink.
    pub(super) fn make(self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        match self {
            Self::Start(notices) => sink.start(&notices),
            Self::Record(record) => record.with_record(|record| sink.record(record)),
            Self::Metrics(batch) => batch.with_batch(|batch| sink.metrics(batch)),
            Self::Progress(event) => event.with_event(|event| sink.progress(event)),
            Self::Config(config) => sink.config(&config),
            Self::Alert(alert) => sink.alert(&alert),
            Self::Media(media) => sink.media(&MediaItem::new(media.time, &media.logger, &media.description)),
            Self::Message(message) => sink.message(&message),
            Self::Deliver => sink.deliver(),
            Self::Flush(deadline) => sink.flush(deadline),
            Self::LoggerEnded(end, summary) => {
                sink.logger_ended(&end, &summary);
                Ok(())
            }
            Self::Finish(deadline) => sink.finish(deadline),
        }
    }
}

/// A metric batch that owns its texts.
pub(super) struct OwnedBatch {
    logger: String,
    step: u64,
    time: SystemTime,
    values: Vec<(String, MetricValue)>,
}

impl OwnedBatch {
    fn with_batch<T>(&self, work: impl FnOnce(&MetricBatch<'_>) -> T) -> T {
        let values: Vec<_> = self
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        work(&MetricBatch::at(self.time, &self.logger, self.step, &values))
    }
}

impl From<&MetricBatch<'_>> for OwnedBatch {
    fn from(batch: &MetricBatch<'_>) -> Self {
        Self {
            logger: batch.logger().to_owned(),
            step: batch.step(),
            time: batch.time(),
            values: batch.iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// A media value that owns its texts.
pub(super) struct OwnedMedia {
    logger: String,
    time: SystemTime,
    description: MediaDescription,
}

impl From<&MediaItem<'_>> for OwnedMedia {
    fn from(item: &MediaItem<'_>) -> Self {
        Self {
            logger: item.logger().to_owned(),
            time: item.time(),
            description: item.description().clone(),
        }
    }
}

/// A progress event that owns its texts.
pub(super) struct OwnedProgress {
    logger: String,
    description: String,
    /// The event without its texts.
    rest: ProgressEvent<'static>,
}

impl OwnedProgress {
    fn with_event<T>(&self, work: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
        work(&self.rest.with_texts(&self.logger, &self.description))
    }
}

impl From<&ProgressEvent<'_>> for OwnedProgress {
    fn from(event: &ProgressEvent<'_>) -> Self {
        Self {
            logger: event.logger.to_owned(),
            description: event.description.to_owned(),
            rest: event.with_texts("", ""),
        }
    }
}
