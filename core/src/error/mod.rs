//! The errors of configs, sinks, probes and loggers.
//!
//! The text of every error includes the text of its cause, so that `{error}` tells everything.
//! [`Error::source`] continues with the cause of the cause, as in [`std::io::Error`]; a printed
//! chain therefore repeats no text. `{error:?}` prints the same text as `{error}`, so that
//! `fn main() -> Result<(), LogError>` ends with a readable message.

mod config_error;
mod sink_error;

use std::convert::Infallible;
use std::error::Error;
use std::fmt::{self, Display, Write as _};

pub use self::config_error::ConfigError;
pub use self::sink_error::{SinkError, SinkErrorKind};
use crate::escape::EscapingFormatter;

/// The reason why a probe has no reading.
///
/// ```
/// use logcore::ProbeError;
///
/// let error = ProbeError::Transient("the driver is busy".to_owned());
/// assert_eq!(error.to_string(), "reading failed: the driver is busy");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is nothing to read on this machine. The logger does not ask the probe again.
    Unavailable(String),
    /// This reading failed. The next reading may succeed.
    Transient(String),
}

impl Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(cause) => write!(EscapingFormatter(f), "no readings available: {cause}"),
            Self::Transient(cause) => write!(EscapingFormatter(f), "reading failed: {cause}"),
        }
    }
}

impl fmt::Debug for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Error for ProbeError {}

/// An error of a call to a logger.
///
/// ```
/// use logcore::{ConfigError, LogError};
///
/// let error = LogError::from(ConfigError::new("metrics_window", 0, "use at least 1"));
/// assert_eq!(error.to_string(), "invalid metrics_window = 0: use at least 1");
/// assert_eq!(format!("{error:?}"), error.to_string());
/// ```
#[non_exhaustive]
pub enum LogError {
    /// The config is invalid.
    Config(ConfigError),
    /// A sink failed to deliver.
    Sink {
        /// Name of the sink in the config.
        sink: String,
        /// Error of the sink.
        error: SinkError,
    },
    /// The deadline passed before everything was delivered.
    Timeout {
        /// Name of the call: `flush`, `finish`, ….
        call: &'static str,
        /// The sink that the call was waiting for, if a single sink was late.
        sink: Option<String>,
    },
    /// The logger was already finished.
    Closed {
        /// Name of the logger.
        logger: String,
    },
}

impl Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = EscapingFormatter(f);
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Sink { sink, error } => write!(f, "sink `{sink}` failed: {error}"),
            Self::Timeout { call, sink } => {
                write!(f, "{call} timed out before everything was delivered")?;
                if let Some(sink) = sink {
                    write!(f, ", waiting for {sink}")?;
                }
                write!(
                    f,
                    ". Increase `{call}_timeout`, or wrap a slow sink in `logcore::Queued`"
                )
            }
            Self::Closed { logger } => write!(f, "logger `{logger}` is finished. Set it up again to use it"),
        }
    }
}

impl fmt::Debug for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// The text of each variant includes the text of the inner error, so the chain continues after the
/// inner error.
impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Sink { error, .. } => error.source(),
            Self::Timeout { .. } | Self::Closed { .. } => None,
        }
    }
}

impl From<ConfigError> for LogError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<Infallible> for LogError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests;
