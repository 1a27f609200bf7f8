use crate::forecast::Forecast;

/// The run is kept as at most so many stretches: 6 KiB, and half a percent to a percent of the run each.
pub(crate) const STRETCHES: usize = 256;
/// An update that takes so many times longer than is typical is a pause: a validation, a checkpoint.
const PAUSE_FACTOR: f64 = 4.0;

/// The past of a progress in little memory: stretches of equally many updates, which are made twice as long when there are too many.
#[derive(Debug)]
pub(crate) struct History {
    stretches: Vec<Stretch>,
    /// Updates in a stretch.
    length: u64,
    /// The stretch that is not over, and its updates.
    open: Stretch,
    updates: u64,
    all_updates: u64,
    /// Seconds that have brought no units yet.
    waited: f64,
    /// Seconds that a unit takes typically, and when that is found out again.
    typical: f64,
    typical_until: u64,
    was_slow: bool,
    /// Of the stretches that are over.
    forecast: Option<Forecast>,
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

    fn join(&mut self, other: &Self) {
        self.units += other.units;
        self.seconds += other.seconds;
        self.paused += other.paused;
    }
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            stretches: Vec::with_capacity(STRETCHES),
            length: 1,
            open: Stretch::default(),
            updates: 0,
            all_updates: 0,
            waited: 0.0,
            typical: f64::INFINITY,
            typical_until: 4,
            was_slow: false,
            forecast: None,
        }
    }

    /// An update that brought so many units and took so long.
    #[inline]
    pub(crate) fn add(&mut self, units: u64, seconds: f64) {
        self.waited += seconds;
        if units == 0 {
            return;
        }
        let seconds = std::mem::take(&mut self.waited);
        let units = units as f64;
        let expected = self.typical * units;
        let slow = seconds > expected * PAUSE_FACTOR;
        // Two slow ones in a row are no pause, but a slower pace.
        let paused = if slow && !self.was_slow {
            seconds - expected
        } else {
            0.0
        };
        self.was_slow = slow;
        self.open.join(&Stretch {
            units,
            seconds: seconds - paused,
            paused,
        });
        self.updates += 1;
        if self.updates == self.length {
            self.close();
        }
    }

    /// What it says of the rest, if that is known.
    pub(crate) fn forecast(&mut self, smoothing: f64) -> Option<&Forecast> {
        if self.forecast.is_none() {
            self.forecast = Forecast::of(&self.stretches, smoothing);
        }
        self.forecast.as_ref()
    }

    fn close(&mut self) {
        if self.stretches.len() == STRETCHES {
            self.halve();
            if self.updates < self.length {
                return;
            }
        }
        self.stretches.push(std::mem::take(&mut self.open));
        self.all_updates += std::mem::take(&mut self.updates);
        self.forecast = None;
        if self.all_updates >= self.typical_until {
            self.typical = quantile(&self.stretches, 0.5);
            self.typical_until = self.all_updates + self.all_updates / 4 + 1;
        }
    }

    fn halve(&mut self) {
        for at in 0..STRETCHES / 2 {
            let mut both = self.stretches[2 * at];
            both.join(&self.stretches[2 * at + 1]);
            self.stretches[at] = both;
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
