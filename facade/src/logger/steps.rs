//! The choice of a step for each metrics call.

/// Counts the steps of one logger.
#[derive(Debug, Default)]
pub(crate) struct StepCounter {
    /// Highest step of the earlier attempts of the run.
    earlier: Option<u64>,
    /// Highest step of this attempt.
    highest: Option<u64>,
    /// The step that was noted last.
    #[cfg(feature = "health")]
    last: Option<u64>,
    /// How often a step was noted that differs from the one before, also a lower one.
    #[cfg(feature = "health")]
    turns: u64,
    /// First step of this attempt that the program has given, until a progress starts there.
    first: Option<u64>,
    /// Position of the newest progress, once a progress has started.
    progress: Option<ProgressPosition>,
}

#[derive(Debug)]
struct ProgressPosition {
    /// The step before that of the first unit; `None` if the first unit has step 0.
    before: Option<u64>,
    position: u64,
}

impl StepCounter {
    /// Starts a progress: its steps continue from the highest step so far, or at the first step of
    /// the attempt.
    pub(crate) fn start_progress(&mut self) {
        if let Some(step) = self.progress_step() {
            self.note(step);
        }
        let first = self.first.take().filter(|first| self.highest <= Some(*first));
        self.progress = Some(ProgressPosition {
            before: first.map_or_else(|| Some(self.highest().unwrap_or(0)), |first| first.checked_sub(1)),
            position: 0,
        });
    }

    /// Advances the progress by `n`.
    pub(crate) fn advance(&mut self, n: u64) {
        if let Some(progress) = &mut self.progress {
            progress.position = progress.position.saturating_add(n);
        }
    }

    /// Takes the step of a call that names no step.
    pub(crate) fn next(&mut self) -> u64 {
        let step = self
            .progress_step()
            .unwrap_or_else(|| self.highest().map_or(0, |highest| highest.saturating_add(1)));
        self.note(step);
        step
    }

    /// Returns the step of readings that belong to a step and do not start one.
    pub(crate) fn current(&self) -> u64 {
        self.progress_step().or(self.highest()).unwrap_or(0)
    }

    /// Returns the step of the newest progress.
    pub(crate) fn progress_step(&self) -> Option<u64> {
        let progress = self.progress.as_ref()?;
        // Before its first unit, the progress is at the step before. After the highest step that
        // there is, a progress stays there.
        Some(match progress.before {
            Some(before) => before.saturating_add(progress.position),
            None => progress.position.saturating_sub(1),
        })
    }

    /// Continues an earlier run, whose steps are those below `first`, behind the steps so far.
    pub(crate) fn continue_from(&mut self, first: u64) {
        self.earlier = self.earlier.max(first.checked_sub(1));
    }

    /// Makes `first` the first step of this attempt. Returns `false`, and changes nothing, if the
    /// attempt has a step already.
    pub(crate) fn start_from(&mut self, first: u64) -> bool {
        if self.has_begun() {
            return false;
        }
        self.earlier = first.checked_sub(1);
        match &mut self.progress {
            Some(progress) => progress.before = first.checked_sub(1),
            None => self.first = Some(first),
        }
        true
    }

    /// Returns `true` once this attempt has used a step, or advanced a progress.
    pub(crate) fn has_begun(&self) -> bool {
        self.highest.is_some() || self.progress.as_ref().is_some_and(|progress| progress.position > 0)
    }

    /// Returns the highest step so far.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest.max(self.earlier)
    }

    /// Notes that a step was used.
    pub(crate) fn note(&mut self, step: u64) {
        self.highest = Some(self.highest.map_or(step, |highest| highest.max(step)));
        #[cfg(feature = "health")]
        {
            self.turns += u64::from(self.last != Some(step));
            self.last = Some(step);
        }
    }

    /// Notes a value without a step of its own. Unless a progress counts the steps, each is one
    /// further.
    #[cfg(all(feature = "health", feature = "media"))]
    pub(crate) fn note_without_step(&mut self) {
        if self.progress.is_none() {
            self.turns += 1;
        }
    }

    /// Returns how often the program has gone to another step.
    #[cfg(feature = "health")]
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_progress_each_call_is_one_more_than_the_highest() {
        let mut steps = StepCounter::default();
        assert_eq!((steps.current(), steps.next(), steps.next()), (0, 0, 1));
        steps.note(120);
        steps.note(7);
        assert_eq!((steps.current(), steps.next()), (120, 121));
    }

    #[test]
    fn a_progress_for_each_epoch_counts_on() {
        let mut steps = StepCounter::default();
        steps.start_progress();
        steps.advance(1);
        assert_eq!((steps.next(), steps.next()), (1, 1));
        steps.advance(99);
        assert_eq!(steps.next(), 100);
        // After the total, calls stay at the progress until the next start.
        assert_eq!(steps.next(), 100);
        steps.start_progress();
        assert_eq!(steps.current(), 100);
        steps.advance(2);
        assert_eq!(steps.next(), 102);
    }

    #[test]
    fn a_progress_behind_the_highest_possible_step_stays_there() {
        let mut steps = StepCounter::default();
        steps.note(u64::MAX - 1);
        for _ in 0..3 {
            steps.start_progress();
            assert_eq!(steps.current(), steps.highest().unwrap());
            steps.advance(1);
            assert_eq!(steps.next(), u64::MAX);
            steps.advance(u64::MAX);
            assert_eq!(steps.next(), u64::MAX);
        }
    }

    #[test]
    fn a_resumed_run_counts_on_behind_its_steps() {
        let mut steps = StepCounter::default();
        steps.continue_from(0);
        assert_eq!((steps.highest(), steps.next()), (None, 0));
        steps.continue_from(50);
        steps.continue_from(20);
        assert_eq!((steps.highest(), steps.next()), (Some(49), 50));
        steps.start_progress();
        steps.advance(1);
        assert_eq!(steps.next(), 51);
    }

    #[test]
    fn the_first_update_of_the_next_progress_is_the_first_step() {
        for first in [0, 1, 501] {
            for starts_before in [false, true] {
                let mut steps = StepCounter::default();
                steps.continue_from(731);
                if starts_before {
                    steps.start_progress();
                }
                assert!(steps.start_from(first));
                assert_eq!(steps.highest(), first.checked_sub(1));
                if !starts_before {
                    steps.start_progress();
                }
                assert_eq!(steps.current(), first.saturating_sub(1));
                steps.advance(1);
                assert_eq!(steps.next(), first);
                steps.advance(1);
                assert_eq!(steps.next(), first + 1);
                steps.start_progress();
                steps.advance(1);
                assert_eq!(steps.next(), first + 2);
            }
        }
    }

    #[test]
    fn without_progress_the_next_row_is_the_first_step() {
        for first in [0, 501] {
            let mut steps = StepCounter::default();
            steps.continue_from(731);
            assert!(steps.start_from(first));
            assert_eq!((steps.next(), steps.next()), (first, first + 1));
        }
    }

    #[test]
    fn a_first_step_after_the_first_row_changes_nothing() {
        let mut steps = StepCounter::default();
        steps.note(7);
        assert!(!steps.start_from(501));
        assert_eq!(steps.next(), 8);
        let mut steps = StepCounter::default();
        steps.start_progress();
        steps.advance(1);
        assert!(!steps.start_from(501));
        assert_eq!(steps.next(), 1);
    }

    #[cfg(feature = "health")]
    #[test]
    fn each_other_step_is_a_turn_also_a_lower_one() {
        let mut steps = StepCounter::default();
        let mut turns = |step| {
            steps.note(step);
            steps.turns()
        };
        assert_eq!([1000, 1000, 0, 1, 1, 0, 0].map(&mut turns), [1, 1, 2, 3, 3, 4, 4]);
        assert_eq!(steps.highest(), Some(1000));
    }

    #[test]
    fn positions_without_metrics_count_as_steps() {
        let mut steps = StepCounter::default();
        steps.start_progress();
        steps.advance(50);
        steps.start_progress();
        steps.advance(1);
        assert_eq!(steps.next(), 51);
    }
}
