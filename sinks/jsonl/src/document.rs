//! Small JSON files that several sinks of a process write together, each replaced as a whole.

use std::collections::{BTreeMap, HashMap, HashSet};
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
pub(crate) struct SharedDocument {
    key: DocumentKey,
    /// `None` until it is first written.
    contents: Arc<Mutex<DocumentContents>>,
}

type DocumentContents = Option<DocumentMembers>;

/// The members of a document. Each is kept as it stands in the file, too: with thousands of loggers, writing all of them anew for each
/// that ends would take minutes.
#[derive(Default)]
pub(crate) struct DocumentMembers {
    all: BTreeMap<String, DocumentMember>,
    /// The whole text as it was written last; kept for its memory.
    text: String,
}

struct DocumentMember {
    value: Value,
    /// `"name": value`, in the lines of the file.
    text: String,
}

impl DocumentMembers {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        Some(&self.all.get(name)?.value)
    }

    /// # Errors
    ///
    /// If it has no form in JSON.
    pub(crate) fn insert(&mut self, name: String, value: Value) -> serde_json::Result<()> {
        let alone = Map::from_iter([(name.clone(), value)]);
        let text = serde_json::to_string_pretty(&alone)?;
        // Between the line of the first brace and that of the last.
        let text = text.strip_prefix("{\n").and_then(|text| text.strip_suffix("\n}"));
        let text = escape_json(text.unwrap_or_default()).into_owned();
        let value = alone.into_iter().next().map_or(Value::Null, |(_, value)| value);
        self.all.insert(name, DocumentMember { value, text });
        Ok(())
    }

    /// The text of the document.
    fn text(&mut self) -> &str {
        self.text.clear();
        self.text.push('{');
        let mut separator = "\n";
        for member in self.all.values() {
            self.text.push_str(separator);
            self.text.push_str(&member.text);
            separator = ",\n";
        }
        self.text.push_str(if self.all.is_empty() { "}\n" } else { "\n}\n" });
        &self.text
    }
}

/// A path, and whether a killed process has left the document there: no run of this process has a part in that.
type DocumentKey = (PathBuf, bool);

/// A child of a fork has documents of its own.
static OPEN: PerProcess<Mutex<HashMap<DocumentKey, Weak<Mutex<DocumentContents>>>>> =
    PerProcess::new(|_| Mutex::default());

/// Where this process has written documents: the paths alone are kept.
static WRITTEN: PerProcess<Mutex<HashSet<PathBuf>>> = PerProcess::new(|_| Mutex::default());

impl SharedDocument {
    /// The one document of this process at a path.
    pub(crate) fn shared(path: PathBuf) -> Self {
        Self::of((path, false))
    }

    /// The one that a killed process has left there.
    pub(crate) fn left(path: PathBuf) -> Self {
        Self::of((path, true))
    }

    fn of(key: DocumentKey) -> Self {
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

    /// Changes the document, which begins as `first`, and writes it: `change` tells which members are new.
    pub(crate) fn update(
        &self,
        first: impl FnOnce(&Path) -> Map<String, Value>,
        change: impl FnOnce(&DocumentMembers) -> Map<String, Value>,
    ) -> Result<(), SinkError> {
        let mut contents = lock(&self.contents);
        let mut begins = Map::new();
        let members = contents.get_or_insert_with(|| {
            begins = self.written_before().unwrap_or_else(|| first(self.path()));
            DocumentMembers::default()
        });
        for (name, value) in begins {
            members.insert(name, value).map_err(SinkError::new)?;
        }
        for (name, value) in change(members) {
            members.insert(name, value).map_err(SinkError::new)?;
        }
        replace(self.path(), members)
            .map_err(|error| SinkError::from(error).doing(format!("write {}", self.path().display())))?;
        let (path, for_dead_process) = &self.key;
        if !for_dead_process {
            lock(WRITTEN.get()).insert(path.clone());
        }
        Ok(())
    }

    /// The document that an earlier handle of this process has left in the file.
    fn written_before(&self) -> Option<Map<String, Value>> {
        let (path, for_dead_process) = &self.key;
        let known = !for_dead_process && lock(WRITTEN.get()).contains(path);
        known.then(|| read(path)).flatten()
    }
}

impl Drop for SharedDocument {
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
    serde_json::from_slice(&logcore_files::read_no_follow(path, LONGEST).ok()?).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn replace(path: &Path, members: &mut DocumentMembers) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    logcore_files::replace(path, members.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use logcore::serde_json::json;

    use super::*;

    #[test]
    fn members_stand_as_in_one_document() {
        let (mut members, mut whole) = (DocumentMembers::default(), Map::new());
        assert_eq!(members.text(), "{}\n");
        for (name, value) in [
            ("b", json!({"x": [1, {"y": "two\nlines \u{202e}"}], "z": {}})),
            ("a\n\"", json!(0.5)),
            ("b", json!([])),
        ] {
            members.insert(name.to_owned(), value.clone()).unwrap();
            whole.insert(name.to_owned(), value);
            let expected = serde_json::to_string_pretty(&whole).unwrap() + "\n";
            assert_eq!(members.text(), escape_json(&expected));
            assert_eq!(members.get(name), whole.get(name));
        }
    }
}
