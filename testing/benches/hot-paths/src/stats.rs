//! Percentiles of a round, medians over rounds.

use std::hint;
use std::time::{Duration, Instant};

/// The times of single calls in one round, in nanoseconds.
#[derive(Clone, Copy)]
pub struct Timing {
    /// The median.
    pub p50: f64,
    /// Nine of ten calls take no longer.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The mean.
    pub mean: f64,
}

impl Timing {
    /// Sorts the samples and reads the percentiles off them.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn of(samples: &mut [u32]) -> Self {
        samples.sort_unstable();
        let at = |share: f64| f64::from(samples[((samples.len() as f64 * share) as usize).min(samples.len() - 1)]);
        let sum: f64 = samples.iter().copied().map(f64::from).sum();
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            mean: sum / samples.len() as f64,
        }
    }
}

/// The median; NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// Waits without giving up the core, and returns the time it is then.
pub fn pause(gap: Duration) -> Instant {
    let asked = Instant::now();
    let mut now = asked;
    while now - asked < gap {
        hint::spin_loop();
        now = Instant::now();
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn percentiles_count_from_the_smallest() {
        let mut samples: Vec<u32> = (0..1000).rev().collect();
        let timing = Timing::of(&mut samples);
        assert_eq!((timing.p50, timing.p99, timing.p999), (500.0, 990.0, 999.0));
        assert_eq!(timing.mean, 499.5);
    }
}
