//! One look at the ranks, which compares each of them with the median.

use std::time::{Duration, SystemTime};

use crate::slot::RankState;

/// Greatest factor that is stated.
const MAX_FACTOR: f64 = 1000.0;

/// The circumstances of a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) now: SystemTime,
    /// Time between the oldest and the newest slot, by the clocks of their hosts.
    pub(super) apart: Duration,
}

impl Look {
    pub(super) fn new(slots: &[RankState], now: SystemTime) -> Self {
        let times = || slots.iter().filter(|slot| slot.is_fresh(now)).map(|slot| slot.time);
        let apart = match (times().min(), times().max()) {
            (Some(oldest), Some(newest)) => newest.duration_since(oldest).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        Self { now, apart }
    }
}

/// The numbers of a slot that are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) seconds: f64,
    /// Seconds of a step that go by with waiting for data.
    pub(super) wait: f64,
}

/// The result of a comparison with the median.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) factor: f64,
    pub(super) share: f64,
    pub(super) is_data: bool,
}

impl Pace {
    /// Returns the numbers of a slot, or `None` if they are unknown.
    pub(super) fn of(slot: &RankState) -> Option<Self> {
        let seconds = f64::from(slot.step_seconds);
        let share = f64::from(slot.data_share);
        let is_known = seconds.is_finite() && seconds > 0.0 && (0.0..=1.0).contains(&share);
        is_known.then_some(Self {
            seconds,
            wait: share * seconds,
        })
    }

    pub(super) fn judge(self, median_seconds: f64, median_wait: f64) -> Verdict {
        let more_seconds = (self.seconds - median_seconds).max(0.0);
        let more_wait = (self.wait - median_wait).max(0.0);
        // Where the others wait for this rank, a step would be shorter by the wait that only this
        // rank has.
        let factor = (self.seconds / median_seconds).max(self.seconds / (self.seconds - more_wait));
        Verdict {
            factor: factor.min(MAX_FACTOR),
            share: self.wait / self.seconds,
            is_data: more_wait * 2.0 >= more_seconds,
        }
    }
}

/// Returns the median; of two middle ones the smaller. There is one number at least.
pub(super) fn find_median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}
