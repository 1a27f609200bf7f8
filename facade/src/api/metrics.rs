//! Metrics of a logger: handles for hot loops, and what was logged so far.

use std::fmt;
use std::sync::Arc;

use logcore::{Number, Point, Stats};

use crate::logger::inner::LoggerInner;

/// A metric whose name has been looked up. Made by
/// [`UnifiedLogger::metric`](crate::UnifiedLogger::metric).
#[derive(Clone)]
#[must_use]
pub struct MetricHandle {
    logger: Arc<LoggerInner>,
    metric: u32,
    name: Arc<str>,
}

impl MetricHandle {
    pub(crate) fn new(logger: &Arc<LoggerInner>, name: &str) -> Self {
        let (metric, name) = logger.metrics().handle(name);
        Self {
            logger: Arc::clone(logger),
            metric,
            name,
        }
    }

    /// Logs a value at a step.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// let loss = logger.metric("loss");
    /// loss.record(0, 0.5);
    /// loss.record(1, 0.25);
    /// assert_eq!(logger.metrics().average("loss"), Some(0.375));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn record(&self, step: u64, value: impl Number) {
        self.logger.metrics().record(self.metric, step, value);
    }
}

/// Returns the name that the handle was made with, so that a handle can stand for its name in a
/// call.
impl AsRef<str> for MetricHandle {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for MetricHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricHandle")
            .field("logger", &self.logger.name())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The metrics of a logger so far. Names are as they were logged, without the prefix.
///
/// Made by [`UnifiedLogger::metrics`](crate::UnifiedLogger::metrics).
#[must_use]
pub struct Metrics<'a>(pub(crate) &'a LoggerInner);

impl Metrics<'_> {
    /// Returns the mean of the finite values in the window, which holds the last `metrics_window`
    /// values; `None` if it holds no finite value.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics([("loss", 3.0)]);
    /// logger.log_metrics([("loss", 1.0)]);
    /// assert_eq!(logger.metrics().average("loss"), Some(2.0));
    /// assert_eq!(logger.metrics().average("never logged"), None);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn average(&self, name: &str) -> Option<f64> {
        self.0.metrics().table().average(name)
    }

    /// Returns all averages, sorted by name.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics([("loss", 0.5), ("accuracy", 0.9)]);
    /// assert_eq!(logger.metrics().averages(), [("accuracy".to_owned(), 0.9), ("loss".to_owned(), 0.5)]);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn averages(&self) -> Vec<(String, f64)> {
        self.0.metrics().table().averages()
    }

    /// Returns the statistics of a metric over the whole run; `None` if it was never logged.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// for loss in [0.5, f64::NAN, 0.25] {
    ///     logger.log_metrics([("loss", loss)]);
    /// }
    /// let stats = logger.metrics().stats("loss").unwrap();
    /// assert_eq!((stats.min, stats.max, stats.count, stats.nan_count), (0.25, 0.5, 3, 1));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn stats(&self, name: &str) -> Option<Stats> {
        self.0.metrics().table().stats(name)
    }

    /// Returns the values of a metric in the order in which they were logged; `None` if it was
    /// never logged, or if `metrics_history` is off.
    ///
    /// Memory stays bounded: past 24 MiB a logger keeps one point in
    /// [`history_stride`](Stats::history_stride) of its longest series. All points are in
    /// `metrics.jsonl`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.log_metrics_at(10, [("loss", 0.5)]);
    /// logger.log_metrics_at(20, [("loss", 0.25)]);
    /// let history = logger.metrics().history("loss").unwrap();
    /// assert_eq!((history.len(), history[1].step, history[1].value), (2, 20, 0.25));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn history(&self, name: &str) -> Option<Vec<Point>> {
        self.0.metrics().table().history(name)
    }
}

impl fmt::Debug for Metrics<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("logger", &self.0.name())
            .finish_non_exhaustive()
    }
}

/// Builds metrics of mixed number types, for [`log_metrics`](crate::UnifiedLogger::log_metrics).
///
/// ```
/// use facade::MetricValue;
///
/// let values = facade::metrics! { "loss" => 0.5, "epoch" => 3, "samples" => 1_u64 << 40 };
/// assert_eq!(values[1], ("epoch", MetricValue::Int(3)));
/// ```
#[macro_export]
macro_rules! metrics {
    ($($name:expr => $value:expr),* $(,)?) => {
        [$(($name, $crate::Number::value(&$value))),*]
    };
}
