//! Small JSON files that several sinks of a process write together, each replaced as a whole.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use logcore::serde_json::{self, Map, Value};
use logcore::{PerProcess, SinkError};

/// Changes the document of this process at `path`, which begins as `first`, and writes it.
pub(crate) fn update(
    path: &Path,
    first: impl FnOnce() -> Map<String, Value>,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), SinkError> {
    let mut documents = documents();
    let document = documents
        .get_or_insert_default()
        .entry(path.to_owned())
        .or_insert_with(first);
    change(document);
    replace(path, document).map_err(|error| SinkError::from(error).doing(format!("write {}", path.display())))
}

/// The next run at `path` begins with a document of its own.
pub(crate) fn forget(path: &Path) {
    documents().get_or_insert_default().remove(path);
}

/// What an earlier process has left at `path`, if it can be read.
pub(crate) fn read(path: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// By path, what the documents of this process hold.
fn documents() -> MutexGuard<'static, Option<HashMap<PathBuf, Map<String, Value>>>> {
    static DOCUMENTS: PerProcess<Mutex<Option<HashMap<PathBuf, Map<String, Value>>>>> =
        PerProcess::new(|_| Mutex::default());
    DOCUMENTS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces the file in one go: a reader finds the old or the new one, never half of it.
fn replace(path: &Path, document: &Map<String, Value>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    let replaced = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    replaced
}
