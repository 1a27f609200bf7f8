//! One series: its pending values, totals, window and history.

use logcore::Stats;

use crate::history::SeriesHistory;
use crate::pending_values::PendingValues;
use crate::window::ValueWindow;

/// The values of one metric.
#[derive(Debug)]
pub(crate) struct MetricSeries {
    pending: PendingValues,
    /// Statistics of the run. Mean and stride are filled in by [`stats`](Self::stats).
    totals: Stats,
    pub(crate) window: ValueWindow,
    pub(crate) history: Option<SeriesHistory>,
}

impl MetricSeries {
    pub(crate) fn new(history: bool) -> Self {
        Self {
            pending: PendingValues::new(),
            totals: Stats::empty(),
            window: ValueWindow::default(),
            history: history.then(SeriesHistory::new),
        }
    }

    /// Adds a value; returns the number of bytes by which the history has grown.
    #[inline]
    pub(crate) fn record(&mut self, step: u64, value: f64, window: usize) -> usize {
        if self.pending.push(step, value) {
            return 0;
        }
        let grown = self.settle(window);
        self.pending.push(step, value);
        grown
    }

    /// Moves the pending values into totals, window and history; returns the number of bytes by
    /// which the history has grown.
    pub(crate) fn settle(&mut self, window: usize) -> usize {
        let (steps, values) = self.pending.get();
        let Some(last) = values.last() else { return 0 };
        let totals = &mut self.totals;
        totals.last = *last;
        totals.count += values.len() as u64;
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut finite = 0;
        for value in values.iter().filter(|value| value.is_finite()) {
            min = if *value < min { *value } else { min };
            max = if *value > max { *value } else { max };
            finite += 1;
        }
        if finite > 0 {
            // `min` and `max` ignore a NaN, which the totals are at first.
            totals.min = totals.min.min(min);
            totals.max = totals.max.max(max);
        }
        if finite < values.len() {
            let nan = values.iter().filter(|value| value.is_nan()).count();
            totals.nan_count += nan as u64;
            totals.infinite_count += (values.len() - finite - nan) as u64;
        }
        self.window.record(values, window);
        let grown = match &mut self.history {
            Some(history) => history.record(steps, values),
            None => 0,
        };
        self.pending.clear();
        grown
    }

    /// Returns the statistics of the settled values.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.totals;
        stats.mean = self.window.mean().unwrap_or(f64::NAN);
        stats.history_stride = self.history.as_ref().map_or(1, SeriesHistory::stride);
        stats
    }
}
