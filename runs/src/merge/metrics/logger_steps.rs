//! Collects the steps of one logger until no rank can add to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::merge::metrics::merged_step::{MergedStep, RankStep};
use crate::merge::metrics::step_tracker::{CompletedStep, StepOrder};

/// Most steps that are open at once: so far may ranks drift apart.
const MAX_OPEN: usize = 256;

/// The open steps of one logger.
#[derive(Default)]
pub(crate) struct LoggerSteps {
    open: BTreeMap<u64, MergedStep>,
    /// Late steps, which several ranks may have, too.
    late: BTreeMap<u64, MergedStep>,
    /// Newest step of each rank since the last restart.
    reached: HashMap<u32, u64>,
    /// Number of restarts.
    restarts: u64,
    /// Number of the last restart that each rank has taken part in.
    restart_of: HashMap<u32, u64>,
}

impl LoggerSteps {
    /// Adds a rank's step. Returns the steps that this completes.
    pub(crate) fn add(&mut self, rank: u32, step: CompletedStep, live: &BTreeSet<u32>) -> Vec<MergedStep> {
        let mut complete = Vec::new();
        let restart = self.restart_of.entry(rank).or_insert(self.restarts);
        if step.order == StepOrder::Restart {
            if *restart == self.restarts {
                // The first rank that restarts: all open steps belong to the run before.
                self.restarts += 1;
                self.reached.clear();
                complete.extend(std::mem::take(&mut self.open).into_values());
            }
            *restart = self.restarts;
        }
        let number = step.row.step;
        let part = RankStep {
            rank,
            time: step.row.time,
            samples: step.samples,
            values: step.row.values,
        };
        let steps = match step.order {
            StepOrder::Late => &mut self.late,
            StepOrder::Next | StepOrder::Restart => {
                self.reached.insert(rank, number);
                &mut self.open
            }
        };
        match steps.get_mut(&number) {
            Some(step) if !step.has(rank) => step.add(part),
            // If one rank has a step twice, each of them becomes a row.
            _ => complete.extend(steps.insert(number, MergedStep::new(number, part))),
        }
        complete.extend(self.take_complete(live));
        complete
    }

    /// Removes the steps that all live ranks have passed, and the oldest ones over [`MAX_OPEN`].
    pub(crate) fn take_complete(&mut self, live: &BTreeSet<u32>) -> Vec<MergedStep> {
        let mut complete = Vec::new();
        while let Some(first) = self.open.first_entry() {
            let (number, step) = (*first.key(), first.get());
            let has_passed =
                |rank: &u32| step.has(*rank) || self.reached.get(rank).is_some_and(|reached| *reached > number);
            if !live.iter().all(has_passed) {
                break;
            }
            complete.push(first.remove());
        }
        for steps in [&mut self.open, &mut self.late] {
            while steps.len() > MAX_OPEN {
                complete.extend(steps.pop_first().map(|(_, step)| step));
            }
        }
        complete
    }

    /// Returns all steps that are left.
    pub(crate) fn finish(self) -> impl Iterator<Item = MergedStep> {
        self.open.into_values().chain(self.late.into_values())
    }
}
