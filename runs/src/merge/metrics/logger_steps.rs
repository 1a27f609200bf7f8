//! The steps of one logger that are not complete: some rank may still come to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::merge::metrics::merged_step::{MergedStep, RankStep};
use crate::merge::metrics::step_tracker::{CompletedStep, StepOrder};

/// So far may ranks drift apart.
const MOST_OPEN: usize = 256;

#[derive(Default)]
pub(crate) struct LoggerSteps {
    open: BTreeMap<u64, MergedStep>,
    /// Late ones, which ranks may have in common, too.
    late: BTreeMap<u64, MergedStep>,
    /// The newest step of each rank since the run was started.
    reached: HashMap<u32, u64>,
    /// How often the run was started again, and the number of that start which each rank takes part in.
    starts: u64,
    start_of: HashMap<u32, u64>,
}

impl LoggerSteps {
    /// Takes a rank's part of a step in; returns the steps that are complete by that.
    pub(crate) fn add(&mut self, rank: u32, done: CompletedStep, live: &BTreeSet<u32>) -> Vec<MergedStep> {
        let mut complete = Vec::new();
        let start = self.start_of.entry(rank).or_insert(self.starts);
        if done.order == StepOrder::Again {
            if *start == self.starts {
                // It is the first that starts again, so whatever is open is of the run before.
                self.starts += 1;
                self.reached.clear();
                complete.extend(std::mem::take(&mut self.open).into_values());
            }
            *start = self.starts;
        }
        let number = done.row.step;
        let part = RankStep {
            rank,
            time: done.row.time,
            samples: done.samples,
            values: done.row.values,
        };
        let steps = match done.order {
            StepOrder::Late => &mut self.late,
            StepOrder::Next | StepOrder::Again => {
                self.reached.insert(rank, number);
                &mut self.open
            }
        };
        match steps.get_mut(&number) {
            Some(step) if !step.has(rank) => step.add(part),
            // A step that a rank has twice is two.
            _ => complete.extend(steps.insert(number, MergedStep::new(number, part))),
        }
        complete.extend(self.settle(live));
        complete
    }

    /// Returns the steps that no rank will come to any more.
    pub(crate) fn settle(&mut self, live: &BTreeSet<u32>) -> Vec<MergedStep> {
        let mut complete = Vec::new();
        while let Some(first) = self.open.first_entry() {
            let (number, step) = (*first.key(), first.get());
            let passed =
                |rank: &u32| step.has(*rank) || self.reached.get(rank).is_some_and(|reached| *reached > number);
            if !live.iter().all(passed) {
                break;
            }
            complete.push(first.remove());
        }
        for steps in [&mut self.open, &mut self.late] {
            while steps.len() > MOST_OPEN {
                complete.extend(steps.pop_first().map(|(_, step)| step));
            }
        }
        complete
    }

    pub(crate) fn finish(self) -> impl Iterator<Item = MergedStep> {
        self.open.into_values().chain(self.late.into_values())
    }
}
