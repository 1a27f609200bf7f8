//! All that is known of one metric.

use logcore::Stats;

use crate::history::History;
use crate::window::Window;

#[derive(Debug)]
pub(crate) struct Series {
    /// Of the run; the mean and the stride are filled in when they are asked for.
    totals: Stats,
    pub(crate) window: Window,
    pub(crate) history: Option<History>,
}

impl Series {
    pub(crate) fn new(history: bool) -> Self {
        Self {
            totals: Stats::empty(),
            window: Window::default(),
            history: history.then(History::new),
        }
    }

    /// Adds a value; returns by how many bytes the history has grown.
    #[inline]
    pub(crate) fn record(&mut self, step: u64, value: f64, window: usize) -> usize {
        let totals = &mut self.totals;
        totals.last = value;
        totals.count += 1;
        if value.is_finite() {
            // The other operand is taken where one is NaN, as both are at first.
            totals.min = totals.min.min(value);
            totals.max = totals.max.max(value);
        } else if value.is_nan() {
            totals.nan_count += 1;
        } else {
            totals.infinite_count += 1;
        }
        self.window.record(value, window);
        match &mut self.history {
            Some(history) => history.record(step, value),
            None => 0,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.totals;
        stats.mean = self.window.mean().unwrap_or(f64::NAN);
        stats.history_stride = self.history.as_ref().map_or(1, History::stride);
        stats
    }
}
