//! Checks `run.json`: while processes live and die, and at the end.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, ensure};
use facade::logcore::{RunManifest, RunState};
use serde_json::Value;

use crate::check::{files, log_folders};
use crate::findings::Findings;
use crate::stage::{Life, Stage};

const MANIFEST: &str = "run.json";
/// The file that the process of a live run holds a lock on.
const LOCK: &str = ".lock";
const STATES: [&str; 6] = ["running", "finished", "failed", "interrupted", "preempted", "killed"];

/// A thread that reads every `run.json` beneath a log directory, again and again, while processes
/// write there, and asks for the state of its run.
pub(crate) struct ManifestReader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<ReadManifests>,
}

/// All that the thread has seen.
#[derive(Default)]
struct ReadManifests {
    /// Id of the run, and number of attempts, by folder.
    seen: BTreeMap<PathBuf, (String, usize)>,
    trouble: Vec<String>,
    reads: u64,
}

impl ManifestReader {
    pub(crate) fn start(root: &Path, stage: Arc<Stage>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (root, is_stopped) = (root.to_owned(), Arc::clone(&stop));
        let read_all = move || {
            let mut read = ReadManifests::default();
            while !is_stopped.load(Ordering::Relaxed) {
                for folder in log_folders(&root).unwrap_or_default() {
                    read.look(&folder, folder == root);
                    read.look_at_state(&folder, &stage);
                }
                thread::yield_now();
            }
            read
        };
        let thread = thread::Builder::new().name("manifests".into()).spawn(read_all)?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread. Returns the number of reads.
    pub(crate) fn stop(self, findings: &mut Findings) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(read) => {
                read.trouble.into_iter().for_each(|trouble| findings.other(trouble));
                read.reads
            }
            Err(_) => {
                findings.other("the reader of run.json panicked".to_owned());
                0
            }
        }
    }
}

impl ReadManifests {
    fn look(&mut self, folder: &Path, is_flat: bool) {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if self.seen.contains_key(folder) {
                    self.trouble.push(format!("{} is gone: {error}", path.display()));
                }
                return;
            }
        };
        self.reads += 1;
        let before = self.seen.get(folder).cloned();
        match inspect(&bytes) {
            Err(fault) => self.trouble.push(format!("{}: {fault:#}", path.display())),
            Ok((id, attempts)) => {
                // A run without a folder of its own has the run.json of the newest start.
                if let Some((old, count)) = before.filter(|_| !is_flat)
                    && (old != id || attempts < count)
                {
                    self.trouble.push(format!(
                        "{}: run {id} with {attempts} attempts after {old} with {count}",
                        path.display()
                    ));
                }
                self.seen.insert(folder.to_owned(), (id, attempts));
            }
        }
        self.trouble.truncate(MOST_TROUBLE);
    }

    /// Checks that the run of the live process, and no other, is running for a reader.
    fn look_at_state(&mut self, folder: &Path, stage: &Stage) {
        let (number, life) = stage.get();
        let Ok(manifest) = RunManifest::read(folder) else {
            return;
        };
        let state = manifest.read_state(folder);
        let is_live = life == Life::Ready && manifest.facts.pid == stage.pid();
        let is_true = match state {
            RunState::Running => is_live,
            RunState::Unknown => false,
            _ => !is_live,
        };
        if life != Life::Changing && !is_true && stage.get().0 == number {
            self.trouble.push(format!(
                "{}: the run of process {} is {state:?}, with {life:?} of process {}",
                folder.display(),
                manifest.facts.pid,
                stage.pid()
            ));
        }
    }
}

/// Number of faults that the reader keeps.
const MOST_TROUBLE: usize = 20;

/// Checks that a `run.json` is complete and does not contradict itself. Returns the id of the run,
/// and the number of attempts.
fn inspect(bytes: &[u8]) -> Result<(String, usize)> {
    let manifest: Value = serde_json::from_slice(bytes)?;
    let id = manifest["id"].as_str().context("it has no id")?.to_owned();
    let state = manifest["state"].as_str().context("it has no state")?;
    ensure!(STATES.contains(&state), "its state is {state:?}");
    ensure!(
        (state == "running") == manifest["ended"].is_null(),
        "its state is {state:?}, and it ended at {}",
        manifest["ended"]
    );
    let attempts = manifest["attempts"].as_array().context("it has no attempts")?;
    let newest = attempts.last().context("it has no attempt")?;
    ensure!(newest["state"] == state, "its newest attempt is {}", newest["state"]);
    let mut earlier = 0.0;
    for attempt in attempts {
        let started = attempt["started"].as_f64().context("an attempt has no start")?;
        ensure!(started >= earlier, "an attempt starts before the one before ends");
        earlier = attempt["ended"].as_f64().unwrap_or(started);
        ensure!(earlier >= started, "an attempt ends before it starts");
    }
    let ended = attempts.split_last().map_or(&[][..], |(_, earlier)| earlier);
    ensure!(
        ended
            .iter()
            .all(|attempt| attempt["state"] != "running" && !attempt["ended"].is_null()),
        "an earlier attempt has no end"
    );
    Ok((id, attempts.len()))
}

/// Returns the state that a reader finds for the run of a process, by `run.json` and the lock;
/// `None` if there is no such run.
pub(crate) fn state_of(root: &Path, pid: u32) -> Result<Option<String>> {
    for folder in log_folders(root)? {
        let Ok(bytes) = fs::read(folder.join(MANIFEST)) else {
            continue;
        };
        let manifest: Value = serde_json::from_slice(&bytes).with_context(|| folder.display().to_string())?;
        if manifest["pid"] != pid {
            continue;
        }
        let lock = File::open(folder.join(LOCK)).map(|lock| lock.try_lock_shared());
        let is_live = matches!(lock, Ok(Err(TryLockError::WouldBlock)));
        let written = manifest["state"].as_str().unwrap_or_default();
        return Ok(Some(match (written, is_live) {
            ("running", false) => "killed".to_owned(),
            (written, _) => written.to_owned(),
        }));
    }
    Ok(None)
}

/// Checks every `run.json` after all processes are dead and recovered: each attempt has its end,
/// and its last step is that of its rows.
pub(crate) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    for folder in log_folders(root)? {
        let Ok(bytes) = fs::read(folder.join(MANIFEST)) else {
            continue;
        };
        let shown = folder.join(MANIFEST);
        let shown = shown.display();
        if let Err(fault) = inspect(&bytes) {
            findings.other(format!("{shown}: {fault:#}"));
            continue;
        }
        let manifest: Value = serde_json::from_slice(&bytes)?;
        if manifest["state"] == "running" {
            findings.other(format!("{shown}: the run is over, and its state is running"));
        }
        if folder == root {
            continue;
        }
        let steps = last_steps(&folder)?;
        for (number, attempt) in (1..).zip(manifest["attempts"].as_array().into_iter().flatten()) {
            let last = steps.get(&number).copied();
            let written = attempt["last_step"].as_u64();
            // A call that the end by a signal has stopped has a step, does not return, and has no
            // row.
            let is_next = |step: u64| last.is_none_or(|last| step == last + 1);
            let is_stopped = attempt["state"] != "killed" && written.is_some_and(is_next);
            if written != last && !is_stopped {
                let found = &attempt["last_step"];
                findings.other(format!(
                    "{shown}: last step of attempt {number} is {found}, that of its rows {last:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Returns the highest step of each attempt, by its rows.
fn last_steps(folder: &Path) -> Result<BTreeMap<u64, u64>> {
    let mut steps: BTreeMap<u64, u64> = BTreeMap::new();
    for path in files(folder, "metrics.jsonl")? {
        for line in fs::read_to_string(path)?.lines() {
            let row: Value = serde_json::from_str(line)?;
            let (attempt, step) = (row["attempt"].as_u64().unwrap_or(1), row["step"].as_u64());
            if let Some(step) = step {
                let last = steps.entry(attempt).or_default();
                *last = step.max(*last);
            }
        }
    }
    Ok(steps)
}
