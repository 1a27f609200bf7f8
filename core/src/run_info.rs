//! The run that a logger belongs to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::sync::lock;
use crate::{Deadline, LogConfig, RunFacts};

/// A run: everything that one process logs into one `log_dir`, from its first logger to its last.
///
/// Clones show the same run, also what becomes known later, such as the address of its W&B page.
///
/// ```
/// use logcore::RunInfo;
/// use std::path::Path;
///
/// let run = RunInfo::new("k3v9q2ab", "trainer", "outputs/logs/trainer-20261129-101500-k3v9", 1);
/// assert_eq!((run.id(), run.name(), run.attempt()), ("k3v9q2ab", "trainer", 1));
/// assert_eq!(run.dir(), Path::new("outputs/logs/trainer-20261129-101500-k3v9"));
/// assert_eq!(run.wandb_url(), None);
/// ```
#[derive(Debug, Clone)]
pub struct RunInfo(Arc<SharedRun>);

#[derive(Debug)]
struct SharedRun {
    id: String,
    name: String,
    dir: PathBuf,
    attempt: u32,
    wandb: Mutex<Vec<WandbRun>>,
    first_steps: Mutex<BTreeMap<String, u64>>,
    ring: OnceLock<PathBuf>,
    facts: OnceLock<RunFacts>,
    /// `true` while somebody collects the facts.
    collecting: Mutex<bool>,
    collected: Condvar,
}

/// A W&B run that belongs to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WandbRun {
    /// Name of the logger.
    pub logger: String,
    /// Rank of the process.
    pub rank: u32,
    /// Id of the W&B run.
    pub id: String,
    /// Address of its page; `None` for a run that is offline, or not yet known to the server.
    pub url: Option<String>,
}

impl RunInfo {
    /// Creates a run. The attempt counts from 1; a resumed run has a higher one.
    #[must_use]
    pub fn new(id: impl Into<String>, name: impl Into<String>, dir: impl Into<PathBuf>, attempt: u32) -> Self {
        Self(Arc::new(SharedRun {
            id: id.into(),
            name: name.into(),
            dir: dir.into(),
            attempt,
            wandb: Mutex::default(),
            first_steps: Mutex::default(),
            ring: OnceLock::new(),
            facts: OnceLock::new(),
            collecting: Mutex::default(),
            collected: Condvar::new(),
        }))
    }

    /// Creates the run of a logger that has no other: its folder is the config's `log_dir`.
    #[must_use]
    pub fn from_config(config: &LogConfig) -> Self {
        Self::new("", &config.name, &config.log_dir, 1)
    }

    /// Returns the id: 8 characters from a-z and 0-9.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns the name, which is that of the run's first logger.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the folder of the run's files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Returns the number of this attempt, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Returns the first steps that loggers have given to this attempt.
    #[must_use]
    pub fn first_steps(&self) -> BTreeMap<String, u64> {
        lock(&self.0.first_steps).clone()
    }

    /// Notes that a logger begins this attempt at `step`: its rows of earlier attempts from there
    /// on are superseded.
    pub fn note_first_step(&self, logger: &str, step: u64) {
        lock(&self.0.first_steps).insert(logger.to_owned(), step);
    }

    /// Returns the path of the ring between callers and writer, unless the ring is plain memory.
    #[must_use]
    pub fn ring(&self) -> Option<&Path> {
        self.0.ring.get().map(PathBuf::as_path)
    }

    /// Sets the path of the ring. Later calls change nothing.
    pub fn note_ring(&self, path: &Path) {
        // Fails if the path is set already.
        let _ = self.0.ring.set(path.to_owned());
    }

    /// Returns the facts about the process and its machine, once they are collected.
    #[must_use]
    pub fn facts(&self) -> Option<&RunFacts> {
        self.0.facts.get()
    }

    /// Waits until `deadline` for facts that somebody [collects](Self::begin_facts).
    ///
    /// ```
    /// use logcore::{Deadline, RunFacts, RunInfo};
    /// use std::time::Duration;
    ///
    /// let run = RunInfo::new("k3v9q2ab", "trainer", "run", 1);
    /// let deadline = Deadline::after(Duration::from_secs(60));
    /// assert_eq!(run.wait_for_facts(deadline), None, "nobody collects them");
    ///
    /// assert!(run.begin_facts());
    /// let collector = run.clone();
    /// std::thread::spawn(move || collector.note_facts(RunFacts { pid: 7, ..RunFacts::default() }));
    /// assert_eq!(run.wait_for_facts(deadline).unwrap().pid, 7);
    /// ```
    #[must_use]
    pub fn wait_for_facts(&self, deadline: Deadline) -> Option<&RunFacts> {
        let mut collecting = lock(&self.0.collecting);
        while *collecting && !deadline.has_passed() {
            let waited = self.0.collected.wait_timeout(collecting, deadline.remaining());
            collecting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.facts()
    }

    /// Announces that the caller collects the facts. Returns `false` if that is done or under way.
    #[must_use]
    pub fn begin_facts(&self) -> bool {
        let mut collecting = lock(&self.0.collecting);
        let begins = self.facts().is_none() && !*collecting;
        *collecting |= begins;
        begins
    }

    /// Sets the facts. Later calls change nothing.
    pub fn note_facts(&self, facts: RunFacts) {
        // Fails if the facts are set already.
        let _ = self.0.facts.set(facts);
        *lock(&self.0.collecting) = false;
        self.0.collected.notify_all();
    }

    /// Returns the address of the page of the first W&B run that has one.
    #[must_use]
    pub fn wandb_url(&self) -> Option<String> {
        lock(&self.0.wandb).iter().find_map(|run| run.url.clone())
    }

    /// Returns the W&B runs.
    #[must_use]
    pub fn wandb_runs(&self) -> Vec<WandbRun> {
        lock(&self.0.wandb).clone()
    }

    /// Adds a W&B run, or replaces what is known of the W&B run with this id.
    pub fn note_wandb_run(&self, run: WandbRun) {
        let mut runs = lock(&self.0.wandb);
        match runs.iter_mut().find(|other| other.id == run.id) {
            Some(known) => *known = run,
            None => runs.push(run),
        }
    }
}
