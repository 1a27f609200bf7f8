//! Tracks the steps of one logger of one rank, in the order of its rows.
//!
//! | steps of the rows | order of the step in the middle |
//! |---|---|
//! | 4, 5, 6 | [`Next`](StepOrder::Next) |
//! | 5, 3, 6 | [`Late`](StepOrder::Late): the rank goes on after 5 |
//! | 5, 3, 4 | [`Restart`](StepOrder::Restart): the rank goes on after 3 |

use logcore::StoredRow;

/// A step that its rank has left.
pub(crate) struct CompletedStep {
    pub(crate) row: StoredRow,
    /// Number of samples of the rank in this step, if it is known.
    pub(crate) samples: Option<f64>,
    pub(crate) order: StepOrder,
}

/// The position of a step relative to the steps before it in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepOrder {
    /// Higher than all of them.
    Next,
    /// Lower than one of them, and the rank continues after the highest.
    Late,
    /// Lower than one of them, and the rank continues from this one: the run was restarted.
    Restart,
}

/// The state of one logger of one rank.
///
/// The newest row is held back. Only the row after it tells if it was late, and a second row of the
/// same step belongs to it.
#[derive(Default)]
pub(crate) struct StepTracker {
    newest: Option<StoredRow>,
    highest: Option<u64>,
    /// Step and accumulated samples of the last row that has samples and is not late.
    samples: Option<(u64, f64)>,
}

/// Metric with the number of samples since the start of a progress.
const ACCUMULATED: &str = "throughput/accumulated_samples";

impl StepTracker {
    /// Adds a row. Returns the step that it completes.
    pub(crate) fn push(&mut self, row: StoredRow) -> Option<CompletedStep> {
        match &mut self.newest {
            Some(newest) if newest.step == row.step => {
                newest.add(row);
                None
            }
            newest => {
                let following = row.step;
                let complete = newest.replace(row)?;
                Some(self.complete(complete, Some(following)))
            }
        }
    }

    /// Returns the last step.
    pub(crate) fn finish(mut self) -> Option<CompletedStep> {
        let complete = self.newest.take()?;
        Some(self.complete(complete, None))
    }

    /// Determines the order and the samples of a step, now that the next step is known.
    fn complete(&mut self, row: StoredRow, following: Option<u64>) -> CompletedStep {
        let order = match self.highest {
            Some(highest) if row.step <= highest => match following {
                Some(following) if following <= highest => StepOrder::Restart,
                _ => StepOrder::Late,
            },
            _ => StepOrder::Next,
        };
        if order != StepOrder::Late {
            self.highest = Some(row.step);
        }
        if order == StepOrder::Restart {
            self.samples = None;
        }
        let samples = row
            .value(ACCUMULATED)
            .filter(|total| order != StepOrder::Late && total.is_finite() && *total >= 0.0)
            .map(|total| self.samples_of_step(row.step, total));
        CompletedStep { row, samples, order }
    }

    /// Returns the samples in this step, from the accumulated samples at its end.
    fn samples_of_step(&mut self, step: u64, total: f64) -> f64 {
        match self.samples.replace((step, total)) {
            Some((before, counted)) if counted <= total => {
                // Rows that only have a throughput may come at steps that other ranks do not have.
                (total - counted) / step.saturating_sub(before).max(1) as f64
            }
            // The first step, or the first of the next progress, which counts from 0.
            _ => total,
        }
    }
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;

    use super::*;

    fn row(step: u64, samples: u64) -> StoredRow {
        let mut row = StoredRow::new(step, 0.0, "");
        row.values.push((ACCUMULATED.to_owned(), MetricValue::from(samples)));
        row
    }

    #[test]
    fn tracker_returns_samples_and_order_of_each_step() {
        let mut tracker = StepTracker::default();
        let mut done = Vec::new();
        let rows = [
            (1, 32),
            (2, 64),
            (2, 64),
            (4, 96),
            (3, 96),
            (5, 97),
            (2, 8),
            (3, 16),
            (9, 16),
        ];
        for (step, samples) in rows {
            done.extend(tracker.push(row(step, samples)));
        }
        done.extend(tracker.finish());
        let seen: Vec<_> = done
            .iter()
            .map(|done| (done.row.step, done.samples, done.order))
            .collect();
        assert_eq!(
            seen,
            [
                (1, Some(32.0), StepOrder::Next),
                (2, Some(32.0), StepOrder::Next),
                (4, Some(16.0), StepOrder::Next),
                (3, None, StepOrder::Late),
                (5, Some(1.0), StepOrder::Next),
                (2, Some(8.0), StepOrder::Restart),
                (3, Some(8.0), StepOrder::Next),
                (9, Some(0.0), StepOrder::Next)
            ]
        );
    }
}
