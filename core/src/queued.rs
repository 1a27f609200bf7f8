use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use serde_json::Value;

use crate::{
    Deadline, EventKind, MetricBatch, MetricValue, Notices, OwnedRecord, ProgressEvent, Record, Sink, SinkBooks,
    SinkError, quiet,
};

/// Gives a slow sink a thread and a bounded queue of its own, so that it holds up no other sink.
///
/// A full queue drops what comes and counts it as `queue full`; `flush` and `finish` are never dropped. What is still
/// waiting when `finish` runs out of time is counted as `not delivered in time`.
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
}

impl Queued {
    /// Wraps `sink` with room for 8192 waiting calls.
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self::with_capacity(sink, 8192)
    }

    /// Wraps `sink` with room for `capacity` waiting calls (at least 1).
    pub fn with_capacity(sink: impl Sink + 'static, capacity: usize) -> Self {
        let destination = sink.destination();
        let wanted = [
            EventKind::Record,
            EventKind::Metrics,
            EventKind::Progress,
            EventKind::Config,
        ]
        .into_iter()
        .filter(|what| sink.wants(*what))
        .collect();
        let shared = Arc::new(Shared {
            capacity: capacity.max(1),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            sink: Box::new(sink),
        };
        let spawned = thread::Builder::new()
            .name("logcore-queued".to_owned())
            .spawn(move || quiet(|| worker.run()));
        if spawned.is_err() {
            // No thread can be had: every call is then refused and counted, and nobody waits.
            shared.lock().ended = true;
        }
        Self {
            shared,
            destination,
            wanted,
        }
    }

    fn push(&self, call: Call) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        let counts = call.counts();
        state.books.accepted += u64::from(counts);
        if state.ended {
            state.books.drop_for("sink ended", u64::from(counts));
            return Err(SinkError::new("the sink's thread has ended").with_reason("sink ended"));
        }
        if state.queue.len() >= self.shared.capacity {
            state.books.drop_for("queue full", u64::from(counts));
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
                let waiting = state.queue.iter().filter(|call| call.counts()).count();
                let message = format!("{waiting} calls were not delivered in time");
                return Err(SinkError::new(message).with_reason("not delivered in time"));
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, remaining)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Sink for Queued {
    fn wants(&self, what: EventKind) -> bool {
        self.wanted.contains(&what)
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
        self.shared.lock().error.take().map_or(Ok(()), Err)
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.wait(Call::Flush(deadline), deadline)
    }

    fn exit_code(&mut self, code: i32) {
        self.shared.lock().queue.push_back(Call::ExitCode(code));
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let result = self.wait(Call::Finish(deadline), deadline);
        let mut state = self.shared.lock();
        state.ended = true;
        let given_up = state.queue.drain(..).filter(Call::counts).count() as u64 + u64::from(state.in_hand);
        state.books.drop_for("not delivered in time", given_up);
        self.shared.changed.notify_all();
        result
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.shared.lock().books.clone())
    }

    fn destination(&self) -> Option<String> {
        self.destination.clone()
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
        // The state is whole between any two statements; a panic elsewhere is no reason to lose it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Call>,
    /// The worker is busy with a call that counts.
    in_hand: bool,
    books: SinkBooks,
    error: Option<SinkError>,
    asked: u64,
    answered: u64,
    ended: bool,
}

struct Worker {
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
}

impl Worker {
    fn run(mut self) {
        while let Some(call) = self.next() {
            let (counts, waits, ends) = (call.counts(), call.is_waited_for(), matches!(call, Call::Finish(_)));
            let result = catch_unwind(AssertUnwindSafe(|| call.make(&mut *self.sink)))
                .unwrap_or_else(|_| Err(SinkError::new("the sink panicked").with_reason("panic")));
            let mut state = self.shared.lock();
            // After `ended` the call in hand has been counted as given up.
            if counts && !state.ended {
                match &result {
                    Ok(()) => state.books.delivered += 1,
                    Err(error) => {
                        let reason = error.reason().to_owned();
                        state.books.drop_for(&reason, 1);
                    }
                }
            }
            state.in_hand = false;
            if let Err(error) = result {
                state.error.get_or_insert(error);
            }
            state.answered += u64::from(waits);
            state.ended |= ends;
            self.shared.changed.notify_all();
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
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
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
    Flush(Deadline),
    ExitCode(i32),
    Finish(Deadline),
}

impl Call {
    fn counts(&self) -> bool {
        matches!(
            self,
            Self::Record(_) | Self::Metrics(_) | Self::Config(_) | Self::Message(_)
        )
    }

    fn is_waited_for(&self) -> bool {
        matches!(self, Self::Flush(_) | Self::Finish(_))
    }

    fn make(self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        match self {
            Self::Start(notices) => sink.start(&notices),
            Self::Record(record) => record.lend(|record| sink.record(record)),
            Self::Metrics(batch) => batch.lend(|batch| sink.metrics(batch)),
            Self::Progress(event) => event.lend(|event| sink.progress(event)),
            Self::Config(config) => sink.config(&config),
            Self::Message(message) => sink.message(&message),
            Self::Flush(deadline) => sink.flush(deadline),
            Self::ExitCode(code) => {
                sink.exit_code(code);
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
    fn lend<T>(&self, use_it: impl FnOnce(&MetricBatch<'_>) -> T) -> T {
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
    fn lend<T>(&self, use_it: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
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
    use crate::ProgressKind;

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
        assert!(books.balanced());
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
        assert!(books.balanced());
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
        assert!(books.balanced());
    }

    #[test]
    fn everything_is_forwarded() {
        let (handle, inner) = crate::testing::recording();
        let mut sink = Queued::new(inner);
        sink.metrics(&MetricBatch::new("t", 7, &[("loss", MetricValue::Int(1))]))
            .unwrap();
        sink.progress(&ProgressEvent::new(ProgressKind::Started, 1, "t", "work"))
            .unwrap();
        sink.config(&serde_json::json!({"lr": 1})).unwrap();
        sink.exit_code(3);
        sink.finish(soon()).unwrap();
        assert_eq!(
            handle.calls(),
            [
                "metrics t 7 loss=Int(1)",
                "progress t work Started 0",
                "config {\"lr\":1}",
                "exit_code 3",
                "finish"
            ]
        );
    }
}
