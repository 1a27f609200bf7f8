//! Times of calls, and their limits.

use std::time::{Duration, Instant};

/// Microseconds of calls, shortest first.
#[derive(Debug)]
pub(crate) struct CallTimes(Vec<f64>);

/// The build without optimization, which the tests run, gets this much more time.
pub(crate) const SLACK: f64 = if cfg!(debug_assertions) { 10.0 } else { 1.0 };

impl CallTimes {
    /// Measures `calls` calls, one or more, each after `before`.
    pub(crate) fn measure(calls: usize, mut before: impl FnMut(), mut call: impl FnMut()) -> Self {
        let mut times: Vec<f64> = (0..calls.max(1))
            .map(|_| {
                before();
                let start = Instant::now();
                call();
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_unstable_by(f64::total_cmp);
        Self(times)
    }

    /// Returns the time that half of the calls do not exceed, in microseconds.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    /// Returns the median, a high percentile and the longest time as text.
    pub(crate) fn text(&self) -> String {
        format!(
            "p50 {:.1} µs, p99 {:.1} µs, worst {:.1} µs",
            self.median(),
            self.percentile(99),
            self.percentile(100)
        )
    }
}

/// Computes for a while: a sleep would let the core go cold.
pub(crate) fn work(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::black_box((0..1000_u64).map(std::hint::black_box).sum::<u64>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = CallTimes((1..=100).map(f64::from).collect());
        assert_eq!((times.median(), times.percentile(99)), (50.0, 99.0));
        assert_eq!(CallTimes(vec![7.0]).text(), "p50 7.0 µs, p99 7.0 µs, worst 7.0 µs");
    }
}
