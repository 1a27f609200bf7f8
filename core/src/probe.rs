//! The trait for sources of readings, such as GPU memory.

use std::borrow::Cow;
use std::time::Duration;

use log::Level;

use crate::{MetricValue, Number, ProbeError};

/// A source of readings: GPU memory, temperature, the memory of this process.
///
/// `log_memory` samples a probe on the calling thread, so a sample must be quick. A probe whose
/// source may hang has two choices: it samples on a thread of its own and returns the newest
/// reading, or it has a [`period`](Probe::period).
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
    /// Adds the newest readings. Omit a reading that is unknown: absent is not zero.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Unavailable`] if there will never be a reading; the logger does not ask again.
    /// [`ProbeError::Transient`] if this sample failed. Neither error affects the run.
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError>;

    /// Returns the interval at which the logger samples the probe, for readings that belong to a
    /// time and not to a step.
    ///
    /// A low-priority thread samples periodic probes for the logger's lifetime, so a sample may
    /// block. `log_memory` does not sample them.
    ///
    /// `None`: only `log_memory` samples the probe.
    fn period(&self) -> Option<Duration> {
        None
    }
}

/// The readings of one sample, with their source and with notes for the log.
///
/// ```
/// use logcore::Readings;
///
/// let mut readings = Readings::default();
/// readings.push("memory/gpu_allocated_gb", 1.5);
/// readings.set_source("GPU memory", "nvml_process");
/// assert_eq!(readings.iter().next().unwrap().1.as_f64(), 1.5);
/// assert_eq!(readings.source(), Some(("GPU memory", "nvml_process")));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    values: Vec<(Cow<'static, str>, MetricValue)>,
    source: Option<(String, String)>,
    notes: Vec<(Level, String)>,
}

impl Readings {
    /// Adds a reading under its full name, which ends in the unit: `memory/gpu_allocated_gb`.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Number) {
        self.values.push((name.into(), value.value()));
    }

    /// Sets the subject and the source of the readings: `("GPU memory", "nvml_process")`.
    ///
    /// The logger logs the source once, and again after each change, because the same name from
    /// another source has another meaning.
    pub fn set_source(&mut self, subject: impl Into<String>, source: impl Into<String>) {
        self.source = Some((subject.into(), source.into()));
    }

    /// Adds a note, which the logger logs even if the sample fails: a lost device, two sources that
    /// disagree.
    ///
    /// The logger logs every note, so a probe adds the same note only once.
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

    /// Returns the readings, in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, MetricValue)> + Clone + use<'_> {
        self.values.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Returns the subject and the source of the readings.
    #[must_use]
    pub fn source(&self) -> Option<(&str, &str)> {
        self.source
            .as_ref()
            .map(|(subject, source)| (subject.as_str(), source.as_str()))
    }

    /// Returns the notes, in the order in which they were added.
    pub fn notes(&self) -> impl ExactSizeIterator<Item = (Level, &str)> + Clone + use<'_> {
        self.notes.iter().map(|(level, text)| (*level, text.as_str()))
    }
}
