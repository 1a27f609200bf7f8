//! The course of one rank from look to look: when it is told as slow, and when no longer.

use std::time::{Duration, SystemTime};

use super::look::{Look, Verdict};
use super::{Skew, SkewCause, SkewChange, is_later};

/// Number of steps for which a rank is slower before this is told.
pub(super) const TOLD_AFTER: u64 = 200;

/// Most steps that one look counts: so many looks find the rank slow before this is told, however
/// quick the steps are.
const MOST_A_LOOK: u64 = TOLD_AFTER / 10;

/// Number of steps after the first look that say nothing: compilers, caches and loaders warm up.
const WARM_UP: u64 = 100;

/// A rank is slow if it takes so many times as long as the median.
const SLOW: f64 = 1.2;

/// A rank that was told stays slow until it takes less than so many times as long.
const STILL_SLOW: f64 = 1.1;

/// The course of one rank.
#[derive(Debug)]
pub(super) struct Course {
    /// Newest step that was seen.
    step: u64,
    /// Number of steps that will say nothing yet.
    pub(super) warm_up: u64,
    /// Number of steps that speak for a slow rank, less twice those that speak against.
    evidence: u64,
    /// Number of steps that the last look counted.
    last_count: u64,
    /// Step at which the evidence began.
    since: u64,
    /// Last time at which all evidence was for what was told last.
    sure_at: SystemTime,
    /// Greatest spread of the slots' times since then.
    apart: Duration,
    /// Sums over the steps since then.
    sums: Sums,
    is_told: bool,
}

/// Sums over steps in which a rank was slow.
#[derive(Debug, Default)]
struct Sums {
    steps: f64,
    factor: f64,
    share: f64,
    /// Steps whose cause was data.
    data: f64,
}

impl Course {
    pub(super) fn starting_at(step: u64) -> Self {
        Self {
            step,
            warm_up: WARM_UP,
            evidence: 0,
            last_count: 0,
            since: step,
            sure_at: SystemTime::UNIX_EPOCH,
            apart: Duration::ZERO,
            sums: Sums::default(),
            is_told: false,
        }
    }

    /// Notes the newest step, and returns the number of new ones. A step back begins no count.
    pub(super) fn advance(&mut self, step: u64) -> u64 {
        let done = step.saturating_sub(self.step);
        self.step = step;
        self.warm_up = self.warm_up.saturating_sub(done);
        done
    }

    /// Takes back two looks: the first step after a pause includes the wait of all ranks for one,
    /// and where pauses are frequent, each look may find such a step.
    pub(super) fn pause(&mut self) {
        if !self.is_told {
            self.evidence = self.evidence.saturating_sub(2 * self.last_count);
        }
    }

    pub(super) fn weigh(&mut self, rank: u32, done: u64, verdict: Verdict, look: Look) -> Option<SkewChange> {
        let count = done.min(MOST_A_LOOK);
        if count == 0 {
            return None;
        }
        self.last_count = count;
        if self.evidence == if self.is_told { TOLD_AFTER } else { 0 } {
            (self.sure_at, self.apart) = (look.now, Duration::ZERO);
        }
        self.apart = self.apart.max(look.apart);
        if verdict.factor >= if self.is_told { STILL_SLOW } else { SLOW } {
            if self.evidence == 0 && !self.is_told {
                self.since = self.step - done;
                self.sums = Sums::default();
            }
            self.evidence = (self.evidence + count).min(TOLD_AFTER);
            self.sums.add(count as f64, verdict);
        } else {
            self.evidence = self.evidence.saturating_sub(2 * count);
        }
        // A change of the whole run, seen at one rank earlier than at another, is over by then.
        let is_lasting = is_later(look.now, Some(self.sure_at), self.apart * 2);
        match (self.is_told, self.evidence) {
            (false, TOLD_AFTER) if is_lasting => {
                self.is_told = true;
                Some(SkewChange::Began(self.describe(rank)))
            }
            (true, 0) if is_lasting => {
                self.is_told = false;
                Some(SkewChange::Ended(self.describe(rank)))
            }
            _ => None,
        }
    }

    fn describe(&self, rank: u32) -> Skew {
        let sums = &self.sums;
        Skew {
            rank,
            factor: (sums.factor / sums.steps) as f32,
            steps: self.step.saturating_sub(self.since),
            cause: match sums.data * 2.0 >= sums.steps {
                true => SkewCause::Data {
                    share: (sums.share / sums.steps) as f32,
                },
                false => SkewCause::Step,
            },
        }
    }
}

impl Sums {
    fn add(&mut self, steps: f64, verdict: Verdict) {
        self.steps += steps;
        self.factor += steps * verdict.factor;
        self.share += steps * verdict.share;
        self.data += if verdict.is_data { steps } else { 0.0 };
    }
}
