//! The newest values of a series, before they are taken in.

use crate::step_list::StepRun;

/// How many values wait at most. With more the taking in would be cheaper by little, and felt by the call that does it.
const MOST: usize = 32;

/// Values at even steps that wait to be taken in together: comparing and copying many in a row costs a fraction of doing
/// so one by one, when each finds the caches full of something else.
#[derive(Debug)]
pub(crate) struct PendingValues {
    steps: StepRun,
    values: [f64; MOST],
}

impl PendingValues {
    pub(crate) fn new() -> Self {
        Self {
            steps: StepRun::default(),
            values: [0.0; MOST],
        }
    }

    /// Takes a value, if there is room and its step goes on as those before it.
    #[inline]
    pub(crate) fn push(&mut self, step: u64, value: f64) -> bool {
        let at = self.steps.count() as usize;
        let taken = at < MOST && self.steps.extend(step);
        if taken {
            self.values[at] = value;
        }
        taken
    }

    /// What waits.
    pub(crate) fn get(&self) -> (StepRun, &[f64]) {
        (self.steps, &self.values[..self.steps.count() as usize])
    }

    pub(crate) fn clear(&mut self) {
        self.steps = StepRun::default();
    }
}
