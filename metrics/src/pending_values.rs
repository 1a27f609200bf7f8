//! The newest values of a series, before they are moved into window and history.

use crate::step_list::StepRun;

/// Maximum number of pending values. More would make moving them hardly cheaper per value, and
/// delay the call that does it.
const CAPACITY: usize = 32;

/// Values at even steps that are processed together. Comparing and copying many values in a row
/// costs a fraction of doing so one by one, when the caches are full of other data each time.
#[derive(Debug)]
pub(crate) struct PendingValues {
    steps: StepRun,
    values: [f64; CAPACITY],
}

impl PendingValues {
    pub(crate) fn new() -> Self {
        Self {
            steps: StepRun::default(),
            values: [0.0; CAPACITY],
        }
    }

    /// Adds a value; returns `false` if there is no room, or if its step does not continue the
    /// others.
    #[inline]
    pub(crate) fn push(&mut self, step: u64, value: f64) -> bool {
        let at = self.steps.count() as usize;
        let taken = at < CAPACITY && self.steps.extend(step);
        if taken {
            self.values[at] = value;
        }
        taken
    }

    /// Returns the pending steps and values.
    pub(crate) fn get(&self) -> (StepRun, &[f64]) {
        (self.steps, &self.values[..self.steps.count() as usize])
    }

    pub(crate) fn clear(&mut self) {
        self.steps = StepRun::default();
    }
}
