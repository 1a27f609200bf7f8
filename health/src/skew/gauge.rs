//! The averages over the steps of this rank.

use std::time::Duration;

use crate::slot::RankState;

/// Number of steps over which [`StepGauge`] averages.
const AVERAGE_STEPS: f64 = 20.0;

/// The work of a step counts at most so many times the average.
const LONGEST_WORK: f64 = 2.0;

/// Averages the steps of this rank, for the numbers in its slot.
///
/// The time of a step beside its wait for data counts at most twice the average: a rank that waits
/// once for another, which evaluates or saves, does not become a slow one. Waits for data come in
/// bursts by nature, and count whole.
///
/// ```
/// use std::time::Duration;
/// use logcore_health::skew::StepGauge;
/// use logcore_health::slot::RankState;
///
/// let mut gauge = StepGauge::default();
/// // Ten steps in two seconds, of which half a second went by with waiting for data.
/// gauge.note(10, Duration::from_secs(2), Duration::from_millis(500));
/// let mut state = RankState::new(0, 1);
/// gauge.fill(&mut state);
/// assert_eq!((state.step_seconds, state.data_share, state.pace), (0.2, 0.25, 5.0));
/// ```
#[derive(Debug, Clone, Default)]
pub struct StepGauge {
    /// Average seconds of a step without the wait for data.
    work: f64,
    /// Average seconds of the wait for data.
    wait: f64,
    /// Number of steps so far.
    steps: f64,
}

impl StepGauge {
    /// Notes that `steps` steps took the time `elapsed`, of which the rank waited for data for the
    /// time `waited`. Both are without the time in phases that are no part of a step: evaluation,
    /// checkpoints, pauses, and phases of the program's own. Without a step, nothing is noted; pass
    /// the time on with the next step.
    pub fn note(&mut self, steps: u64, elapsed: Duration, waited: Duration) {
        if steps == 0 {
            return;
        }
        let count = steps as f64;
        let wait = waited.min(elapsed).as_secs_f64() / count;
        let mut work = elapsed.as_secs_f64() / count - wait;
        if self.steps > AVERAGE_STEPS && self.work > 0.0 {
            work = work.min(self.work * LONGEST_WORK);
        }
        self.steps += count;
        // The first steps have equal weights; later, older ones fade.
        let fading = 1.0 - (1.0 - 1.0 / AVERAGE_STEPS).powf(count);
        let weight = fading.max(count / self.steps);
        self.work += (work - self.work) * weight;
        self.wait += (wait - self.wait) * weight;
    }

    /// Writes the averages into a slot: the seconds of a step, the share of data, the pace.
    pub fn fill(&self, state: &mut RankState) {
        let seconds = self.work + self.wait;
        let is_known = seconds > 0.0;
        state.step_seconds = seconds as f32;
        state.data_share = if is_known { (self.wait / seconds) as f32 } else { 0.0 };
        state.pace = if is_known { (1.0 / seconds) as f32 } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_step_moves_the_average_little_and_a_new_pace_moves_it_soon() {
        let mut gauge = StepGauge::default();
        let mut state = RankState::new(0, 1);
        let mut note = |steps: u64, millis: u64, waited: u64| {
            gauge.note(steps, Duration::from_millis(millis), Duration::from_millis(waited));
            gauge.fill(&mut state);
            (state.step_seconds, state.data_share)
        };
        assert_eq!(note(0, 500, 0), (0.0, 0.0));
        (0..100).for_each(|_| _ = note(1, 1000, 0));
        assert!(note(1, 60_000, 0).0 < 1.1, "an evaluation of another rank");
        // Every eighth step waits eight steps long.
        (0..10).for_each(|_| {
            (0..7).for_each(|_| _ = note(1, 1000, 0));
            _ = note(1, 9000, 8000);
        });
        assert!((0.4..0.6).contains(&note(1, 1000, 0).1));
        (0..100).for_each(|_| _ = note(1, 3000, 0));
        assert!((2.9..3.1).contains(&note(1, 3000, 0).0));
    }
}
