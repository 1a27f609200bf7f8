//! One logger's rows of one rank, as they follow each other.

use crate::merge::rank_row::RankRow;

/// A step that its rank has left.
pub(crate) struct CompletedStep {
    pub(crate) row: RankRow,
    /// How many samples the rank took in it, if that is known.
    pub(crate) samples: Option<f64>,
    pub(crate) order: StepOrder,
}

/// How a step stands to those before it in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepOrder {
    /// Beyond all of them.
    Next,
    /// Its rank had been further, and goes on from there.
    Late,
    /// Its rank had been further, and goes on from here: the run was started again.
    Again,
}

/// Only a row that follows tells whether one was late, and a second row of a step belongs to the first: the newest waits.
#[derive(Default)]
pub(crate) struct StepTracker {
    newest: Option<RankRow>,
    highest: Option<u64>,
    /// The last row that had a number of samples, and was not late: its step, and the number.
    samples: Option<(u64, f64)>,
}

const ACCUMULATED: &str = "throughput/accumulated_samples";

impl StepTracker {
    /// Takes a row; returns the step that it completes.
    pub(crate) fn push(&mut self, row: RankRow) -> Option<CompletedStep> {
        match &mut self.newest {
            Some(newest) if newest.step == row.step => {
                newest.take_in(row);
                None
            }
            newest => {
                let following = row.step;
                let complete = newest.replace(row)?;
                Some(self.complete(complete, Some(following)))
            }
        }
    }

    /// No row follows.
    pub(crate) fn end(mut self) -> Option<CompletedStep> {
        let complete = self.newest.take()?;
        Some(self.complete(complete, None))
    }

    fn complete(&mut self, row: RankRow, following: Option<u64>) -> CompletedStep {
        let order = match self.highest {
            Some(highest) if row.step <= highest => match following {
                Some(following) if following <= highest => StepOrder::Again,
                _ => StepOrder::Late,
            },
            _ => StepOrder::Next,
        };
        if order != StepOrder::Late {
            self.highest = Some(row.step);
        }
        if order == StepOrder::Again {
            self.samples = None;
        }
        let samples = row
            .value(ACCUMULATED)
            .filter(|all| order != StepOrder::Late && all.is_finite() && *all >= 0.0)
            .map(|all| self.samples_of_step(row.step, all));
        CompletedStep { row, samples, order }
    }

    fn samples_of_step(&mut self, step: u64, all: f64) -> f64 {
        match self.samples.replace((step, all)) {
            Some((before, counted)) if counted <= all => {
                // Rows of the throughput alone come at any step, which need not be that of the other ranks.
                (all - counted) / step.saturating_sub(before).max(1) as f64
            }
            // The first, or that of the next progress, which counts from 0.
            _ => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;

    use super::*;

    fn row(step: u64, samples: u64) -> RankRow {
        RankRow {
            step,
            time: 0.0,
            logger: String::new(),
            values: vec![(ACCUMULATED.to_owned(), MetricValue::from(samples))],
        }
    }

    #[test]
    fn samples_are_those_of_a_step_and_orders_are_told() {
        let mut track = StepTracker::default();
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
            done.extend(track.push(row(step, samples)));
        }
        done.extend(track.end());
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
                (2, Some(8.0), StepOrder::Again),
                (3, Some(8.0), StepOrder::Next),
                (9, Some(0.0), StepOrder::Next)
            ]
        );
    }
}
