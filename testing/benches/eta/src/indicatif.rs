use crate::Estimator;

/// Age at which an observation weighs a tenth.
const WEIGHTING_SECONDS: f64 = 15.0;
/// The updates that are looked at: a bucket of ten, filled once a millisecond.
const INTERVAL: f64 = 1e-3;
const MAX_BURST: f64 = 10.0;

/// The estimator of indicatif 0.18.6 (`Estimator` and `AtomicPosition` in `src/state.rs`), which
/// reads the clock itself and so cannot be given other times. A bar without a steady tick, asked
/// when it is updated.
#[derive(Debug)]
pub(crate) struct Indicatif {
    total: u64,
    position: u64,
    recorded: u64,
    recorded_at: f64,
    smoothed: f64,
    double_smoothed: f64,
    capacity: f64,
    allowed_at: f64,
    rate: Option<f64>,
}

impl Indicatif {
    /// A bar of this length.
    pub(crate) fn new(total: u64) -> Self {
        Self {
            total,
            position: 0,
            recorded: 0,
            recorded_at: 0.0,
            smoothed: 0.0,
            double_smoothed: 0.0,
            capacity: MAX_BURST,
            allowed_at: 0.0,
            rate: None,
        }
    }

    fn allow(&mut self, at: f64) -> bool {
        let elapsed = at - self.allowed_at;
        if self.capacity == 0.0 && elapsed < INTERVAL {
            return false;
        }
        let new = (elapsed / INTERVAL).floor();
        self.capacity = (self.capacity + new - 1.0).min(MAX_BURST);
        self.allowed_at += new * INTERVAL;
        true
    }

    fn record(&mut self, at: f64) {
        if at <= self.recorded_at {
            return;
        }
        let elapsed = at - self.recorded_at;
        let rate = (self.position - self.recorded) as f64 / elapsed;
        let weight = weight(elapsed);
        self.smoothed = self.smoothed * weight + rate * (1.0 - weight);
        let total_weight = 1.0 - self::weight(at);
        let normalised = self.smoothed / total_weight;
        self.double_smoothed = self.double_smoothed * weight + normalised * (1.0 - weight);
        (self.recorded, self.recorded_at) = (self.position, at);
        self.rate = Some(self.double_smoothed / total_weight);
    }
}

impl Estimator for Indicatif {
    fn step(&mut self, at: f64) {
        self.position += 1;
        if self.allow(at) {
            self.record(at);
        }
    }

    fn shown(&mut self) -> Option<f64> {
        Some((self.total - self.position) as f64 / self.rate?)
    }
}

fn weight(age: f64) -> f64 {
    0.1_f64.powf(age / WEIGHTING_SECONDS)
}
