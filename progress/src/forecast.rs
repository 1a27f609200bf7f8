//! The estimate of the remaining time, from the segments of a run.

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
/// The pace wanders as far as the noise of a segment is between these parts of the pace: with less
/// noise, a change of the pace is certain.
const STEADY_NOISE: f64 = 0.1;
const WANDERING_NOISE: f64 = 0.2;
/// How many times more than a mean over the run each memory weights the newest work. So a memory
/// reaches back over the whole run, a quarter of the run, and so on.
const MEMORIES: [f64; 4] = [1.0, 4.0, 16.0, 64.0];
/// The memories are judged after this part of the run: before, all are nearly equal …
const UNJUDGED_PART: f64 = 0.25;
/// … and by foretelling as much as remains, but at most this part of the run.
const MAX_JUDGED_PART: f64 = 0.5;
/// A memory's weight is this power of its error. The lower the power, the more the best one
/// decides.
const ERROR_POWER: i32 = -4;
/// Until enough has been judged, the noise counts as an error of each memory: as much as it moves
/// a mean over as many segments as the memory weights. Judged work that is this part of the work
/// ahead halves the square of that error.
const JUDGED_WORK: f64 = 0.25;
/// Errors above it are not told apart.
const MAX_ERROR: f64 = 10.0;
/// An estimate that is twice as long as the rest is 100 % wrong, and one that is half as long only
/// 50 %. With log-normal errors of e on average, exp(−1.57 e²) times the median is wrong the least.
/// Half of that exponent is right for the recordings in `testing/benches/eta`: a part of e comes
/// from paces that only grow …
const LEANING: f64 = 0.785;
/// … and larger errors do not lower the estimate further: at most by 5 %.
const MAX_LEANING_ERROR: f64 = 0.25;
/// Minimum pace of a memory, as a part of the mean pace: updates in bursts take no time.
const MIN_MEMORY_PACE: f64 = 0.01;
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
/// On a shared machine the pace wanders, and no such part exists. As far as the noise says so, the
/// estimate is a mean of several memories instead, weighted by how well each has foretold this run
/// so far ("The combination of forecasts", J. M. Bates and C. W. J. Granger, 1969). The more they
/// have erred, the more the mean leans to less time, because too long an estimate is more wrong
/// than too short a one.
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
    /// Seconds per unit, with pauses, if the pace wanders.
    remembered: f64,
    /// How far the pace wanders, from 0 to 1.
    wandering: f64,
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
            // A clock that stands still makes no noise, and its pace is 0.
            let noise = noise / typical.max(f64::MIN_POSITIVE);
            forecast.wandering = ((noise - STEADY_NOISE) / (WANDERING_NOISE - STEADY_NOISE)).clamp(0.0, 1.0);
            if forecast.wandering > 0.0 {
                forecast.remembered = remembered_pace(settled, remaining, noise);
            }
        }
        Some(forecast)
    }

    fn steady(pace: f64, paused: f64) -> Self {
        Self {
            pace,
            trend: 0.0,
            span: 0.0,
            paused,
            remembered: pace + paused,
            wandering: 0.0,
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
        let paused = pace + self.paused;
        units * (paused + self.wandering * (self.remembered - paused))
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

/// Returns the expected pace of the remaining units, with pauses, if the pace wanders.
///
/// Each memory is a mean over the run that favors its newest part. At every segment so far, each
/// has foretold the pace of as much work as remains now, or of half of the run. The error of these
/// estimates decides its weight, with the error that the `noise` of a segment, as a part of the
/// pace, causes by chance.
fn remembered_pace(segments: &[RunSegment], remaining: f64, noise: f64) -> f64 {
    let total: f64 = segments.iter().map(|segment| segment.units).sum();
    let ahead = remaining.min(MAX_JUDGED_PART * total);
    // The future of each estimate: the segments after its own, up to the one that reaches `ahead`.
    let (mut next, mut units, mut seconds) = (0, 0.0, 0.0);
    let (mut done, mut judged) = (0.0, 0.0);
    let (mut paces, mut errors) = ([0.0; MEMORIES.len()], [0.0; MEMORIES.len()]);
    for (at, segment) in segments.iter().enumerate() {
        done += segment.units;
        for (pace, memory) in paces.iter_mut().zip(MEMORIES) {
            let weight = (memory * segment.units / done).min(1.0);
            *pace += weight * (segment.whole_pace() - *pace);
        }
        if at < next {
            units -= segment.units;
            seconds -= segment.seconds + segment.paused;
        } else {
            (next, units, seconds) = (at + 1, 0.0, 0.0);
        }
        while next < segments.len() && units < ahead {
            units += segments[next].units;
            seconds += segments[next].seconds + segments[next].paused;
            next += 1;
        }
        if done >= UNJUDGED_PART * total && units >= ahead {
            judged += segment.units;
            for (error, pace) in errors.iter_mut().zip(paces) {
                // A future without time is NaN or infinite: `min` makes both the largest error.
                *error += segment.units * (pace * units / seconds - 1.0).abs().min(MAX_ERROR);
            }
        }
    }
    let floor = MIN_MEMORY_PACE * paces[0];
    let unjudged = ahead / (ahead + judged / JUDGED_WORK);
    let chance = noise.min(MAX_ERROR) * (unjudged / segments.len() as f64).sqrt();
    let (mut logarithm, mut expected, mut weights) = (0.0, 0.0, 0.0);
    for ((pace, error), memory) in paces.into_iter().zip(errors).zip(MEMORIES) {
        let error = error / judged.max(f64::MIN_POSITIVE) + chance * memory.sqrt();
        let weight = error.powi(ERROR_POWER);
        logarithm += weight * pace.max(floor).ln();
        expected += weight * error.min(MAX_LEANING_ERROR);
        weights += weight;
    }
    (logarithm / weights - LEANING * (expected / weights).powi(2)).exp()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns segments of one unit, which took so many seconds.
    fn segments(paces: impl IntoIterator<Item = f64>) -> Vec<RunSegment> {
        let of = |seconds| RunSegment {
            units: 1.0,
            seconds,
            paused: 0.0,
        };
        paces.into_iter().map(of).collect()
    }

    #[test]
    fn the_memory_that_has_foretold_the_run_best_decides() {
        let scatter = |at: usize| 1.0 + 0.4 * (at * 7919 % 13) as f64 / 13.0;
        let noisy = segments((0..200).map(scatter));
        let mean = noisy.iter().map(RunSegment::pace).sum::<f64>() / 200.0;
        assert!(
            (remembered_pace(&noisy, 100.0, 0.2) / mean - 1.0).abs() < 0.02,
            "the whole run"
        );
        // Each tenth of the run is slower than the last one.
        let slower = segments((0..200).map(|at| scatter(at) * (1.0 + (at / 20) as f64)));
        let newest = slower[180..].iter().map(RunSegment::pace).sum::<f64>() / 20.0;
        let ratio = remembered_pace(&slower, 20.0, 0.2) / newest;
        assert!((0.85..1.05).contains(&ratio), "the newest segments: {ratio}");
    }

    #[test]
    fn the_newest_work_of_a_noisy_run_counts_less_until_it_is_judged() {
        let newest_is_slow = segments((0..40).map(|at| if at < 36 { 1.0 } else { 3.0 }));
        let pace = |noise| remembered_pace(&newest_is_slow, 1000.0, noise);
        assert!(pace(0.1) > 1.1 * pace(1.0), "{} and {}", pace(0.1), pace(1.0));
    }

    #[test]
    fn an_uncertain_estimate_is_low_by_at_most_5_percent() {
        let equal = segments([1.0; 40]);
        let pace = |noise| remembered_pace(&equal, 1000.0, noise);
        assert!((0.999..=1.0).contains(&pace(0.01)), "{}", pace(0.01));
        assert!((0.95..0.96).contains(&pace(10.0)), "{}", pace(10.0));
    }

    #[test]
    fn the_noise_decides_whether_a_change_is_certain() {
        let run = |noise: f64| {
            let paces = (0..200).map(|at| {
                let level = if at < 190 { 1.0 } else { 2.0 };
                level * (1.0 + noise * if at % 2 == 0 { 1.0 } else { -1.0 })
            });
            Forecast::of(&segments(paces), 0.3, 100.0).unwrap()
        };
        let (clean, noisy) = (run(0.01), run(0.3));
        assert_eq!((clean.wandering, noisy.wandering), (0.0, 1.0));
        assert!((clean.seconds(100.0) - 200.0).abs() < 2.0);
        assert!((105.0..190.0).contains(&noisy.seconds(100.0)), "{noisy:?}");
    }

    #[test]
    fn updates_in_a_burst_do_not_make_the_rest_short() {
        let paces = (0..100).map(|at| if at < 97 { 1.0 + 0.5 * (at % 2) as f64 } else { 0.0 });
        let seconds = Forecast::of(&segments(paces), 0.3, 100.0).unwrap().seconds(100.0);
        assert!(seconds > 60.0, "{seconds}");
    }

    proptest! {
        #[test]
        fn forecasts_are_finite_and_not_negative(
            segments in prop::collection::vec(
                (1_u64.., prop_oneof![Just(0.0), 0.0..1e9], prop_oneof![4 => Just(0.0), 1 => 0.0..1e9]),
                1..=MAX_SEGMENTS,
            ),
            smoothing in 0.0..1.0,
            remaining in 1_u64..,
        ) {
            let segments: Vec<_> = segments
                .into_iter()
                .map(|(units, seconds, paused)| RunSegment { units: units as f64, seconds, paused })
                .collect();
            let forecast = Forecast::of(&segments, smoothing, remaining as f64).unwrap();
            let seconds = forecast.seconds(remaining as f64);
            prop_assert!(seconds.is_finite() && seconds >= 0.0, "{seconds}: {forecast:?}");
        }
    }
}
