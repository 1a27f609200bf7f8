//! The error of reading a run.

use std::collections::HashSet;
use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use logcore::escape::EscapingFormatter;
use logcore::files::LineError;

/// The reason why a run could not be found or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// A file or folder could not be read.
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// Number of the line, from 1; 0 if the error belongs to no line.
        line: u64,
        /// Error of the system, or of the form of the file.
        error: io::Error,
    },
    /// The output could not be written.
    Unwritable(io::Error),
    /// There is no such run.
    None {
        /// The folder that was searched.
        log_dir: PathBuf,
        /// The name that was looked for.
        name: String,
    },
    /// Several runs have an id that begins so.
    Ambiguous {
        /// The name that was looked for.
        name: String,
        /// The ids that begin so. Copies of a run have the same id.
        ids: Vec<String>,
        /// The folders of these runs, in the same order.
        folders: Vec<PathBuf>,
    },
}

impl RunError {
    pub(crate) fn unreadable(path: &Path, error: io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            line: 0,
            error,
        }
    }

    pub(crate) fn none(log_dir: &Path, name: &str) -> Self {
        Self::None {
            log_dir: log_dir.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Returns `true` if the file or folder does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        matches!(self, Self::Unreadable { error, .. } if missing.contains(&error.kind()))
    }
}

impl From<LineError> for RunError {
    fn from(LineError { path, line, error }: LineError) -> Self {
        Self::Unreadable { path, line, error }
    }
}

impl Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Unreadable { path, line, error } => {
                write!(f, "cannot read {}", path.display())?;
                if *line > 0 {
                    write!(f, ", line {line}")?;
                }
                let remedy = match error.kind() {
                    io::ErrorKind::NotFound => "Name a file or folder that is there",
                    io::ErrorKind::PermissionDenied => "Allow this user to read it",
                    // Something else than a file has its name.
                    io::ErrorKind::InvalidInput => "Put the file itself in its place",
                    _ => "Name a folder that holds the files of a run",
                };
                write!(f, ": {error}. {remedy}")
            }
            Self::Unwritable(error) => write!(f, "cannot write the output: {error}. Name another place for it"),
            Self::None { log_dir, name } => write!(
                f,
                "cannot find the run {name}: {} has no run of this name, folder or id. Name one that it has, or \
                 `latest`",
                log_dir.display()
            ),
            Self::Ambiguous { name, ids, .. } if are_distinct(ids) => write!(
                f,
                "cannot choose the run {name}: several ids begin so. Write one of {}",
                ids.join(", ")
            ),
            Self::Ambiguous { name, folders, .. } => {
                let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
                write!(
                    f,
                    "cannot choose the run {name}: several folders have a run whose id begins so. Write one of {}",
                    folders.join(", ")
                )
            }
        }
    }
}

// The text already contains the system's error, so `source` returns none.
impl std::error::Error for RunError {}

fn are_distinct(ids: &[String]) -> bool {
    let distinct: HashSet<&String> = ids.iter().collect();
    distinct.len() == ids.len()
}
