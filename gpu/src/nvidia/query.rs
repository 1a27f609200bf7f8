//! Schedules one kind of driver query: its interval, its cost, and if the driver supports it.

use std::time::{Duration, Instant};

use nvml_wrapper::error::NvmlError;

use crate::timer::IntervalTimer;

/// A repeated query.
///
/// - A failed query is repeated at the next chance. After [`MAX_FAILURES`] failures in a row it is
///   tried once in [`RETRY_AFTER`].
/// - A query that the driver does not support or refuses is never repeated.
/// - A slow query is made less often, see [`CallCost`].
#[derive(Debug, Clone)]
pub(crate) struct Query {
    timer: IntervalTimer,
    is_disabled: bool,
    /// Number of failures in a row.
    failures: u32,
    /// Set while the query fails so often that it is only retried from time to time.
    retry: Option<IntervalTimer>,
    cost: CallCost,
    /// The increased interval, if the query was found slow.
    slow_interval: Option<Duration>,
}

/// The reason why a query has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The query is not due yet.
    NotDue,
    /// The call failed; the next one may succeed.
    Transient,
    /// This driver, this device or our permissions do not allow the query, or it waits for a retry.
    Disabled,
    /// The device fell off the bus, or has to be reset.
    DeviceLost,
}

/// Number of failures in a row after which a query is only retried every [`RETRY_AFTER`].
pub(crate) const MAX_FAILURES: u32 = 5;
/// Time between two tries of a lost device or a failing query.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A call that takes longer is slow. It holds a lock of the driver that the training needs, too.
const SLOW_CALL: Duration = Duration::from_millis(5);
/// Factor of the interval of a slow query.
const SLOW_DOWN_FACTOR: u32 = 4;
/// Longest interval of a slow query.
const MAX_INTERVAL: Duration = Duration::from_secs(120);

impl Query {
    /// A query that is due at once, and then every `interval`.
    pub(crate) fn every(interval: Duration) -> Self {
        Self {
            timer: IntervalTimer::new(interval),
            is_disabled: false,
            failures: 0,
            retry: None,
            cost: CallCost::default(),
            slow_interval: None,
        }
    }

    /// A query that is never made.
    pub(crate) fn disabled() -> Self {
        Self {
            is_disabled: true,
            ..Self::every(Duration::ZERO)
        }
    }

    /// Returns `true` if the query is never made again.
    pub(crate) fn is_disabled(&self) -> bool {
        self.is_disabled
    }

    /// Returns the message for users while the query fails or is slow. The text of a state never
    /// changes.
    pub(crate) fn notice(&self, subject: &str) -> Option<String> {
        if self.retry.is_some() {
            return Some(format!(
                "cannot query {subject}: {MAX_FAILURES} calls in a row failed. Retrying every minute"
            ));
        }
        let seconds = self.slow_interval?.as_secs();
        Some(format!(
            "querying {subject} takes more than 5 ms, so the interval is now {seconds} s"
        ))
    }

    /// Makes the call if it is due.
    pub(crate) fn ask<T>(&mut self, now: Instant, call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, NoAnswer> {
        if self.is_disabled || self.retry.as_mut().is_some_and(|retry| !retry.is_due(now)) {
            return Err(NoAnswer::Disabled);
        }
        if !self.timer.is_due(now) {
            return Err(NoAnswer::NotDue);
        }
        let start = Instant::now();
        let answer = call();
        if self.cost.is_slow(start.elapsed()) {
            self.slow_interval = self
                .timer
                .slow_down(SLOW_DOWN_FACTOR, MAX_INTERVAL)
                .or(self.slow_interval);
        }
        let no_answer = match answer {
            Ok(answer) => {
                (self.failures, self.retry) = (0, None);
                return Ok(answer);
            }
            Err(error) => classify(&error),
        };
        self.timer.reset();
        match no_answer {
            NoAnswer::Disabled => self.is_disabled = true,
            NoAnswer::Transient => self.failures += 1,
            _ => {}
        }
        if no_answer == NoAnswer::Transient && self.failures >= MAX_FAILURES {
            self.retry
                .get_or_insert_with(|| IntervalTimer::started(RETRY_AFTER, now));
            return Err(NoAnswer::Disabled);
        }
        Err(no_answer)
    }

    /// Makes the query due at the next call.
    fn reset(&mut self) {
        self.timer.reset();
    }
}

/// Returns the meaning of an error for the query that failed.
pub(crate) fn classify(error: &NvmlError) -> NoAnswer {
    match error {
        NvmlError::GpuLost | NvmlError::ResetRequired => NoAnswer::DeviceLost,
        NvmlError::FailedToLoadSymbol(_)
        | NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::NoPermission
        | NvmlError::UnexpectedVariant(_) => NoAnswer::Disabled,
        _ => NoAnswer::Transient,
    }
}

/// A query and its last answer.
#[derive(Debug, Clone)]
pub(crate) struct CachedQuery<T> {
    pub(crate) query: Query,
    last: Option<T>,
}

impl<T: Copy> CachedQuery<T> {
    pub(crate) fn new(query: Query) -> Self {
        Self { query, last: None }
    }

    /// Returns a new answer if the query is due, else the last one; `None` if the query is
    /// disabled.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<Option<T>, NoAnswer> {
        let answer = match self.query.ask(now, call) {
            Err(NoAnswer::NotDue) => return Ok(self.last),
            Err(NoAnswer::Disabled) => Ok(None),
            other => other.map(Some),
        };
        self.last = answer.unwrap_or(None);
        answer
    }

    /// Drops the last answer and makes the query due.
    pub(crate) fn invalidate(&mut self) {
        self.last = None;
        self.query.reset();
    }
}

/// Durations of the last calls. The median of eight decides, so a single slow call has no effect.
#[derive(Debug, Clone, Default)]
struct CallCost {
    durations: [Duration; 8],
    calls: usize,
}

impl CallCost {
    /// Adds a call. Returns `true` if half of the last eight calls were slow, and then starts anew.
    fn is_slow(&mut self, duration: Duration) -> bool {
        self.durations[self.calls % 8] = duration;
        self.calls += 1;
        let mut sorted = self.durations;
        sorted.sort_unstable();
        let is_slow = self.calls >= 8 && sorted[4] > SLOW_CALL;
        if is_slow {
            *self = Self::default();
        }
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn query_is_made_when_due_and_at_once_after_a_failure() {
        let mut query = Query::every(10 * SECOND);
        let start = Instant::now();
        let mut at = |seconds, answer: Result<(), NvmlError>| query.ask(start + seconds * SECOND, || answer);
        assert_eq!(at(0, Ok(())), Ok(()));
        assert_eq!(at(2, Ok(())), Err(NoAnswer::NotDue));
        assert_eq!(at(10, Err(NvmlError::Timeout)), Err(NoAnswer::Transient));
        assert_eq!(at(12, Ok(())), Ok(()));
        assert_eq!(at(20, Ok(())), Err(NoAnswer::NotDue));
        assert_eq!(at(22, Err(NvmlError::NotSupported)), Err(NoAnswer::Disabled));
        assert_eq!(at(100, Ok(())), Err(NoAnswer::Disabled));
    }

    #[test]
    fn query_that_fails_five_times_is_retried_after_a_minute() {
        let mut query = Query::every(Duration::ZERO);
        let start = Instant::now();
        let mut at = |seconds, answer: Result<(), NvmlError>| {
            let answer = query.ask(start + seconds * SECOND, || answer);
            (answer, query.notice("it").is_some())
        };
        for seconds in 0..4 {
            assert_eq!(at(seconds, Err(NvmlError::Timeout)), (Err(NoAnswer::Transient), false));
        }
        assert_eq!(at(4, Err(NvmlError::Timeout)), (Err(NoAnswer::Disabled), true));
        assert_eq!(at(30, Ok(())), (Err(NoAnswer::Disabled), true), "no call is made");
        assert_eq!(at(64, Err(NvmlError::Timeout)), (Err(NoAnswer::Disabled), true));
        assert_eq!(at(100, Ok(())), (Err(NoAnswer::Disabled), true));
        assert_eq!(at(124, Ok(())), (Ok(()), false));
        assert_eq!(at(125, Err(NvmlError::Timeout)), (Err(NoAnswer::Transient), false));
    }

    #[test]
    fn cached_query_returns_the_last_answer_until_the_next() {
        let mut cached = CachedQuery::new(Query::every(10 * SECOND));
        let start = Instant::now();
        let mut at = |seconds, answer: Result<i32, NvmlError>| cached.ask(start + seconds * SECOND, || answer);
        assert_eq!(at(0, Ok(1)), Ok(Some(1)));
        assert_eq!(at(5, Ok(2)), Ok(Some(1)));
        assert_eq!(at(10, Err(NvmlError::Timeout)), Err(NoAnswer::Transient));
        assert_eq!(at(11, Ok(3)), Ok(Some(3)));
        assert_eq!(at(21, Err(NvmlError::NoPermission)), Ok(None));
        assert_eq!(at(31, Ok(4)), Ok(None));
    }

    #[test]
    fn query_that_is_slow_in_half_of_its_calls_gets_a_longer_interval() {
        let (quick, slow) = (SLOW_CALL, SLOW_CALL + Duration::from_nanos(1));
        let mut cost = CallCost::default();
        let half = [quick, slow, quick, slow, quick, slow, slow];
        assert!(
            half.into_iter().all(|took| !cost.is_slow(took)),
            "seven calls do not decide"
        );
        assert!(cost.is_slow(slow));
        assert!(
            (0..7).all(|_| !cost.is_slow(slow)) && cost.is_slow(slow),
            "the count starts anew"
        );
        let mut now_and_then = CallCost::default();
        assert!((0..99).all(|call| !now_and_then.is_slow(if call % 3 == 1 { slow } else { quick })));

        let mut due = IntervalTimer::new(15 * SECOND);
        let slower = [60, 120].map(|seconds| Some(seconds * SECOND));
        assert_eq!(
            [
                due.slow_down(SLOW_DOWN_FACTOR, MAX_INTERVAL),
                due.slow_down(SLOW_DOWN_FACTOR, MAX_INTERVAL)
            ],
            slower
        );
        assert_eq!(due.slow_down(SLOW_DOWN_FACTOR, MAX_INTERVAL), None);
    }
}
