//! The outcome of a recovery, and its texts.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use logcore::FileRank;
use logcore::escape::EscapingFormatter;

/// The delivery of one killed process. [`recover`](crate::recover) returns one for each ring.
///
/// The text of [`Display`] is one line for a user:
/// `recovered 3 calls of run `trainer`, killed at step 7`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recovered {
    /// Id of the process.
    pub pid: u64,
    /// Number of calls in the ring. Some of them may have been in the files before; no file
    /// contains a call twice.
    pub calls: u64,
    /// The loggers that the process had open, each with the highest step of its metrics.
    pub loggers: Vec<(String, Option<u64>)>,
    /// `true` if the runs continue in this process, which was forked from the killed one.
    pub goes_on: bool,
    /// The parts that could not be delivered, and why.
    pub problems: Vec<String>,
}

/// The end of a killed process, as far as one of its log directories is concerned. A recovery
/// passes it on after everything is delivered, and before the ring is removed: if the recovery
/// itself is killed, the next one passes it on again. A process without a ring may still be about
/// to end by itself.
///
/// ```
/// use logcore::FileRank;
/// use logcore_pipeline::KilledRun;
/// use std::path::Path;
///
/// let killed = KilledRun::new(Path::new("logs/trainer"), 4711, FileRank(None));
/// assert_eq!((killed.ended, killed.last_step), (None, None));
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct KilledRun<'a> {
    /// The log directory.
    pub folder: &'a Path,
    /// Id of the process.
    pub pid: u64,
    /// The rank in the names of the process's files.
    pub rank: FileRank,
    /// The time of its last call; `None` if there was none, or the machine has rebooted since.
    pub ended: Option<SystemTime>,
    /// The highest step of the metrics of its loggers.
    pub last_step: Option<u64>,
}

/// The reason why a ring was not delivered.
///
/// ```
/// use logcore_pipeline::recover;
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join(".logcore-1-damaged.ring"), "no ring")?;
/// let error = recover(folder.path(), &|_| {}).remove(0).unwrap_err();
/// assert!(error.to_string().contains("is left alone: it is shorter than its header"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The process is alive, or another process is delivering the ring.
    Live {
        /// Id of the process that created the ring.
        pid: u64,
        /// The log directory that holds the name of the ring.
        folder: PathBuf,
    },
    /// This process may not deliver the ring, or cannot.
    Refused {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl<'a> KilledRun<'a> {
    /// Creates the end of a process that left no call, as far as anybody knows.
    #[must_use]
    pub fn new(folder: &'a Path, pid: u64, rank: FileRank) -> Self {
        Self {
            folder,
            pid,
            rank,
            ended: None,
            last_step: None,
        }
    }
}

/// Number of runs that a line names.
const MAX_NAMED: usize = 20;

impl Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::fmt::Write as _;

        let f = &mut EscapingFormatter(f);
        let calls = if self.calls == 1 { "call" } else { "calls" };
        write!(f, "recovered {} {calls} of", self.calls)?;
        let mut separator = " ";
        for (name, step) in self.loggers.iter().take(MAX_NAMED) {
            let end = if self.goes_on { "which goes on here" } else { "killed" };
            write!(f, "{separator}run `{name}`, {end}")?;
            if let Some(step) = step.filter(|_| !self.goes_on) {
                write!(f, " at step {step}")?;
            }
            separator = "; ";
        }
        if let Some(more) = self.loggers.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            write!(f, "; and {more} more")?;
        }
        if self.loggers.is_empty() {
            write!(f, " process {}, whose loggers had finished", self.pid)?;
        }
        self.problems.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::fmt::Write as _;

        let f = &mut EscapingFormatter(f);
        match self {
            Self::Live { pid, .. } => write!(f, "process {pid} is still running, or its ring is being delivered"),
            Self::Refused { path, why } => write!(f, "{} is left alone: {why}", path.display()),
        }
    }
}

impl std::error::Error for RecoveryError {}
