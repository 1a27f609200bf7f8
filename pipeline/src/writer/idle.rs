//! Decides how the writer waits: for more work, and for a frame that is not committed yet.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

/// Decides how long the writer looks for more work before it sleeps.
///
/// A caller need not wake a writer that still looks. But each look costs the machine some thirty
/// microseconds, and most of the cost of readings that come every two seconds would be looks.
pub(super) struct IdlePolicy {
    last_work: Instant,
    /// The writer sleeps after this long without work.
    patience: Duration,
}

/// After longer gaps the writer sleeps.
const LONG_GAP: Duration = Duration::from_millis(200);
/// Work with shorter gaps is one burst.
const SHORT_GAP: Duration = Duration::from_millis(20);

impl IdlePolicy {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_work: now,
            patience: SHORT_GAP,
        }
    }

    /// Notes that there was work.
    pub(super) fn note_work(&mut self, now: Instant) {
        let gap = now.duration_since(self.last_work);
        if gap >= SHORT_GAP {
            self.patience = if gap < LONG_GAP { LONG_GAP } else { SHORT_GAP };
        }
        self.last_work = now;
    }

    /// Returns `true` if more work is likely to come soon.
    pub(super) fn expects_work(&self, now: Instant) -> bool {
        now.duration_since(self.last_work) < self.patience
    }
}

/// Waits for a caller between its reservation and its commit: for the time of a copy, then for that
/// of a time slice.
pub(super) struct SpinWait(u32);

impl SpinWait {
    pub(super) fn new() -> Self {
        Self(0)
    }

    /// Waits a little. Returns `false` if a further look is not worth it.
    pub(super) fn wait(&mut self) -> bool {
        self.0 += 1;
        match self.0 {
            0..100 => hint::spin_loop(),
            100..200 => thread::yield_now(),
            _ => return false,
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn idle_policy_expects_work_after_gaps_like_the_last_one() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut policy = IdlePolicy::new(start);
        // A single burst.
        for millis in [2000, 2001, 2015] {
            policy.note_work(at(millis));
        }
        assert!(policy.expects_work(at(2030)) && !policy.expects_work(at(2040)));
        // Steps of a training: after the writer was woken once, it waits for the next step.
        for millis in [4000, 4100, 4101, 4200] {
            policy.note_work(at(millis));
        }
        assert!(policy.expects_work(at(4390)) && !policy.expects_work(at(4400)));
        // The training pauses, and continues.
        policy.note_work(at(9000));
        assert!(!policy.expects_work(at(9030)));
    }
}
