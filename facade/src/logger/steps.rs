//! The choice of a step for each metrics call.

/// Counts the steps of one logger.
#[derive(Debug, Default)]
pub(crate) struct StepCounter {
    highest: Option<u64>,
    /// Position of the newest progress, once a progress has started.
    progress: Option<ProgressPosition>,
}

#[derive(Debug)]
struct ProgressPosition {
    /// Highest step at the start of the progress.
    base: u64,
    position: u64,
}

impl StepCounter {
    /// Starts a progress: its steps continue from the highest step so far.
    pub(crate) fn start_progress(&mut self) {
        if let Some(step) = self.progress_step() {
            self.note(step);
        }
        self.progress = Some(ProgressPosition {
            base: self.highest.unwrap_or(0),
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
            .unwrap_or_else(|| self.highest.map_or(0, |highest| highest.saturating_add(1)));
        self.note(step);
        step
    }

    /// Returns the step of readings that belong to a step and do not start one.
    pub(crate) fn current(&self) -> u64 {
        self.progress_step().or(self.highest).unwrap_or(0)
    }

    /// Returns the step of the newest progress.
    pub(crate) fn progress_step(&self) -> Option<u64> {
        self.progress
            .as_ref()
            .map(|progress| progress.base.saturating_add(progress.position))
    }

    /// Continues an earlier run, whose steps are those below `first`.
    pub(crate) fn start_from(&mut self, first: u64) {
        if let Some(last) = first.checked_sub(1) {
            self.note(last);
        }
    }

    /// Returns the highest step so far.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Notes that a step was used.
    pub(crate) fn note(&mut self, step: u64) {
        self.highest = Some(self.highest.map_or(step, |highest| highest.max(step)));
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
    fn a_resumed_run_continues_at_its_first_step() {
        let mut steps = StepCounter::default();
        steps.start_from(0);
        assert_eq!(steps.next(), 0);
        steps.start_from(50);
        assert_eq!(steps.next(), 50);
        steps.start_progress();
        steps.advance(1);
        assert_eq!(steps.next(), 51);
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
