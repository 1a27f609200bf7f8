use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::PathBuf;

use logcore::escape::EscapingFormatter;

/// Why ranks could not be merged. What was there before is still there.
#[derive(Debug)]
#[non_exhaustive]
pub enum MergeError {
    /// The folder holds no files of a run.
    Nothing {
        /// The folder.
        folder: PathBuf,
    },
    /// Something could not be read.
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The line, from 1 on; 0 where there is none to name.
        line: u64,
        /// What the system said.
        error: io::Error,
    },
    /// A line is longer than any that is ours.
    TooLong {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: u64,
    },
    /// What was merged could not be written.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Nothing { folder } => write!(
                f,
                "{} has no files of a run: name the `log_dir` of one, where training.log, training.rank1.log or \
                 metrics.jsonl are",
                folder.display()
            ),
            Self::Unreadable { path, line, error } => {
                write!(f, "{} cannot be read", path.display())?;
                if *line > 0 {
                    write!(f, " at line {line}")?;
                }
                write!(f, ": {error}; ")?;
                f.write_str(match error.raw_os_error() {
                    Some(TOO_MANY_OPEN) => "allow more open files (`ulimit -n`)",
                    _ if error.kind() == io::ErrorKind::NotFound => "name the `log_dir` of a run",
                    _ => "make it readable, or move it out of the folder to merge the others",
                })
            }
            Self::TooLong { path, line } => write!(
                f,
                "line {line} of {} is longer than 64 MiB, so it is no log of ours: move it out of the folder",
                path.display()
            ),
            Self::Unwritable { path, error } => write!(
                f,
                "{} cannot be written: {error}; name another folder for the result",
                path.display()
            ),
        }
    }
}

// What the system said is in the text already.
impl std::error::Error for MergeError {}

/// EMFILE, on every Unix.
const TOO_MANY_OPEN: i32 = 24;
