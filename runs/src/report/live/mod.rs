//! The same page over runs that go on: the page asks for the curves of the runs that it draws, and
//! hears of what has come since.

mod followed_run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use logcore::{RunManifest, RunState};
use serde_json::json;

use self::followed_run::{FollowedRun, RunNews};
use crate::report::page::Page;
use crate::report::run_data::live_runs_json;
use crate::run::read_folders;
use crate::{RunError, StoredRun};

/// Most bytes of what describes all runs.
const MAX_LIST_BYTES: usize = 32 << 20;
/// Most buckets of the runs that are held, of 136 bytes each.
const MAX_HELD_BUCKETS: usize = 1_600_000;

/// The runs in a folder, for a page that shows them while they go on.
///
/// Each run has a key, by which the page asks for it. A key is looked up among the runs that were
/// listed, and never becomes a path. Files are read on from where they were; the runs that nobody
/// has asked for lately are forgotten when the others need the memory.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// use logcore_runs::report::LiveRuns;
/// use std::fs::{self, File};
/// use std::io::Write as _;
///
/// fs::create_dir(log_dir.join("baseline")).unwrap();
/// fs::write(log_dir.join("baseline/run.json"), r#"{"name":"mnist","state":"finished"}"#).unwrap();
/// let path = log_dir.join("baseline/metrics.jsonl");
/// fs::write(&path, "{\"step\":1,\"time\":1.0,\"logger\":\"a\",\"loss\":0.5}\n").unwrap();
///
/// let runs = LiveRuns::new(log_dir);
/// let page = runs.page()?;
/// assert!(page.html.contains("mnist") && page.policy.contains("connect-src 'self'"));
/// assert!(runs.load("baseline")?.unwrap().ends_with(&0.5_f64.to_le_bytes()));
/// assert!(runs.load("../baseline")?.is_none());
///
/// let mut file = File::options().append(true).open(&path).unwrap();
/// file.write_all(b"{\"step\":2,\"time\":1.5,\"logger\":\"a\",\"loss\":0.4}\n").unwrap();
/// let news = runs.read_run("baseline")?.unwrap();
/// assert_eq!((news.kind, news.key.as_str()), ("rows", "baseline"));
/// # Ok::<(), logcore_runs::RunError>(())
/// ```
#[derive(Debug)]
pub struct LiveRuns {
    log_dir: PathBuf,
    /// The runs that were listed, by their keys.
    listed: Mutex<BTreeMap<String, ListedRun>>,
    /// The keys of the runs that have come, changed or gone since somebody asked.
    changed: Mutex<BTreeSet<String>>,
    held: Mutex<HashMap<String, HeldRun>>,
    last_version: AtomicU64,
}

/// The page over live runs; returned by [`LiveRuns::page`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LivePage {
    /// The whole page.
    pub html: String,
    /// Its content security policy, which a server sends as a header.
    pub policy: String,
}

/// Something that has come since the page was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveNews {
    /// `run`: a run is new, or its state has changed. `gone`: its folder is gone. `rows`: rows and
    /// lines have come. `reload`: the page asks for the run again.
    pub kind: &'static str,
    /// Key of the run.
    pub key: String,
    /// The news as JSON.
    pub json: String,
}

#[derive(Debug)]
struct ListedRun {
    run: StoredRun,
    file: FileMark,
}

/// Tells that a file has been written anew.
#[derive(Debug, PartialEq, Eq)]
struct FileMark {
    length: u64,
    modified: Option<SystemTime>,
}

#[derive(Debug)]
struct HeldRun {
    used: Instant,
    buckets: usize,
    slot: Arc<Mutex<Slot>>,
}

/// A run, unless it is not read yet, with the version of what was read.
#[derive(Default)]
struct Slot {
    followed: Option<FollowedRun>,
    version: u64,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl LiveRuns {
    /// Creates the view of a `log_dir`, which is read when a call asks for it.
    #[must_use]
    pub fn new(log_dir: &Path) -> Self {
        Self {
            log_dir: log_dir.to_owned(),
            listed: Mutex::default(),
            changed: Mutex::default(),
            held: Mutex::default(),
            last_version: AtomicU64::new(0),
        }
    }

    /// Lists the runs, and writes the page around what describes them.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn page(&self) -> Result<LivePage, RunError> {
        self.list()?;
        let listed = lock(&self.listed);
        let mut runs: Vec<(&str, &StoredRun)> = listed.iter().map(|(key, listed)| (&**key, &listed.run)).collect();
        runs.sort_by(|(_, a), (_, b)| b.manifest.started.total_cmp(&a.manifest.started));
        let json = live_runs_json(&runs, MAX_LIST_BYTES);
        let page = Page::live(&json);
        Ok(LivePage {
            html: page.parts().collect(),
            policy: page.policy,
        })
    }

    /// Returns the curves and the newest lines of a run, in the form that the page reads; `None` if
    /// no listed run has the key.
    ///
    /// # Errors
    ///
    /// If the run cannot be read.
    pub fn load(&self, key: &str) -> Result<Option<Vec<u8>>, RunError> {
        self.with_run(key, |slot, run| {
            let followed = match &mut slot.followed {
                Some(followed) => followed,
                None => {
                    slot.version = self.next_version();
                    slot.followed.insert(FollowedRun::read(run)?)
                }
            };
            Ok(followed.encode(slot.version))
        })
    }

    /// Returns the values of one metric of a run between two steps, as [`load`](Self::load) does and
    /// less thinned; `None` if no listed run has the key, or it was not loaded.
    ///
    /// # Errors
    ///
    /// If the run cannot be read.
    pub fn load_part(&self, key: &str, metric: &str, steps: &RangeInclusive<u64>) -> Result<Option<Vec<u8>>, RunError> {
        let part = self.with_run(key, |slot, _| match &slot.followed {
            Some(followed) => followed.encode_part(metric, steps).map(Some),
            None => Ok(None),
        });
        Ok(part?.flatten())
    }

    /// Returns the version of a run that is loaded: the number that its newest rows have in the page.
    #[must_use]
    pub fn version(&self, key: &str) -> Option<u64> {
        let slot = lock(&self.held).get(key).map(|held| Arc::clone(&held.slot))?;
        let slot = lock(&slot);
        slot.followed.is_some().then_some(slot.version)
    }

    /// Reads what a loaded run has got since; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// If the run cannot be read.
    pub fn read_run(&self, key: &str) -> Result<Option<LiveNews>, RunError> {
        let news = self.with_run(key, |slot, _| {
            let Some(followed) = &mut slot.followed else {
                return Ok(None);
            };
            let Some(news) = followed.read_on()? else {
                return Ok(None);
            };
            let from = slot.version;
            slot.version = self.next_version();
            let (kind, json) = match news {
                RunNews::More { rows, lines } => (
                    "rows",
                    json!({"key": key, "from": from, "version": slot.version, "rows": rows, "lines": lines}),
                ),
                RunNews::Reload => ("reload", json!({"key": key})),
            };
            Ok(Some(LiveNews {
                kind,
                key: key.to_owned(),
                json: json.to_string(),
            }))
        });
        Ok(news?.flatten())
    }

    /// Lists the runs again, and returns those that are new, have changed, or are gone since the last
    /// call.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn read_list(&self) -> Result<Vec<LiveNews>, RunError> {
        self.list()?;
        let changed = std::mem::take(&mut *lock(&self.changed));
        let listed = lock(&self.listed);
        let news = changed.into_iter().map(|key| match listed.get(&key) {
            Some(known) => LiveNews {
                kind: "run",
                json: live_runs_json(&[(&key, &known.run)], MAX_LIST_BYTES),
                key,
            },
            None => LiveNews {
                kind: "gone",
                json: json!({ "key": key }).to_string(),
                key,
            },
        });
        Ok(news.collect())
    }

    /// Lists the runs again, and notes what has changed.
    fn list(&self) -> Result<(), RunError> {
        let folders = read_folders(&self.log_dir)?;
        let mut listed = lock(&self.listed);
        let mut changed = lock(&self.changed);
        let mut before = std::mem::take(&mut *listed);
        for folder in folders {
            let key = key_of(&folder, &self.log_dir);
            let Ok(metadata) = folder.join(RunManifest::FILE).symlink_metadata() else {
                continue;
            };
            let file = FileMark {
                length: metadata.len(),
                modified: metadata.modified().ok(),
            };
            let known = before.remove(&key);
            // Whether a process lives is not in the file.
            let is_over = |run: &ListedRun| !matches!(run.run.state, RunState::Running | RunState::Unknown);
            if let Some(known) = known.as_ref().filter(|known| known.file == file && is_over(known)) {
                let run = known.run.clone();
                listed.insert(key, ListedRun { run, file });
                continue;
            }
            let Ok(run) = StoredRun::open(&folder) else {
                continue;
            };
            let is_same = |known: &ListedRun| known.file == file && known.run.state == run.state;
            if !known.as_ref().is_some_and(is_same) {
                changed.insert(key.clone());
            }
            listed.insert(key, ListedRun { run, file });
        }
        let mut held = lock(&self.held);
        for gone in before.into_keys() {
            held.remove(&gone);
            changed.insert(gone);
        }
        Ok(())
    }

    /// Does something with a listed run; `None` if no run has the key.
    fn with_run<T>(
        &self,
        key: &str,
        call: impl FnOnce(&mut Slot, StoredRun) -> Result<T, RunError>,
    ) -> Result<Option<T>, RunError> {
        let run = match lock(&self.listed).get(key) {
            Some(listed) => listed.run.clone(),
            None => return Ok(None),
        };
        let slot = {
            let mut held = lock(&self.held);
            let held = held.entry(key.to_owned()).or_insert_with(|| HeldRun {
                used: Instant::now(),
                buckets: 0,
                slot: Arc::default(),
            });
            held.used = Instant::now();
            Arc::clone(&held.slot)
        };
        let mut slot = lock(&slot);
        let result = call(&mut slot, run);
        let buckets = slot.followed.as_ref().map_or(0, FollowedRun::buckets);
        drop(slot);
        self.forget_oldest(key, buckets);
        result.map(Some)
    }

    /// Notes the size of a run, and forgets the runs that were used least lately until the others fit.
    fn forget_oldest(&self, key: &str, buckets: usize) {
        let mut held = lock(&self.held);
        if let Some(own) = held.get_mut(key) {
            own.buckets = buckets;
        }
        while held.values().map(|run| run.buckets).sum::<usize>() > MAX_HELD_BUCKETS {
            let oldest = held
                .iter()
                .filter(|(own, _)| *own != key)
                .min_by_key(|(_, run)| run.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            held.remove(&oldest);
        }
    }

    /// Returns a version that no run has had.
    fn next_version(&self) -> u64 {
        self.last_version.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Returns the name of the folder, which no other folder of the same `log_dir` has.
fn key_of(folder: &Path, log_dir: &Path) -> String {
    match folder == log_dir {
        true => ".".to_owned(),
        // A name that is no UTF-8 gets its bytes, so that two of them stay two.
        false => match folder.file_name().unwrap_or_default() {
            name if name.to_str().is_some() => name.to_string_lossy().into_owned(),
            name => format!("{name:?}"),
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
