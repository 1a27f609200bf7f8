//! The condition `spike`: a value far from the trend of the values before it.
//!
//! The detector looks at residuals: each value less the median of the five before it. The short
//! median follows a steep fall, a drift and the climb after a restart of the schedule, so that the
//! residuals are the noise of the metric, whatever the trend is. A value is a spike if its residual
//! is farther from their median than the greatest of these, for a rule with `spike = k`:
//!
//! - `k` median absolute deviations of the last `window` residuals, in units of the normal
//!   distribution's sigma (1.4826 MAD);
//! - `k` / 6 times [`TAIL_FACTOR`] times their 98th percentile, and as much of the usual maximum of a
//!   window: both are 2.2 to 3 sigmas for Gaussian noise, where they decide nothing, and more where
//!   the noise itself has outliers;
//! - `k` thousandths of the level, because smaller changes are of no interest to anybody;
//! - for values that were almost constant, `k` tenths of the level, because a constant says nothing
//!   about what change is usual. Values that were constantly 0 say nothing at all.
//!
//! The comparison with a plain z-score stands in `tests/spikes.rs`.

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

    /// Judges a value and learns from it. A NaN is passed over; an infinity is a spike. `scratch` is
    /// memory that the detectors of a thread share.
    #[inline]
    pub(super) fn observe(&mut self, value: f64, scratch: &mut Vec<f32>) -> Judgement {
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
    fn is_spike(&mut self, residual: f64, level: f64, scratch: &mut Vec<f32>) -> bool {
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
    fn refresh(&mut self, level: f64, scratch: &mut Vec<f32>) {
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
    fn limit(&self, level: f64, scratch: &mut Vec<f32>) -> f64 {
        let Limits { sigma, tail, .. } = self.limits;
        let level_sigma = match self.is_constant(level) {
            true if level == 0.0 => f64::INFINITY,
            true => CONSTANT_SIGMA * level.abs(),
            false => LEAST_SIGMA * level.abs(),
        };
        scratch.clear();
        scratch.extend_from_slice(&self.maxima);
        let maximum = quantile(scratch, 0.5) * sigma;
        let tail_sigma = TAIL_FACTOR / 6.0 * tail.max(maximum);
        self.factor * sigma.max(tail_sigma).max(level_sigma)
    }
}

impl Limits {
    fn of(residuals: &[f32], scratch: &mut Vec<f32>) -> Self {
        scratch.clear();
        scratch.extend_from_slice(residuals);
        let center = quantile(scratch, 0.5);
        for residual in scratch.iter_mut() {
            *residual = (f64::from(*residual) - center).abs() as f32;
        }
        let sigma = SIGMAS_PER_MAD * quantile(scratch, 0.5);
        let tail = quantile(scratch, TAIL_QUANTILE);
        Self { center, sigma, tail }
    }
}

/// Returns the quantile of values, which it puts into another order; 0 if there are none.
fn quantile(values: &mut [f32], quantile: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() as f64 * quantile) as usize).min(values.len() - 1);
    let (_, value, _) = values.select_nth_unstable_by(at, f32::total_cmp);
    f64::from(*value)
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
