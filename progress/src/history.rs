use std::mem;
use std::time::{Duration, Instant};

use crate::forecast::Forecast;

/// The run is kept as at most so many stretches: 6 KiB, and half a percent to a percent of the run each.
pub(crate) const STRETCHES: usize = 256;
/// An update that takes so many times longer than is typical is a pause: a validation, a checkpoint.
const PAUSE_FACTOR: u64 = 4;

/// A forecast is good for so long. A row of metrics may ask at every step, and a viewer does not see more.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The past of a progress in little memory: stretches of equally many updates, which are made twice as long when there are
/// too many.
#[derive(Debug)]
pub(crate) struct History {
    stretches: Vec<Stretch>,
    /// Updates in a stretch.
    length: u64,
    open: Open,
    /// Nanoseconds that have brought no units yet.
    waited: u64,
    /// Updates in all stretches, and at how many the typical pace is found out again.
    updates: u64,
    typical_until: u64,
    /// Nanoseconds a unit, above which an update is slow.
    slow_above: u64,
    was_slow: bool,
    /// The last forecast, and when it was made.
    forecast: Option<(Forecast, Instant)>,
}

/// The stretch that is not over. In integers, because every update adds to it.
#[derive(Debug, Default)]
struct Open {
    updates: u64,
    units: u64,
    nanos: u64,
    paused: u64,
}

/// What was done in a part of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stretch {
    pub(crate) units: f64,
    /// Seconds without the pauses.
    pub(crate) seconds: f64,
    pub(crate) paused: f64,
}

impl Stretch {
    /// Seconds a unit.
    pub(crate) fn pace(&self) -> f64 {
        self.seconds / self.units
    }
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            stretches: Vec::with_capacity(STRETCHES),
            length: 1,
            open: Open::default(),
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
            self.forecast = Forecast::of(&self.stretches, smoothing).map(|forecast| (forecast, now));
        }
        self.forecast.map(|(forecast, _)| forecast)
    }

    fn close(&mut self) {
        if self.stretches.len() == STRETCHES {
            self.halve();
            return;
        }
        let open = mem::take(&mut self.open);
        self.stretches.push(Stretch {
            units: open.units as f64,
            seconds: (open.nanos - open.paused) as f64 * 1e-9,
            paused: open.paused as f64 * 1e-9,
        });
        self.updates += open.updates;
        if self.updates >= self.typical_until {
            self.typical_until = 2 * self.updates;
            self.slow_above = (quantile(&self.stretches, 0.5) * 1e9) as u64 * PAUSE_FACTOR;
        }
    }

    /// Joins each two. The open one is then half of its new length.
    fn halve(&mut self) {
        for at in 0..STRETCHES / 2 {
            let (first, second) = (self.stretches[2 * at], self.stretches[2 * at + 1]);
            self.stretches[at] = Stretch {
                units: first.units + second.units,
                seconds: first.seconds + second.seconds,
                paused: first.paused + second.paused,
            };
        }
        self.stretches.truncate(STRETCHES / 2);
        self.length *= 2;
    }
}

/// The pace that this part of the stretches, of which there are some, is quicker than.
pub(crate) fn quantile(stretches: &[Stretch], part: f64) -> f64 {
    let mut paces = [0.0; STRETCHES];
    let paces = &mut paces[..stretches.len()];
    for (pace, stretch) in paces.iter_mut().zip(stretches) {
        *pace = stretch.pace();
    }
    let at = (part * paces.len() as f64) as usize;
    *paces.select_nth_unstable_by(at, f64::total_cmp).1
}
