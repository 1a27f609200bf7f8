//! The throughput of a whole run.

use std::time::Duration;

use crate::WorkSample;

/// The throughput of several progresses, one after the other: the sum of their work by the sum of
/// their times.
///
/// ```
/// use logcore_progress::{Throughput, WorkSample};
/// use std::time::Duration;
///
/// let mut throughput = Throughput::default();
/// for (units, seconds) in [(10, 1), (10, 4)] {
///     throughput.add(WorkSample { units, samples: Some(32 * units), time: Duration::from_secs(seconds) });
/// }
/// assert_eq!((throughput.units_per_sec(), throughput.samples_per_sec()), (Some(4.0), Some(128.0)));
/// assert_eq!(throughput.time(), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Throughput {
    units: WorkTotal,
    samples: WorkTotal,
}

#[derive(Debug, Clone, Copy, Default)]
struct WorkTotal {
    count: u64,
    time: Duration,
}

impl Throughput {
    /// Adds the work of one progress.
    pub fn add(&mut self, work: WorkSample) {
        self.units.add(work.units, work.time);
        if let Some(samples) = work.samples {
            self.samples.add(samples, work.time);
        }
    }

    /// Returns the time that the work took.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.units.time
    }

    /// Returns the units per second; `None` if there were no units, or no time has passed.
    #[must_use]
    pub fn units_per_sec(&self) -> Option<f64> {
        self.units.rate()
    }

    /// Returns the samples per second, over the progresses that count samples.
    #[must_use]
    pub fn samples_per_sec(&self) -> Option<f64> {
        self.samples.rate()
    }
}

impl WorkTotal {
    fn add(&mut self, count: u64, time: Duration) {
        self.count = self.count.saturating_add(count);
        self.time = self.time.saturating_add(time);
    }

    fn rate(self) -> Option<f64> {
        (self.count > 0 && !self.time.is_zero()).then(|| self.count as f64 / self.time.as_secs_f64())
    }
}
