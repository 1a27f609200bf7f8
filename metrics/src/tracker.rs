use std::collections::BinaryHeap;

use logcore::{Point, Stats};

use crate::history::{SHORTEST, SeriesHistory};
use crate::series::MetricSeries;

/// How much a [`Tracker`] keeps.
///
/// The windows come on top of the budget: 8 bytes for each value in them, and while one fills up to 16; and so do up to 32
/// values a series that have not been taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackerOptions {
    /// How many of the newest values an average is over. 0 is taken as 1.
    pub window: usize,
    /// Whether the values of the whole run are kept, as far as the budget goes.
    pub history: bool,
    /// What the history of all series together may take, in bytes. A series may always have 1 KiB, so with a great many
    /// of them the history takes up to so much each.
    pub budget_bytes: usize,
}

/// Series of values: the mean of the newest, the extremes of all, and a history.
///
/// The history is exact until its budget is used up. Then the longest series is thinned to every second point, as often
/// as that is needed; its first and its newest point are always there. [`Stats::history_stride`] says how far a series
/// has been thinned.
///
/// ```
/// use logcore_metrics::{Tracker, TrackerOptions};
///
/// let mut tracker = Tracker::new(TrackerOptions { window: 100, history: true, budget_bytes: 1 << 20 });
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

/// What a series may take whatever the budget. A series that cannot be thinned any more takes less (a test says so), so
/// thinning always frees enough to be rare.
const FLOOR: usize = 1 << 10;

impl Tracker {
    /// A tracker without series.
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            options: sound(options),
            series: Vec::new(),
            history_bytes: 0,
        }
    }

    /// Adds a series; returns its index. Indices count up from 0.
    pub fn add(&mut self) -> usize {
        let series = MetricSeries::new(self.options.history);
        self.history_bytes += series.history.as_ref().map_or(0, SeriesHistory::bytes);
        self.series.push(series);
        self.series.len() - 1
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series yet.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Adds a value to a series. Steps may come in any order, and more than once.
    ///
    /// # Panics
    ///
    /// If there is no such series, as all methods that take one do.
    #[inline]
    pub fn record(&mut self, series: usize, step: u64, value: f64) {
        let grown = self.series[series].record(step, value, self.options.window);
        if grown > 0 {
            self.grow(grown);
        }
    }

    /// The mean of the finite values in the window; `None` if it holds none.
    ///
    /// It is computed from these values alone, without rounding on the way, and costs about 20 ns a value.
    pub fn average(&mut self, series: usize) -> Option<f64> {
        self.settled(series).window.mean()
    }

    /// What is known of a series.
    pub fn stats(&mut self, series: usize) -> Stats {
        self.settled(series).stats()
    }

    /// The values of a series in the order in which they were recorded; `None` when history is off.
    pub fn history(&mut self, series: usize) -> Option<Vec<Point>> {
        self.settled(series).history.as_ref().map(SeriesHistory::points)
    }

    /// What the history of all series takes, in bytes.
    pub fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Changes the options; what is there is kept as far as they allow. A smaller window keeps the newest values.
    ///
    /// History that is switched off is dropped; switched on, it begins with the next value.
    pub fn reconfigure(&mut self, options: TrackerOptions) {
        let before = std::mem::replace(&mut self.options, sound(options));
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

    /// A series that has taken in all its values.
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

    /// Thins the longest series, one after the other, until a part of the limit is free: large enough that the many
    /// values which then fit pay for looking at every series, small enough that no call takes long.
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

    /// The histories; all series have one, or none has.
    fn histories(&self) -> impl Iterator<Item = &SeriesHistory> {
        self.series.iter().filter_map(|series| series.history.as_ref())
    }

    fn limit(&self) -> usize {
        self.options.budget_bytes.max(self.series.len() * FLOOR)
    }
}

fn sound(options: TrackerOptions) -> TrackerOptions {
    TrackerOptions {
        window: options.window.max(1),
        ..options
    }
}
