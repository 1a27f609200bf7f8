//! Small JSON files that several sinks of a process write together, each replaced as a whole.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use logcore::escape::escape_json;
use logcore::serde_json::{self, Map, Value};
use logcore::{PerProcess, SinkError};

/// A longer file is no document of ours.
const LONGEST: u64 = 64 << 20;

/// A handle to the document at a path. Its contents are forgotten with the last handle; a later one of the same process reads them
/// from the file, since they are those of the same run.
pub(crate) struct Document {
    key: Key,
    /// `None` until it is first written.
    contents: Arc<Mutex<Contents>>,
}

type Contents = Option<Map<String, Value>>;

/// A path, and whether a killed process has left the document there: no run of this process has a part in that.
type Key = (PathBuf, bool);

/// A child of a fork has documents of its own.
static OPEN: PerProcess<Mutex<HashMap<Key, Weak<Mutex<Contents>>>>> = PerProcess::new(|_| Mutex::default());

/// Where this process has written documents: the paths alone are kept.
static WRITTEN: PerProcess<Mutex<HashSet<PathBuf>>> = PerProcess::new(|_| Mutex::default());

impl Document {
    /// The one document of this process at a path.
    pub(crate) fn shared(path: PathBuf) -> Self {
        Self::of((path, false))
    }

    /// The one that a killed process has left there.
    pub(crate) fn left(path: PathBuf) -> Self {
        Self::of((path, true))
    }

    fn of(key: Key) -> Self {
        let mut all = lock(OPEN.get());
        let known = all.get(&key).and_then(Weak::upgrade);
        let contents = known.unwrap_or_else(|| {
            let contents = Arc::default();
            all.insert(key.clone(), Arc::downgrade(&contents));
            contents
        });
        Self { key, contents }
    }

    fn path(&self) -> &Path {
        &self.key.0
    }

    /// Changes the document, which begins as `first`, and writes it.
    pub(crate) fn update(
        &self,
        first: impl FnOnce(&Path) -> Map<String, Value>,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), SinkError> {
        let mut contents = lock(&self.contents);
        let document = contents.get_or_insert_with(|| self.written_before().unwrap_or_else(|| first(self.path())));
        change(document);
        replace(self.path(), document)
            .map_err(|error| SinkError::from(error).doing(format!("write {}", self.path().display())))?;
        let (path, of_dead_process) = &self.key;
        if !of_dead_process {
            lock(WRITTEN.get()).insert(path.clone());
        }
        Ok(())
    }

    /// The document that an earlier handle of this process has left in the file.
    fn written_before(&self) -> Option<Map<String, Value>> {
        let (path, of_dead_process) = &self.key;
        let known = !of_dead_process && lock(WRITTEN.get()).contains(path);
        known.then(|| read(path)).flatten()
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        let mut all = lock(OPEN.get());
        let known = all.get(&self.key).map(Weak::as_ptr);
        if known == Some(Arc::as_ptr(&self.contents)) && Arc::strong_count(&self.contents) == 1 {
            all.remove(&self.key);
        }
    }
}

/// What an earlier process has left at `path`, if it can be read.
pub(crate) fn read(path: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&logcore_files::read_unlinked(path, LONGEST).ok()?).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn replace(path: &Path, document: &Map<String, Value>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut text = escape_json(&serde_json::to_string_pretty(document)?).into_owned();
    text.push('\n');
    logcore_files::replace(path, text.as_bytes())
}
