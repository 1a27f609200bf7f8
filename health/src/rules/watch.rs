//! The state of one rule on one metric.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::finding::Condition;
use super::missing::MissingSlot;
use super::spike::{Judgement, SpikeDetector};

/// Time between two findings of a rule on one metric.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// One rule on one metric: its condition's memory, and its episode.
#[derive(Debug)]
pub(super) struct Watch {
    /// Place of the rule in the config.
    pub(super) rule: usize,
    test: Test,
    /// Number of values without the condition that end an episode.
    window: usize,
    is_open: bool,
    /// Number of values without the condition, one after another, in an open episode.
    good: usize,
    /// Time of the last episode that was told.
    told: Option<SystemTime>,
    /// `true` if the open episode was told.
    is_told: bool,
}

#[derive(Debug)]
enum Test {
    Nan,
    Above(f64),
    Below(f64),
    Spike(Box<SpikeDetector>),
    /// The number of equal values that is reported, the last value, and how often it has come.
    Flat(usize, f64, usize),
    Missing(Arc<MissingSlot>),
}

/// The change that a value brings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    /// An episode began. The number is what was usual.
    Began(Option<f64>),
    /// The open episode, which was too early to be told, goes on.
    Lasts(Option<f64>),
    /// The open episode ended. A number is the level that counts as usual from now on.
    Ended(Option<f64>),
}

enum Verdict {
    /// Says nothing.
    Silent,
    Good,
    Bad(Option<f64>),
    NewLevel(f64),
}

impl Watch {
    /// Begins to watch a metric. `slot` is its slot in the list of what may be missing.
    pub(super) fn new(
        rule: usize,
        condition: &Condition,
        window: usize,
        slot: impl FnOnce() -> Arc<MissingSlot>,
    ) -> Self {
        let test = match *condition {
            Condition::Nan => Test::Nan,
            Condition::Above(bound) => Test::Above(bound),
            Condition::Below(bound) => Test::Below(bound),
            Condition::Spike(factor) => Test::Spike(Box::new(SpikeDetector::new(factor, window))),
            Condition::Flat(count) => Test::Flat(count, f64::NAN, 0),
            Condition::Missing(_) => Test::Missing(slot()),
        };
        Self {
            rule,
            test,
            window,
            is_open: false,
            good: 0,
            told: None,
            is_told: false,
        }
    }

    /// Looks at a value. `last` is the last finite value before it, or NaN.
    #[inline]
    pub(super) fn observe(&mut self, value: f64, last: f64, step: u64, scratch: &mut Vec<i32>) -> Option<Change> {
        let verdict = match &mut self.test {
            Test::Nan if value.is_finite() => Verdict::Good,
            Test::Nan => Verdict::Bad(Some(last).filter(|last| !last.is_nan())),
            Test::Spike(detector) => match detector.observe(value, scratch) {
                Judgement::Learning => Verdict::Silent,
                Judgement::Usual => Verdict::Good,
                Judgement::Spike(usual) => Verdict::Bad(Some(usual)),
                Judgement::NewLevel(level) => Verdict::NewLevel(level),
            },
            Test::Missing(slot) => {
                slot.note_value(step);
                Verdict::Silent
            }
            _ if value.is_nan() => Verdict::Silent,
            Test::Above(bound) => bad_if(value > *bound, *bound),
            Test::Below(bound) => bad_if(value < *bound, *bound),
            Test::Flat(wanted, last, times) => {
                *times = if value == *last { *times + 1 } else { 1 };
                *last = value;
                bad_if(*times >= *wanted, value)
            }
        };
        match verdict {
            Verdict::Good if !self.is_open => None,
            Verdict::Silent => None,
            verdict => self.follow(verdict),
        }
    }

    /// Returns `true` if the open episode may be told now: no other was within a minute.
    pub(super) fn tell(&mut self, now: SystemTime) -> bool {
        // A clock that was set back says nothing about the time since.
        let is_quiet = |told: SystemTime| now.duration_since(told).is_ok_and(|since| since < QUIET_TIME);
        self.is_told = !self.told.is_some_and(is_quiet);
        if self.is_told {
            self.told = Some(now);
        }
        self.is_told
    }

    /// Returns `true` if the last episode was told.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// Returns `true` if a finite value changes nothing.
    pub(super) fn is_calm(&self) -> bool {
        matches!(self.test, Test::Nan) && !self.is_open
    }

    /// Returns `true` while an episode is open.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    #[cold]
    fn follow(&mut self, verdict: Verdict) -> Option<Change> {
        match verdict {
            Verdict::Silent => None,
            Verdict::Bad(usual) => {
                self.good = 0;
                match std::mem::replace(&mut self.is_open, true) {
                    false => Some(Change::Began(usual)),
                    true => (!self.is_told).then_some(Change::Lasts(usual)),
                }
            }
            Verdict::Good => {
                self.good += 1;
                let ended = self.good >= self.window;
                self.is_open = !ended;
                ended.then_some(Change::Ended(None))
            }
            // A detector has a new level only in an episode.
            Verdict::NewLevel(level) => {
                self.is_open = false;
                Some(Change::Ended(Some(level)))
            }
        }
    }
}

#[inline]
fn bad_if(is_bad: bool, usual: f64) -> Verdict {
    match is_bad {
        true => Verdict::Bad(Some(usual)),
        false => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(condition: Condition) -> Watch {
        Watch::new(0, &condition, 10, || unreachable!("the condition is not `missing`"))
    }

    /// Returns the places of values at which an episode began or ended. Each episode is told.
    fn changes(watch: &mut Watch, values: &[f64]) -> Vec<(usize, Change)> {
        let (mut scratch, mut last) = (Vec::new(), f64::NAN);
        let mut changes = Vec::new();
        for (at, value) in values.iter().enumerate() {
            changes.extend(watch.observe(*value, last, 0, &mut scratch).map(|change| (at, change)));
            watch.is_told = true;
            if value.is_finite() {
                last = *value;
            }
        }
        changes
    }

    #[test]
    fn an_episode_is_one_change_and_ends_after_so_many_good_values() {
        let mut values = vec![1.0, f64::NAN, 1.0, f64::INFINITY];
        values.extend([2.0; 9]);
        values.push(f64::NAN);
        values.extend([2.0; 12]);
        values.push(f64::NAN);
        let expected = [
            (1, Change::Began(Some(1.0))),
            (23, Change::Ended(None)),
            (26, Change::Began(Some(2.0))),
        ];
        assert_eq!(changes(&mut watch(Condition::Nan), &values), expected);
    }

    #[test]
    fn bounds_take_infinities_and_pass_over_nan() {
        let values = [10.0, f64::NAN, 10.1];
        let began = Change::Began(Some(10.0));
        assert_eq!(changes(&mut watch(Condition::Above(10.0)), &values), [(2, began)]);
        assert_eq!(
            changes(&mut watch(Condition::Above(10.0)), &[f64::INFINITY]),
            [(0, began)]
        );
        assert_eq!(
            changes(&mut watch(Condition::Below(10.0)), &[10.0, f64::NEG_INFINITY]),
            [(1, began)]
        );
    }

    #[test]
    fn flat_values_are_told_at_the_last_of_so_many() {
        let values = [1.0, 2.0, 2.0, 3.0, 3.0, f64::NAN, 3.0, 3.0];
        assert_eq!(
            changes(&mut watch(Condition::Flat(3)), &values),
            [(6, Change::Began(Some(3.0)))]
        );
    }

    #[test]
    fn a_rule_speaks_once_a_minute_unless_the_clock_was_set_back() {
        let mut watch = watch(Condition::Nan);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let told = [1000, 1059, 1060, 1061, 30].map(|seconds| watch.tell(at(seconds)));
        assert_eq!(told, [true, false, true, false, true]);
    }
}
