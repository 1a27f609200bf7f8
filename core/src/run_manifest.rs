//! `run.json`: all that is known of a run.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{LoggerEnd, RunEnd, RunFacts, StopReason, SupersededRows, WandbRun, files};

/// The file `run.json` in the folder of a run. Rank 0 alone writes it, by rename.
///
/// Times are seconds since 1970. Whatever is not known is empty or `None`; members that this
/// version does not know are ignored.
///
/// ```
/// use logcore::{RunManifest, RunState};
///
/// let manifest: RunManifest = serde_json::from_str(
///     r#"{"id": "k3v9q2ab", "name": "trainer", "state": "killed",
///         "attempts": [{"started": 10.0, "state": "killed"},
///                      {"started": 20.0, "state": "killed", "first_step": {"trainer": 501}}]}"#,
/// ).unwrap();
/// assert_eq!((manifest.state, manifest.attempts.len()), (RunState::Killed, 2));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RunManifest {
    /// Id: 8 characters from a-z and 0-9, or the one that the user gave.
    pub id: String,
    /// Name of the run's first logger.
    pub name: String,
    /// Names of all loggers.
    pub loggers: Vec<String>,
    /// Start of the first attempt.
    pub started: f64,
    /// End of the newest attempt, if it has ended.
    pub ended: Option<f64>,
    /// State as it was written. The state of a run that is still `running` here is what
    /// [`read_state`](Self::read_state) finds.
    pub state: RunState,
    /// Exit code of the newest attempt, if it has ended.
    pub exit_code: Option<i32>,
    /// Rank of the process that writes the file.
    pub rank: u32,
    /// Number of ranks.
    pub world_size: Option<u32>,
    /// The W&B runs.
    pub wandb: Vec<WandbRun>,
    /// Id or folder of the run that the newest attempt was told to resume.
    pub resumed_from: Option<String>,
    /// Path of the ring between callers and writer; `None` if the ring is plain memory.
    pub ring: Option<String>,
    /// The attempts, the first one first.
    pub attempts: Vec<RunAttempt>,
    /// Facts about rank 0's process and machine in the newest attempt.
    #[serde(flatten)]
    pub facts: RunFacts,
}

/// One attempt of a run: a process, from its first logger to its last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RunAttempt {
    /// Start, in seconds since 1970.
    pub started: f64,
    /// End, in seconds since 1970; for a killed attempt the time of its last call.
    pub ended: Option<f64>,
    /// State of the attempt.
    pub state: RunState,
    /// First step by logger, where the program gave one: rows of earlier attempts from there on are
    /// superseded.
    pub first_step: BTreeMap<String, u64>,
    /// Highest step of all loggers.
    pub last_step: Option<u64>,
    /// Seconds of the run's wall clock by their use, from the start of the first attempt to the end
    /// of this one. Saved every ten seconds; empty if no logger shows a progress.
    pub ledger: BTreeMap<String, f64>,
    /// The ledger at the ends of the newest checkpoints, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointMark>,
}

/// State of a run or an attempt.
///
/// Of two ends, the worse one is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunState {
    /// The process lives.
    Running,
    /// The end with exit code 0.
    Finished,
    /// The end that the machine's owner asked for; the run may be resumed.
    Preempted,
    /// The end by a signal.
    Interrupted,
    /// The end with another exit code, or by a panic.
    Failed,
    /// The end without a word: a kill, or a crash of the machine.
    Killed,
    /// Nobody here can tell whether the process lives.
    #[default]
    #[serde(other)]
    Unknown,
}

impl RunState {
    /// Returns the state after an end.
    ///
    /// ```
    /// use logcore::{LoggerEnd, RunEnd, RunState, StopReason};
    ///
    /// assert_eq!(RunState::after(&LoggerEnd::from_exit_code(3)), RunState::Failed);
    /// assert_eq!(RunState::after(&LoggerEnd::killed()), RunState::Killed);
    /// let stopped = LoggerEnd::new(0, RunEnd::Stopped { reason: StopReason::Deadline });
    /// assert_eq!(RunState::after(&stopped), RunState::Preempted);
    /// ```
    #[must_use]
    pub fn after(end: &LoggerEnd) -> Self {
        match &end.run_end {
            RunEnd::Finished => Self::Finished,
            RunEnd::Interrupted { .. } => Self::Interrupted,
            RunEnd::Killed => Self::Killed,
            RunEnd::Stopped { reason } if reason.is_preemption() => Self::Preempted,
            RunEnd::Stopped {
                reason: StopReason::Button | StopReason::File,
            } => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// Returns the name that `run.json` has.
    ///
    /// ```
    /// assert_eq!(logcore::RunState::Killed.as_str(), "killed");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Preempted => "preempted",
            Self::Killed => "killed",
            Self::Unknown => "unknown",
        }
    }
}

/// The ledger at the end of a checkpoint: a later attempt that goes on there has lost the time
/// since.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CheckpointMark {
    /// The end of the checkpoint, in seconds since 1970.
    pub time: f64,
    /// Seconds by use, up to then.
    pub ledger: BTreeMap<String, f64>,
}

impl RunManifest {
    /// Name of the file.
    pub const FILE: &'static str = "run.json";

    /// Name of the file beside `run.json` by which a person asks the run to stop. Its content
    /// counts for nothing.
    pub const STOP_FILE: &'static str = "STOP";

    /// Name of the file that rank 0 of a live run holds a lock on.
    pub const LOCK: &'static str = ".lock";

    /// Reads the file in the folder of a run. A link in its place is not followed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, [`io::ErrorKind::InvalidData`] if the file is
    /// no manifest, [`io::ErrorKind::InvalidInput`] if it is no file.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let bytes = files::read_no_follow(&dir.join(Self::FILE), MAX_BYTES)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Reads only the id of the run. With thousands of loggers in the file, that takes a tenth of
    /// the time of [`read`](Self::read).
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use logcore::RunManifest;
    ///
    /// assert!(RunManifest::read_id(folder.path()).is_err());
    /// std::fs::write(folder.path().join("run.json"), r#"{"id": "3x9k2m", "loggers": ["trainer"]}"#)?;
    /// assert_eq!(RunManifest::read_id(folder.path())?, "3x9k2m");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_id(dir: &Path) -> io::Result<String> {
        #[derive(Deserialize)]
        struct RunIdentity {
            id: String,
        }
        let bytes = files::read_no_follow(&dir.join(Self::FILE), MAX_BYTES)?;
        Ok(serde_json::from_slice::<RunIdentity>(&bytes)?.id)
    }

    /// Returns the state at this moment, for the run in the folder `dir`.
    ///
    /// `run.json` says `running` until the end, which a killed process does not write. The lock on
    /// `.lock` tells if the process lives, for readers on its own machine. Elsewhere the file's
    /// time of change tells, which the process renews every ten seconds.
    #[must_use]
    pub fn read_state(&self, dir: &Path) -> RunState {
        if self.state != RunState::Running {
            return self.state;
        }
        let lock = dir.join(Self::LOCK);
        let is_here = RunFacts::own_host().is_some_and(|host| host == self.facts.host);
        let state = match (is_here, is_locked(&lock)) {
            (true, Ok(true)) => RunState::Running,
            (true, Ok(false)) => RunState::Killed,
            (true, Err(error)) if error.kind() == io::ErrorKind::NotFound => RunState::Killed,
            _ if is_fresh(&lock) => RunState::Running,
            _ => RunState::Unknown,
        };
        // The end is written before the lock is released, and may have been since `self` was read.
        // A folder that is gone tells nothing.
        match Self::read(dir) {
            Ok(now) if now.state != RunState::Running => now.state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => RunState::Unknown,
            _ => state,
        }
    }

    /// Replaces the file in the folder of a run, by rename.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::replace(&dir.join(Self::FILE), &text)
    }

    /// Ends the newest attempt, and with it the run.
    ///
    /// ```
    /// use logcore::{RunAttempt, RunManifest, RunState};
    ///
    /// let mut manifest = RunManifest::default();
    /// manifest.attempts.push(RunAttempt::default());
    /// manifest.end(RunState::Killed, 137, 1.5);
    /// assert_eq!((manifest.state, manifest.exit_code, manifest.ended), (RunState::Killed, Some(137), Some(1.5)));
    /// assert_eq!(manifest.attempts[0].ended, Some(1.5));
    /// ```
    pub fn end(&mut self, state: RunState, exit_code: i32, time: f64) {
        (self.state, self.exit_code, self.ended) = (state, Some(exit_code), Some(time));
        if let Some(attempt) = self.attempts.last_mut() {
            (attempt.state, attempt.ended) = (state, Some(time));
        }
    }

    /// Returns the path of the lock that a process of a run holds as long as it lives.
    ///
    /// ```
    /// use logcore::RunManifest;
    /// use std::path::{Path, PathBuf};
    ///
    /// assert_eq!(RunManifest::lock_path(Path::new("run"), 0), Path::new("run/.lock"));
    /// assert_eq!(RunManifest::lock_path(Path::new("run"), 3), Path::new("run/.lock.rank3"));
    /// ```
    #[must_use]
    pub fn lock_path(dir: &Path, rank: u32) -> PathBuf {
        match rank {
            0 => dir.join(Self::LOCK),
            rank => dir.join(format!("{}.rank{rank}", Self::LOCK)),
        }
    }

    /// Returns the rows that later attempts have superseded.
    ///
    /// ```
    /// use logcore::{RunManifest, StoredRow};
    ///
    /// let manifest: RunManifest = serde_json::from_str(
    ///     r#"{"attempts": [{}, {"first_step": {"trainer": 501}}]}"#,
    /// ).unwrap();
    /// let superseded = manifest.superseded_rows();
    /// assert!(superseded.contains(&StoredRow::new(501, 0.0, "trainer")));
    /// assert!(!superseded.contains(&StoredRow::new(500, 0.0, "trainer")));
    /// ```
    #[must_use]
    pub fn superseded_rows(&self) -> SupersededRows {
        let mut superseded = SupersededRows::default();
        for (number, attempt) in (1..).zip(&self.attempts) {
            for (logger, first_step) in &attempt.first_step {
                superseded.add(number, logger, *first_step);
            }
        }
        superseded
    }
}

/// Most bytes of a manifest; 10,000 attempts have about 2 MB.
const MAX_BYTES: u64 = 16 << 20;
/// Age up to which a heartbeat tells that the process lives. A process renews it every ten seconds.
const FRESH: Duration = Duration::from_secs(60);

/// Returns `true` if a process holds a lock on the file.
fn is_locked(path: &Path) -> io::Result<bool> {
    match files::open_no_follow(path)?.try_lock_shared() {
        // The lock goes with the file.
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_fresh(path: &Path) -> bool {
    let changed = files::open_no_follow(path).and_then(|file: File| file.metadata()?.modified());
    // A clock that is behind the writer's makes the heartbeat seem to be of the future.
    changed.is_ok_and(|time| SystemTime::now().duration_since(time).unwrap_or_default() < FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(host: Option<String>) -> RunManifest {
        let mut manifest = RunManifest {
            state: RunState::Running,
            ..RunManifest::default()
        };
        manifest.facts.host = host.unwrap_or_default();
        manifest
    }

    #[test]
    fn the_lock_tells_if_a_run_of_this_machine_lives() {
        let folder = tempfile::tempdir().unwrap();
        let here = running(RunFacts::own_host());
        assert_eq!(here.read_state(folder.path()), RunState::Unknown, "the folder is gone");
        here.write(folder.path()).unwrap();
        assert_eq!(here.read_state(folder.path()), RunState::Killed);
        let lock = File::create(folder.path().join(RunManifest::LOCK)).unwrap();
        assert_eq!(here.read_state(folder.path()), RunState::Killed);
        lock.lock().unwrap();
        assert_eq!(here.read_state(folder.path()), RunState::Running);
        drop(lock);
        assert_eq!(here.read_state(folder.path()), RunState::Killed);
    }

    #[test]
    fn the_heartbeat_tells_if_a_run_of_another_machine_lives() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = running(Some("another".to_owned()));
        elsewhere.write(folder.path()).unwrap();
        assert_eq!(elsewhere.read_state(folder.path()), RunState::Unknown);
        let lock = File::create(folder.path().join(RunManifest::LOCK)).unwrap();
        assert_eq!(elsewhere.read_state(folder.path()), RunState::Running);
        let old = SystemTime::now() - FRESH - Duration::from_secs(1);
        lock.set_modified(old).unwrap();
        assert_eq!(elsewhere.read_state(folder.path()), RunState::Unknown);
    }

    #[test]
    fn a_written_end_needs_no_lock() {
        let ended = RunManifest {
            state: RunState::Preempted,
            ..running(RunFacts::own_host())
        };
        assert_eq!(ended.read_state(Path::new("/nowhere")), RunState::Preempted);
        let future: RunManifest = serde_json::from_str(r#"{"state": "paused", "new": [1]}"#).unwrap();
        assert_eq!(future.state, RunState::Unknown);
    }

    #[test]
    fn a_manifest_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = running(None);
        let mut attempt = RunAttempt::default();
        attempt.first_step.insert("trainer".to_owned(), 501);
        manifest.attempts.push(attempt);
        let text = serde_json::to_string_pretty(&manifest).unwrap();
        std::fs::write(folder.path().join(RunManifest::FILE), text).unwrap();
        assert_eq!(RunManifest::read(folder.path()).unwrap(), manifest);
        std::fs::write(folder.path().join(RunManifest::FILE), "{").unwrap();
        let error = RunManifest::read(folder.path()).unwrap_err();
        assert!(matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ));
    }
}
