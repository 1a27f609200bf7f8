//! The condition `spike`: a value far from the trend of the values before it.
//!
//! The detector looks at residuals: each value less the median of the five before it. The short
//! median follows a steep fall, a drift and the climb after a restart of the schedule, so that the
//! residuals are the noise of the metric, whatever the trend is. A value is a spike if its residual
//! is farther from their median than the greatest of these, for a rule with `spike = k`:
//!
//! - `k` median absolute deviations of the last `window` residuals, in units of the normal
//!   distribution's sigma (1.4826 MAD);
//! - `k` / 6 times [`TAIL_FACTOR`] times their 98th percentile, and as much of the usual maximum of
//!   a window: both are 2.2 to 3 sigmas for Gaussian noise, where they decide nothing, and more
//!   where the noise itself has outliers;
//! - `k` thousandths of the level, because smaller changes are of no interest to anybody;
//! - for values that were almost constant, `k` tenths of the level, because a constant says nothing
//!   about what change is usual. Values that were constantly 0 say nothing at all.
//!
//! # How good
//!
//! `tests/spikes.rs` plants 322 spikes of 8 to 60 robust sigmas in 200 curves of 2,000 values, of
//! seeds on which nothing was tuned. Episodes that began elsewhere are false alarms:
//!
//! | detector | noise | found | false |
//! |---|---|---|---|
//! | `spike = 6` | Gaussian, or in proportion to the loss | 194 of 211 | 0 in 268,000 values |
//! | `spike = 6` | Student's t with 3 degrees of freedom | 69 of 111 | 67 in 132,000 values |
//! | `spike = 6` | all | 263 | 67 |
//! | z-score of 8.25, its best F1 | all | 215 | 117 |
//! | z-score of 6, its most spikes | all | 247 | 228 |
//! | z-score of 11, as few false alarms | all | 158 | 70 |
//!
//! With three degrees of freedom, 3 of 1,000 values of the noise lie beyond 8 robust sigmas by
//! themselves, and nothing in them tells them from the planted ones.

/// Number of values whose median is the level. With seven or nine, a rise after a restart of the
/// schedule is farther from it; with three, the level is half noise.
const LEVEL_VALUES: usize = 5;

/// Number of residuals before the first judgement: the MAD of fewer is off by a third and more.
const FEWEST_RESIDUALS: usize = 20;

/// Quantile of the deviations that stands for the tails of the noise.
const TAIL_QUANTILE: f64 = 0.98;

/// Factor of the tails at `spike = 6`: 6 sigmas over the 2.7 that are usual for the maximum of 100
/// Gaussian values.
const TAIL_FACTOR: f64 = 2.2;

/// Number of windows whose median is the usual maximum: spikes in fewer than half of them leave it
/// alone.
const MAXIMA: usize = 9;

/// Sigmas of a normal distribution in one median absolute deviation.
const SIGMAS_PER_MAD: f64 = 1.4826;

/// Share of the level below which deviations are those of a constant.
const CONSTANT_SHARE: f64 = 1e-4;

/// Sigma of a constant, as a share of its level.
const CONSTANT_SIGMA: f64 = 0.1;

/// Least sigma of other values, as a share of the level.
const LEAST_SIGMA: f64 = 1e-3;

/// Share of the limit beyond which the limit is computed anew before a value is judged. The limit
/// is up to `window` values old, and may have shrunk by so much.
const SCREEN: f64 = 0.75;

/// The judgement of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Judgement {
    /// There were too few values so far.
    Learning,
    /// The value is no spike.
    Usual,
    /// The value is a spike, from this level.
    Spike(f64),
    /// So many values were far from the level that theirs is the usual one now.
    NewLevel(f64),
}

/// The detector of one metric.
#[derive(Debug)]
pub(super) struct SpikeDetector {
    /// The `spike` of the rule.
    factor: f64,
    window: usize,
    /// The last usual values; the oldest is at `oldest_recent`.
    recent: [f64; LEVEL_VALUES],
    oldest_recent: usize,
    recent_count: usize,
    /// The last usual residuals, a ring of `window`. Single precision, because their noise has no
    /// more digits, and half the memory is read at half the cost.
    residuals: Vec<f32>,
    oldest_residual: usize,
    limits: Limits,
    /// Deviation beyond which the limits are computed anew.
    screen: f64,
    /// `false` while there are too few values; `screen` is infinite then.
    is_ready: bool,
    /// Number of values until the limits are computed anew.
    refresh_in: usize,
    /// Greatest deviation since the start of the present window, spikes included.
    maximum: f64,
    /// The maxima of the last windows in sigmas, a ring of [`MAXIMA`].
    maxima: Vec<f32>,
    oldest_maximum: usize,
    /// Number of spikes, until `window` values without one have come.
    spikes: usize,
    usual_since_spike: usize,
    /// The last values that were spikes.
    last_spikes: [f64; LEVEL_VALUES],
}

#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    /// Median of the residuals.
    center: f64,
    sigma: f64,
    /// The 98th percentile of the deviations.
    tail: f64,
}

impl SpikeDetector {
    pub(super) fn new(factor: f64, window: usize) -> Self {
        Self {
            factor,
            window,
            recent: [0.0; LEVEL_VALUES],
            oldest_recent: 0,
            recent_count: 0,
            residuals: Vec::new(),
            oldest_residual: 0,
            limits: Limits::default(),
            screen: f64::INFINITY,
            is_ready: false,
            refresh_in: FEWEST_RESIDUALS,
            maximum: 0.0,
            maxima: Vec::new(),
            oldest_maximum: 0,
            spikes: 0,
            usual_since_spike: 0,
            last_spikes: [0.0; LEVEL_VALUES],
        }
    }

    /// Judges a value and learns from it. A NaN is passed over; an infinity is a spike. `scratch`
    /// is memory that the detectors of a thread share.
    #[inline]
    pub(super) fn observe(&mut self, value: f64, scratch: &mut Vec<i32>) -> Judgement {
        if self.recent_count < LEVEL_VALUES || !value.is_finite() {
            return self.observe_odd(value);
        }
        let level = median_of_five(self.recent);
        let residual = value - level;
        let deviation = (residual - self.limits.center).abs();
        if deviation > self.maximum {
            self.maximum = deviation;
        }
        if deviation > self.screen && self.is_spike(residual, level, scratch) {
            return self.note_spike(value, level);
        }
        self.recent[self.oldest_recent] = value;
        self.oldest_recent = next(self.oldest_recent, LEVEL_VALUES);
        if self.residuals.len() < self.window {
            self.residuals.push(residual as f32);
        } else {
            self.residuals[self.oldest_residual] = residual as f32;
            self.oldest_residual = next(self.oldest_residual, self.window);
        }
        if self.spikes > 0 {
            self.usual_since_spike += 1;
            if self.usual_since_spike >= self.window {
                self.spikes = 0;
            }
        }
        let judgement = match self.is_ready {
            true => Judgement::Usual,
            false => Judgement::Learning,
        };
        self.refresh_in -= 1;
        if self.refresh_in == 0 {
            self.refresh(level, scratch);
        }
        judgement
    }

    #[cold]
    fn observe_odd(&mut self, value: f64) -> Judgement {
        if value.is_infinite() && self.recent_count == LEVEL_VALUES && self.is_ready {
            return Judgement::Spike(median_of_five(self.recent));
        }
        if value.is_finite() {
            self.recent[self.recent_count] = value;
            self.recent_count += 1;
        }
        Judgement::Learning
    }

    /// Decides about a value beyond the screen, with limits of all values up to here.
    #[cold]
    fn is_spike(&mut self, residual: f64, level: f64, scratch: &mut Vec<i32>) -> bool {
        self.limits = Limits::of(&self.residuals, scratch);
        let limit = self.limit(level, scratch);
        self.screen = SCREEN * limit;
        (residual - self.limits.center).abs() > limit
    }

    #[cold]
    fn note_spike(&mut self, value: f64, level: f64) -> Judgement {
        self.last_spikes[self.spikes % LEVEL_VALUES] = value;
        self.spikes += 1;
        self.usual_since_spike = 0;
        if self.spikes < self.window {
            return Judgement::Spike(level);
        }
        let level = median_of_five(self.last_spikes);
        let learnt = Self {
            recent: self.last_spikes,
            oldest_recent: self.spikes % LEVEL_VALUES,
            recent_count: LEVEL_VALUES,
            residuals: std::mem::take(&mut self.residuals),
            maxima: std::mem::take(&mut self.maxima),
            oldest_maximum: self.oldest_maximum,
            ..Self::new(self.factor, self.window)
        };
        *self = learnt;
        self.residuals.clear();
        Judgement::NewLevel(level)
    }

    /// Computes the limits anew: after every `window` values, and more often while there are few.
    #[cold]
    fn refresh(&mut self, level: f64, scratch: &mut Vec<i32>) {
        self.is_ready = true;
        self.limits = Limits::of(&self.residuals, scratch);
        let count = self.residuals.len();
        if count == self.window {
            self.refresh_in = self.window;
            self.note_maximum(level);
        } else {
            self.refresh_in = (count / 2).clamp(1, self.window - count);
        }
        self.screen = SCREEN * self.limit(level, scratch);
    }

    fn note_maximum(&mut self, level: f64) {
        let maximum = (self.maximum / self.limits.sigma) as f32;
        self.maximum = 0.0;
        if self.is_constant(level) {
            return;
        }
        if self.maxima.len() < MAXIMA {
            self.maxima.push(maximum);
        } else {
            self.maxima[self.oldest_maximum] = maximum;
            self.oldest_maximum = next(self.oldest_maximum, MAXIMA);
        }
    }

    fn is_constant(&self, level: f64) -> bool {
        self.limits.sigma <= CONSTANT_SHARE * level.abs()
    }

    /// Returns the deviation beyond which a value is a spike.
    fn limit(&self, level: f64, scratch: &mut Vec<i32>) -> f64 {
        let Limits { sigma, tail, .. } = self.limits;
        let level_sigma = match self.is_constant(level) {
            true if level == 0.0 => f64::INFINITY,
            true => CONSTANT_SIGMA * level.abs(),
            false => LEAST_SIGMA * level.abs(),
        };
        scratch.clear();
        scratch.extend(self.maxima.iter().copied().map(sort_key));
        let maximum = match scratch.len() {
            0 => 0.0,
            count => from_sort_key(*scratch.select_nth_unstable(count / 2).1) * sigma,
        };
        let tail_sigma = TAIL_FACTOR / 6.0 * tail.max(maximum);
        self.factor * sigma.max(tail_sigma).max(level_sigma)
    }
}

impl Limits {
    /// Computes the limits of residuals, of which there are ten or more.
    fn of(residuals: &[f32], scratch: &mut Vec<i32>) -> Self {
        let (middle, tail) = (residuals.len() / 2, (residuals.len() as f64 * TAIL_QUANTILE) as usize);
        scratch.clear();
        scratch.extend(residuals.iter().copied().map(sort_key));
        let center = from_sort_key(*scratch.select_nth_unstable(middle).1);
        for key in scratch.iter_mut() {
            *key = sort_key((from_sort_key(*key) - center).abs() as f32);
        }
        // The tail is among those that are not below the median.
        let (_, median, above) = scratch.select_nth_unstable(middle);
        let sigma = SIGMAS_PER_MAD * from_sort_key(*median);
        let tail = *above.select_nth_unstable(tail - middle - 1).1;
        Self {
            center,
            sigma,
            tail: from_sort_key(tail),
        }
    }
}

/// Returns an integer that sorts as the number does, as in `f32::total_cmp`: integers are compared
/// by one instruction, which makes the selection twice as fast.
#[inline]
fn sort_key(value: f32) -> i32 {
    flip(value.to_bits() as i32)
}

#[inline]
fn from_sort_key(key: i32) -> f64 {
    f64::from(f32::from_bits(flip(key) as u32))
}

/// Turns the order of the negative numbers around; the same again turns it back.
#[inline]
fn flip(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

/// Returns the median, without branches.
#[inline]
fn median_of_five([a, b, c, d, e]: [f64; 5]) -> f64 {
    // The least of the first four and their greatest cannot be the median.
    let low = greater(lesser(a, b), lesser(c, d));
    let high = lesser(greater(a, b), greater(c, d));
    let (low, high) = (lesser(low, high), greater(low, high));
    greater(low, lesser(high, e))
}

/// Unlike `f64::min`, compiles to one instruction: the values are no NaN.
#[inline]
fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline]
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// Returns the place behind `at` in a ring.
#[inline]
fn next(at: usize, length: usize) -> usize {
    if at + 1 == length { 0 } else { at + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers from -1 to 1 with the scatter of sums of uniform ones, the same in each run.
    fn noise(count: usize) -> Vec<f64> {
        let mut seed = 7_u64;
        let mut uniform = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..count).map(|_| uniform() + uniform() - 1.0).collect()
    }

    /// Returns the places of the values that are spikes at a factor of 6.
    fn spikes(values: &[f64], window: usize) -> Vec<usize> {
        let (mut detector, mut scratch) = (SpikeDetector::new(6.0, window), Vec::new());
        let judgements = values.iter().map(|value| detector.observe(*value, &mut scratch));
        let places = judgements.enumerate().filter_map(|(at, judgement)| match judgement {
            Judgement::Spike(_) => Some(at),
            _ => None,
        });
        places.collect()
    }

    #[test]
    fn a_spike_on_a_steep_fall_is_found_and_the_fall_is_none() {
        let fall = |at: usize| 10.0 * (-(at as f64) / 50.0).exp() + 2.0;
        let mut values: Vec<f64> = noise(400)
            .iter()
            .enumerate()
            .map(|(at, noise)| fall(at) + 0.05 * noise)
            .collect();
        assert_eq!(spikes(&values, 100), [0; 0]);
        values[200] += 1.0;
        assert_eq!(spikes(&values, 100), [200]);
    }

    #[test]
    fn nothing_is_said_about_the_first_values() {
        let mut values = noise(20);
        values.push(1e9);
        assert_eq!(spikes(&values, 100), [0; 0]);
        let mut values = noise(30);
        values.push(1e9);
        assert_eq!(spikes(&values, 100), [30]);
    }

    #[test]
    fn a_quiet_start_makes_no_spike_of_the_first_changes() {
        for quiet in [0.0, 2.3, -1e-9] {
            let wobble = noise(600);
            let at = |at: usize| match at {
                ..200 => f64::from((quiet * (1.0 + 1e-7 * wobble[at])) as f32),
                _ if quiet == 0.0 => wobble[at],
                _ => quiet + 0.1 * quiet.abs() * wobble[at],
            };
            let values: Vec<f64> = (0..600).map(at).collect();
            assert_eq!(spikes(&values, 100), [0; 0], "{quiet}");
        }
        // A change of many times the level is one all the same.
        let mut values = vec![2.3; 200];
        values.push(23.0);
        assert_eq!(spikes(&values, 100), [200]);
    }

    #[test]
    fn an_open_episode_does_not_move_the_usual_value() {
        let mut values = noise(300);
        for value in &mut values[200..250] {
            *value += 100.0;
        }
        assert_eq!(spikes(&values, 100), (200..250).collect::<Vec<_>>());
    }

    #[test]
    fn a_level_that_stays_for_a_window_is_the_usual_one_from_then_on() {
        let mut values = noise(600);
        for value in &mut values[200..] {
            *value += 100.0;
        }
        values[500] += 100.0;
        let (mut detector, mut scratch) = (SpikeDetector::new(6.0, 100), Vec::new());
        let judgements: Vec<_> = values
            .iter()
            .map(|value| detector.observe(*value, &mut scratch))
            .collect();
        assert!(
            judgements[200..299]
                .iter()
                .all(|judgement| matches!(judgement, Judgement::Spike(_)))
        );
        assert!(matches!(judgements[299], Judgement::NewLevel(level) if (99.0..101.0).contains(&level)));
        assert!(
            judgements[300..500]
                .iter()
                .all(|judgement| !matches!(judgement, Judgement::Spike(_)))
        );
        assert!(matches!(judgements[500], Judgement::Spike(level) if (99.0..101.0).contains(&level)));
    }

    #[test]
    fn rounded_values_that_jump_between_neighbors_are_no_spikes() {
        // A `bfloat16` has 8 bits.
        let values: Vec<f64> = noise(500)
            .iter()
            .map(|noise| (2.3 + 0.01 * noise) * 64.0)
            .map(|x| x.round() / 64.0)
            .collect();
        assert_eq!(spikes(&values, 100), [0; 0]);
    }

    #[test]
    fn an_infinity_is_a_spike_and_a_nan_is_passed_over() {
        let mut values = noise(60);
        values[40] = f64::NAN;
        values[50] = f64::NEG_INFINITY;
        assert_eq!(spikes(&values, 100), [50]);
    }

    proptest! {
        #[test]
        fn the_median_of_five_is_the_third_of_them_sorted(values: [i8; 5]) {
            let mut values = values.map(f64::from);
            let median = median_of_five(values);
            values.sort_by(f64::total_cmp);
            prop_assert_eq!(median, values[2]);
        }

        /// Any values, the extreme ones included, are judged without a panic, and a constant has no
        /// spike.
        #[test]
        fn any_values_are_judged(
            values in prop::collection::vec(prop_oneof![any::<f64>(), -1.0..1.0], 0..400),
            window in 10_usize..150,
            constant: f64,
        ) {
            spikes(&values, window);
            let constant = if constant.is_finite() { constant } else { 0.0 };
            prop_assert_eq!(spikes(&vec![constant; 300], window), Vec::<usize>::new());
        }

        /// The unit of a metric changes nothing.
        #[test]
        fn the_unit_does_not_matter(exponent in -40_i32..40, spike in 60..190_usize, height in 0.0..100.0, window in 10_usize..150) {
            let mut values: Vec<f64> = noise(200).iter().map(|noise| 2.0 + 0.1 * noise).collect();
            values[spike] += height * 0.1;
            let expected = spikes(&values, window);
            let scaled: Vec<f64> = values.iter().map(|value| value * 2.0_f64.powi(exponent)).collect();
            prop_assert_eq!(spikes(&scaled, window), expected);
        }
    }
}
