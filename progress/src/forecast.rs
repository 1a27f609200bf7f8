//! The estimate of the remaining time, from the segments of a run.

use std::f64::consts::FRAC_2_PI;

use crate::segment::{MAX_SEGMENTS, RunSegment, pace_quantile};

/// Minimum number of segments whose scatter is meaningful.
const MIN_SEGMENTS_FOR_NOISE: usize = 8;
/// The first segments are a warm-up if they are this many times slower than the typical one.
const WARM_UP_FACTOR: f64 = 1.25;
/// One difference in this many is an outlier, not noise …
const SEGMENTS_PER_OUTLIER: usize = 16;
/// … but at least this many, because a change of the pace makes as many large differences.
const MIN_OUTLIERS: usize = 3;
/// Minimum number of segments at the coarsest scale at which noise is measured.
const MIN_SEGMENTS_PER_SCALE: usize = 12;
/// Minimum noise, as a part of the pace.
const MIN_NOISE: f64 = 1e-3;
/// Uncertainty of the end of a fitted line, compared with that of a mean. Larger values make wider
/// windows.
const LINE_ERROR_FACTOR: f64 = 2.5;
/// Minimum number of segments for a pace.
const MIN_SEGMENTS_FOR_PACE: usize = 2;
/// There is a trend if a line fits this many times further back than a steady pace …
const MIN_TREND_REACH: f64 = 1.5;
/// … and over this part of the run.
const MIN_TREND_PART: f64 = 0.75;
/// Part of a line that is left out for a check: the rest must still have half of the slope, or the
/// pace has only changed.
const SKIPPED_NEWEST_PART: f64 = 0.25;
/// A segment this many times slower than both beside is slow by chance: the excess is a pause.
const SPIKE_FACTOR: f64 = 2.0;
/// Number of segments in a block. Blocks tell a change of the pace from noise.
const SEGMENTS_PER_BLOCK: usize = 4;
/// A block shows a change if its mean differs by this many standard errors. Smaller values see turns
/// in heavy-tailed noise.
const CHANGE_ERRORS: f64 = 2.0;
/// Noise alone may look as if this part of the changes had not lasted.
const UNLASTING_BY_CHANCE: f64 = 0.1;
/// Limit for a falling trend: the rest of the run is at most twice as fast.
const MIN_PACE_FACTOR: f64 = 0.5;

/// An estimate of the time that the rest of a progress takes.
///
/// The estimate is the pace of the newest part of the run in which the pace was constant, within
/// its noise. That part is the whole run if it is steady, else the part after the last change of
/// the pace or after the warm-up. It is found with windows that grow backwards as long as the
/// estimates of all windows agree ("intersection of confidence intervals", A. Goldenshluger and A.
/// Nemirovski, 1997).
///
/// If a straight line fits more of the run than a constant pace does, the pace has a trend. The
/// trend is assumed to continue for as long as it has lasted. Pauses are added by their share of
/// the whole run.
///
/// A pace that has changed and changed back will do so again: on a shared machine, no change lasts.
/// As far as the changes so far have not lasted, the estimate is a weighted mean over the whole run
/// instead, which favors what is as near in the past as the rest is in the future.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forecast {
    /// Seconds per unit, now.
    pace: f64,
    /// Growth of the pace per unit.
    trend: f64,
    /// Number of units for which the trend continues.
    span: f64,
    /// Seconds of pauses per unit.
    paused: f64,
    /// Seconds per unit if no change lasts.
    wandering: f64,
    /// Part of the changes of the pace that have not lasted, from 0 to 1.
    unlasting: f64,
}

impl Forecast {
    /// Computes the forecast for the `remaining` units; `None` without segments. `smoothing` is the
    /// weight of a change of the pace, from 0 (never) to 1 (at once).
    pub(crate) fn of(segments: &[RunSegment], smoothing: f64, remaining: f64) -> Option<Self> {
        if segments.is_empty() {
            return None;
        }
        if segments.len() < MIN_SEGMENTS_FOR_NOISE {
            // All of the first segments may be warm-up, and each may be a pause, so a fast one is
            // more typical.
            return Some(Self::steady(pace_quantile(segments, 0.25), 0.0));
        }
        let typical = pace_quantile(segments, 0.5);
        let mut without_spikes = [RunSegment::default(); MAX_SEGMENTS];
        let settled = remove_spikes(settled(segments, typical), &mut without_spikes);
        let noise = noise(settled).max(MIN_NOISE * typical);
        let margin = (1.0 - smoothing) / smoothing * noise;
        let (mut steady, mut line) = (AgreedWindow::default(), AgreedWindow::default());
        let mut window = FitWindow::default();
        for (count, segment) in (1..).zip(settled.iter().rev()) {
            window.add(segment);
            if count < MIN_SEGMENTS_FOR_PACE {
                continue;
            }
            let error = margin / (count as f64).sqrt();
            steady.extend(count, window, window.pace(), error);
            if let Some((pace, _)) = window.line() {
                line.extend(count, window, pace, LINE_ERROR_FACTOR * error);
            }
        }
        let paused = settled.iter().map(|segment| segment.paused).sum::<f64>() / window.units;
        let mut forecast = Self::steady(steady.window.pace(), paused);
        if let Some((pace, trend)) = line.window.line()
            && is_trend(settled, trend, line.count, steady.count)
        {
            (forecast.pace, forecast.trend, forecast.span) = (pace, trend, line.window.units);
        }
        if smoothing > 0.0 {
            forecast.unlasting = unlasting_part(settled);
            forecast.wandering = wandering_pace(settled, window.units, remaining);
        }
        Some(forecast)
    }

    fn steady(pace: f64, paused: f64) -> Self {
        Self {
            pace,
            trend: 0.0,
            span: 0.0,
            paused,
            wandering: pace,
            unlasting: 0.0,
        }
    }

    /// Returns the seconds that `units` take.
    pub(crate) fn seconds(&self, units: f64) -> f64 {
        // Mean distance at which the trend applies. The trend ends after its span.
        let ahead = if units <= self.span {
            units / 2.0
        } else {
            self.span - self.span * self.span / 2.0 / units
        };
        let pace = (self.pace + self.trend * ahead).max(self.pace * MIN_PACE_FACTOR);
        units * (pace + self.unlasting * (self.wandering - pace) + self.paused)
    }
}

/// Returns the segments without the warm-up, which is at most half of them.
fn settled(segments: &[RunSegment], typical: f64) -> &[RunSegment] {
    let limit = typical * WARM_UP_FACTOR;
    let first = &segments[..segments.len() / 2];
    let warm_up = first.iter().take_while(|segment| segment.pace() > limit).count();
    &segments[warm_up..]
}

/// Copies the segments to `into`, with the excess of slow ones as pauses.
fn remove_spikes<'a>(segments: &[RunSegment], into: &'a mut [RunSegment; MAX_SEGMENTS]) -> &'a [RunSegment] {
    let into = &mut into[..segments.len()];
    into.copy_from_slice(segments);
    let pace = |at: usize| segments.get(at).map_or(0.0, RunSegment::pace);
    for (at, segment) in into.iter_mut().enumerate() {
        let beside = pace(at.wrapping_sub(1)).max(pace(at + 1));
        let limit = SPIKE_FACTOR * beside * segment.units;
        if segment.seconds > limit {
            segment.paused += segment.seconds - limit;
            segment.seconds = limit;
        }
    }
    into
}

/// Returns `true` if the slope of the newest `count` segments is a trend, while a constant pace
/// fits `steady` segments.
fn is_trend(segments: &[RunSegment], slope: f64, count: usize, steady: usize) -> bool {
    let part = |part: f64| (part * count as f64) as usize;
    let mut older = FitWindow::default();
    let line = &segments[segments.len() - count..];
    for segment in line.iter().rev().skip(part(SKIPPED_NEWEST_PART)) {
        older.add(segment);
    }
    let lasts = older.line().is_some_and(|(_, older)| older / slope >= 0.5);
    lasts && count as f64 >= MIN_TREND_REACH * steady as f64 && count as f64 >= MIN_TREND_PART * segments.len() as f64
}

/// Returns the part of the changes of the pace that have not lasted: 0 if the pace is constant, has
/// changed once, or only rises or only falls.
fn unlasting_part(segments: &[RunSegment]) -> f64 {
    let blocks = || segments.rchunks_exact(SEGMENTS_PER_BLOCK).rev();
    let pace = |block: &[RunSegment]| {
        let (seconds, units) = block.iter().fold((0.0, 0.0), |sum, segment| {
            (sum.0 + segment.seconds, sum.1 + segment.units)
        });
        seconds / units
    };
    let squares: f64 = blocks()
        .map(|block| {
            let mean = pace(block);
            block.iter().map(|segment| (segment.pace() - mean).powi(2)).sum::<f64>()
        })
        .sum();
    let variance = squares / (blocks().len() * (SEGMENTS_PER_BLOCK - 1)) as f64;
    let error = CHANGE_ERRORS * (variance / SEGMENTS_PER_BLOCK as f64).sqrt();
    let mut paces = blocks().map(pace);
    let Some(first) = paces.next() else { return 0.0 };
    // The level follows the pace only as far as the pace is certain to have changed.
    let (mut level, mut changes) = (first, 0.0);
    for pace in paces {
        let changed = level.clamp(pace - error, pace + error);
        changes += (changed - level).abs();
        level = changed;
    }
    if changes == 0.0 {
        return 0.0;
    }
    let unlasting = 1.0 - (level - first).abs() / changes;
    ((unlasting - UNLASTING_BY_CHANCE) / (1.0 - UNLASTING_BY_CHANCE)).max(0.0)
}

/// Returns the expected pace at the middle of the remaining units if the pace wanders with equal
/// strength on all scales ("flicker noise"), as that of a shared machine does.
///
/// The best weights of the past are then those with which a random walk in the plane that starts as
/// far ahead first meets the past (the harmonic measure of a segment, as seen from its extension).
fn wandering_pace(segments: &[RunSegment], units: f64, remaining: f64) -> f64 {
    let ahead = remaining / 2.0;
    let reach = (ahead + units) / ahead;
    let (mut past, mut weight, mut pace) = (0.0, 0.0, 0.0);
    for segment in segments.iter().rev() {
        past += segment.units;
        // The weight of all that is as near; rounding must not make the rest negative.
        let near = (reach * past / (units - past).max(0.0)).sqrt().atan() * FRAC_2_PI;
        pace += (near - weight) * segment.pace();
        weight = near;
    }
    pace
}

/// Returns the standard deviation of a segment's pace, as far as it matters for a mean.
///
/// On a shared machine the pace drifts: over many segments it scatters more than the scatter of
/// single segments suggests. So the largest value over all scales counts. Second differences (the
/// Hadamard variance) ignore a trend.
fn noise(segments: &[RunSegment]) -> f64 {
    let mut paces = [0.0; MAX_SEGMENTS];
    for (pace, segment) in paces.iter_mut().zip(segments) {
        *pace = segment.pace();
    }
    let (mut count, mut scale, mut largest) = (segments.len(), 1.0, 0.0_f64);
    while scale == 1.0 || count >= MIN_SEGMENTS_PER_SCALE {
        largest = largest.max(scale * scatter(&paces[..count]));
        count /= 2;
        for at in 0..count {
            paces[at] = (paces[2 * at] + paces[2 * at + 1]) / 2.0;
        }
        scale *= 2.0;
    }
    largest.sqrt()
}

/// Returns the variance of the paces around a straight line, without outliers and changes of the
/// pace.
fn scatter(paces: &[f64]) -> f64 {
    let mut squares = [0.0; MAX_SEGMENTS];
    let squares = &mut squares[..paces.len() - 2];
    for (square, three) in squares.iter_mut().zip(paces.windows(3)) {
        *square = (three[2] - 2.0 * three[1] + three[0]).powi(2) / 6.0;
    }
    let kept = squares.len()
        - (squares.len() / SEGMENTS_PER_OUTLIER)
            .max(MIN_OUTLIERS)
            .min(squares.len() / 2);
    squares.select_nth_unstable_by(kept - 1, f64::total_cmp);
    squares[..kept].iter().sum::<f64>() / kept as f64
}

/// Sums for a least-squares fit over the newest segments. `at` is their distance from now in units,
/// so it is negative.
#[derive(Clone, Copy, Default)]
struct FitWindow {
    units: f64,
    seconds: f64,
    at: f64,
    at_squared: f64,
    at_seconds: f64,
}

impl FitWindow {
    /// Adds the segment before those that were added.
    fn add(&mut self, segment: &RunSegment) {
        let at = -(self.units + segment.units / 2.0);
        self.units += segment.units;
        self.seconds += segment.seconds;
        self.at += segment.units * at;
        self.at_squared += segment.units * at * at;
        self.at_seconds += segment.seconds * at;
    }

    fn pace(&self) -> f64 {
        self.seconds / self.units
    }

    /// Returns the pace now and its growth per unit.
    fn line(&self) -> Option<(f64, f64)> {
        let spread = self.units * self.at_squared - self.at * self.at;
        let trend = (self.units * self.at_seconds - self.at * self.seconds) / spread;
        let pace = (self.seconds - trend * self.at) / self.units;
        (trend.is_finite() && pace > 0.0).then_some((pace, trend))
    }
}

/// The largest window whose estimate agrees with those of all smaller ones: one value is within the
/// errors of all.
struct AgreedWindow {
    count: usize,
    window: FitWindow,
    low: f64,
    high: f64,
}

impl Default for AgreedWindow {
    fn default() -> Self {
        Self {
            count: 0,
            window: FitWindow::default(),
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        }
    }
}

impl AgreedWindow {
    /// Adds the estimate of the next larger window. After one that does not agree, no larger one is
    /// accepted.
    fn extend(&mut self, count: usize, window: FitWindow, estimate: f64, error: f64) {
        self.low = self.low.max(estimate - error);
        self.high = self.high.min(estimate + error);
        if self.low <= self.high {
            (self.count, self.window) = (count, window);
        }
    }
}
