use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::{
    Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, OwnedRecord, PendingDelivery,
    ProgressEvent, Record, ResumePoint, Sink, SinkBooks, SinkError, catch_panic, suppress_logging, sync,
};

/// Gives a slow sink a thread and a bounded queue of its own, so that it holds up no other sink.
///
/// A full queue drops what comes and counts it as `queue full`; `flush` and `finish` are never dropped. What is still
/// waiting when `finish` runs out of time is counted as `not delivered in time`. All else is as the wrapped sink has it: its
/// accounts, to which those of the queue are added, its destination, its remainder. Its [mark](Sink::resume_point) is complete
/// while nothing waits in the queue; so a sink that goes on from marks does so inside of a `Queued`, too.
///
/// ```
/// use logcore::{Deadline, Queued, Record, Sink, SinkError};
/// use std::time::Duration;
///
/// struct Slow;
/// impl Sink for Slow {
///     fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
///         std::thread::sleep(Duration::from_millis(5));
///         Ok(())
///     }
/// }
///
/// let mut sink = Queued::new(Slow);
/// sink.record(&Record::new(logcore::log::Level::Info, "trainer", "hello")).unwrap();
/// sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
/// assert_eq!(sink.books().unwrap().delivered, 1);
/// ```
pub struct Queued {
    shared: Arc<Shared>,
    destination: Option<String>,
    /// What the wrapped sink wants, asked while it was still here.
    wanted: Vec<EventKind>,
    is_remote: bool,
    folds_repeats: bool,
}

impl Queued {
    /// Wraps `sink` with room for 8192 waiting calls.
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self::with_capacity(sink, 8192)
    }

    /// Wraps `sink` with room for `capacity` waiting calls (at least 1).
    pub fn with_capacity(sink: impl Sink + 'static, capacity: usize) -> Self {
        let mut sink: Box<dyn Sink> = Box::new(sink);
        let (destination, is_remote, folds_repeats) = (sink.destination(), sink.is_remote(), sink.folds_repeats());
        let wanted = [
            EventKind::Record,
            EventKind::Metrics,
            EventKind::Progress,
            EventKind::Config,
        ]
        .into_iter()
        .filter(|what| sink.wants(*what))
        .collect();
        let state = State {
            inner: Snapshot::of(&mut *sink),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            capacity: capacity.max(1),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            sink,
            retry_at: None,
        };
        let spawned = thread::Builder::new()
            .name("logcore-queued".to_owned())
            .spawn(move || suppress_logging(|| worker.run()));
        if spawned.is_err() {
            // No thread can be had: every call is then refused and counted, and nobody waits.
            shared.lock().ended = true;
        }
        Self {
            shared,
            destination,
            wanted,
            is_remote,
            folds_repeats,
        }
    }

    fn push(&self, call: Call) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        let counts = call.counts();
        state.accepted += counts;
        if state.ended {
            state.refused.drop_for("sink ended", counts);
            return Err(SinkError::new("the sink's thread has ended").with_reason("sink ended"));
        }
        if state.queue.len() >= self.shared.capacity {
            state.refused.drop_for("queue full", counts);
            let message = format!("its queue of {} calls is full", self.shared.capacity);
            return Err(SinkError::new(message).with_reason("queue full"));
        }
        state.queue.push_back(call);
        self.shared.changed.notify_all();
        // What went wrong on the thread since the last call is told here, where there is someone to tell.
        state.error.take().map_or(Ok(()), Err)
    }

    /// Hands over a call that cannot be dropped and waits until it is done.
    fn wait(&self, call: Call, deadline: Deadline) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        if state.ended {
            return state.error.take().map_or(Ok(()), Err);
        }
        state.asked += 1;
        let ticket = state.asked;
        state.queue.push_back(call);
        self.shared.changed.notify_all();
        while state.answered < ticket && !state.ended {
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                let waiting = state.waiting();
                let message = format!("{waiting} calls were not delivered in time");
                return Err(SinkError::new(message).with_reason("not delivered in time"));
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
        self.push(Call::Start(notices.clone()))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.push(Call::Record(OwnedRecord::from(record)))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.push(Call::Metrics(OwnedBatch::from(batch)))
    }

    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        self.push(Call::Progress(OwnedProgress::from(event)))
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.push(Call::Config(config.clone()))
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        self.push(Call::Message(message.to_owned()))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        // One that waits behind all calls will do for this one, too.
        if !state.ended && !matches!(state.queue.back(), Some(Call::Deliver)) {
            state.queue.push_back(Call::Deliver);
            self.shared.changed.notify_all();
        }
        match (state.error.take(), &state.stuck) {
            (Some(error), _) => Err(error),
            (None, Some((message, reason))) => Err(SinkError::new(message).with_reason(reason.clone())),
            (None, None) => Ok(()),
        }
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let state = self.shared.lock();
        let mark = state.inner.mark.clone()?;
        // Waiting calls are neither in the sink's output nor in its mark.
        Some(match state.waiting() {
            0 => mark,
            _ => mark.incomplete(),
        })
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.wait(Call::Flush(deadline), deadline)
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        let ended = Call::LoggerEnded(end.clone(), Box::new(summary.clone()));
        self.shared.lock().queue.push_back(ended);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let result = self.wait(Call::Finish(deadline), deadline);
        let mut state = self.shared.lock();
        state.ended = true;
        let given_up = state.waiting();
        state.refused.drop_for("not delivered in time", given_up);
        state.queue.clear();
        state.in_hand = 0;
        self.shared.changed.notify_all();
        result
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let mut state = self.shared.lock();
        let wait = state.remainder.take()?;
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

impl Drop for Queued {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Call>,
    /// 1 while the worker is busy with a call that counts.
    in_hand: u64,
    /// Calls that count, of all that came.
    accepted: u64,
    /// The outcome of those that the sink was given, for one without accounts.
    answered_calls: SinkBooks,
    /// Those that the sink was not given.
    refused: SinkBooks,
    inner: Snapshot,
    remainder: Option<PendingDelivery>,
    error: Option<SinkError>,
    /// Why the sink could not deliver when it was asked last.
    stuck: Option<(String, String)>,
    asked: u64,
    answered: u64,
    ended: bool,
}

/// The mark and the accounts of the wrapped sink after its last call.
#[derive(Default)]
struct Snapshot {
    mark: Option<ResumePoint>,
    books: Option<SinkBooks>,
}

impl Snapshot {
    fn of(sink: &mut dyn Sink) -> Self {
        let asked = catch_panic(|| (sink.resume_point(), sink.books()));
        let (mark, books) = asked.unwrap_or((None, None));
        Self { mark, books }
    }
}

impl State {
    /// Calls that count and that the sink is not done with.
    fn waiting(&self) -> u64 {
        self.queue.iter().map(Call::counts).sum::<u64>() + self.in_hand
    }

    fn books(&self) -> SinkBooks {
        let Some(mut books) = self.inner.books.clone() else {
            let mut books = self.answered_calls.clone();
            books.add(&self.refused);
            books.accepted = self.accepted;
            return books;
        };
        books.add(&self.refused_books());
        books.accepted += self.waiting();
        books
    }

    /// The account of what the sink was not given.
    fn refused_books(&self) -> SinkBooks {
        let mut books = self.refused.clone();
        books.accepted = books.dropped_total();
        books
    }
}

/// A sink that could not deliver is asked again after this, also where nothing more comes.
const RETRY: Duration = Duration::from_secs(1);

struct Worker {
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    retry_at: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        while let Some(call) = self.next() {
            let (counts, waits) = (call.counts(), call.is_waited_for());
            let (ends, delivers) = (matches!(call, Call::Finish(_)), matches!(call, Call::Deliver));
            let result =
                catch_panic(|| call.make(&mut *self.sink)).unwrap_or_else(|panic| Err(SinkError::panicked(&panic)));
            let inner = Snapshot::of(&mut *self.sink);
            let remainder = match ends {
                true => catch_panic(|| self.sink.pending_delivery()).unwrap_or(None),
                false => None,
            };
            let failed = result.is_err();
            let mut state = self.shared.lock();
            // After `ended` the call in hand has been counted as given up.
            if !state.ended {
                state.inner = inner;
                if counts > 0 {
                    match &result {
                        Ok(()) => state.answered_calls.delivered += 1,
                        Err(error) => state.answered_calls.drop_for(error.reason(), 1),
                    }
                }
            }
            state.in_hand = 0;
            state.remainder = remainder;
            if delivers {
                let words = |error: &SinkError| (error.to_string(), error.reason().to_owned());
                state.stuck = result.as_ref().err().map(words);
            }
            if let Err(error) = result {
                state.error.get_or_insert(error);
            }
            state.answered += u64::from(waits);
            state.ended |= ends;
            self.shared.changed.notify_all();
            drop(state);
            if delivers {
                self.retry_at = failed.then(|| Instant::now() + RETRY);
            }
        }
    }

    fn next(&self) -> Option<Call> {
        let mut state = self.shared.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(call) = state.queue.pop_front() {
                state.in_hand = call.counts();
                return Some(call);
            }
            let changed = &self.shared.changed;
            state = match self.retry_at {
                None => sync::wait(changed, state),
                Some(at) => {
                    let rest = at.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return Some(Call::Deliver);
                    }
                    sync::wait_timeout(changed, state, rest)
                }
            };
        }
    }
}

enum Call {
    Start(Notices),
    Record(OwnedRecord),
    Metrics(OwnedBatch),
    Progress(OwnedProgress),
    Config(Value),
    Message(String),
    Deliver,
    Flush(Deadline),
    LoggerEnded(LoggerEnd, Box<LoggerSummary>),
    Finish(Deadline),
}

impl Call {
    /// How much it counts in the books.
    fn counts(&self) -> u64 {
        u64::from(matches!(
            self,
            Self::Record(_) | Self::Metrics(_) | Self::Config(_) | Self::Message(_)
        ))
    }

    fn is_waited_for(&self) -> bool {
        matches!(self, Self::Flush(_) | Self::Finish(_))
    }

    fn make(self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        match self {
            Self::Start(notices) => sink.start(&notices),
            Self::Record(record) => record.with_record(|record| sink.record(record)),
            Self::Metrics(batch) => batch.with_record(|batch| sink.metrics(batch)),
            Self::Progress(event) => event.with_record(|event| sink.progress(event)),
            Self::Config(config) => sink.config(&config),
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

struct OwnedBatch {
    logger: String,
    step: u64,
    time: SystemTime,
    values: Vec<(String, MetricValue)>,
}

impl OwnedBatch {
    fn with_record<T>(&self, use_it: impl FnOnce(&MetricBatch<'_>) -> T) -> T {
        let values: Vec<_> = self
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        use_it(&MetricBatch::at(self.time, &self.logger, self.step, &values))
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

struct OwnedProgress {
    logger: String,
    description: String,
    /// Everything but the two texts.
    rest: ProgressEvent<'static>,
}

impl OwnedProgress {
    fn with_record<T>(&self, use_it: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
        use_it(&self.rest.with_texts(&self.logger, &self.description))
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use log::Level;

    use super::*;

    /// Waits at a barrier before each record.
    struct Gated(Arc<Barrier>);

    impl Sink for Gated {
        fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
            self.0.wait();
            Ok(())
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let gate = Arc::new(Barrier::new(2));
        let mut sink = Queued::with_capacity(Gated(Arc::clone(&gate)), 1);
        let record = Record::new(Level::Info, "t", "m");
        let refused = (0..10).filter(|_| sink.record(&record).is_err()).count() as u64;
        // One may be in the worker's hand and one in the queue.
        assert!((8..=9).contains(&refused), "{refused}");
        for _ in 0..10 - refused {
            gate.wait();
        }
        sink.finish(soon()).unwrap();
        let books = sink.books().unwrap();
        assert_eq!(books.delivered, 10 - refused);
        assert_eq!(books.dropped["queue full"], refused);
        assert!(books.is_balanced());
    }

    #[test]
    fn a_sink_that_hangs_costs_its_deadline_and_balances() {
        let gate = Arc::new(Barrier::new(2));
        let mut sink = Queued::new(Gated(gate));
        for _ in 0..3 {
            sink.record(&Record::new(Level::Info, "t", "m")).unwrap();
        }
        let error = sink.finish(Deadline::after(Duration::from_millis(20))).unwrap_err();
        assert_eq!(error.reason(), "not delivered in time");
        let books = sink.books().unwrap();
        assert_eq!(books.dropped["not delivered in time"], 3);
        assert!(books.is_balanced());
    }

    #[test]
    fn errors_and_panics_are_told_and_counted() {
        struct Moody(u32);
        impl Sink for Moody {
            fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
                self.0 += 1;
                match self.0 {
                    1 => Err(SinkError::new("no")),
                    2 => panic!("a sink's own fault"),
                    _ => Ok(()),
                }
            }
        }
        let mut sink = Queued::new(Moody(0));
        let record = Record::new(Level::Info, "t", "m");
        sink.record(&record).unwrap();
        assert_eq!(sink.flush(soon()).unwrap_err().to_string(), "no");
        sink.record(&record).unwrap();
        assert_eq!(sink.flush(soon()).unwrap_err().reason(), "panic");
        sink.record(&record).unwrap();
        sink.finish(soon()).unwrap();
        let books = sink.books().unwrap();
        assert_eq!((books.accepted, books.delivered), (3, 1));
        assert!(books.is_balanced());
    }

    #[test]
    fn everything_is_forwarded() {
        crate::testing::check_forwarding(|sink| Box::new(Queued::new(sink)));
    }

    /// Keeps what it is given until it is asked to deliver, and fails then as often as it is told.
    struct Keeping {
        gate: Option<Arc<Barrier>>,
        kept: u64,
        delivered: u64,
        failures: u32,
    }

    impl Sink for Keeping {
        fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
            self.kept += 1;
            if let Some(gate) = &self.gate {
                gate.wait();
            }
            Ok(())
        }

        fn deliver(&mut self) -> Result<(), SinkError> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(SinkError::new("no network").with_reason("network"));
            }
            self.delivered = self.kept;
            Ok(())
        }

        fn resume_point(&mut self) -> Option<ResumePoint> {
            ResumePoint::new(&self.kept)
        }

        fn books(&self) -> Option<SinkBooks> {
            let mut books = SinkBooks::default();
            (books.accepted, books.delivered, books.spooled) = (self.kept, self.delivered, self.kept - self.delivered);
            Some(books)
        }
    }

    #[test]
    fn a_mark_is_complete_only_while_nothing_waits() {
        let gate = Arc::new(Barrier::new(2));
        let mut sink = Queued::new(Keeping {
            gate: Some(Arc::clone(&gate)),
            kept: 0,
            delivered: 0,
            failures: 0,
        });
        assert_eq!(sink.resume_point(), ResumePoint::new(&0));
        sink.record(&Record::new(Level::Info, "t", "m")).unwrap();
        assert!(!sink.resume_point().unwrap().is_complete());
        gate.wait();
        sink.flush(soon()).unwrap();
        assert_eq!(sink.resume_point(), ResumePoint::new(&1));
    }

    #[test]
    fn accounts_of_the_sink_and_of_the_queue_are_one() {
        let gate = Arc::new(Barrier::new(2));
        let mut sink = Queued::with_capacity(
            Keeping {
                gate: Some(Arc::clone(&gate)),
                kept: 0,
                delivered: 0,
                failures: u32::MAX,
            },
            1,
        );
        let record = Record::new(Level::Info, "t", "m");
        let refused = (0..5).filter(|_| sink.record(&record).is_err()).count() as u64;
        for _ in 0..5 - refused {
            gate.wait();
        }
        let _ = sink.finish(soon());
        let books = sink.books().unwrap();
        assert_eq!((books.accepted, books.spooled), (5, 5 - refused));
        assert!(books.is_balanced(), "{books:?}");
    }

    #[test]
    fn a_sink_that_cannot_deliver_is_asked_again_and_is_in_trouble_meanwhile() {
        let mut sink = Queued::new(Keeping {
            gate: None,
            kept: 0,
            delivered: 0,
            failures: 2,
        });
        sink.record(&Record::new(Level::Info, "t", "m")).unwrap();
        while sink.deliver().is_ok() {
            thread::yield_now();
        }
        assert_eq!(
            sink.deliver().map_err(|error| error.reason().to_owned()),
            Err("network".to_owned())
        );
        while sink.books().unwrap().delivered == 0 {
            thread::yield_now();
        }
        let _ = sink.deliver();
        sink.finish(soon())
            .unwrap_or_else(|error| assert_eq!(error.reason(), "network"));
    }
}
