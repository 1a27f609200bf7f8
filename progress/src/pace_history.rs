//! The past of a progress, in bounded memory, and its last forecast.

use std::mem;
use std::time::{Duration, Instant};

use crate::forecast::Forecast;
use crate::segment::{MAX_SEGMENTS, RunSegment, pace_quantile};

/// An update that takes this many times longer than the typical one is a pause, such as a
/// validation or a checkpoint.
const PAUSE_FACTOR: u64 = 4;

/// Time for which a forecast is reused. Rows of metrics may need one at every step, but a viewer
/// sees no more.
const FORECAST_AGE: Duration = Duration::from_millis(100);

/// The past of a progress: segments of equally many updates. When there are too many, each two are
/// joined.
#[derive(Debug)]
pub(crate) struct PaceHistory {
    segments: Vec<RunSegment>,
    /// Number of updates in a segment.
    length: u64,
    open: OpenSegment,
    /// Nanoseconds since the last update with units.
    waited: u64,
    /// Number of updates in all segments.
    updates: u64,
    /// Number of updates at which the typical pace is computed again.
    typical_until: u64,
    /// Nanoseconds per unit above which an update is slow.
    slow_above: u64,
    was_slow: bool,
    /// The last forecast, and its time.
    forecast: Option<(Forecast, Instant)>,
}

/// The segment that is not complete. It has integers, because every update adds to it.
#[derive(Debug, Default)]
struct OpenSegment {
    updates: u64,
    units: u64,
    nanos: u64,
    paused: u64,
}

impl OpenSegment {
    fn segment(&self) -> RunSegment {
        RunSegment {
            units: self.units as f64,
            seconds: (self.nanos - self.paused) as f64 * 1e-9,
            paused: self.paused as f64 * 1e-9,
        }
    }
}

impl PaceHistory {
    pub(crate) fn new() -> Self {
        Self {
            segments: Vec::with_capacity(MAX_SEGMENTS),
            length: 1,
            open: OpenSegment::default(),
            waited: 0,
            updates: 0,
            typical_until: 4,
            slow_above: u64::MAX,
            was_slow: false,
            forecast: None,
        }
    }

    /// Adds an update of `units` that took `nanos` nanoseconds.
    #[inline]
    pub(crate) fn add(&mut self, units: u64, nanos: u64) {
        let nanos = self.waited + nanos;
        if units == 0 {
            self.waited = nanos;
            return;
        }
        self.waited = 0;
        let slow = nanos > self.slow_above.saturating_mul(units);
        // Two slow updates in a row are a slower pace, not a pause.
        if slow && !self.was_slow {
            self.open.paused += nanos - self.slow_above * units / PAUSE_FACTOR;
        }
        self.was_slow = slow;
        self.open.units += units;
        self.open.nanos += nanos;
        self.open.updates += 1;
        if self.open.updates == self.length {
            self.close();
        }
    }

    /// Returns a forecast for the `remaining` units; `None` without a complete segment.
    pub(crate) fn forecast(&mut self, smoothing: f64, remaining: f64, now: Instant) -> Option<Forecast> {
        if self
            .forecast
            .is_none_or(|(_, made)| now.duration_since(made) >= FORECAST_AGE)
        {
            // Half of a segment is enough to notice a change.
            let closed = self.segments.len();
            if 2 * self.open.updates >= self.length && closed < MAX_SEGMENTS {
                self.segments.push(self.open.segment());
            }
            self.forecast = Forecast::of(&self.segments, smoothing, remaining).map(|forecast| (forecast, now));
            self.segments.truncate(closed);
        }
        self.forecast.map(|(forecast, _)| forecast)
    }

    fn close(&mut self) {
        if self.segments.len() == MAX_SEGMENTS {
            self.halve();
            return;
        }
        let open = mem::take(&mut self.open);
        self.segments.push(open.segment());
        self.updates += open.updates;
        if self.updates >= self.typical_until {
            self.typical_until = 2 * self.updates;
            self.slow_above = (pace_quantile(&self.segments, 0.5) * 1e9) as u64 * PAUSE_FACTOR;
        }
    }

    /// Joins each two segments. The open one is then half as long as a complete one.
    fn halve(&mut self) {
        for at in 0..MAX_SEGMENTS / 2 {
            let (first, second) = (self.segments[2 * at], self.segments[2 * at + 1]);
            self.segments[at] = RunSegment {
                units: first.units + second.units,
                seconds: first.seconds + second.seconds,
                paused: first.paused + second.paused,
            };
        }
        self.segments.truncate(MAX_SEGMENTS / 2);
        self.length *= 2;
    }
}
