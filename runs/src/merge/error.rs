//! The error of a merge.

use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::PathBuf;

use logcore::escape::EscapingFormatter;
use logcore::files::LineError;

/// The reason why ranks could not be merged. Files that existed before are unchanged.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_runs::{MergeError, merge_ranks};
///
/// let error = merge_ranks(folder.path(), folder.path()).unwrap_err();
/// assert!(matches!(error, MergeError::Nothing { .. }));
/// assert!(error.to_string().contains("no files of a run"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MergeError {
    /// The folder holds no files of a run.
    Nothing {
        /// Path of the folder.
        folder: PathBuf,
    },
    /// A file or folder could not be read.
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// Number of the line, from 1; 0 if the error belongs to no line.
        line: u64,
        /// Error of the system.
        error: io::Error,
    },
    /// A line is longer than 64 MiB, which no record or row is.
    TooLong {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
    },
    /// A merged file could not be written.
    Unwritable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
}

impl Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Nothing { folder } => write!(
                f,
                "cannot merge {}: no files of a run. Name the `log_dir` of a run, with training.log, \
                 training.rank1.log or metrics.jsonl",
                folder.display()
            ),
            Self::Unreadable { path, line, error } => {
                write!(f, "cannot read {}", path.display())?;
                if *line > 0 {
                    write!(f, ", line {line}")?;
                }
                write!(f, ": {error}. ")?;
                f.write_str(match error.raw_os_error() {
                    Some(TOO_MANY_OPEN) => "Allow more open files (`ulimit -n`)",
                    _ if error.kind() == io::ErrorKind::NotFound => "Name the `log_dir` of a run",
                    _ => "Make it readable, or move it out of the folder to merge the other files",
                })
            }
            Self::TooLong { path, line } => write!(
                f,
                "cannot read {}, line {line}: the line is longer than 64 MiB. Move the file out of the folder",
                path.display()
            ),
            Self::Unwritable { path, error } => write!(
                f,
                "cannot write {}: {error}. Name another folder for the result",
                path.display()
            ),
        }
    }
}

impl From<LineError> for MergeError {
    fn from(LineError { path, line, error }: LineError) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge if line > 0 => Self::TooLong { path, line },
            _ => Self::Unreadable { path, line, error },
        }
    }
}

// The text already contains the system's error, so `source` returns none.
impl std::error::Error for MergeError {}

/// The code EMFILE, which is 24 on every Unix. On Windows, 24 is ERROR_BAD_LENGTH, which no open
/// returns.
const TOO_MANY_OPEN: i32 = 24;
