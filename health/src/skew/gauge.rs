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
/// bursts by nature, and count whole. The time in an [exchange](super::is_exchange) with other
/// ranks counts for the pace alone: a rank that waits there is not slow.
///
/// ```
/// use std::time::Duration;
/// use logcore_health::skew::StepGauge;
/// use logcore_health::slot::RankState;
///
/// let mut gauge = StepGauge::default();
/// // Ten steps in two seconds, of which half a second went by with waiting for data.
/// gauge.note(10, Duration::from_secs(2), Duration::from_millis(500), Duration::ZERO);
/// let mut state = RankState::new(0, 1);
/// gauge.fill(&mut state);
/// assert_eq!((state.step_seconds, state.data_share, state.pace), (0.2, 0.25, 5.0));
///
/// // The same steps, in which one second went by with waiting for other ranks.
/// let mut gauge = StepGauge::default();
/// gauge.note(10, Duration::from_secs(2), Duration::from_millis(500), Duration::from_secs(1));
/// gauge.fill(&mut state);
/// assert_eq!((state.step_seconds, state.data_share, state.pace), (0.1, 0.5, 5.0));
/// ```
#[derive(Debug, Clone, Default)]
pub struct StepGauge {
    /// Average seconds of a step without the waits for data and for other ranks.
    work: f64,
    /// The same with the wait for other ranks.
    shared_work: f64,
    /// Average seconds of the wait for data.
    wait: f64,
    /// Number of steps so far.
    steps: f64,
}

impl StepGauge {
    /// Notes that `steps` steps took the time `elapsed`, of which the rank waited for data for the
    /// time `waited`, and spent the time `exchanged` in an exchange with other ranks. All are
    /// without the time in phases that are no part of a step: evaluation, checkpoints and pauses.
    /// Without a step, nothing is noted; pass the time on with the next step.
    pub fn note(&mut self, steps: u64, elapsed: Duration, waited: Duration, exchanged: Duration) {
        if steps == 0 {
            return;
        }
        let count = steps as f64;
        let waited = waited.min(elapsed);
        let exchanged = exchanged.min(elapsed - waited);
        let wait = waited.as_secs_f64() / count;
        let mut shared_work = (elapsed - waited).as_secs_f64() / count;
        let mut work = (elapsed - waited - exchanged).as_secs_f64() / count;
        if self.steps > AVERAGE_STEPS {
            let limit = |time: f64, average: f64| {
                if average > 0.0 {
                    time.min(average * LONGEST_WORK)
                } else {
                    time
                }
            };
            (work, shared_work) = (limit(work, self.work), limit(shared_work, self.shared_work));
        }
        self.steps += count;
        // The first steps have equal weights; later, older ones fade.
        let fading = 1.0 - (1.0 - 1.0 / AVERAGE_STEPS).powf(count);
        let weight = fading.max(count / self.steps);
        self.work += (work - self.work) * weight;
        self.shared_work += (shared_work - self.shared_work) * weight;
        self.wait += (wait - self.wait) * weight;
    }

    /// Writes the averages into a slot: the seconds of a step without the exchange, the share of
    /// data in them, and the pace.
    pub fn fill(&self, state: &mut RankState) {
        let divide = |number: f64, by: f64| if by > 0.0 { (number / by) as f32 } else { 0.0 };
        let seconds = self.work + self.wait;
        state.step_seconds = seconds as f32;
        state.data_share = divide(self.wait, seconds);
        state.pace = divide(1.0, self.shared_work + self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_step_moves_the_average_little_and_a_new_pace_moves_it_soon() {
        let mut gauge = StepGauge::default();
        let mut state = RankState::new(0, 1);
        let mut note = |steps: u64, time: u64, waited: u64| {
            let millis = Duration::from_millis;
            gauge.note(steps, millis(time), millis(waited), Duration::ZERO);
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

    #[test]
    fn a_long_exchange_moves_neither_the_work_nor_much_of_the_pace() {
        let mut gauge = StepGauge::default();
        let mut state = RankState::new(0, 1);
        let millis = Duration::from_millis;
        (0..100).for_each(|_| gauge.note(1, millis(1000), millis(100), millis(500)));
        // Another rank evaluates.
        gauge.note(1, millis(60_000), millis(100), millis(59_500));
        gauge.fill(&mut state);
        assert!((state.step_seconds - 0.5).abs() < 0.001 && (state.data_share - 0.2).abs() < 0.001);
        assert!((0.9..=1.0).contains(&state.pace), "{}", state.pace);
    }
}
