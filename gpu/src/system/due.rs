use std::time::{Duration, Instant};

/// What is done every so often, and at the first time.
#[derive(Debug)]
pub(crate) struct Due {
    every: Duration,
    last: Option<Instant>,
}

impl Due {
    pub(crate) fn every(seconds: u64) -> Self {
        Self {
            every: Duration::from_secs(seconds),
            last: None,
        }
    }

    /// Whether it is time; asked again, it is not. A little early is in time, because the asker's own period is not exact.
    pub(crate) fn is_now(&mut self, now: Instant) -> bool {
        let is_now = self
            .last
            .is_none_or(|last| now + Duration::from_millis(100) >= last + self.every);
        if is_now {
            self.last = Some(now);
        }
        is_now
    }
}
