//! The public tracker: any number of series under one memory budget.

use std::collections::BinaryHeap;

use logcore::{Point, Stats};

use crate::history::{SHORTEST, SeriesHistory};
use crate::series::MetricSeries;

/// Limits of a [`Tracker`].
///
/// The budget does not include the windows, which take 8 bytes per value (up to 16 while a window
/// fills), and up to 32 pending values per series.
///
/// ```
/// use logcore_metrics::TrackerOptions;
///
/// let options = TrackerOptions { window: 10, ..TrackerOptions::default() };
/// assert!(options.history);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackerOptions {
    /// Number of newest values that an average is computed over. 0 is treated as 1.
    pub window: usize,
    /// `true` keeps the values of the whole run, within the budget.
    pub history: bool,
    /// Maximum size of all histories together, in bytes. Each series may have 1 KiB in any case.
    pub budget_bytes: usize,
}

impl Default for TrackerOptions {
    /// A window of 100 values, and a history of 24 MiB.
    fn default() -> Self {
        Self {
            window: 100,
            history: true,
            budget_bytes: 24 << 20,
        }
    }
}

/// Series of values, each with an average of the newest values, statistics of all values, and a
/// history.
///
/// The history is exact until its budget is used up. Then the longest series is thinned to every
/// second point, as often as necessary. The first and the newest point of a series are always kept.
/// [`Stats::history_stride`] is the distance of the kept points.
///
/// ```
/// use logcore_metrics::{Tracker, TrackerOptions};
///
/// let mut tracker = Tracker::new(TrackerOptions { budget_bytes: 1 << 20, ..TrackerOptions::default() });
/// let loss = tracker.add();
/// for step in 0..1_000_000 {
///     tracker.record(loss, step, 1.0 / (step + 1) as f64);
/// }
/// let history = tracker.history(loss).unwrap();
/// assert!(tracker.history_bytes() <= 1 << 20);
/// assert_eq!(history[0].step, 0);
/// assert_eq!(history[1].step, tracker.stats(loss).history_stride);
/// assert_eq!(history.last().unwrap().step, 999_999);
/// ```
#[derive(Debug)]
pub struct Tracker {
    options: TrackerOptions,
    series: Vec<MetricSeries>,
    history_bytes: usize,
}

/// Minimum budget per series, in bytes. A series that cannot be thinned any more is smaller (a test
/// checks that), so thinning always frees enough memory to be rare.
const FLOOR: usize = 1 << 10;

impl Tracker {
    /// Returns a tracker without series.
    ///
    /// ```
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// assert!(Tracker::new(TrackerOptions::default()).is_empty());
    /// ```
    #[must_use]
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            options: validated(options),
            series: Vec::new(),
            history_bytes: 0,
        }
    }

    /// Adds a series; returns its index. Indices count up from 0.
    ///
    /// ```
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// let mut tracker = Tracker::new(TrackerOptions::default());
    /// assert_eq!((tracker.add(), tracker.add(), tracker.len()), (0, 1, 2));
    /// ```
    pub fn add(&mut self) -> usize {
        let series = MetricSeries::new(self.options.history);
        self.history_bytes += series.history.as_ref().map_or(0, SeriesHistory::bytes);
        self.series.push(series);
        self.series.len() - 1
    }

    /// Returns the number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Returns `true` if there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Adds a value to a series. Steps may come in any order, and more than once.
    ///
    /// # Panics
    ///
    /// If there is no such series. The other methods that take a series panic, too.
    #[inline]
    pub fn record(&mut self, series: usize, step: u64, value: f64) {
        let grown = self.series[series].record(step, value, self.options.window);
        if grown > 0 {
            self.grow(grown);
        }
    }

    /// Returns the mean of the finite values in the window; `None` if there are none.
    ///
    /// The mean is computed from these values alone, without intermediate rounding. It takes about
    /// 20 ns per value.
    ///
    /// ```
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// let mut tracker = Tracker::new(TrackerOptions { window: 2, ..TrackerOptions::default() });
    /// let loss = tracker.add();
    /// for (step, value) in [(0, 9.0), (1, 2.0), (2, 1.0)] {
    ///     tracker.record(loss, step, value);
    /// }
    /// assert_eq!(tracker.average(loss), Some(1.5));
    /// ```
    pub fn average(&mut self, series: usize) -> Option<f64> {
        self.settled(series).window.mean()
    }

    /// Returns the statistics of a series: the mean over the window, everything else over the run.
    ///
    /// ```
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// let mut tracker = Tracker::new(TrackerOptions::default());
    /// let loss = tracker.add();
    /// tracker.record(loss, 0, 0.5);
    /// tracker.record(loss, 1, f64::NAN);
    /// let stats = tracker.stats(loss);
    /// assert_eq!((stats.min, stats.count, stats.nan_count), (0.5, 2, 1));
    /// ```
    pub fn stats(&mut self, series: usize) -> Stats {
        self.settled(series).stats()
    }

    /// Returns the points of a series in the order in which they were recorded; `None` if the
    /// history is off.
    ///
    /// ```
    /// use logcore::Point;
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// let mut tracker = Tracker::new(TrackerOptions::default());
    /// let loss = tracker.add();
    /// tracker.record(loss, 7, 0.5);
    /// assert_eq!(tracker.history(loss).unwrap(), [Point::new(7, 0.5)]);
    /// ```
    pub fn history(&mut self, series: usize) -> Option<Vec<Point>> {
        self.settled(series).history.as_ref().map(SeriesHistory::points)
    }

    /// Returns the number of points in the [`history`](Self::history) of a series, and their
    /// values, without a copy.
    ///
    /// ```
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// let mut tracker = Tracker::new(TrackerOptions::default());
    /// let loss = tracker.add();
    /// tracker.record(loss, 7, 0.5);
    /// tracker.record(loss, 8, 0.25);
    /// let (count, values) = tracker.values(loss).unwrap();
    /// assert_eq!((count, values.sum::<f64>()), (2, 0.75));
    /// ```
    pub fn values(&mut self, series: usize) -> Option<(usize, impl Iterator<Item = f64> + '_)> {
        self.settled(series).history.as_ref().map(SeriesHistory::values)
    }

    /// Returns the size of all histories together, in bytes.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Changes the options. Existing values are kept as far as the new options allow; a smaller
    /// window keeps the newest ones.
    ///
    /// Switching the history off drops it. Switched on again, it begins with the next value.
    ///
    /// ```
    /// use logcore_metrics::{Tracker, TrackerOptions};
    ///
    /// let mut tracker = Tracker::new(TrackerOptions::default());
    /// let loss = tracker.add();
    /// tracker.record(loss, 0, 0.5);
    /// tracker.reconfigure(TrackerOptions { history: false, ..TrackerOptions::default() });
    /// assert_eq!((tracker.history(loss), tracker.average(loss)), (None, Some(0.5)));
    /// ```
    pub fn reconfigure(&mut self, options: TrackerOptions) {
        let before = std::mem::replace(&mut self.options, validated(options));
        for series in &mut self.series {
            series.settle(before.window);
            series.window.resize(self.options.window);
            if !options.history {
                series.history = None;
            } else if series.history.is_none() {
                series.history = Some(SeriesHistory::new());
            }
        }
        self.history_bytes = self.histories().map(|history| history.bytes()).sum();
        if self.history_bytes > self.limit() {
            self.thin();
        }
    }

    /// Returns a series without pending values.
    fn settled(&mut self, series: usize) -> &MetricSeries {
        let grown = self.series[series].settle(self.options.window);
        self.grow(grown);
        &self.series[series]
    }

    #[cold]
    fn grow(&mut self, grown: usize) {
        self.history_bytes += grown;
        if self.history_bytes > self.limit() {
            self.thin();
        }
    }

    /// Thins the longest series, one after the other, until 1/32 of the limit is free: enough that
    /// the next call is far away, and little enough that this call is short.
    #[cold]
    fn thin(&mut self) {
        let enough = self.limit() / 32 * 31;
        let mut bytes = self.history_bytes;
        let mut longest: BinaryHeap<_> = self
            .histories()
            .enumerate()
            .map(|(index, history)| (history.len(), index))
            .collect();
        while bytes > enough
            && let Some((length, index)) = longest.pop()
            && length > SHORTEST
            && let Some(history) = &mut self.series[index].history
        {
            bytes -= history.bytes();
            history.thin();
            bytes += history.bytes();
            longest.push((history.len(), index));
        }
        self.history_bytes = bytes;
    }

    /// Iterates over the histories. Either all series have one, or none.
    fn histories(&self) -> impl Iterator<Item = &SeriesHistory> {
        self.series.iter().filter_map(|series| series.history.as_ref())
    }

    fn limit(&self) -> usize {
        self.options.budget_bytes.max(self.series.len() * FLOOR)
    }
}

fn validated(options: TrackerOptions) -> TrackerOptions {
    TrackerOptions {
        window: options.window.max(1),
        ..options
    }
}
