use crate::segment::{MAX_SEGMENTS, RunSegment, pace_quantile};

/// With fewer segments than this, their scatter says nothing.
const FEW: usize = 8;
/// The first segments that are so many times slower than the typical one are warm-up.
const WARM_UP_FACTOR: f64 = 1.25;
/// One in so many differences is not noise, and never fewer than a change of the pace makes.
const OUTLIERS: usize = 16;
const BREAK: usize = 3;
/// Scales with fewer segments than this say nothing of the noise.
const COARSEST: usize = 12;
/// Less noise than this part of the pace is taken for as much.
const NEGLIGIBLE: f64 = 1e-3;
/// So much more uncertain than a mean is the end of a line, for which a wide window is wanted.
const LINE_ERROR: f64 = 2.5;
/// No pace is taken from fewer segments.
const LEAST: usize = 2;
/// There is a trend if a line reaches so many times further back than a steady pace,
const FURTHER: f64 = 1.5;
/// and over this part of the run.
const TREND_PART: f64 = 0.75;
/// The newest part of a line, without which it must still have half of its slope: a change of the pace is no trend.
const NEWEST_PART: f64 = 0.25;
/// A trend never makes the rest more than twice as quick.
const QUICKEST: f64 = 0.5;

/// What the past of a progress says of its rest.
///
/// The rest takes as long a unit as the newest part of the past in which the pace was the same, within its noise. That is the
/// whole run where it is steady, however noisy; what came after a change of the pace; what came after the warm-up. The
/// windows grow backwards for as long as the estimates of all agree ("intersection of confidence intervals", A. Goldenshluger
/// and A. Nemirovski, 1997). Where a straight line explains more of the past than a steady pace does, the pace has a trend,
/// which is believed for as long ahead as it has lasted. Pauses come on top, by their share of the whole run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forecast {
    /// Seconds a unit, now.
    pace: f64,
    /// By how much that grows with each unit, over so many units.
    trend: f64,
    span: f64,
    /// Seconds of pauses a unit.
    paused: f64,
}

impl Forecast {
    /// What these segments say. The smoothing is how readily a change of the pace is believed, from 0, never, to 1, at once.
    pub(crate) fn of(segments: &[RunSegment], smoothing: f64) -> Option<Self> {
        if segments.is_empty() {
            return None;
        }
        if segments.len() < FEW {
            // The first ones may all be warm-up, and each may be a pause: the quick ones are more telling.
            return Some(Self::steady(pace_quantile(segments, 0.25), 0.0));
        }
        let typical = pace_quantile(segments, 0.5);
        let settled = settled(segments, typical);
        let noise = noise(settled).max(NEGLIGIBLE * typical);
        let margin = (1.0 - smoothing) / smoothing * noise;
        let (mut steady, mut line) = (AgreedWindow::default(), AgreedWindow::default());
        let mut window = FitWindow::default();
        for (count, segment) in (1..).zip(settled.iter().rev()) {
            window.add(segment);
            if count < LEAST {
                continue;
            }
            let error = margin / (count as f64).sqrt();
            steady.extend(count, window, window.pace(), error);
            if let Some((pace, _)) = window.line() {
                line.extend(count, window, pace, LINE_ERROR * error);
            }
        }
        let paused = settled.iter().map(|segment| segment.paused).sum::<f64>() / window.units;
        match line.window.line() {
            Some((pace, trend)) if is_trend(settled, trend, line.count, steady.count) => Some(Self {
                pace,
                trend,
                span: line.window.units,
                paused,
            }),
            _ => Some(Self::steady(steady.window.pace(), paused)),
        }
    }

    fn steady(pace: f64, paused: f64) -> Self {
        Self {
            pace,
            trend: 0.0,
            span: 0.0,
            paused,
        }
    }

    /// The seconds that so many units take.
    pub(crate) fn seconds(&self, units: f64) -> f64 {
        // The mean distance at which the trend is read, if it ends at its span.
        let ahead = if units <= self.span {
            units / 2.0
        } else {
            self.span - self.span * self.span / 2.0 / units
        };
        let pace = (self.pace + self.trend * ahead).max(self.pace * QUICKEST);
        units * (pace + self.paused)
    }
}

/// The segments without the first ones that are warm-up, but never less than half of them.
fn settled(segments: &[RunSegment], typical: f64) -> &[RunSegment] {
    let limit = typical * WARM_UP_FACTOR;
    let first = &segments[..segments.len() / 2];
    let warm_up = first.iter().take_while(|segment| segment.pace() > limit).count();
    &segments[warm_up..]
}

/// Whether the slope of the newest so many segments is a trend, where a steady pace reaches back so far.
fn is_trend(segments: &[RunSegment], slope: f64, count: usize, steady: usize) -> bool {
    let part = |part: f64| (part * count as f64) as usize;
    let mut older = FitWindow::default();
    let line = &segments[segments.len() - count..];
    for segment in line.iter().rev().skip(part(NEWEST_PART)) {
        older.add(segment);
    }
    let lasts = older.line().is_some_and(|(_, older)| older / slope >= 0.5);
    lasts && count as f64 >= FURTHER * steady as f64 && count as f64 >= TREND_PART * segments.len() as f64
}

/// The standard deviation of the pace of a segment, as it matters for a mean: a pace that wanders, as on a machine that is
/// shared, scatters more over many segments than their own scatter says, so the largest over all scales counts. It is
/// taken from second differences (the Hadamard variance), for which a trend is no noise.
fn noise(segments: &[RunSegment]) -> f64 {
    let mut paces = [0.0; MAX_SEGMENTS];
    for (pace, segment) in paces.iter_mut().zip(segments) {
        *pace = segment.pace();
    }
    let (mut count, mut scale, mut largest) = (segments.len(), 1.0, 0.0_f64);
    while scale == 1.0 || count >= COARSEST {
        largest = largest.max(scale * scatter(&paces[..count]));
        count /= 2;
        for at in 0..count {
            paces[at] = (paces[2 * at] + paces[2 * at + 1]) / 2.0;
        }
        scale *= 2.0;
    }
    largest.sqrt()
}

/// The variance of these paces around a straight line, without those at which it breaks.
fn scatter(paces: &[f64]) -> f64 {
    let mut squares = [0.0; MAX_SEGMENTS];
    let squares = &mut squares[..paces.len() - 2];
    for (square, three) in squares.iter_mut().zip(paces.windows(3)) {
        *square = (three[2] - 2.0 * three[1] + three[0]).powi(2) / 6.0;
    }
    let kept = squares.len() - (squares.len() / OUTLIERS).max(BREAK).min(squares.len() / 2);
    squares.select_nth_unstable_by(kept - 1, f64::total_cmp);
    squares[..kept].iter().sum::<f64>() / kept as f64
}

/// Least squares over the newest segments, which lie at so many units before now.
#[derive(Clone, Copy, Default)]
struct FitWindow {
    units: f64,
    seconds: f64,
    at: f64,
    at_squared: f64,
    at_seconds: f64,
}

impl FitWindow {
    /// Adds the segment before.
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

    /// The pace now, and by how much it grows with each unit.
    fn line(&self) -> Option<(f64, f64)> {
        let spread = self.units * self.at_squared - self.at * self.at;
        let trend = (self.units * self.at_seconds - self.at * self.seconds) / spread;
        let pace = (self.seconds - trend * self.at) / self.units;
        (trend.is_finite() && pace > 0.0).then_some((pace, trend))
    }
}

/// The largest window up to which all estimates agree: one value lies within the errors of all.
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
    /// The estimate of the next larger window. Once one does not agree, none after it does.
    fn extend(&mut self, count: usize, window: FitWindow, estimate: f64, error: f64) {
        self.low = self.low.max(estimate - error);
        self.high = self.high.min(estimate + error);
        if self.low <= self.high {
            (self.count, self.window) = (count, window);
        }
    }
}
