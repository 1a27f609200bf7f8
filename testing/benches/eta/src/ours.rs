use std::time::{Duration, Instant};

use logcore_progress::{Meter, MeterOptions};

use crate::Estimator;

/// A [`Meter`] with the options that a program has by default, as its bar shows it.
#[derive(Debug)]
pub(crate) struct Ours {
    start: Instant,
    meter: Meter,
}

impl Ours {
    /// A progress of this length.
    pub(crate) fn new(total: u64) -> Self {
        let start = Instant::now();
        let options = MeterOptions {
            window: 100,
            smoothing: 0.3,
            line: 0,
            leave: true,
        };
        Self {
            start,
            meter: Meter::start(0, "", Some(total), options, start),
        }
    }
}

impl Estimator for Ours {
    fn step(&mut self, at: f64) {
        self.meter.update(1, None, self.start + Duration::from_secs_f64(at));
    }

    fn shown(&mut self) -> Option<f64> {
        self.meter.derived_metrics().eta_seconds
    }
}
