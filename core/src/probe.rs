use std::borrow::Cow;
use std::time::Duration;

use log::Level;

use crate::{MetricValue, Number, ProbeError};

/// A source of readings: GPU memory, temperature, the memory of this process.
///
/// A probe is asked on the thread that logs, so it must be quick; one whose source may hang samples on a thread of its
/// own and hands out the newest reading, or has a [`period`](Probe::period).
///
/// ```
/// use logcore::{Probe, ProbeError, Readings};
///
/// struct Uptime(std::time::Instant);
///
/// impl Probe for Uptime {
///     fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
///         readings.push("system/uptime_seconds", self.0.elapsed().as_secs());
///         Ok(())
///     }
/// }
///
/// let mut readings = Readings::default();
/// Uptime(std::time::Instant::now()).sample(&mut readings).unwrap();
/// assert_eq!(readings.iter().next().unwrap().0, "system/uptime_seconds");
/// ```
pub trait Probe: Send {
    /// Adds the newest readings. What cannot be known is left out: absent is not zero.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Unavailable`] if there will never be a reading: the probe is then not asked again.
    /// [`ProbeError::Transient`] if there is none this time. Neither is trouble for the run.
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError>;

    /// How often the logger asks on its own: for readings of the machine, which are of a time and not of a step.
    ///
    /// Such a probe is asked on a thread of the logger of low priority, from its beginning to its end, and may take its time. It is not asked
    /// by `log_memory`. Without a period it is asked by nothing else.
    fn period(&self) -> Option<Duration> {
        None
    }
}

/// Named readings, where they come from, and what there is to say about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    values: Vec<(Cow<'static, str>, MetricValue)>,
    source: Option<(String, String)>,
    notes: Vec<(Level, String)>,
}

impl Readings {
    /// Adds a reading under its full name: `memory/gpu_allocated_gb`. The name says the unit.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Number) {
        self.values.push((name.into(), value.value()));
    }

    /// Says what the readings are of and where they come from: `("GPU memory", "nvml_process")`.
    ///
    /// The user is told once, and again when it changes, because the same name from another source means another thing.
    pub fn set_source(&mut self, of: impl Into<String>, source: impl Into<String>) {
        self.source = Some((of.into(), source.into()));
    }

    /// Has the run's logger say something: that a device is gone, that a source contradicts another. It is said each time,
    /// also when the sample fails, so a probe notes a thing once.
    ///
    /// ```
    /// use logcore::Readings;
    /// use logcore::log::Level;
    ///
    /// let mut readings = Readings::default();
    /// readings.note(Level::Warn, "GPU 0 is gone");
    /// assert_eq!(readings.notes().collect::<Vec<_>>(), [(Level::Warn, "GPU 0 is gone")]);
    /// ```
    pub fn note(&mut self, level: Level, text: impl Into<String>) {
        self.notes.push((level, text.into()));
    }

    /// The readings, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, MetricValue)> + Clone + use<'_> {
        self.values.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// What the readings are of, and their source.
    pub fn source(&self) -> Option<(&str, &str)> {
        self.source.as_ref().map(|(of, source)| (of.as_str(), source.as_str()))
    }

    /// What there is to say, in order.
    pub fn notes(&self) -> impl ExactSizeIterator<Item = (Level, &str)> + Clone + use<'_> {
        self.notes.iter().map(|(level, text)| (*level, text.as_str()))
    }
}
