//! The error of a sink, and its kinds.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display, Write as _};
use std::io;

use crate::escape::EscapingFormatter;

/// An error of a sink.
///
/// An error has a text for people, a [kind](SinkError::kind) for code, and a
/// [reason](SinkError::reason) for the [`SinkBooks`](crate::SinkBooks): the writer counts a dropped
/// call under the reason, and prints one notice for each reason.
///
/// ```
/// use logcore::{SinkError, SinkErrorKind};
///
/// let error = SinkError::new("the server answered 500").with_reason("server error");
/// assert_eq!(error.to_string(), "the server answered 500");
/// assert_eq!(error.reason(), "server error");
/// assert_eq!(error.kind(), SinkErrorKind::Other);
/// ```
///
/// # Example: errors of files
///
/// ```
/// use logcore::SinkError;
/// use std::io;
///
/// let error = SinkError::from(io::Error::from(io::ErrorKind::StorageFull)).doing("append to training.log");
/// assert_eq!(error.to_string(), "cannot append to training.log: no storage space");
/// assert_eq!(error.reason(), "disk full");
/// assert!(error.kind().is_disk_full());
/// ```
// Boxed, so that the results of the calls of a line fit into a register. Measured: 45 instructions
// a line.
pub struct SinkError(Box<ErrorParts>);

impl SinkError {
    /// Creates an error with this text, of the kind [`SinkErrorKind::Other`].
    #[must_use]
    pub fn new(message: impl Display) -> Self {
        Self::with_cause(message.to_string(), None)
    }

    /// Creates an error with the text of `cause`, and keeps `cause`.
    ///
    /// ```
    /// use logcore::SinkError;
    ///
    /// let error = SinkError::caused_by("x".parse::<u8>().unwrap_err()).doing("read the port");
    /// assert_eq!(error.to_string(), "cannot read the port: invalid digit found in string");
    /// assert!(error.cause().unwrap().is::<std::num::ParseIntError>());
    /// ```
    #[must_use]
    pub fn caused_by(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::with_cause(cause.to_string(), Some(Box::new(cause)))
    }

    /// Creates the error of a sink that panicked with the message `panic`.
    ///
    /// ```
    /// use logcore::{SinkError, SinkErrorKind};
    ///
    /// let error = SinkError::panicked("index out of bounds");
    /// assert_eq!(error.kind(), SinkErrorKind::Panicked);
    /// ```
    #[must_use]
    pub fn panicked(panic: &str) -> Self {
        Self::new(format!("the sink panicked: {panic}")).with_kind(SinkErrorKind::Panicked)
    }

    /// Sets the kind, and the reason that belongs to the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: SinkErrorKind) -> Self {
        self.0.kind = kind;
        self.0.reason = None;
        self
    }

    /// Sets the reason under which the books count the error. The kind stays.
    ///
    /// Use a few fixed words. Each distinct reason makes an entry in the books and a notice on the
    /// terminal.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// Puts `cannot <action>: ` before the text. The action is a verb with its object:
    /// `append to training.log`.
    #[must_use]
    pub fn doing(mut self, action: impl Display) -> Self {
        self.0.message = format!("cannot {action}: {}", self.0.message);
        self
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> SinkErrorKind {
        self.0.kind
    }

    /// Returns the words under which the books count the error: `disk full`, `queue full`, `panic`,
    /// ….
    #[must_use]
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or(self.0.kind.reason())
    }

    /// Returns the error that this error was created from.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    fn with_cause(message: String, cause: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Box::new(ErrorParts {
            kind: SinkErrorKind::Other,
            reason: None,
            message,
            cause,
        }))
    }
}

/// The parts of an error.
struct ErrorParts {
    kind: SinkErrorKind,
    /// The reason, if it differs from the reason of the kind.
    reason: Option<Cow<'static, str>>,
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapingFormatter(f).write_str(&self.0.message)
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// The text includes the text of the cause, so the chain continues after the cause.
impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_ref()?.source()
    }
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        let kind = error.kind().into();
        Self::caused_by(error).with_kind(kind)
    }
}

/// The kind of a [`SinkError`], for code that reacts to errors.
///
/// ```
/// use logcore::{SinkError, SinkErrorKind};
///
/// let error = SinkError::new("the queue holds 8192 calls").with_kind(SinkErrorKind::QueueFull);
/// assert_eq!(error.reason(), "queue full");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// No more room on a disk, or no more quota.
    DiskFull,
    /// The reader of a pipe or socket is gone.
    ReaderGone,
    /// No permission, or a read-only file system.
    PermissionDenied,
    /// A file or folder does not exist.
    NotFound,
    /// The operating system or a server did not answer in time.
    TimedOut,
    /// Any other input/output error.
    Io,
    /// The queue of a [`Queued`](crate::Queued) sink is full.
    QueueFull,
    /// The deadline of `flush` or `finish` passed first.
    DeadlinePassed,
    /// The sink was called after its end.
    Ended,
    /// The sink panicked.
    Panicked,
    /// A resume point names a file outside the log directory, or behind a link.
    ForeignPath,
    /// The sink cannot read its resume point.
    InvalidResumePoint,
    /// No linked crate registered the sink.
    NotLinked,
    /// Any other error. The sink may give a [reason](SinkError::with_reason) of its own.
    Other,
}

impl SinkErrorKind {
    /// Returns the words under which the books count errors of this kind.
    ///
    /// ```
    /// assert_eq!(logcore::SinkErrorKind::DiskFull.reason(), "disk full");
    /// ```
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::DiskFull => "disk full",
            Self::ReaderGone => "reader gone",
            Self::PermissionDenied => "no permission",
            Self::NotFound => "not found",
            Self::TimedOut => "timed out",
            Self::Io => "i/o error",
            Self::QueueFull => "queue full",
            Self::DeadlinePassed => "not delivered in time",
            Self::Ended => "sink ended",
            Self::Panicked => "panic",
            Self::ForeignPath => "foreign path",
            Self::InvalidResumePoint => "invalid resume point",
            Self::NotLinked => "not linked",
            Self::Other => "error",
        }
    }

    /// Returns `true` if no more data fits on a disk: the same call succeeds once there is room.
    #[must_use]
    pub fn is_disk_full(self) -> bool {
        self == Self::DiskFull
    }

    /// Returns `true` if a file or folder does not exist.
    #[must_use]
    pub fn is_not_found(self) -> bool {
        self == Self::NotFound
    }

    /// Returns `true` if a resume point names a file outside the log directory.
    #[must_use]
    pub fn is_foreign_path(self) -> bool {
        self == Self::ForeignPath
    }
}

impl From<io::ErrorKind> for SinkErrorKind {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => Self::ReaderGone,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::PermissionDenied,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io,
        }
    }
}
