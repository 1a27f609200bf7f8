//! The end of a time budget that several calls share.

use std::time::{Duration, Instant};

/// A point in time by which a call must have returned.
///
/// A function that calls others passes on the deadline that it received. The sum of all waits then
/// stays within the deadline, which a relative time-out cannot promise.
///
/// ```
/// use logcore::Deadline;
/// use std::time::Duration;
///
/// let deadline = Deadline::after(Duration::from_secs(5));
/// assert!(deadline.remaining() <= Duration::from_secs(5));
/// assert!(!deadline.has_passed());
/// assert!(Deadline::after(Duration::ZERO).has_passed());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// `None` if the deadline lies beyond the range of the clock.
    at: Option<Instant>,
}

impl Deadline {
    /// Returns the deadline that lies `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Self {
            at: Instant::now().checked_add(duration),
        }
    }

    /// Returns the time until the deadline; zero after the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match self.at {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        }
    }

    /// Returns `true` if no time is left.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }
}
