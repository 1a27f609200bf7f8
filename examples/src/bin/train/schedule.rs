//! The learning rate over the steps of the run.

use std::f32::consts::PI;

/// The learning rate: a linear warm-up, then half a cosine down to a twentieth of the peak.
pub(crate) struct Schedule {
    pub(crate) peak: f32,
    pub(crate) warm_up: u64,
    pub(crate) steps: u64,
}

/// Learning rate at the end, as a fraction of the peak.
const FLOOR: f32 = 0.05;

impl Schedule {
    /// Returns the rate of a step, counted from 0.
    pub(crate) fn rate(&self, step: u64) -> f32 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f32 / self.warm_up as f32;
        }
        let rest = self.steps.saturating_sub(self.warm_up).max(1);
        let done = ((step - self.warm_up) as f32 / rest as f32).min(1.0);
        self.peak * (FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (PI * done).cos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_to_the_peak_and_falls_to_the_floor() {
        let schedule = Schedule {
            peak: 2.0,
            warm_up: 10,
            steps: 100,
        };
        let rates: Vec<f32> = (0..=100).map(|step| schedule.rate(step)).collect();
        assert!(rates[..10].is_sorted_by(|a, b| a < b));
        assert!(rates[10..].is_sorted_by(|a, b| a > b));
        assert_eq!((rates[9], rates[10]), (2.0, 2.0));
        assert!((rates[100] - 2.0 * FLOOR).abs() < 1e-6);
        assert_eq!(schedule.rate(1000), rates[100]);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_only_rises() {
        let schedule = Schedule {
            peak: 1.0,
            warm_up: 10,
            steps: 3,
        };
        assert!((0..3).all(|step| schedule.rate(step) < schedule.rate(step + 1)));
    }
}
