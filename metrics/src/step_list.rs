//! A compressed list of steps, which nearly always increase evenly.

use crate::chunked_list::ChunkedList;

/// Steps in the order of recording, as runs with a constant stride. Strides wrap around, so a run
/// may also go backwards or repeat one step.
#[derive(Debug, Default)]
pub(crate) struct StepList(ChunkedList<StepRun>);

/// The steps `start`, `start + stride`, … (wrapping), `count` of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepRun {
    start: u64,
    stride: u64,
    count: u64,
}

impl StepList {
    /// Adds a step; returns the number of bytes by which the list has grown.
    #[inline]
    pub(crate) fn push(&mut self, step: u64) -> usize {
        if let Some(run) = self.0.last_mut()
            && run.extend(step)
        {
            return 0;
        }
        self.0.push(StepRun {
            start: step,
            stride: 0,
            count: 1,
        })
    }

    /// Adds the steps of a run; returns the number of bytes by which the list has grown.
    pub(crate) fn push_run(&mut self, run: StepRun) -> usize {
        if let Some(last) = self.0.last_mut()
            && last.count > 1
            && last.at(last.count) == run.start
            && (run.stride == last.stride || run.count == 1)
        {
            last.count += run.count;
            return 0;
        }
        run.steps().map(|step| self.push(step)).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(StepRun::steps)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = u64> {
        self.0.into_values().flat_map(StepRun::steps)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl StepRun {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a step if it continues the run; returns `false` if it does not. Any two steps are a
    /// run.
    #[inline]
    pub(crate) fn extend(&mut self, step: u64) -> bool {
        match self.count {
            0 => self.start = step,
            1 => self.stride = step.wrapping_sub(self.start),
            count if self.at(count) != step => return false,
            _ => {}
        }
        self.count += 1;
        true
    }

    fn at(&self, index: u64) -> u64 {
        self.start.wrapping_add(self.stride.wrapping_mul(index))
    }

    pub(crate) fn steps(self) -> impl Iterator<Item = u64> {
        (0..self.count).map(move |index| self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn push_keeps_any_steps_in_order(steps in prop::collection::vec(prop_oneof![0..8_u64, any::<u64>()], 0..200)) {
            let mut list = StepList::default();
            let grown: usize = steps.iter().map(|step| list.push(*step)).sum();
            prop_assert_eq!(grown, list.bytes());
            prop_assert!(list.iter().eq(steps.iter().copied()));
            prop_assert!(list.into_values().eq(steps));
        }
    }

    proptest! {
        #[test]
        fn push_run_equals_pushing_its_steps(runs in prop::collection::vec((0..4_u64, 0..3_u64, 1..5_u64), 0..30)) {
            let (mut by_run, mut by_step) = (StepList::default(), StepList::default());
            for (start, stride, count) in runs {
                let stride = if count == 1 { 0 } else { stride };
                let run = StepRun { start, stride, count };
                let grown: usize = run.steps().map(|step| by_step.push(step)).sum();
                prop_assert_eq!(by_run.push_run(run), grown);
                prop_assert_eq!(by_run.bytes(), by_step.bytes());
            }
            prop_assert!(by_run.iter().eq(by_step.iter()));
        }
    }

    #[test]
    fn even_steps_take_one_run_in_either_direction() {
        for stride in [1_u64, 0, 50, u64::MAX] {
            let mut list = StepList::default();
            for index in 0..100_000_u64 {
                list.push(7_000_000_u64.wrapping_add(stride.wrapping_mul(index)));
            }
            assert_eq!(list.0.len(), 1, "stride {stride}");
        }
    }

    #[test]
    fn a_late_step_adds_at_most_two_runs() {
        let mut list = StepList::default();
        for step in (0..1000).chain([3]).chain(1000..2000) {
            list.push(step);
        }
        assert!(list.0.len() <= 3, "{}", list.0.len());
    }
}
