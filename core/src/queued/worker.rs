//! The worker thread of a queued sink, and the state that it shares with the callers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::call::QueuedCall;
use crate::{PendingDelivery, ResumePoint, Sink, SinkBooks, SinkError, SinkErrorKind, catch_panic, sync};

/// The queue between the callers and the worker thread.
pub(super) struct SharedQueue {
    pub(super) capacity: usize,
    state: Mutex<QueueState>,
    /// Signals every change of the state.
    pub(super) changed: Condvar,
}

impl SharedQueue {
    pub(super) fn new(capacity: usize, inner: SinkSnapshot) -> Self {
        let state = QueueState {
            inner,
            ..QueueState::default()
        };
        Self {
            capacity,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState> {
        sync::lock(&self.state)
    }
}

#[derive(Default)]
pub(super) struct QueueState {
    pub(super) queue: VecDeque<QueuedCall>,
    /// Weight of the call that the worker is busy with.
    pub(super) in_progress: u64,
    /// Weight of all calls.
    pub(super) accepted: u64,
    /// Outcomes of the calls that the sink received, for a sink without books.
    outcomes: SinkBooks,
    /// Drops of calls that the sink did not receive.
    pub(super) refused: SinkBooks,
    /// The wrapped sink after its last call.
    pub(super) inner: SinkSnapshot,
    pub(super) pending_delivery: Option<PendingDelivery>,
    /// First error that no caller has received yet.
    pub(super) error: Option<SinkError>,
    /// Error of the last `deliver`.
    pub(super) delivery_failure: Option<DeliveryFailure>,
    /// Number of calls that a caller waits for, and of those that are done.
    pub(super) requested: u64,
    pub(super) completed: u64,
    pub(super) ended: bool,
}

/// The resume point and the books of the wrapped sink.
#[derive(Default)]
pub(super) struct SinkSnapshot {
    pub(super) resume_point: Option<ResumePoint>,
    books: Option<SinkBooks>,
}

impl SinkSnapshot {
    pub(super) fn take(sink: &mut dyn Sink) -> Self {
        let (resume_point, books) = catch_panic(|| (sink.resume_point(), sink.books())).unwrap_or((None, None));
        Self { resume_point, books }
    }
}

/// The error of a `deliver`, which every further `deliver` repeats.
pub(super) struct DeliveryFailure {
    text: String,
    kind: SinkErrorKind,
    reason: String,
}

impl DeliveryFailure {
    fn from_error(error: &SinkError) -> Self {
        Self {
            text: error.to_string(),
            kind: error.kind(),
            reason: error.reason().to_owned(),
        }
    }

    pub(super) fn to_error(&self) -> SinkError {
        SinkError::new(&self.text)
            .with_kind(self.kind)
            .with_reason(self.reason.clone())
    }
}

impl QueueState {
    /// Returns the weight of the calls that the sink has not completed.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.iter().map(QueuedCall::weight).sum::<u64>() + self.in_progress
    }

    /// Counts a call that the sink will not receive, and returns the error for the caller.
    pub(super) fn refuse(&mut self, kind: SinkErrorKind, weight: u64, text: &str) -> SinkError {
        self.refused.drop_for(kind.reason(), weight);
        SinkError::new(text).with_kind(kind)
    }

    pub(super) fn books(&self) -> SinkBooks {
        let Some(mut books) = self.inner.books.clone() else {
            let mut books = self.outcomes.clone();
            books.add(&self.refused);
            books.accepted = self.accepted;
            return books;
        };
        books.add(&self.refused_books());
        books.accepted += self.waiting();
        books
    }

    /// Returns the books of the calls that the sink did not receive.
    pub(super) fn refused_books(&self) -> SinkBooks {
        let mut books = self.refused.clone();
        books.accepted = books.dropped_total();
        books
    }
}

/// Pause before the worker retries a failed `deliver`.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The thread that calls the wrapped sink.
pub(super) struct QueueWorker {
    shared: Arc<SharedQueue>,
    sink: Box<dyn Sink>,
    retry_at: Option<Instant>,
}

impl QueueWorker {
    pub(super) fn new(shared: Arc<SharedQueue>, sink: Box<dyn Sink>) -> Self {
        Self {
            shared,
            sink,
            retry_at: None,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(call) = self.next() {
            let (weight, has_waiter) = (call.weight(), call.has_waiter());
            let (ends, delivers) = (
                matches!(call, QueuedCall::Finish(_)),
                matches!(call, QueuedCall::Deliver),
            );
            let result =
                catch_panic(|| call.make(&mut *self.sink)).unwrap_or_else(|panic| Err(SinkError::panicked(&panic)));
            let inner = SinkSnapshot::take(&mut *self.sink);
            let pending_delivery = match ends {
                true => catch_panic(|| self.sink.pending_delivery()).unwrap_or(None),
                false => None,
            };
            let failed = result.is_err();
            let mut state = self.shared.lock();
            // `finish` has counted a call that completes after the deadline.
            if !state.ended {
                state.inner = inner;
                if weight > 0 {
                    match &result {
                        Ok(()) => state.outcomes.delivered += 1,
                        Err(error) => state.outcomes.drop_for(error.reason(), 1),
                    }
                }
            }
            state.in_progress = 0;
            state.pending_delivery = pending_delivery;
            if delivers {
                state.delivery_failure = result.as_ref().err().map(DeliveryFailure::from_error);
            }
            if let Err(error) = result {
                state.error.get_or_insert(error);
            }
            state.completed += u64::from(has_waiter);
            state.ended |= ends;
            self.shared.changed.notify_all();
            drop(state);
            if delivers {
                self.retry_at = failed.then(|| Instant::now() + RETRY_INTERVAL);
            }
        }
    }

    /// Waits for the next call. Returns `None` after the end.
    fn next(&self) -> Option<QueuedCall> {
        let mut state = self.shared.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(call) = state.queue.pop_front() {
                state.in_progress = call.weight();
                return Some(call);
            }
            let changed = &self.shared.changed;
            state = match self.retry_at {
                None => sync::wait(changed, state),
                Some(at) => {
                    let rest = at.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return Some(QueuedCall::Deliver);
                    }
                    sync::wait_timeout(changed, state, rest)
                }
            };
        }
    }
}
