//! The goals of metrics, and the best values so far.

use logcore::Point;

/// The direction in which a metric gets better; see
/// [`UnifiedLogger::goal`](crate::UnifiedLogger::goal).
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// use facade::Goal;
///
/// let logger = facade::setup_logging(config)?;
/// let best = logger.goal("val/accuracy", Goal::Max);
/// logger.log_metrics([("val/accuracy", 0.9)]);
/// logger.log_metrics([("val/accuracy", 0.8)]);
/// assert_eq!(best.value(), Some(0.9));
/// # Ok::<(), facade::LogError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Goal {
    /// A lower value is better.
    Min,
    /// A higher value is better.
    Max,
}

impl Goal {
    pub(crate) fn is_better(self, value: f64, than: f64) -> bool {
        match self {
            Self::Min => value < than,
            Self::Max => value > than,
        }
    }
}

/// The goals of a logger's metrics.
#[derive(Default)]
pub(crate) struct GoalTable(Vec<GoalEntry>);

struct GoalEntry {
    metric: u32,
    goal: Goal,
    best: Option<Point>,
}

/// The goals whose metric a call has improved: the bit of each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Improved(u64);

/// Maximum number of goals of a logger: the bits of [`Improved`].
pub(crate) const MAX_GOALS: usize = u64::BITS as usize;

impl GoalTable {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `true` if the metric has a goal.
    #[inline]
    pub(crate) fn concern(&self, metric: u32) -> bool {
        self.0.iter().any(|entry| entry.metric == metric)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns a metric and its goal.
    pub(crate) fn goal(&self, at: usize) -> (u32, Goal) {
        (self.0[at].metric, self.0[at].goal)
    }

    /// Returns `true` if the metric has this goal.
    pub(crate) fn has(&self, metric: u32, goal: Goal) -> bool {
        self.0.iter().any(|entry| (entry.metric, entry.goal) == (metric, goal))
    }

    /// Forgets the values so far but `best`, because the run goes on at an earlier step.
    pub(crate) fn restart(&mut self, at: usize, best: Option<Point>) {
        self.0[at].best = best;
    }

    /// Sets the goal of a metric, whose earlier values are `values`. Returns `false` if there are
    /// too many goals.
    pub(crate) fn set(&mut self, metric: u32, goal: Goal, values: impl Iterator<Item = Point>) -> bool {
        let known = self.0.iter().position(|entry| entry.metric == metric);
        let mut entry = GoalEntry {
            metric,
            goal,
            best: None,
        };
        for point in values {
            entry.note(point.step, point.value);
        }
        match known {
            Some(at) => self.0[at] = entry,
            None if self.0.len() < MAX_GOALS => self.0.push(entry),
            None => return false,
        }
        true
    }

    /// Notes a value of a call.
    pub(crate) fn note(&mut self, metric: u32, step: u64, value: f64, improved: &mut Improved) {
        for (at, entry) in self.0.iter_mut().enumerate() {
            if entry.metric == metric && entry.note(step, value) {
                improved.0 |= 1 << at;
            }
        }
    }

    /// Returns the best value of a metric with a goal.
    pub(crate) fn best(&self, metric: usize) -> Option<Point> {
        self.entry(metric)?.1.best
    }

    /// Returns whether a call has improved a metric; `None` if the metric has no goal.
    pub(crate) fn has_improved(&self, metric: usize, improved: Improved) -> Option<bool> {
        let (at, _) = self.entry(metric)?;
        Some(improved.0 & (1 << at) != 0)
    }

    fn entry(&self, metric: usize) -> Option<(usize, &GoalEntry)> {
        self.0
            .iter()
            .enumerate()
            .find(|(_, entry)| entry.metric as usize == metric)
    }
}

impl GoalEntry {
    /// Returns `true` if the value is finite and strictly better than all before.
    fn note(&mut self, step: u64, value: f64) -> bool {
        let improves = value.is_finite() && self.best.is_none_or(|best| self.goal.is_better(value, best.value));
        if improves {
            self.best = Some(Point::new(step, value));
        }
        improves
    }
}
