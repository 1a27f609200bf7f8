//! The values of metrics, where the feature `metrics` keeps them; the same face without it, with nothing behind.

use logcore::{LogConfig, Point, Stats};
#[cfg(feature = "metrics")]
use logcore_metrics::{Tracker, TrackerOptions};

/// What a logger's history in memory may take. All of it is on disk.
#[cfg(feature = "metrics")]
const HISTORY_BYTES: usize = 24 << 20;

#[derive(Default)]
pub(crate) struct Series {
    #[cfg(feature = "metrics")]
    tracker: Option<Tracker>,
}

#[cfg(feature = "metrics")]
impl Series {
    pub(crate) fn configure(&mut self, config: &LogConfig) {
        let options = TrackerOptions {
            window: config.metrics_window,
            history: config.metrics_history,
            budget_bytes: HISTORY_BYTES,
        };
        match &mut self.tracker {
            Some(tracker) => tracker.reconfigure(options),
            None => self.tracker = Some(Tracker::new(options)),
        }
    }

    pub(crate) fn add(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.add();
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, series: usize, step: u64, value: f64) {
        if let Some(tracker) = &mut self.tracker {
            tracker.record(series, step, value);
        }
    }

    pub(crate) fn average(&mut self, series: usize) -> Option<f64> {
        self.tracker.as_mut()?.average(series)
    }

    pub(crate) fn stats(&mut self, series: usize) -> Option<Stats> {
        Some(self.tracker.as_mut()?.stats(series)).filter(|stats| stats.count > 0)
    }

    pub(crate) fn history(&mut self, series: usize) -> Option<Vec<Point>> {
        self.tracker.as_mut()?.history(series)
    }
}

#[cfg(not(feature = "metrics"))]
#[allow(clippy::unused_self)]
impl Series {
    pub(crate) fn configure(&mut self, _: &LogConfig) {}

    pub(crate) fn add(&mut self) {}

    pub(crate) fn record(&mut self, _: usize, _: u64, _: f64) {}

    pub(crate) fn average(&mut self, _: usize) -> Option<f64> {
        None
    }

    pub(crate) fn stats(&mut self, _: usize) -> Option<Stats> {
        None
    }

    pub(crate) fn history(&mut self, _: usize) -> Option<Vec<Point>> {
        None
    }
}
