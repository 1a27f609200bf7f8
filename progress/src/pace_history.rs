use std::mem;
use std::time::{Duration, Instant};

use crate::forecast::Forecast;
use crate::segment::{MAX_SEGMENTS, RunSegment, pace_quantile};

/// An update that takes so many times longer than is typical is a pause: a validation, a checkpoint.
const PAUSE_FACTOR: u64 = 4;

/// A forecast is good for so long. A row of metrics may ask at every step, and a viewer does not see more.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The past of a progress in little memory: segments of equally many updates, which are made twice as long when there are
/// too many.
#[derive(Debug)]
pub(crate) struct PaceHistory {
    segments: Vec<RunSegment>,
    /// Updates in a segment.
    length: u64,
    open: OpenSegment,
    /// Nanoseconds that have brought no units yet.
    waited: u64,
    /// Updates in all segments, and at how many the typical pace is found out again.
    updates: u64,
    typical_until: u64,
    /// Nanoseconds a unit, above which an update is slow.
    slow_above: u64,
    was_slow: bool,
    /// The last forecast, and when it was made.
    forecast: Option<(Forecast, Instant)>,
}

/// The segment that is not over. In integers, because every update adds to it.
#[derive(Debug, Default)]
struct OpenSegment {
    updates: u64,
    units: u64,
    nanos: u64,
    paused: u64,
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

    /// An update that brought so many units and took so many nanoseconds.
    #[inline]
    pub(crate) fn add(&mut self, units: u64, nanos: u64) {
        let nanos = self.waited + nanos;
        if units == 0 {
            self.waited = nanos;
            return;
        }
        self.waited = 0;
        let slow = nanos > self.slow_above.saturating_mul(units);
        // Two slow ones in a row are no pause, but a slower pace.
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

    /// What it says of the rest, if that is known.
    pub(crate) fn forecast(&mut self, smoothing: f64, now: Instant) -> Option<Forecast> {
        if self
            .forecast
            .is_none_or(|(_, made)| now.duration_since(made) >= GOOD_FOR)
        {
            self.forecast = Forecast::of(&self.segments, smoothing).map(|forecast| (forecast, now));
        }
        self.forecast.map(|(forecast, _)| forecast)
    }

    fn close(&mut self) {
        if self.segments.len() == MAX_SEGMENTS {
            self.halve();
            return;
        }
        let open = mem::take(&mut self.open);
        self.segments.push(RunSegment {
            units: open.units as f64,
            seconds: (open.nanos - open.paused) as f64 * 1e-9,
            paused: open.paused as f64 * 1e-9,
        });
        self.updates += open.updates;
        if self.updates >= self.typical_until {
            self.typical_until = 2 * self.updates;
            self.slow_above = (pace_quantile(&self.segments, 0.5) * 1e9) as u64 * PAUSE_FACTOR;
        }
    }

    /// Joins each two. The open one is then half of its new length.
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
