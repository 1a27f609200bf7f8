//! Alerts: messages for people who do not look at the run.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A message for people who do not look at the run; an argument of
/// [`Sink::alert`](crate::Sink::alert).
///
/// ```
/// use logcore::{Alert, AlertLevel};
///
/// let alert = Alert::new("loss is NaN", "since step 120", AlertLevel::Error).at_step(120);
/// assert_eq!((&*alert.title, alert.step), ("loss is NaN", Some(120)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alert {
    /// One line that says enough for a phone.
    pub title: String,
    /// The rest, of any number of lines; may be empty.
    pub text: String,
    /// The severity.
    pub level: AlertLevel,
    /// The step of the run at the time of the call.
    pub step: Option<u64>,
    /// The time of the call.
    #[serde(with = "crate::signed_time")]
    pub time: SystemTime,
}

impl Alert {
    /// Creates an alert of this moment, without a step.
    #[must_use]
    pub fn new(title: impl Into<String>, text: impl Into<String>, level: AlertLevel) -> Self {
        Self {
            title: title.into(),
            text: text.into(),
            level,
            step: None,
            time: SystemTime::now(),
        }
    }

    /// Sets the step.
    #[must_use]
    pub fn at_step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }
}

/// The severity of an [`Alert`].
///
/// ```
/// use logcore::AlertLevel;
///
/// let loss = f64::NAN;
/// let level = if loss.is_nan() { AlertLevel::Error } else { AlertLevel::Info };
/// assert_eq!(level.to_string(), "ERROR");
/// assert!(AlertLevel::Info < AlertLevel::Error);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum AlertLevel {
    /// For information.
    Info,
    /// A warning.
    Warn,
    /// An error.
    Error,
}

impl AlertLevel {
    /// Returns the name in capital letters, as levels of records are written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for AlertLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
