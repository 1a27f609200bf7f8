//! What the driver is asked for: how often, and for how long it is asked at all.

use std::time::{Duration, Instant};

use nvml_wrapper::error::NvmlError;

use crate::timer::IntervalTimer;

/// A kind of question.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    due: IntervalTimer,
    /// There will never be an answer.
    off: bool,
    failures: u32,
    /// It has failed so often that it is only tried now and then.
    trial: Option<IntervalTimer>,
    cost: CallCost,
    /// How often it is asked, if that is less often than it should be because the answers take long.
    slowed: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It is not asked yet.
    NotDue,
    /// Not this time.
    Transient,
    /// Never: not from this driver, not from this device, or not for us. Or not until it works again.
    Disabled,
    /// The device is gone.
    DeviceLost,
}

/// A question that fails so often in a row is only asked from time to time.
pub(crate) const MAX_FAILURES: u32 = 5;
/// A device that fell off the bus, and what has failed too often, is tried again after this long.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A call that takes longer holds up others in the driver: those of the training, too.
const SLOW_CALL: Duration = Duration::from_millis(5);
const SLOW_DOWN_FACTOR: u32 = 4;
const MAX_INTERVAL: Duration = Duration::from_secs(120);

impl Query {
    pub(crate) fn every(every: Duration) -> Self {
        Self {
            due: IntervalTimer::every(every),
            off: false,
            failures: 0,
            trial: None,
            cost: CallCost::default(),
            slowed: None,
        }
    }

    pub(crate) fn switched_off() -> Self {
        Self {
            off: true,
            ..Self::every(Duration::ZERO)
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off
    }

    /// What there is to say, if it is not asked as it should be. It stays the same as long as that does.
    pub(crate) fn notice(&self, what: &str) -> Option<String> {
        if self.trial.is_some() {
            return Some(format!(
                "the driver has failed {MAX_FAILURES} times in a row to tell {what}, and is only asked each minute until it does"
            ));
        }
        let seconds = self.slowed?.as_secs();
        Some(format!(
            "the driver takes more than 5 ms to tell {what}, and is only asked every {seconds} s"
        ))
    }

    pub(crate) fn ask<T>(&mut self, now: Instant, call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, NoAnswer> {
        if self.off || self.trial.as_mut().is_some_and(|trial| !trial.is_now(now)) {
            return Err(NoAnswer::Disabled);
        }
        if !self.due.is_now(now) {
            return Err(NoAnswer::NotDue);
        }
        let asked = Instant::now();
        let answer = call();
        if self.cost.is_dear(asked.elapsed()) {
            self.slowed = self.due.slow_down(SLOW_DOWN_FACTOR, MAX_INTERVAL).or(self.slowed);
        }
        let silence = match answer {
            Ok(answer) => {
                (self.failures, self.trial) = (0, None);
                return Ok(answer);
            }
            Err(error) => classify(&error),
        };
        self.due.again();
        match silence {
            NoAnswer::Disabled => self.off = true,
            NoAnswer::Transient => self.failures += 1,
            _ => {}
        }
        if silence == NoAnswer::Transient && self.failures >= MAX_FAILURES {
            self.trial.get_or_insert_with(|| IntervalTimer::begun(RETRY_AFTER, now));
            return Err(NoAnswer::Disabled);
        }
        Err(silence)
    }
}

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

/// A question with the answer it had last.
#[derive(Debug, Clone)]
pub(crate) struct CachedQuery<T> {
    pub(crate) question: Query,
    last: Option<T>,
}

impl<T: Copy> CachedQuery<T> {
    pub(crate) fn new(question: Query) -> Self {
        Self { question, last: None }
    }

    /// The newest answer; none if there will never be one.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<Option<T>, NoAnswer> {
        let answer = match self.question.ask(now, call) {
            Err(NoAnswer::NotDue) => return Ok(self.last),
            Err(NoAnswer::Disabled) => Ok(None),
            other => other.map(Some),
        };
        self.last = answer.unwrap_or(None);
        answer
    }

    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.question.due.again();
    }
}

/// How long the last calls took. One that is slow now and then is not dear.
#[derive(Debug, Clone, Default)]
struct CallCost {
    took: [Duration; 8],
    calls: usize,
}

impl CallCost {
    /// Whether that is too long by half of the last eight calls; then it counts from nothing again.
    fn is_dear(&mut self, took: Duration) -> bool {
        self.took[self.calls % 8] = took;
        self.calls += 1;
        let mut sorted = self.took;
        sorted.sort_unstable();
        let is_dear = self.calls >= 8 && sorted[4] > SLOW_CALL;
        if is_dear {
            *self = Self::default();
        }
        is_dear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_asked_when_it_is_due_and_again_at_once_when_it_failed() {
        let mut question = Query::every(10 * SECOND);
        let start = Instant::now();
        let mut at = |seconds, answer: Result<(), NvmlError>| question.ask(start + seconds * SECOND, || answer);
        assert_eq!(at(0, Ok(())), Ok(()));
        assert_eq!(at(2, Ok(())), Err(NoAnswer::NotDue));
        assert_eq!(at(10, Err(NvmlError::Timeout)), Err(NoAnswer::Transient));
        assert_eq!(at(12, Ok(())), Ok(()));
        assert_eq!(at(20, Ok(())), Err(NoAnswer::NotDue));
        assert_eq!(at(22, Err(NvmlError::NotSupported)), Err(NoAnswer::Disabled));
        assert_eq!(at(100, Ok(())), Err(NoAnswer::Disabled));
    }

    #[test]
    fn what_fails_five_times_is_tried_again_after_a_minute() {
        let mut question = Query::every(Duration::ZERO);
        let start = Instant::now();
        let mut at = |seconds, answer: Result<(), NvmlError>| {
            let answer = question.ask(start + seconds * SECOND, || answer);
            (answer, question.notice("it").is_some())
        };
        for seconds in 0..4 {
            assert_eq!(at(seconds, Err(NvmlError::Timeout)), (Err(NoAnswer::Transient), false));
        }
        assert_eq!(at(4, Err(NvmlError::Timeout)), (Err(NoAnswer::Disabled), true));
        assert_eq!(at(30, Ok(())), (Err(NoAnswer::Disabled), true), "it is not asked");
        assert_eq!(at(64, Err(NvmlError::Timeout)), (Err(NoAnswer::Disabled), true));
        assert_eq!(at(100, Ok(())), (Err(NoAnswer::Disabled), true));
        assert_eq!(at(124, Ok(())), (Ok(()), false));
        assert_eq!(at(125, Err(NvmlError::Timeout)), (Err(NoAnswer::Transient), false));
    }

    #[test]
    fn an_answer_is_known_until_the_next() {
        let mut known = CachedQuery::new(Query::every(10 * SECOND));
        let start = Instant::now();
        let mut at = |seconds, answer: Result<i32, NvmlError>| known.ask(start + seconds * SECOND, || answer);
        assert_eq!(at(0, Ok(1)), Ok(Some(1)));
        assert_eq!(at(5, Ok(2)), Ok(Some(1)));
        assert_eq!(at(10, Err(NvmlError::Timeout)), Err(NoAnswer::Transient));
        assert_eq!(at(11, Ok(3)), Ok(Some(3)));
        assert_eq!(at(21, Err(NvmlError::NoPermission)), Ok(None));
        assert_eq!(at(31, Ok(4)), Ok(None));
    }

    #[test]
    fn what_is_slow_by_half_is_asked_a_quarter_as_often() {
        let (quick, slow) = (SLOW_CALL, SLOW_CALL + Duration::from_nanos(1));
        let mut cost = CallCost::default();
        let half = [quick, slow, quick, slow, quick, slow, slow];
        assert!(half.into_iter().all(|took| !cost.is_dear(took)), "seven say nothing");
        assert!(cost.is_dear(slow));
        assert!(
            (0..7).all(|_| !cost.is_dear(slow)) && cost.is_dear(slow),
            "it counts anew"
        );
        let mut now_and_then = CallCost::default();
        assert!((0..99).all(|call| !now_and_then.is_dear(if call % 3 == 1 { slow } else { quick })));

        let mut due = IntervalTimer::every(15 * SECOND);
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
