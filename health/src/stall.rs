//! The decision that a run stands still.

use std::collections::VecDeque;
use std::time::Duration;

/// Decides whether a run stands still, from one look a second.
///
/// The watch counts looks, which are called ticks, and never asks a clock. A process that is
/// stopped or suspended does not look, so the time until it goes on raises no alarm. The caller
/// must not make up for missed ticks.
///
/// The *quiet time* is the number of ticks since the last movement. Ticks in a phase that is long
/// by nature (evaluation, checkpoint, idle) do not count. The quiet time becomes a stall at the
/// *limit*:
///
/// | what the run has done | limit |
/// |---|---|
/// | no step yet: data are loaded, code is compiled | three times `stall_after` |
/// | steps | the longer of `stall_after` and ten times the usual gap |
///
/// The *usual gap* is the time between two movements that 99 of the last 100 stayed within, of the
/// last 1,000. Below 100 gaps that is the longest gap. A gap that was told as a stall counts as its
/// limit: one accident does not make the watch deaf, and a pace that has really changed is learned.
///
/// ```
/// use logcore_health::stall::{Movement, StallWatch, Verdict};
/// use std::time::Duration;
///
/// let mut watch = StallWatch::new(Duration::from_secs(60));
/// assert_eq!(watch.tick(Movement::Step, false), Verdict::Moving);
/// for second in 1..60 {
///     assert_eq!(watch.tick(Movement::None, false), Verdict::Quiet { ticks: second });
/// }
/// assert_eq!(watch.tick(Movement::None, false), Verdict::Stalled { ticks: 60 });
/// assert_eq!(watch.tick(Movement::None, false), Verdict::Quiet { ticks: 61 });
/// assert_eq!(watch.tick(Movement::Step, false), Verdict::Over { ticks: 62 });
/// ```
#[derive(Debug, Clone)]
pub struct StallWatch {
    stall_after: u64,
    /// Ticks since the last movement, without those in exempt phases.
    quiet: u64,
    has_stepped: bool,
    /// Limit of the stall that has been told and is not over.
    told_at: Option<u64>,
    /// The newest gaps in ticks, the oldest one first.
    gaps: VecDeque<u64>,
    /// The limit, once it has been asked for since the last movement.
    known_limit: Option<u64>,
}

/// The movement of a run since the last tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Nothing has come.
    None,
    /// Lines of text have come, and no step. Text is movement as long as the run has had no step.
    Text,
    /// A progress was updated, or a step begun.
    Step,
}

/// The answer of a [`StallWatch`] to one tick. Ticks are seconds, without those in exempt phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The run has moved.
    Moving,
    /// The run has not moved for so many ticks, and there is nothing to tell: the limit is not
    /// reached, or the stall has been told.
    Quiet {
        /// Ticks since the last movement.
        ticks: u64,
    },
    /// The run stands still. Told once until it moves again.
    Stalled {
        /// Ticks since the last movement.
        ticks: u64,
    },
    /// The run has moved after a stall that was told.
    Over {
        /// Ticks that the stall has lasted, from the last movement before it.
        ticks: u64,
    },
}

impl StallWatch {
    /// Creates the watch of a run that begins. A fraction of a second counts as a whole one.
    #[must_use]
    pub fn new(stall_after: Duration) -> Self {
        let fraction = u64::from(stall_after.subsec_nanos() > 0);
        Self {
            stall_after: stall_after.as_secs().saturating_add(fraction).max(1),
            quiet: 0,
            has_stepped: false,
            told_at: None,
            gaps: VecDeque::new(),
            known_limit: None,
        }
    }

    /// Counts one second, in which the run has moved or not. `is_exempt` is `true` in a phase that
    /// is long by nature.
    pub fn tick(&mut self, movement: Movement, is_exempt: bool) -> Verdict {
        self.quiet = self.quiet.saturating_add(u64::from(!is_exempt));
        match movement {
            Movement::Step => self.move_on(true),
            Movement::Text if !self.has_stepped => self.move_on(false),
            _ => self.wait(is_exempt),
        }
    }

    /// Returns the usual time between two movements in ticks; `None` before the second movement.
    ///
    /// ```
    /// use logcore_health::stall::{Movement, StallWatch};
    /// use std::time::Duration;
    ///
    /// let mut watch = StallWatch::new(Duration::from_secs(60));
    /// for second in 0..100 {
    ///     watch.tick(if second % 20 == 0 { Movement::Step } else { Movement::None }, false);
    /// }
    /// assert_eq!(watch.usual_gap(), Some(20));
    /// assert_eq!(watch.limit(), 200);
    /// ```
    #[must_use]
    pub fn usual_gap(&self) -> Option<u64> {
        let mut gaps: Vec<u64> = self.gaps.iter().copied().collect();
        let longer = gaps.len() / LONGER_GAPS;
        let index = gaps.len().checked_sub(1 + longer)?;
        Some(*gaps.select_nth_unstable(index).1)
    }

    /// Returns the quiet time in ticks that is a stall.
    #[must_use]
    pub fn limit(&self) -> u64 {
        let floor = match self.has_stepped {
            true => self.stall_after,
            false => self.stall_after.saturating_mul(STARTUP_FACTOR),
        };
        let usual = self.usual_gap().unwrap_or_default();
        floor.max(usual.saturating_mul(USUAL_GAPS))
    }

    fn move_on(&mut self, is_step: bool) -> Verdict {
        let quiet = std::mem::take(&mut self.quiet);
        let told_at = self.told_at.take();
        self.known_limit = None;
        if is_step && !self.has_stepped {
            // The first step ends the start, whose gaps say nothing about steps.
            self.has_stepped = true;
            self.gaps.clear();
        } else if quiet > 0 {
            if self.gaps.len() == MAX_GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(told_at.map_or(quiet, |limit| limit.min(quiet)));
        }
        match told_at {
            Some(_) => Verdict::Over { ticks: quiet },
            None => Verdict::Moving,
        }
    }

    fn wait(&mut self, is_exempt: bool) -> Verdict {
        let ticks = self.quiet;
        // Below `stall_after` the gaps need not be looked through, which is most of the time.
        if is_exempt || self.told_at.is_some() || ticks < self.stall_after {
            return Verdict::Quiet { ticks };
        }
        let limit = self.known_limit.unwrap_or_else(|| self.limit());
        self.known_limit = Some(limit);
        if ticks >= limit {
            self.told_at = Some(ticks);
            return Verdict::Stalled { ticks };
        }
        Verdict::Quiet { ticks }
    }
}

/// The limit is so many usual gaps.
const USUAL_GAPS: u64 = 10;
/// Until the first step the limit is so many times `stall_after`.
const STARTUP_FACTOR: u64 = 3;
/// Number of gaps that are kept.
const MAX_GAPS: usize = 1000;
/// One gap of so many may be longer than the usual one.
const LONGER_GAPS: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Ticks through a gap, and returns the stall that is told in it.
    fn pass(watch: &mut StallWatch, gap: u64) -> (Option<u64>, Verdict) {
        let mut told = None;
        for _ in 1..gap {
            if let Verdict::Stalled { ticks } = watch.tick(Movement::None, false) {
                assert_eq!(told.replace(ticks), None, "an episode is told once");
            }
        }
        (told, watch.tick(Movement::Step, false))
    }

    proptest! {
        #[test]
        fn a_gap_below_the_limit_is_never_told(gaps in prop::collection::vec(1_u64..600, 1..60)) {
            let mut watch = StallWatch::new(MINUTE);
            watch.tick(Movement::Step, false);
            for gap in gaps {
                let limit = watch.limit();
                let (told, verdict) = pass(&mut watch, gap);
                // The movement comes at the tick after the last quiet one.
                prop_assert_eq!(told, (gap > limit).then_some(limit));
                let expected = if gap > limit { Verdict::Over { ticks: gap } } else { Verdict::Moving };
                prop_assert_eq!(verdict, expected);
            }
        }

        #[test]
        fn a_run_with_gaps_that_vary_tenfold_is_never_told(
            longest in 6_u64..200,
            shares in prop::collection::vec(0.1_f64..=1.0, 1..200),
        ) {
            let mut watch = StallWatch::new(MINUTE);
            watch.tick(Movement::Step, false);
            for share in shares {
                let gap = ((longest as f64 * share) as u64).clamp(longest / 10 + 1, longest.max(1));
                // The first gap alone teaches nothing before it is there.
                let told = pass(&mut watch, gap).0;
                prop_assert!(told.is_none() || (watch.gaps.len() == 1 && gap > 60), "{told:?} of {gap}");
            }
        }

        #[test]
        fn a_stall_is_told_whatever_came_before(gaps in prop::collection::vec(1_u64..2000, 0..150)) {
            let mut watch = StallWatch::new(MINUTE);
            watch.tick(Movement::Step, false);
            for gap in gaps {
                pass(&mut watch, gap);
            }
            let limit = watch.limit();
            prop_assert!((60..=20_000).contains(&limit));
            prop_assert_eq!(pass(&mut watch, limit + 100).0, Some(limit));
        }

        #[test]
        fn exempt_time_neither_counts_nor_teaches(exempt in 1_u64..10_000, gap in 1_u64..59) {
            let mut watch = StallWatch::new(MINUTE);
            watch.tick(Movement::Step, false);
            pass(&mut watch, gap);
            for _ in 0..exempt {
                prop_assert_eq!(watch.tick(Movement::None, true), Verdict::Quiet { ticks: 0 });
            }
            prop_assert_eq!(watch.tick(Movement::Step, true), Verdict::Moving);
            prop_assert_eq!(watch.usual_gap(), Some(gap));
            let limit = watch.limit();
            prop_assert_eq!(pass(&mut watch, limit + 1).0, Some(limit));
        }
    }

    #[test]
    fn a_validation_of_an_hour_is_no_stall_and_the_quiet_time_before_it_counts_on() {
        let mut watch = StallWatch::new(MINUTE);
        watch.tick(Movement::Step, false);
        (0..59).for_each(|_| assert!(matches!(watch.tick(Movement::None, false), Verdict::Quiet { .. })));
        (0..3600).for_each(|_| assert_eq!(watch.tick(Movement::None, true), Verdict::Quiet { ticks: 59 }));
        assert_eq!(watch.tick(Movement::None, false), Verdict::Stalled { ticks: 60 });
    }

    #[test]
    fn the_start_has_three_times_as_long_and_lines_of_text_are_its_movement() {
        let mut watch = StallWatch::new(MINUTE);
        (1..180).for_each(|ticks| assert_eq!(watch.tick(Movement::None, false), Verdict::Quiet { ticks }));
        assert_eq!(watch.tick(Movement::None, false), Verdict::Stalled { ticks: 180 });
        assert_eq!(watch.tick(Movement::Text, false), Verdict::Over { ticks: 181 });
        assert_eq!(watch.limit(), 1800, "a long silence was no accident of steps");
        assert_eq!(watch.tick(Movement::Step, false), Verdict::Moving);
        assert_eq!((watch.usual_gap(), watch.limit()), (None, 60));
        assert_eq!(
            watch.tick(Movement::Text, false),
            Verdict::Quiet { ticks: 1 },
            "steps are expected now"
        );
    }

    #[test]
    fn one_accident_does_not_make_the_watch_deaf() {
        let mut watch = StallWatch::new(MINUTE);
        (0..150).for_each(|_| assert_eq!(watch.tick(Movement::Step, false), Verdict::Moving));
        assert_eq!(pass(&mut watch, 7200), (Some(60), Verdict::Over { ticks: 7200 }));
        assert_eq!(watch.limit(), 60);
    }

    #[test]
    fn a_pace_that_has_changed_is_learned() {
        let mut watch = StallWatch::new(MINUTE);
        (0..150).for_each(|_| assert_eq!(watch.tick(Movement::Step, false), Verdict::Moving));
        let told = (0..10).filter(|_| pass(&mut watch, 300).0.is_some()).count();
        assert_eq!(told, 2, "two gaps in a hundred are usual ones");
    }

    #[test]
    fn a_fraction_of_a_second_is_a_whole_one() {
        let mut watch = StallWatch::new(Duration::from_millis(300));
        watch.tick(Movement::Step, false);
        assert_eq!(watch.tick(Movement::None, false), Verdict::Stalled { ticks: 1 });
    }
}
