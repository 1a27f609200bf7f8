//! The record that this process keeps of a run for its readers: the lock, and `run.json`.

use std::fs::TryLockError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use logcore::{Ranks, RunAttempt, RunFacts, RunInfo, RunManifest, RunState, files};
use logcore_pipeline::{ProcessLock, print_notice};

use super::ledger::Ledger;

/// The lock of this process, and the manifest as it was last written.
#[derive(Debug)]
pub(super) struct RunRecord {
    info: RunInfo,
    rank: u32,
    ledger: Arc<Ledger>,
    manifest: RunManifest,
    written: Option<RunManifest>,
    lock: Option<ProcessLock>,
    begun: Instant,
}

/// Time for which an earlier process of this rank, which is ending, may hold the lock beside this
/// one.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// An earlier run that this process goes on with: the content of `run.json`, and the lock.
#[derive(Debug, Default)]
pub(super) struct EarlierRun {
    pub(super) manifest: RunManifest,
    pub(super) lock: Option<ProcessLock>,
}

impl RunRecord {
    /// Begins the newest attempt of a run; `earlier` has the attempts before.
    pub(super) fn new(info: &RunInfo, ranks: Ranks, ledger: &Arc<Ledger>, earlier: EarlierRun) -> Self {
        let EarlierRun { mut manifest, lock } = earlier;
        let mut attempt = RunAttempt::default();
        (attempt.started, attempt.state) = (now(), RunState::Running);
        // A kill before the first save must not take the time of earlier attempts with it.
        attempt.ledger = ledger.read_seconds();
        attempt.checkpoints = ledger.checkpoints();
        manifest.resumed_from = manifest.attempts.last().map(|_| info.id().to_owned());
        if manifest.attempts.is_empty() {
            manifest.started = attempt.started;
            info.id().clone_into(&mut manifest.id);
            info.name().clone_into(&mut manifest.name);
        }
        manifest.attempts.push(attempt);
        (manifest.state, manifest.ended, manifest.exit_code) = (RunState::Running, None, None);
        (manifest.rank, manifest.world_size) = (ranks.rank, ranks.world_size);
        // The other facts follow within a second.
        manifest.facts = RunFacts::default();
        manifest.facts.host = RunFacts::own_host().unwrap_or_default();
        manifest.facts.pid = std::process::id();
        Self {
            info: info.clone(),
            rank: ranks.rank,
            ledger: Arc::clone(ledger),
            manifest,
            written: None,
            lock,
            begun: Instant::now(),
        }
    }

    /// Goes on with the run of a process that has forked this one and is gone. Returns `None` if
    /// another process has the lock.
    pub(super) fn take_over(info: &RunInfo, rank: u32, ledger: &Arc<Ledger>) -> Option<Self> {
        let lock = ProcessLock::acquire(&RunManifest::lock_path(info.dir(), rank)).ok()??;
        let mut manifest = RunManifest::read(info.dir()).ok()?;
        manifest.facts.pid = std::process::id();
        (manifest.state, manifest.ended, manifest.exit_code) = (RunState::Running, None, None);
        if let Some(attempt) = manifest.attempts.last_mut() {
            (attempt.state, attempt.ended) = (RunState::Running, None);
        }
        let is_same = manifest.id == info.id();
        is_same.then(|| Self {
            info: info.clone(),
            rank,
            ledger: Arc::clone(ledger),
            manifest,
            written: None,
            lock: Some(lock),
            begun: Instant::now(),
        })
    }

    pub(super) fn info(&self) -> &RunInfo {
        &self.info
    }

    /// Takes the lock, gives a first sign of life, and writes the manifest.
    pub(super) fn begin(&mut self) {
        if let Err(error) = self.take_lock() {
            let path = RunManifest::lock_path(self.info.dir(), self.rank);
            self.report("lock", &format!("cannot lock {}: {error}", path.display()));
        }
        if let Some(lock) = &self.lock {
            // The file may be that of an earlier attempt.
            let _ = lock.touch();
        }
        self.write();
    }

    pub(super) fn add_logger(&mut self, name: &str) {
        if !self.manifest.loggers.iter().any(|known| known == name) {
            self.manifest.loggers.push(name.to_owned());
        }
    }

    /// Notes the highest step and the use of the time so far.
    pub(super) fn note_progress(&mut self, step: Option<u64>) {
        if let Some(attempt) = self.manifest.attempts.last_mut() {
            attempt.last_step = attempt.last_step.max(step);
            attempt.ledger = self.ledger.read_seconds();
            attempt.checkpoints = self.ledger.checkpoints();
        }
    }

    /// Takes the lock if this process does not hold it: another one had it at the first try, such
    /// as a reader, or the folder was removed or moved, and a sink has made it again.
    pub(super) fn hold(&mut self) {
        // The first try has reported an error.
        let _ = self.take_lock();
        self.report_twin();
    }

    /// Gives a sign of life.
    pub(super) fn touch(&mut self) {
        if let Some(lock) = &self.lock {
            // Readers on this machine look at the lock itself.
            let _ = lock.touch();
        }
    }

    /// Ends the run, and releases the lock.
    pub(super) fn end(mut self, state: RunState, exit_code: i32) {
        self.manifest.end(state, exit_code, now());
        self.write();
    }

    /// Writes the manifest if it has changed, or is not in the folder any more.
    pub(super) fn write(&mut self) {
        self.complete();
        let is_unchanged = self.written.as_ref() == Some(&self.manifest);
        if self.rank != 0 || is_unchanged && !self.is_missing() || self.is_superseded() {
            return;
        }
        // A folder that was made again must not look like that of a killed run, which another
        // process may go on with or delete.
        let _ = self.take_lock();
        match self.manifest.write(self.info.dir()) {
            Ok(()) => self.written = Some(self.manifest.clone()),
            Err(error) => {
                let path = self.info.dir().join(RunManifest::FILE);
                self.report("manifest", &format!("cannot write {}: {error}", path.display()));
            }
        }
    }

    /// Adds what has become known.
    fn complete(&mut self) {
        for run in self.info.wandb_runs() {
            match self.manifest.wandb.iter_mut().find(|known| known.id == run.id) {
                Some(known) => *known = run,
                None => self.manifest.wandb.push(run),
            }
        }
        if let Some(facts) = self.info.facts() {
            self.manifest.facts.clone_from(facts);
            // The facts may be those of the process that has forked this one.
            self.manifest.facts.pid = std::process::id();
        }
        self.manifest.ring = self.info.ring().map(|path| path.to_string_lossy().into_owned());
        if let Some(attempt) = self.manifest.attempts.last_mut() {
            attempt.first_step = self.info.first_steps();
        }
    }

    /// Returns `true` if a later run writes into the same folder.
    fn is_superseded(&self) -> bool {
        self.written.is_some() && RunManifest::read(self.info.dir()).is_ok_and(|there| there.id != self.manifest.id)
    }

    /// Returns `true` if the folder is there, and the manifest is not.
    fn is_missing(&self) -> bool {
        let there = self.info.dir().join(RunManifest::FILE).symlink_metadata();
        there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) && self.info.dir().is_dir()
    }

    fn take_lock(&mut self) -> io::Result<()> {
        if !self.holds_lock() {
            let lock = ProcessLock::acquire(&RunManifest::lock_path(self.info.dir(), self.rank))?;
            self.lock = lock.or(self.lock.take());
        }
        Ok(())
    }

    fn holds_lock(&self) -> bool {
        let path = RunManifest::lock_path(self.info.dir(), self.rank);
        self.lock.as_ref().is_some_and(|lock| lock.is_at(&path))
    }

    /// Says once that another process of this rank lives, such as one that a restart of the
    /// launcher has not ended. Returns `true` if it did.
    fn report_twin(&self) -> bool {
        let path = RunManifest::lock_path(self.info.dir(), self.rank);
        let is_held = || {
            let lock = files::open_no_follow(&path);
            // Readers have the lock together with others.
            let is_held = |error| matches!(error, TryLockError::WouldBlock);
            lock.is_ok_and(|lock| lock.try_lock_shared().is_err_and(is_held))
        };
        if self.begun.elapsed() < END_TIMEOUT || self.holds_lock() || !is_held() {
            return false;
        }
        let dir = self.info.dir();
        // The recovery that has found the ring of the other process has said the same of the
        // folder.
        let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        print_notice(
            &format!("shared folder {}", folder.display()),
            &format!(
                "another process is rank {} of the run in {}, too: both append to the same files. End one of them; \
                 `fuser {}` tells the number of the other one",
                self.rank,
                dir.display(),
                path.display()
            ),
        )
    }

    fn report(&self, kind: &str, text: &str) {
        print_notice(&format!("{kind} {}", self.info.dir().display()), text);
    }
}

/// Returns a time in seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn now() -> f64 {
    seconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use logcore::LogConfig;

    use super::*;

    fn first_attempt(info: &RunInfo) -> RunRecord {
        let ranks = Ranks::from_config(&LogConfig::default());
        RunRecord::new(info, ranks, &Arc::new(Ledger::new()), EarlierRun::default())
    }

    #[test]
    fn a_child_that_takes_over_has_its_own_id_in_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let info = RunInfo::new("k3v9q2ab", "trainer", folder.path(), 1);
        let mut parent = first_attempt(&info);
        parent.manifest.facts.pid = 1;
        parent.begin();
        drop(parent);
        RunRecord::take_over(&info, 0, &Arc::new(Ledger::new()))
            .unwrap()
            .begin();
        let manifest = RunManifest::read(folder.path()).unwrap();
        assert_eq!(
            (manifest.facts.pid, manifest.state),
            (std::process::id(), RunState::Running)
        );
    }

    #[test]
    fn a_second_live_process_of_a_rank_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let info = RunInfo::new("k3v9q2ab", "trainer", folder.path(), 1);
        let mut first = first_attempt(&info);
        first.begin();
        let mut second = first_attempt(&info);
        second.begin();
        assert!(!second.report_twin(), "the first one may be ending");
        second.begun -= END_TIMEOUT;
        assert!(second.report_twin() && !second.report_twin());
        drop(first);
        second.hold();
        assert!(second.lock.is_some());

        // A reader is no process of the run.
        let folder = tempfile::tempdir().unwrap();
        let info = RunInfo::new("k3v9q2ab", "trainer", folder.path(), 1);
        let reader = std::fs::File::create(RunManifest::lock_path(folder.path(), 0)).unwrap();
        reader.lock_shared().unwrap();
        let mut read = first_attempt(&info);
        read.begin();
        read.begun -= END_TIMEOUT;
        assert!(read.lock.is_none() && !read.report_twin());
    }

    #[test]
    fn a_folder_that_was_removed_and_made_again_is_that_of_a_live_run() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("run");
        std::fs::create_dir(&dir).unwrap();
        let mut record = first_attempt(&RunInfo::new("k3v9q2ab", "trainer", &dir, 1));
        record.begin();
        let is_live = || RunManifest::read(&dir).is_ok_and(|run| run.read_state(&dir) == RunState::Running);
        assert!(is_live());
        for moved in [true, false] {
            match moved {
                true => std::fs::rename(&dir, outer.path().join("moved")).unwrap(),
                false => std::fs::remove_dir_all(&dir).unwrap(),
            }
            record.hold();
            record.write();
            assert!(!dir.exists(), "a sink makes the folder when it writes");
            std::fs::create_dir(&dir).unwrap();
            record.hold();
            record.write();
            assert!(is_live() && record.holds_lock(), "moved: {moved}");
        }
        let moved = outer.path().join("moved");
        assert_eq!(
            RunManifest::read(&moved).unwrap().read_state(&moved),
            RunState::Killed,
            "nobody writes there any more"
        );
        record.end(RunState::Finished, 0);
        assert_eq!(RunManifest::read(&dir).unwrap().state, RunState::Finished);
    }

    #[test]
    fn the_lock_of_an_earlier_attempt_is_a_fresh_sign_of_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = RunManifest::lock_path(folder.path(), 0);
        let old = SystemTime::now() - Duration::from_secs(1000);
        std::fs::File::create(&path).unwrap().set_modified(old).unwrap();
        let info = RunInfo::new("k3v9q2ab", "trainer", folder.path(), 1);
        first_attempt(&info).begin();
        assert!(path.metadata().unwrap().modified().unwrap() > old + Duration::from_secs(900));
    }
}
