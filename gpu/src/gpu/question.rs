//! What the driver is asked for: how often, and for how long it is asked at all.

use std::time::{Duration, Instant};

use nvml_wrapper::error::NvmlError;

use crate::due::Due;

/// A kind of question.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    due: Due,
    /// There will never be an answer.
    off: bool,
    failures: u32,
    /// It has failed so often that it is only tried now and then.
    trial: Option<Due>,
    cost: Cost,
    /// How often it is asked, if that is less often than it should be because the answers take long.
    slowed: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is not asked yet.
    Resting,
    /// Not this time.
    Passing,
    /// Never: not from this driver, not from this device, or not for us. Or not until it works again.
    Off,
    /// The device is gone.
    Lost,
}

/// A question that fails so often in a row is only asked from time to time.
pub(crate) const MOST_FAILURES: u32 = 5;
/// A device that fell off the bus, and what has failed too often, is tried again after this long.
pub(crate) const TRY_AGAIN: Duration = Duration::from_secs(60);

/// A call that takes longer holds up others in the driver: those of the training, too.
const DEAR: Duration = Duration::from_millis(5);
const SLOWER: u32 = 4;
const SLOWEST: Duration = Duration::from_secs(120);

impl Question {
    pub(crate) fn every(every: Duration) -> Self {
        Self {
            due: Due::every(every),
            off: false,
            failures: 0,
            trial: None,
            cost: Cost::default(),
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
    pub(crate) fn news(&self, what: &str) -> Option<String> {
        if self.trial.is_some() {
            return Some(format!(
                "the driver has failed {MOST_FAILURES} times in a row to tell {what}, and is only asked each minute until it does"
            ));
        }
        let seconds = self.slowed?.as_secs();
        Some(format!(
            "the driver takes more than 5 ms to tell {what}, and is only asked every {seconds} s"
        ))
    }

    pub(crate) fn ask<T>(&mut self, now: Instant, call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Silence> {
        if self.off || self.trial.as_mut().is_some_and(|trial| !trial.is_now(now)) {
            return Err(Silence::Off);
        }
        if !self.due.is_now(now) {
            return Err(Silence::Resting);
        }
        let asked = Instant::now();
        let answer = call();
        if self.cost.is_dear(asked.elapsed()) {
            self.slowed = self.due.slow_down(SLOWER, SLOWEST).or(self.slowed);
        }
        let silence = match answer {
            Ok(answer) => {
                (self.failures, self.trial) = (0, None);
                return Ok(answer);
            }
            Err(error) => meaning(&error),
        };
        self.due.again();
        match silence {
            Silence::Off => self.off = true,
            Silence::Passing => self.failures += 1,
            _ => {}
        }
        if silence == Silence::Passing && self.failures >= MOST_FAILURES {
            self.trial.get_or_insert_with(|| Due::begun(TRY_AGAIN, now));
            return Err(Silence::Off);
        }
        Err(silence)
    }
}

pub(crate) fn meaning(error: &NvmlError) -> Silence {
    match error {
        NvmlError::GpuLost | NvmlError::ResetRequired => Silence::Lost,
        NvmlError::FailedToLoadSymbol(_)
        | NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::NoPermission
        | NvmlError::UnexpectedVariant(_) => Silence::Off,
        _ => Silence::Passing,
    }
}

/// A question with the answer it had last.
#[derive(Debug, Clone)]
pub(crate) struct Known<T> {
    pub(crate) question: Question,
    last: Option<T>,
}

impl<T: Copy> Known<T> {
    pub(crate) fn new(question: Question) -> Self {
        Self { question, last: None }
    }

    /// The newest answer; none if there will never be one.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Silence> {
        let answer = match self.question.ask(now, call) {
            Err(Silence::Resting) => return Ok(self.last),
            Err(Silence::Off) => Ok(None),
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
struct Cost {
    took: [Duration; 8],
    calls: usize,
}

impl Cost {
    /// Whether that is too long by half of the last eight calls; then it counts from nothing again.
    fn is_dear(&mut self, took: Duration) -> bool {
        self.took[self.calls % 8] = took;
        self.calls += 1;
        let mut sorted = self.took;
        sorted.sort_unstable();
        let is_dear = self.calls >= 8 && sorted[4] > DEAR;
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
        let mut question = Question::every(10 * SECOND);
        let start = Instant::now();
        let mut at = |seconds, answer: Result<(), NvmlError>| question.ask(start + seconds * SECOND, || answer);
        assert_eq!(at(0, Ok(())), Ok(()));
        assert_eq!(at(2, Ok(())), Err(Silence::Resting));
        assert_eq!(at(10, Err(NvmlError::Timeout)), Err(Silence::Passing));
        assert_eq!(at(12, Ok(())), Ok(()));
        assert_eq!(at(20, Ok(())), Err(Silence::Resting));
        assert_eq!(at(22, Err(NvmlError::NotSupported)), Err(Silence::Off));
        assert_eq!(at(100, Ok(())), Err(Silence::Off));
    }

    #[test]
    fn what_fails_five_times_is_tried_again_after_a_minute() {
        let mut question = Question::every(Duration::ZERO);
        let start = Instant::now();
        let mut at = |seconds, answer: Result<(), NvmlError>| {
            let answer = question.ask(start + seconds * SECOND, || answer);
            (answer, question.news("it").is_some())
        };
        for seconds in 0..4 {
            assert_eq!(at(seconds, Err(NvmlError::Timeout)), (Err(Silence::Passing), false));
        }
        assert_eq!(at(4, Err(NvmlError::Timeout)), (Err(Silence::Off), true));
        assert_eq!(at(30, Ok(())), (Err(Silence::Off), true), "it is not asked");
        assert_eq!(at(64, Err(NvmlError::Timeout)), (Err(Silence::Off), true));
        assert_eq!(at(100, Ok(())), (Err(Silence::Off), true));
        assert_eq!(at(124, Ok(())), (Ok(()), false));
        assert_eq!(at(125, Err(NvmlError::Timeout)), (Err(Silence::Passing), false));
    }

    #[test]
    fn an_answer_is_known_until_the_next() {
        let mut known = Known::new(Question::every(10 * SECOND));
        let start = Instant::now();
        let mut at = |seconds, answer: Result<i32, NvmlError>| known.ask(start + seconds * SECOND, || answer);
        assert_eq!(at(0, Ok(1)), Ok(Some(1)));
        assert_eq!(at(5, Ok(2)), Ok(Some(1)));
        assert_eq!(at(10, Err(NvmlError::Timeout)), Err(Silence::Passing));
        assert_eq!(at(11, Ok(3)), Ok(Some(3)));
        assert_eq!(at(21, Err(NvmlError::NoPermission)), Ok(None));
        assert_eq!(at(31, Ok(4)), Ok(None));
    }

    #[test]
    fn what_is_slow_by_half_is_asked_a_quarter_as_often() {
        let (quick, slow) = (DEAR, DEAR + Duration::from_nanos(1));
        let mut cost = Cost::default();
        let half = [quick, slow, quick, slow, quick, slow, slow];
        assert!(half.into_iter().all(|took| !cost.is_dear(took)), "seven say nothing");
        assert!(cost.is_dear(slow));
        assert!(
            (0..7).all(|_| !cost.is_dear(slow)) && cost.is_dear(slow),
            "it counts anew"
        );
        let mut now_and_then = Cost::default();
        assert!((0..99).all(|call| !now_and_then.is_dear(if call % 3 == 1 { slow } else { quick })));

        let mut due = Due::every(15 * SECOND);
        let slower = [60, 120].map(|seconds| Some(seconds * SECOND));
        assert_eq!([due.slow_down(SLOWER, SLOWEST), due.slow_down(SLOWER, SLOWEST)], slower);
        assert_eq!(due.slow_down(SLOWER, SLOWEST), None);
    }
}
