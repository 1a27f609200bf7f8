//! The same page over runs that go on: the page asks for the curves of the runs that it draws, and
//! hears of what has come since.

mod followed_health;
mod followed_run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use logcore::{RunManifest, RunState};
use serde_json::json;

use self::followed_run::{FollowedRun, RunNews};
use crate::media::MEDIA_INDEX;
use crate::report::page::Page;
use crate::report::run_data::live_runs_json;
use crate::run::read_folders;
use crate::{RunError, StoredRun};

/// Most bytes of what describes all runs.
const MAX_LIST_BYTES: usize = 32 << 20;
/// Most bytes of the curves and lines of the runs that are held.
const MAX_HELD_BYTES: usize = 120_000_000;
/// Most bytes of a media file that is sent.
const MAX_MEDIA_BYTES: u64 = 64 << 20;
/// Time without a look at its news from which on nobody watches a run.
const UNWATCHED: Duration = Duration::from_secs(5);
/// Most changes that are told one by one; with more, a page lists the runs again.
const MAX_CHANGES: usize = 50;

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
    /// Version of the list.
    list_version: AtomicU64,
    held: Mutex<HashMap<String, HeldRun>>,
    /// Versions go up, also from one server to the next.
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

/// The file of a media value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveMedia {
    /// The content.
    pub bytes: Vec<u8>,
    /// The type that a server gives the content: that of an image, a page, a text or JSON, or
    /// `application/octet-stream` for all others, which a browser saves and does not show.
    pub content_type: &'static str,
}

/// Something that has come since the page was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveNews {
    /// `run`: a run is new, or its state has changed. `gone`: its folder is gone. `list`: the page
    /// lists the runs again. `rows`: rows, lines, events or states of ranks have come. `reload`:
    /// the page asks for the run again.
    pub kind: &'static str,
    /// Key of the run; empty for a `list`.
    pub key: String,
    /// The news as JSON.
    pub json: String,
}

#[derive(Debug)]
struct ListedRun {
    run: StoredRun,
    files: FileMarks,
}

/// Tells that one of the files has been written anew that describe a run.
#[derive(Debug, PartialEq, Eq)]
struct FileMarks([Option<(u64, Option<SystemTime>)>; 4]);

impl FileMarks {
    /// Looks at the files in a folder; `None` if the folder holds no run.
    fn look(folder: &Path) -> Option<Self> {
        let marks = [RunManifest::FILE, "config.json", "summary.json", MEDIA_INDEX].map(|name| {
            let metadata = folder.join(name).symlink_metadata().ok()?;
            Some((metadata.len(), metadata.modified().ok()))
        });
        marks[0].is_some().then_some(Self(marks))
    }
}

#[derive(Debug, Clone)]
struct HeldRun {
    used: Instant,
    /// The last look at the news of the run.
    watched: Option<Instant>,
    /// `true` until a page is told that the run was forgotten.
    is_forgotten: bool,
    bytes: usize,
    slot: Arc<Slot>,
}

impl HeldRun {
    fn new() -> Self {
        Self {
            used: Instant::now(),
            watched: None,
            is_forgotten: false,
            bytes: 0,
            slot: Arc::default(),
        }
    }

    fn is_watched(&self) -> bool {
        self.watched.is_some_and(|watched| watched.elapsed() < UNWATCHED)
    }

    fn forget(&mut self) {
        (self.bytes, self.is_forgotten, self.slot) = (0, true, Arc::default());
    }
}

/// A run, once it is read, with the version of what was read. The version is 0 before.
#[derive(Default)]
struct Slot {
    followed: Mutex<Option<FollowedRun>>,
    version: AtomicU64,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            list_version: AtomicU64::new(0),
            held: Mutex::default(),
            last_version: AtomicU64::new(microseconds_since_1970()),
        }
    }

    /// Lists the runs, and writes the page around what describes them.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn page(&self) -> Result<LivePage, RunError> {
        let json = self.describe()?;
        let page = Page::live(&json);
        Ok(LivePage {
            html: page.parts().collect(),
            policy: page.policy,
        })
    }

    /// Lists the runs, and returns what describes them as the page has it.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn describe(&self) -> Result<String, RunError> {
        self.list()?;
        // Read before the runs, so that a later change makes the list older than it is, and not
        // newer.
        let version = self.list_version();
        let mut runs: Vec<(String, StoredRun)> = lock(&self.listed)
            .iter()
            .map(|(key, listed)| (key.clone(), listed.run.clone()))
            .collect();
        runs.sort_by(|(_, a), (_, b)| b.manifest.started.total_cmp(&a.manifest.started));
        // Without the lock: the documents of all runs are read.
        let runs: Vec<(&str, &StoredRun)> = runs.iter().map(|(key, run)| (&**key, run)).collect();
        Ok(live_runs_json(&runs, version, MAX_LIST_BYTES))
    }

    /// Returns the version of the list of runs.
    #[must_use]
    pub fn list_version(&self) -> u64 {
        self.list_version.load(Ordering::Acquire)
    }

    /// Returns the curves and the newest lines of a run, in the form that the page reads; `None` if
    /// no listed run has the key.
    ///
    /// # Errors
    ///
    /// If the run cannot be read.
    pub fn load(&self, key: &str) -> Result<Option<Vec<u8>>, RunError> {
        let (Some(run), Some(slot)) = (self.listed_run(key), self.find(key)) else {
            return Ok(None);
        };
        let mut held = lock(&slot.followed);
        let followed = match &mut *held {
            Some(followed) => followed,
            None => {
                let followed = held.insert(FollowedRun::read(run)?);
                slot.version.store(self.next_version(), Ordering::Release);
                followed
            }
        };
        let bytes = followed.encode(slot.version.load(Ordering::Acquire));
        let size = followed.bytes();
        drop(held);
        if let Some(held) = lock(&self.held).get_mut(key) {
            held.is_forgotten = false;
        }
        self.keep_small(key, size);
        Ok(Some(bytes))
    }

    /// Returns the values of one metric of a run between two steps, as [`load`](Self::load) does
    /// and less thinned; `None` if no listed run has the key, or it was not loaded.
    ///
    /// # Errors
    ///
    /// If the run cannot be read.
    pub fn load_part(&self, key: &str, metric: &str, steps: &RangeInclusive<u64>) -> Result<Option<Vec<u8>>, RunError> {
        let Some(slot) = self.find(key) else {
            return Ok(None);
        };
        let held = lock(&slot.followed);
        held.as_ref()
            .map(|followed| followed.encode_part(metric, steps))
            .transpose()
    }

    /// Reads the file of a media value of the run. `None` if there is no such run or file: the path
    /// comes from a browser, so a path that leads elsewhere is none.
    ///
    /// # Errors
    ///
    /// If the file is longer than 64 MiB, or cannot be read.
    pub fn load_media(&self, key: &str, path: &str) -> Result<Option<LiveMedia>, RunError> {
        let Some(run) = self.listed_run(key) else {
            return Ok(None);
        };
        match run.read_media(path, MAX_MEDIA_BYTES) {
            Ok(bytes) => Ok(Some(LiveMedia {
                bytes,
                content_type: content_type_of(path),
            })),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(RunError::unreadable(&run.dir.join(path), error))
            }
            Err(_) => Ok(None),
        }
    }

    /// Returns the version of a run that is loaded: the number that its newest rows have in the
    /// page.
    #[must_use]
    pub fn version(&self, key: &str) -> Option<u64> {
        let version = lock(&self.held).get(key)?.slot.version.load(Ordering::Acquire);
        Some(version).filter(|version| *version > 0)
    }

    /// Reads what a loaded run has got since; `None` if there is nothing, or another thread is
    /// reading the run.
    ///
    /// # Errors
    ///
    /// If the run cannot be read.
    pub fn read_run(&self, key: &str) -> Result<Option<LiveNews>, RunError> {
        let Some(slot) = self.find(key) else {
            return Ok(None);
        };
        if let Some(held) = lock(&self.held).get_mut(key) {
            held.watched = Some(Instant::now());
            if std::mem::take(&mut held.is_forgotten) {
                return Ok(Some(LiveNews {
                    kind: "reload",
                    key: key.to_owned(),
                    json: json!({ "key": key }).to_string(),
                }));
            }
        }
        let Ok(mut held) = slot.followed.try_lock() else {
            return Ok(None);
        };
        let Some(followed) = &mut *held else {
            return Ok(None);
        };
        let Some(news) = followed.read_on()? else {
            return Ok(None);
        };
        let (from, version) = (slot.version.load(Ordering::Acquire), self.next_version());
        slot.version.store(version, Ordering::Release);
        let (kind, json) = match news {
            RunNews::More { rows, lines, health } => {
                let mut news = health;
                news.extend([
                    ("key".to_owned(), key.into()),
                    ("from".to_owned(), from.into()),
                    ("version".to_owned(), version.into()),
                    ("rows".to_owned(), rows.into()),
                    ("lines".to_owned(), lines.into()),
                ]);
                ("rows", news.into())
            }
            RunNews::Reload => ("reload", json!({"key": key})),
        };
        let size = followed.bytes();
        drop(held);
        self.keep_small(key, size);
        Ok(Some(LiveNews {
            kind,
            key: key.to_owned(),
            json: json.to_string(),
        }))
    }

    /// Lists the runs again, and returns those that are new, have changed, or are gone since the
    /// last call.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn read_list(&self) -> Result<Vec<LiveNews>, RunError> {
        self.list()?;
        let changed = std::mem::take(&mut *lock(&self.changed));
        let version = self.list_version();
        if changed.len() > MAX_CHANGES {
            return Ok(vec![LiveNews {
                kind: "list",
                key: String::new(),
                json: json!({}).to_string(),
            }]);
        }
        let last = changed.len();
        let news = changed.into_iter().zip(1..).map(|(key, number)| {
            // A page that misses a part of the news has an old list.
            let version = if number == last { version } else { 0 };
            let (kind, json) = match self.listed_run(&key) {
                Some(run) => ("run", live_runs_json(&[(&key, &run)], version, MAX_LIST_BYTES)),
                None => ("gone", json!({"key": key, "list": version}).to_string()),
            };
            LiveNews { kind, key, json }
        });
        Ok(news.collect())
    }

    /// Lists the runs again, and notes what has changed.
    fn list(&self) -> Result<(), RunError> {
        let mut listed = lock(&self.listed);
        // With the lock: an older view of the folder must not replace a newer one.
        let folders = read_folders(&self.log_dir)?;
        let mut changed = lock(&self.changed);
        let mut before = std::mem::take(&mut *listed);
        let mut is_changed = false;
        for folder in folders {
            let key = key_of(&folder, &self.log_dir);
            let Some(files) = FileMarks::look(&folder) else {
                continue;
            };
            let known = before.remove(&key);
            // Whether a process lives is not in the file.
            let is_over = |run: &ListedRun| !matches!(run.run.state, RunState::Running | RunState::Unknown);
            if let Some(known) = known.as_ref().filter(|known| known.files == files && is_over(known)) {
                let run = known.run.clone();
                listed.insert(key, ListedRun { run, files });
                continue;
            }
            let Ok(run) = StoredRun::open(&folder) else {
                // Somebody may be writing the file.
                listed.extend(known.map(|known| (key, known)));
                continue;
            };
            let is_same = |known: &ListedRun| known.files == files && known.run.state == run.state;
            if !known.as_ref().is_some_and(is_same) {
                changed.insert(key.clone());
                is_changed = true;
            }
            listed.insert(key, ListedRun { run, files });
        }
        let mut held = lock(&self.held);
        for gone in before.into_keys() {
            held.remove(&gone);
            changed.insert(gone);
            is_changed = true;
        }
        if is_changed {
            self.list_version.store(self.next_version(), Ordering::Release);
        }
        Ok(())
    }

    fn listed_run(&self, key: &str) -> Option<StoredRun> {
        Some(lock(&self.listed).get(key)?.run.clone())
    }

    /// Returns the place where a listed run is held.
    fn find(&self, key: &str) -> Option<Arc<Slot>> {
        if !lock(&self.listed).contains_key(key) {
            return None;
        }
        let mut held = lock(&self.held);
        let held = held.entry(key.to_owned()).or_insert_with(HeldRun::new);
        held.used = Instant::now();
        Some(Arc::clone(&held.slot))
    }

    /// Notes the size of a run. If all runs together are too large, forgets those that nobody
    /// watches, and then thins the largest.
    fn keep_small(&self, key: &str, bytes: usize) {
        let mut held = lock(&self.held);
        if let Some(own) = held.get_mut(key) {
            own.bytes = bytes;
        }
        let size: usize = held.values().map(|run| run.bytes).sum();
        let mut surplus = size.saturating_sub(MAX_HELD_BYTES);
        if surplus == 0 {
            return;
        }
        let unwatched = held
            .iter_mut()
            .filter(|(own, run)| *own != key && run.bytes > 0 && !run.is_watched());
        let mut oldest: Vec<&mut HeldRun> = unwatched.map(|(_, run)| run).collect();
        oldest.sort_by_key(|run| run.used);
        for run in oldest {
            if surplus == 0 {
                break;
            }
            surplus = surplus.saturating_sub(run.bytes);
            run.forget();
        }
        let mut largest: Vec<&mut HeldRun> = held.values_mut().collect();
        largest.sort_by_key(|run| std::cmp::Reverse(run.bytes));
        for run in largest {
            if surplus == 0 {
                break;
            }
            // A run that another thread reads gets its turn later.
            if let Ok(mut followed) = run.slot.followed.try_lock()
                && let Some(followed) = &mut *followed
            {
                followed.thin();
                surplus = surplus.saturating_sub(run.bytes - followed.bytes().min(run.bytes));
                run.bytes = followed.bytes();
            }
        }
    }

    /// Returns a version that no run has had.
    fn next_version(&self) -> u64 {
        self.last_version.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Returns the type of a media file by its name. A program's own files have none that a browser
/// shows.
fn content_type_of(path: &str) -> &'static str {
    const TYPES: [(&str, &str); 5] = [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".html", "text/html; charset=utf-8"),
        (".txt", "text/plain; charset=utf-8"),
        (".table.json", "application/json"),
    ];
    let is_own = !path.starts_with("media/files/");
    let found = TYPES.iter().find(|(suffix, _)| is_own && path.ends_with(suffix));
    found.map_or("application/octet-stream", |(_, kind)| kind)
}

/// Returns the name of the folder, which no other folder of the same `log_dir` has.
fn key_of(folder: &Path, log_dir: &Path) -> String {
    match folder == log_dir {
        true => ".".to_owned(),
        // A name that is no UTF-8 gets its bytes, so that two of them stay two.
        false => match folder.file_name().unwrap_or_default() {
            name if name.to_str().is_some() => name.to_string_lossy().into_owned(),
            // No name of a folder begins so.
            name => format!("/{name:?}"),
        },
    }
}

fn microseconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
