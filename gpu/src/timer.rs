use std::time::{Duration, Instant};

/// What is done every so often, and at the first time.
#[derive(Debug, Clone)]
pub(crate) struct IntervalTimer {
    every: Duration,
    last: Option<Instant>,
}

impl IntervalTimer {
    pub(crate) fn every(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// The first time was just now.
    pub(crate) fn begun(every: Duration, now: Instant) -> Self {
        Self { every, last: Some(now) }
    }

    /// Whether it is time; asked again, it is not. A little early is in time, because the asker's own period is not exact.
    pub(crate) fn is_now(&mut self, now: Instant) -> bool {
        let is_now = self
            .last
            .is_none_or(|last| now + Duration::from_millis(100).min(self.every) >= last + self.every);
        if is_now {
            self.last = Some(now);
        }
        is_now
    }

    /// It is time again at the next question.
    pub(crate) fn again(&mut self) {
        self.last = None;
    }

    /// From here on it is done less often, if there is room below `most`; returns how often then.
    pub(crate) fn slow_down(&mut self, factor: u32, most: Duration) -> Option<Duration> {
        let slower = (self.every * factor).min(most);
        (slower > self.every).then(|| {
            self.every = slower;
            slower
        })
    }
}
