//! Which step a metrics call belongs to.

/// The steps of one logger.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    highest: Option<u64>,
    /// Where the newest progress began, once there was one.
    progress: Option<Progress>,
}

#[derive(Debug)]
struct Progress {
    base: u64,
    position: u64,
}

impl Steps {
    /// A progress begins: its steps go on from the highest there was.
    pub(crate) fn start_progress(&mut self) {
        if let Some(step) = self.of_progress() {
            self.note(step);
        }
        self.progress = Some(Progress {
            base: self.highest.unwrap_or(0),
            position: 0,
        });
    }

    /// The progress has come to `position`.
    pub(crate) fn advance(&mut self, n: u64) {
        if let Some(progress) = &mut self.progress {
            progress.position = progress.position.saturating_add(n);
        }
    }

    /// The step of a call that names none.
    pub(crate) fn next(&mut self) -> u64 {
        let step = self
            .of_progress()
            .unwrap_or_else(|| self.highest.map_or(0, |highest| highest.saturating_add(1)));
        self.note(step);
        step
    }

    /// The step that is being worked on: for readings that belong to a step and do not make one.
    pub(crate) fn current(&self) -> u64 {
        self.of_progress().or(self.highest).unwrap_or(0)
    }

    /// The step that the newest progress stands at.
    pub(crate) fn of_progress(&self) -> Option<u64> {
        self.progress
            .as_ref()
            .map(|progress| progress.base.saturating_add(progress.position))
    }

    /// The run goes on from an earlier one, whose steps are those below `first`.
    pub(crate) fn start_from(&mut self, first: u64) {
        if let Some(last) = first.checked_sub(1) {
            self.note(last);
        }
    }

    /// The highest step there was.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// A step was used.
    pub(crate) fn note(&mut self, step: u64) {
        self.highest = Some(self.highest.map_or(step, |highest| highest.max(step)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_progress_each_call_is_one_more_than_the_highest() {
        let mut steps = Steps::default();
        assert_eq!((steps.current(), steps.next(), steps.next()), (0, 0, 1));
        steps.note(120);
        steps.note(7);
        assert_eq!((steps.current(), steps.next()), (120, 121));
    }

    #[test]
    fn a_bar_an_epoch_does_not_start_again_at_0() {
        let mut steps = Steps::default();
        steps.start_progress();
        steps.advance(1);
        assert_eq!((steps.next(), steps.next()), (1, 1));
        steps.advance(99);
        assert_eq!(steps.next(), 100);
        // Past the total, and until the next start, it stays with the progress.
        assert_eq!(steps.next(), 100);
        steps.start_progress();
        assert_eq!(steps.current(), 100);
        steps.advance(2);
        assert_eq!(steps.next(), 102);
    }

    #[test]
    fn a_resumed_run_goes_on_where_it_stood() {
        let mut steps = Steps::default();
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
        let mut steps = Steps::default();
        steps.start_progress();
        steps.advance(50);
        steps.start_progress();
        steps.advance(1);
        assert_eq!(steps.next(), 51);
    }
}
