//! The request to stop a run, and its reason.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::escape::to_one_line;

/// A flag with which a sink asks the run to stop, for instance after a click on W&B's stop button.
///
/// Clones share one flag. The program reads the flag through `UnifiedLogger::stop_requested`.
///
/// ```
/// let stop = logcore::StopFlag::default();
/// let copy_of_sink = stop.clone();
/// assert!(!stop.is_requested());
/// copy_of_sink.request();
/// assert!(stop.is_requested());
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the run to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the run was asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The reason why a run was asked to stop.
///
/// ```
/// use logcore::StopReason;
///
/// assert_eq!(StopReason::Signal("SIGTERM".into()).to_string(), "the signal SIGTERM");
/// assert!(StopReason::Deadline.is_preemption());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StopReason {
    /// A server asks, such as W&B's stop button.
    Button,
    /// There is a file `STOP` in the folder of the run.
    File,
    /// A rule of this name, whose answer is to stop.
    Rule(String),
    /// The end of the job is near: `stop_before`, or SLURM's end.
    Deadline,
    /// The signal of this name, with `on_signal = "ask"`.
    Signal(String),
}

impl StopReason {
    /// Returns `true` if the machine is taken away from the run, so that the run is to go on
    /// elsewhere.
    #[must_use]
    pub fn is_preemption(&self) -> bool {
        matches!(self, Self::Deadline | Self::Signal(_))
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Button => f.write_str("the stop button"),
            Self::File => f.write_str("the file STOP"),
            Self::Rule(name) => write!(f, "the rule {}", to_one_line(name)),
            Self::Deadline => f.write_str("the end of the job"),
            Self::Signal(name) => write!(f, "the signal {}", to_one_line(name)),
        }
    }
}
