use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{self, Display};
use std::io;

/// A configuration that cannot work, refused before anything starts.
///
/// ```
/// use logcore::ConfigError;
///
/// let error = ConfigError::new("metrics_window", 0, "use at least 1");
/// assert_eq!(error.to_string(), "metrics_window = 0 cannot work: use at least 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The field, with the path to it: `sinks.file.rotate_mb`.
    pub field: String,
    /// The value that was refused, as text.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl ConfigError {
    /// Refuses `value` for `field`, with the advice `remedy`.
    ///
    /// The value of a field whose name speaks of a secret (`api_key`, `token`, …) is not kept.
    pub fn new(field: impl Display, value: impl Display, remedy: impl Display) -> Self {
        let field = field.to_string();
        let value = if crate::secret::is_secret_name(&field) {
            crate::secret::HIDDEN.to_owned()
        } else {
            value.to_string()
        };
        Self {
            field,
            value,
            remedy: remedy.to_string(),
        }
    }

    /// The same refusal with `prefix` and a dot before the field, for options inside a table.
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = if self.field.is_empty() {
            prefix.to_owned()
        } else {
            format!("{prefix}.{}", self.field)
        };
        self
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} cannot work: {}", self.field, self.value, self.remedy)
    }
}

impl Error for ConfigError {}

/// What went wrong while a sink delivered.
///
/// ```
/// use logcore::SinkError;
///
/// let error = SinkError::new("the hook answered 500").with_reason("server error");
/// assert_eq!(error.to_string(), "the hook answered 500");
/// assert_eq!(error.reason(), "server error");
/// ```
#[derive(Debug)]
pub struct SinkError {
    reason: Cow<'static, str>,
    message: String,
    source: Option<io::Error>,
}

impl SinkError {
    /// An error that says `message`.
    pub fn new(message: impl Display) -> Self {
        Self {
            reason: Cow::Borrowed("error"),
            message: message.to_string(),
            source: None,
        }
    }

    /// Puts the error under `reason` in the books and in the one line that the terminal gets for each kind of trouble.
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The error of a sink that panicked, and said `panic` at it.
    pub fn panicked(panic: &str) -> Self {
        Self::new(format!("it panicked: {panic}")).with_reason(PANIC)
    }

    /// Says in front what was being done: `append to out/training.log: no space left on device`.
    pub fn doing(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The short name of this kind of trouble: `disk full`, `queue full`, `panic`, …
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The reason in the books for what a sink panicked at.
pub(crate) const PANIC: &str = "panic";

impl Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        Self {
            reason: Cow::Borrowed(io_reason(error.kind())),
            message: error.to_string(),
            source: Some(error),
        }
    }
}

/// Why a probe has no reading.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is nothing to read here, now or later: the probe is not asked again.
    Unavailable(String),
    /// This reading failed; the next one may not.
    Transient(String),
}

impl Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "nothing to read here: {why}"),
            Self::Transient(why) => write!(f, "no reading this time: {why}"),
        }
    }
}

impl Error for ProbeError {}

/// What a call of the logger itself can fail with.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The configuration cannot work.
    Config(ConfigError),
    /// A sink did not deliver.
    Sink {
        /// The sink's name in the config.
        sink: String,
        /// What it met.
        error: SinkError,
    },
    /// The deadline passed before everything was delivered.
    Timeout {
        /// What was asked for: `flush`, `finish`, ….
        call: &'static str,
        /// The sink that was being waited for, if one can be blamed.
        sink: Option<String>,
    },
    /// The logger had already been finished.
    Closed {
        /// The logger's name.
        logger: String,
    },
}

impl Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => Display::fmt(error, f),
            Self::Sink { sink, error } => write!(f, "sink `{sink}` did not deliver: {error}"),
            Self::Timeout { call, sink } => {
                write!(f, "{call} ran out of time before everything was delivered")?;
                if let Some(sink) = sink {
                    write!(f, ", waiting for {sink}")?;
                }
                write!(
                    f,
                    "; give it more time (`{call}_timeout`) or wrap a slow sink in `logcore::Queued`"
                )
            }
            Self::Closed { logger } => write!(f, "logger `{logger}` is finished; set it up again to use it"),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Sink { error, .. } => Some(error),
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

fn io_reason(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk full",
        io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => "reader gone",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "no permission",
        io::ErrorKind::NotFound => "not found",
        io::ErrorKind::TimedOut => "timed out",
        _ => "i/o error",
    }
}
