//! The metrics with an open episode.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The metrics that some rule finds bad at present, shared by the [`RuleSink`](super::RuleSink) and
/// the threads that ask.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use logcore::{MetricBatch, MetricValue, Sink as _};
/// use logcore_health::rules::{RuleSink, TrippedMetrics};
///
/// let tripped = Arc::new(TrippedMetrics::default());
/// let mut sink = RuleSink::new(&[], "metrics/", mpsc::channel().0, Arc::clone(&tripped));
/// assert!(!tripped.is_tripped("loss"));
/// sink.metrics(&MetricBatch::new("trainer", 7, &[("metrics/loss", MetricValue::F32(f32::NAN))]))?;
/// assert!(tripped.is_tripped("loss") && !tripped.is_tripped("accuracy"));
/// # Ok::<(), logcore::SinkError>(())
/// ```
#[derive(Debug, Default)]
pub struct TrippedMetrics {
    /// Number of metrics in `open`.
    count: AtomicUsize,
    /// Number of open episodes of each metric that has one.
    open: Mutex<HashMap<String, usize>>,
}

impl TrippedMetrics {
    /// Returns `true` while an episode of any rule on this metric is open. The name is the one that
    /// the program logs, without the config's `metrics_prefix`.
    ///
    /// While nothing is tripped, a call is one relaxed load.
    #[must_use]
    pub fn is_tripped(&self, metric: &str) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lock().contains_key(metric)
    }

    pub(super) fn open_episode(&self, metric: &str) {
        let mut open = self.lock();
        match open.get_mut(metric) {
            Some(episodes) => *episodes += 1,
            None => drop(open.insert(metric.to_owned(), 1)),
        }
        self.count.store(open.len(), Ordering::Relaxed);
    }

    pub(super) fn end_episode(&self, metric: &str) {
        let mut open = self.lock();
        if let Some(episodes) = open.get_mut(metric) {
            *episodes -= 1;
            if *episodes == 0 {
                open.remove(metric);
            }
        }
        self.count.store(open.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_tripped_until_its_last_episode_has_ended() {
        let tripped = TrippedMetrics::default();
        tripped.open_episode("loss");
        tripped.open_episode("loss");
        tripped.open_episode("accuracy");
        tripped.end_episode("loss");
        assert!(tripped.is_tripped("loss"));
        tripped.end_episode("loss");
        assert!(!tripped.is_tripped("loss") && tripped.is_tripped("accuracy"));
        tripped.end_episode("accuracy");
        assert_eq!(tripped.count.load(Ordering::Relaxed), 0);
    }
}
