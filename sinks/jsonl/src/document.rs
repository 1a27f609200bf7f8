//! Small JSON files that several sinks of a process share, and that are replaced as a whole.
//!
//! Loggers with the same folder each have a part in `config.json` and `summary.json`. So the
//! contents of a file are shared by all sinks that write it, and each write replaces the file: a
//! reader sees the old document or the new one, never a part. Runs without folders of their own
//! have one file: that of the newest run, which an older run no longer replaces.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use logcore::escape::escape_json;
use logcore::serde_json::{self, Map, Value};
use logcore::sync::lock;
use logcore::{PerProcess, RunManifest, SinkError};

/// Maximum length of a file that is read back.
const LONGEST: u64 = 64 << 20;

/// A handle to the document at a path.
///
/// The contents are dropped with the last handle. A later handle of the same process reads them
/// from the file, because they belong to the same run.
pub(crate) struct SharedDocument {
    key: DocumentKey,
    /// Id of the run that may replace the file; `None` if any may.
    run: Option<String>,
    /// `None` until the document is first written.
    contents: Arc<Mutex<DocumentContents>>,
}

type DocumentContents = Option<DocumentMembers>;

/// The members of a document, each with its text in the file: with thousands of loggers, formatting
/// all members again for each logger that ends would take minutes.
#[derive(Default)]
pub(crate) struct DocumentMembers {
    all: BTreeMap<String, DocumentMember>,
    /// The text that was written last. It is kept so that its memory is reused.
    text: String,
}

struct DocumentMember {
    value: Value,
    /// The lines `"name": value` of the file.
    text: String,
}

impl DocumentMembers {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        Some(&self.all.get(name)?.value)
    }

    /// Adds or replaces a member.
    ///
    /// # Errors
    ///
    /// If the value has no form in JSON.
    pub(crate) fn insert(&mut self, name: String, value: Value) -> serde_json::Result<()> {
        let alone = Map::from_iter([(name.clone(), value)]);
        let text = serde_json::to_string_pretty(&alone)?;
        // The lines between the first brace and the last.
        let text = text.strip_prefix("{\n").and_then(|text| text.strip_suffix("\n}"));
        let text = escape_json(text.unwrap_or_default()).into_owned();
        let value = alone.into_iter().next().map_or(Value::Null, |(_, value)| value);
        self.all.insert(name, DocumentMember { value, text });
        Ok(())
    }

    /// Returns the text of the document.
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

/// A path, and `true` for the document of a killed process, in which no run of this process has a
/// part.
type DocumentKey = (PathBuf, bool);

/// The documents that are open. A forked child has documents of its own.
static OPEN: PerProcess<Mutex<HashMap<DocumentKey, Weak<Mutex<DocumentContents>>>>> =
    PerProcess::new(|_| Mutex::default());

/// The paths at which this process has written documents.
static WRITTEN: PerProcess<Mutex<HashSet<PathBuf>>> = PerProcess::new(|_| Mutex::default());

impl SharedDocument {
    /// Returns the document of this process at a path.
    pub(crate) fn shared(path: PathBuf, run: Option<&str>) -> Self {
        Self::of((path, false), run)
    }

    /// Returns the document of a killed process at a path.
    pub(crate) fn of_killed_process(path: PathBuf, run: Option<&str>) -> Self {
        Self::of((path, true), run)
    }

    fn of(key: DocumentKey, run: Option<&str>) -> Self {
        let mut all = lock(OPEN.get());
        let open = all.get(&key).and_then(Weak::upgrade);
        let contents = open.unwrap_or_else(|| {
            let contents = Arc::default();
            all.insert(key.clone(), Arc::downgrade(&contents));
            contents
        });
        let run = run.map(str::to_owned);
        Self { key, run, contents }
    }

    fn path(&self) -> &Path {
        &self.key.0
    }

    /// Returns `true` if the folder of the file is there.
    pub(crate) fn has_folder(&self) -> bool {
        self.path().parent().is_some_and(Path::is_dir)
    }

    /// Returns `true` if a later run has its `run.json` in the folder.
    fn is_superseded(&self) -> bool {
        let newest = || RunManifest::read_id(self.path().parent()?).ok();
        let run = self.run.as_ref();
        run.is_some_and(|run| newest().is_some_and(|newest| newest != *run))
    }

    /// Changes the document and writes it, unless the file is that of a later run. `first` returns
    /// the members of a new document, `change` the new members.
    pub(crate) fn update(
        &self,
        first: impl FnOnce(&Path) -> Map<String, Value>,
        change: impl FnOnce(&DocumentMembers) -> Map<String, Value>,
    ) -> Result<(), SinkError> {
        if self.is_superseded() {
            return match self.key {
                // Nobody is there any more to be told.
                (_, true) => Ok(()),
                (ref path, false) => Err(SinkError::new("the file is that of a later run")
                    .with_reason("file of a later run")
                    .doing(format!("write {}", path.display()))),
            };
        }
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
        let (path, of_killed_process) = &self.key;
        if !of_killed_process {
            lock(WRITTEN.get()).insert(path.clone());
        }
        Ok(())
    }

    /// Returns the document that an earlier handle of this process has written.
    fn written_before(&self) -> Option<Map<String, Value>> {
        let (path, of_killed_process) = &self.key;
        let written = !of_killed_process && lock(WRITTEN.get()).contains(path);
        written.then(|| read(path)).flatten()
    }
}

impl Drop for SharedDocument {
    fn drop(&mut self) {
        let mut all = lock(OPEN.get());
        let open = all.get(&self.key).map(Weak::as_ptr);
        if open == Some(Arc::as_ptr(&self.contents)) && Arc::strong_count(&self.contents) == 1 {
            all.remove(&self.key);
        }
    }
}

/// Reads the document that an earlier process has written at `path`; `None` if it cannot be read.
pub(crate) fn read(path: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&logcore::files::read_no_follow(path, LONGEST).ok()?).ok()
}

fn replace(path: &Path, members: &mut DocumentMembers) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    logcore::files::replace(path, members.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use logcore::serde_json::json;

    use super::*;

    #[test]
    fn text_equals_the_pretty_form_of_the_whole_document() {
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
