//! Decides when a repeated action is due.

use std::time::{Duration, Instant};

/// An action that is due at once, and then every interval.
#[derive(Debug, Clone)]
pub(crate) struct IntervalTimer {
    interval: Duration,
    /// Time of the last action; `None`: due at the next call.
    last: Option<Instant>,
}

impl IntervalTimer {
    /// Creates a timer that is due at the first call.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// A timer whose first action was made at `now`.
    pub(crate) fn started(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            last: Some(now),
        }
    }

    /// Returns `true` if the action is due, and counts it as done. Up to 100 ms too early is in
    /// time, because callers have periods of their own that are not exact.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .last
            .is_none_or(|last| now + Duration::from_millis(100).min(self.interval) >= last + self.interval);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Makes the action due at the next call.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }

    /// Multiplies the interval by `factor`, up to `max`. Returns the new interval if it is longer.
    pub(crate) fn slow_down(&mut self, factor: u32, max: Duration) -> Option<Duration> {
        let slower = (self.interval * factor).min(max);
        (slower > self.interval).then(|| {
            self.interval = slower;
            slower
        })
    }
}
