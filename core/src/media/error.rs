//! Errors of media.

use std::fmt::{self, Display, Write as _};
use std::io;

use crate::escape::EscapingFormatter;

/// Cause for which a value, a file or an artifact cannot be logged.
///
/// ```
/// use logcore::MediaError;
///
/// let error = MediaError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
/// assert_eq!(error.to_string(), "cannot write the file: no storage space");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MediaError {
    /// The value is malformed, with a description.
    Malformed(String),
    /// The file to copy cannot be read.
    Unreadable(io::Error),
    /// The file of the value cannot be written.
    Io(io::Error),
    /// The logger has no run, so that there is no place for the value.
    NoRun,
}

impl Display for MediaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Unreadable(error) => write!(f, "cannot read the file: {error}"),
            Self::Io(error) => write!(f, "cannot write the file: {error}"),
            Self::NoRun => f.write_str("the logger has no run"),
        }
    }
}

impl std::error::Error for MediaError {}

impl From<io::Error> for MediaError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
