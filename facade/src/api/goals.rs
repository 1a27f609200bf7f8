//! The result of a metrics call, and the best value of a metric.

use std::fmt;
use std::sync::Arc;

use crate::logger::goals::Improved;
use crate::logger::inner::LoggerInner;

/// The result of [`log_metrics`](crate::UnifiedLogger::log_metrics). It need not be used, and costs
/// nothing then.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// use facade::Goal;
///
/// let logger = facade::setup_logging(config)?;
/// logger.goal("val/loss", Goal::Min);
/// let mut saved = Vec::new();
/// for loss in [0.5, 0.3, f64::NAN, 0.4, 0.3, 0.2] {
///     let logged = logger.log_metrics([("val/loss", loss)]);
///     if logged.is_best("val/loss") {
///         saved.push(logged.step());
///     }
/// }
/// assert_eq!(saved, [0, 1, 5]);
/// # Ok::<(), facade::LogError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Logged<'a> {
    logger: &'a LoggerInner,
    step: u64,
    improved: Improved,
}

impl<'a> Logged<'a> {
    pub(crate) fn new(logger: &'a LoggerInner, (step, improved): (u64, Improved)) -> Self {
        Self { logger, step, improved }
    }

    /// Returns `true` if this call has logged the metric, and its value is finite and strictly
    /// better than all before.
    ///
    /// Without a [`goal`](crate::UnifiedLogger::goal) nothing is better: the result is `false`, and
    /// one warning says so. The name is that of the call, without the config's prefix.
    #[must_use]
    pub fn is_best(&self, name: &str) -> bool {
        self.logger.has_improved(name, self.improved)
    }

    /// Returns the step of the call. If the call logged nothing, this is the step given, or the
    /// present one.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }
}

impl fmt::Debug for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged")
            .field("logger", &self.logger.name())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

/// The best value of a metric so far. Made by [`UnifiedLogger::goal`](crate::UnifiedLogger::goal);
/// keeps nothing open.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// use facade::Goal;
///
/// let logger = facade::setup_logging(config)?;
/// let best = logger.goal("val/loss", Goal::Min);
/// assert_eq!((best.value(), best.step()), (None, None));
/// logger.log_metrics_at(40, [("val/loss", 0.3)]);
/// logger.log_metrics_at(50, [("val/loss", 0.4)]);
/// assert_eq!((best.value(), best.step()), (Some(0.3), Some(40)));
/// # Ok::<(), facade::LogError>(())
/// ```
#[derive(Clone)]
pub struct Best {
    logger: Arc<LoggerInner>,
    metric: u32,
}

impl Best {
    pub(crate) fn new(logger: &Arc<LoggerInner>, metric: u32) -> Self {
        Self {
            logger: Arc::clone(logger),
            metric,
        }
    }

    /// Returns the best value; `None` before the first finite one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        Some(self.logger.metrics().table().best(self.metric)?.value)
    }

    /// Returns the step of the best value: the first step that had it.
    #[must_use]
    pub fn step(&self) -> Option<u64> {
        Some(self.logger.metrics().table().best(self.metric)?.step)
    }
}

impl fmt::Debug for Best {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Best")
            .field("value", &self.value())
            .field("step", &self.step())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_a_call_is_a_small_copy() {
        fn assert_copy<T: Copy>() {}
        assert_copy::<Logged<'static>>();
        assert!(size_of::<Logged<'static>>() <= 24);
    }
}
