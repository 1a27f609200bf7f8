//! A wrapper that gives a slow sink its own thread and queue.

mod call;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use self::call::{OwnedBatch, OwnedMedia, OwnedProgress, QueuedCall};
use self::worker::{QueueWorker, SharedQueue, SinkSnapshot};
use crate::{
    Alert, Deadline, EventKind, LoggerEnd, LoggerSummary, MediaItem, MetricBatch, Notices, OwnedRecord,
    PendingDelivery, ProgressEvent, Record, ResumePoint, Sink, SinkBooks, SinkError, SinkErrorKind, suppress_logging,
    sync,
};

/// A sink that runs another sink on its own thread, behind a bounded queue, so that a slow sink
/// delays no other sink.
///
/// - A full queue drops new calls and counts them as `queue full`. `flush` and `finish` are never
///   dropped.
/// - Calls that still wait when `finish` reaches its deadline count as `not delivered in time`.
/// - An error of the wrapped sink is returned by the next call.
/// - The [books](Sink::books) are those of the wrapped sink plus those of the queue.
/// - The [resume point](Sink::resume_point) is that of the wrapped sink. It is complete only while
///   the queue is empty.
///
/// Do not wrap a fast sink, such as a file: the copies of all calls cost more than the sink.
///
/// ```
/// use logcore::{Deadline, Queued, Record, Sink, SinkError};
/// use std::time::Duration;
///
/// struct SlowSink;
/// impl Sink for SlowSink {
///     fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
///         std::thread::sleep(Duration::from_millis(5));
///         Ok(())
///     }
/// }
///
/// let mut sink = Queued::new(SlowSink);
/// sink.record(&Record::new(logcore::log::Level::Info, "trainer", "hello")).unwrap();
/// sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
/// assert_eq!(sink.books().unwrap().delivered, 1);
/// ```
pub struct Queued {
    shared: Arc<SharedQueue>,
    destination: Option<String>,
    wants_places: bool,
    /// The kinds of calls that the wrapped sink wants.
    wanted: Vec<EventKind>,
    is_remote: bool,
    folds_repeats: bool,
}

impl Queued {
    /// Wraps `sink` with room for 8192 waiting calls.
    #[must_use]
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self::with_capacity(sink, 8192)
    }

    /// Wraps `sink` with room for `capacity` waiting calls; at least 1.
    ///
    /// ```
    /// use logcore::{Queued, Sink};
    ///
    /// struct SlowSink;
    /// impl Sink for SlowSink {}
    ///
    /// let sink = Queued::with_capacity(SlowSink, 100);
    /// assert!(sink.books().unwrap().balanced());
    /// ```
    #[must_use]
    pub fn with_capacity(sink: impl Sink + 'static, capacity: usize) -> Self {
        let mut sink: Box<dyn Sink> = Box::new(sink);
        let (destination, is_remote, folds_repeats) = (sink.destination(), sink.is_remote(), sink.folds_repeats());
        let wants_places = sink.wants_places();
        let wanted = [
            EventKind::Record,
            EventKind::Metrics,
            EventKind::Progress,
            EventKind::Config,
            EventKind::Alert,
            EventKind::Media,
        ]
        .into_iter()
        .filter(|kind| sink.wants(*kind))
        .collect();
        let shared = Arc::new(SharedQueue::new(capacity.max(1), SinkSnapshot::take(&mut *sink)));
        let worker = QueueWorker::new(Arc::clone(&shared), sink);
        let spawned = thread::Builder::new()
            .name("logcore-queued".to_owned())
            .spawn(move || suppress_logging(|| worker.run()));
        if spawned.is_err() {
            // Without a thread, every call is refused and counted, and nothing waits.
            shared.lock().ended = true;
        }
        Self {
            shared,
            destination,
            wants_places,
            wanted,
            is_remote,
            folds_repeats,
        }
    }

    fn push(&self, call: QueuedCall) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        let weight = call.weight();
        state.accepted += weight;
        if state.ended {
            return Err(state.refuse(SinkErrorKind::Ended, weight, "the thread of the sink has ended"));
        }
        if state.queue.len() >= self.shared.capacity {
            let text = format!("the queue of {} calls is full", self.shared.capacity);
            return Err(state.refuse(SinkErrorKind::QueueFull, weight, &text));
        }
        state.queue.push_back(call);
        self.shared.changed.notify_all();
        // Reports the error of an earlier call, which had no caller.
        state.error.take().map_or(Ok(()), Err)
    }

    /// Queues a call that must not be dropped, and waits until it is done.
    fn wait(&self, call: QueuedCall, deadline: Deadline) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        if state.ended {
            return state.error.take().map_or(Ok(()), Err);
        }
        state.requested += 1;
        let ticket = state.requested;
        state.queue.push_back(call);
        self.shared.changed.notify_all();
        while state.completed < ticket && !state.ended {
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                let waiting = state.waiting();
                let text = format!("{waiting} calls were not delivered in time");
                return Err(SinkError::new(text).with_kind(SinkErrorKind::DeadlinePassed));
            }
            state = sync::wait_timeout(&self.shared.changed, state, remaining);
        }
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Sink for Queued {
    fn wants(&self, kind: EventKind) -> bool {
        self.wanted.contains(&kind)
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.push(QueuedCall::Start(notices.clone()))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.push(QueuedCall::Record(OwnedRecord::from(record)))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.push(QueuedCall::Metrics(OwnedBatch::from(batch)))
    }

    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        self.push(QueuedCall::Progress(OwnedProgress::from(event)))
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.push(QueuedCall::Config(config.clone()))
    }

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        self.push(QueuedCall::Alert(alert.clone()))
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        self.push(QueuedCall::Media(OwnedMedia::from(item)))
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        self.push(QueuedCall::Message(message.to_owned()))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        // A `deliver` at the end of the queue serves this call, too.
        if !state.ended && !matches!(state.queue.back(), Some(QueuedCall::Deliver)) {
            state.queue.push_back(QueuedCall::Deliver);
            self.shared.changed.notify_all();
        }
        match (state.error.take(), &state.delivery_failure) {
            (Some(error), _) => Err(error),
            (None, Some(failure)) => Err(failure.to_error()),
            (None, None) => Ok(()),
        }
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let state = self.shared.lock();
        let point = state.inner.resume_point.clone()?;
        // Waiting calls are neither in the output nor in the resume point.
        Some(match state.waiting() {
            0 => point,
            _ => point.incomplete(),
        })
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.wait(QueuedCall::Flush(deadline), deadline)
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        let ended = QueuedCall::LoggerEnded(end.clone(), Box::new(summary.clone()));
        self.shared.lock().queue.push_back(ended);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let result = self.wait(QueuedCall::Finish(deadline), deadline);
        let mut state = self.shared.lock();
        state.ended = true;
        let undelivered = state.waiting();
        state
            .refused
            .drop_for(SinkErrorKind::DeadlinePassed.reason(), undelivered);
        state.queue.clear();
        state.in_progress = 0;
        self.shared.changed.notify_all();
        result
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let mut state = self.shared.lock();
        let wait = state.pending_delivery.take()?;
        let refused = state.refused_books();
        Some(Box::new(move |deadline| {
            let (mut books, result) = wait(deadline);
            books.add(&refused);
            (books, result)
        }))
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.shared.lock().books())
    }

    fn wants_places(&self) -> bool {
        self.wants_places
    }

    fn destination(&self) -> Option<String> {
        self.destination.clone()
    }

    fn is_remote(&self) -> bool {
        self.is_remote
    }

    fn folds_repeats(&self) -> bool {
        self.folds_repeats
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued")
            .field("capacity", &self.shared.capacity)
            .field("destination", &self.destination)
            .field("waiting", &self.shared.lock().waiting())
            .finish_non_exhaustive()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
