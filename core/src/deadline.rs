use std::time::{Duration, Instant};

/// A point in time by which a call must have returned.
///
/// Whoever passes a deadline on passes the same one, so that the sum of all waits stays within it.
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
    /// `None`: so far away that the clock has no name for it.
    at: Option<Instant>,
}

impl Deadline {
    /// The deadline that lies `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self {
            at: Instant::now().checked_add(duration),
        }
    }

    /// How long there is until the deadline; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        match self.at {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        }
    }

    /// Whether there is no time left.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }
}
