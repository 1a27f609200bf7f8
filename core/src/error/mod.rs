use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{self, Display, Write as _};
use std::io;

use crate::escape::EscapingFormatter;
use crate::secret::{HIDDEN, hide_in_text, is_secret_name};

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
    /// The value of a field whose name speaks of a secret (`api_key`, `token`, …) is not kept, nor what is known as a secret in
    /// any value: the password of an address, say.
    pub fn new(field: impl Display, value: impl Display, remedy: impl Display) -> Self {
        let field = field.to_string();
        let hidden = is_secret_name(&field);
        let value = value.to_string();
        let error = Self {
            value: hide_in_text(&value).into_owned(),
            remedy: remedy.to_string(),
            field,
        };
        match hidden {
            true => error.without(&value),
            false => error,
        }
    }

    /// The same refusal without its value, which is nowhere to be seen.
    pub(crate) fn hidden(self) -> Self {
        let value = self.value.clone();
        self.without(&value)
    }

    /// The same unless the value is a number or a switch, which tell nothing.
    pub(crate) fn without_text(self) -> Self {
        let tells_nothing = self.value.parse::<f64>().is_ok() || matches!(&*self.value, "true" | "false" | "null" | "");
        match tells_nothing {
            true => self,
            false => self.hidden(),
        }
    }

    /// The refusal of this very value, which nothing of it shows. A value shorter than a word stays in the advice, or
    /// letters would vanish from everywhere.
    pub(crate) fn without(mut self, value: &str) -> Self {
        let bare = value.trim_matches('"');
        if bare.len() > 3 && bare != HIDDEN {
            self.remedy = self.remedy.replace(bare, HIDDEN);
        }
        self.value = HIDDEN.to_owned();
        self
    }

    /// The same refusal, which also says where the value stands.
    pub(crate) fn read_from(mut self, place: impl Display) -> Self {
        self.remedy = format!("{} (in {place})", self.remedy);
        self
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
        write!(
            EscapingFormatter(f),
            "{} = {} cannot work: {}",
            self.field,
            self.value,
            self.remedy
        )
    }
}

impl Error for ConfigError {}

/// What went wrong while a sink delivered.
///
/// Its text has that of its cause, so that `{error}` tells all; [`Error::source`] is what lies beneath the cause, as that of
/// [`io::Error`] is, so that a chain says nothing twice.
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
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// An error that says `message`.
    pub fn new(message: impl Display) -> Self {
        Self {
            reason: Cow::Borrowed("error"),
            message: message.to_string(),
            cause: None,
        }
    }

    /// An error that says what `cause` says, and keeps it.
    ///
    /// ```
    /// use logcore::SinkError;
    ///
    /// let error = SinkError::caused_by("x".parse::<u8>().unwrap_err()).doing("read the port");
    /// assert_eq!(error.to_string(), "read the port: invalid digit found in string");
    /// assert!(error.cause().unwrap().is::<std::num::ParseIntError>());
    /// ```
    pub fn caused_by(cause: impl Error + Send + Sync + 'static) -> Self {
        Self {
            reason: Cow::Borrowed("error"),
            message: cause.to_string(),
            cause: Some(Box::new(cause)),
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

    /// The error that this one was made of, if any.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }
}

/// The reason in the books for what a sink panicked at.
pub(crate) const PANIC: &str = "panic";

impl Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapingFormatter(f).write_str(&self.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref()?.source()
    }
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        Self {
            reason: Cow::Borrowed(io_reason(error.kind())),
            ..Self::caused_by(error)
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
            Self::Unavailable(why) => write!(EscapingFormatter(f), "nothing to read here: {why}"),
            Self::Transient(why) => write!(EscapingFormatter(f), "no reading this time: {why}"),
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
        let mut f = EscapingFormatter(f);
        match self {
            Self::Config(error) => write!(f, "{error}"),
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

/// Each text has that of the error inside, so the chain goes on behind that.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An error whose text does not have that of its source, as the API guidelines want it.
    #[derive(Debug)]
    struct Outer(io::Error);

    impl Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the upload failed")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn chain(error: &dyn Error) -> Vec<String> {
        let mut texts = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        texts
    }

    #[test]
    fn a_chain_says_each_text_once() {
        let of_sink = |error: SinkError| LogError::Sink {
            sink: "file".to_owned(),
            error: error.doing("append to training.log"),
        };
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for (error, texts) in [
            (
                of_sink(full().into()),
                vec!["sink `file` did not deliver: append to training.log: no storage space"],
            ),
            (
                of_sink(SinkError::caused_by(Outer(full()))),
                vec![
                    "sink `file` did not deliver: append to training.log: the upload failed",
                    "no storage space",
                ],
            ),
            (
                of_sink(io::Error::other(Outer(full())).into()),
                vec![
                    "sink `file` did not deliver: append to training.log: the upload failed",
                    "no storage space",
                ],
            ),
            (
                of_sink(SinkError::new("x")),
                vec!["sink `file` did not deliver: append to training.log: x"],
            ),
            (
                ConfigError::new("a", 1, "use 2").into(),
                vec!["a = 1 cannot work: use 2"],
            ),
        ] {
            assert_eq!(chain(&error), texts);
        }
    }

    #[test]
    fn texts_are_harmless() {
        let evil = "\u{1b}[2J\n\u{202e}\u{200b}";
        let errors: [Box<dyn Error>; 6] = [
            Box::new(ConfigError::new(evil, evil, evil)),
            Box::new(SinkError::new(evil).doing(evil)),
            Box::new(ProbeError::Transient(evil.to_owned())),
            Box::new(ProbeError::Unavailable(evil.to_owned())),
            Box::new(LogError::Closed {
                logger: evil.to_owned(),
            }),
            Box::new(LogError::Timeout {
                call: "flush",
                sink: Some(evil.to_owned()),
            }),
        ];
        for error in errors {
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains(crate::escape::needs_escape), "{text:?}");
            }
        }
    }

    #[test]
    fn a_secret_is_neither_value_nor_advice() {
        let error = ConfigError::new("api_key", "s3cr3t", "`s3cr3t` is too short");
        assert_eq!(error.to_string(), "api_key = *** cannot work: `***` is too short");
        let error = ConfigError::new("hook", "https://u:s3cr3t@host/?token=s3cr3t", "no");
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
    }
}
