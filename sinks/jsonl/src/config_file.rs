//! `config.json`: what the run was started with, where, and how it ended.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use logcore::serde_json::{self, Map, Value, json};
use logcore::{SinkBooks, SinkError, epoch_seconds, redacted};

/// The part of one sink in `config.json`. Sinks with one folder share the file.
pub(crate) struct ConfigFile {
    path: PathBuf,
    books: SinkBooks,
    /// This sink has logged something that is in the file.
    used: bool,
    /// The file is that of a killed process, and is completed.
    recovered: bool,
    exit_code: Option<i32>,
}

impl ConfigFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            books: SinkBooks::default(),
            used: false,
            recovered: false,
            exit_code: None,
        }
    }

    /// The file of a killed process, which may have `used` it.
    pub(crate) fn recover(path: PathBuf, used: bool) -> Self {
        Self {
            used,
            recovered: true,
            ..Self::new(path)
        }
    }

    /// Whether the file has something of this sink.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// Adds hyper-parameters, by name; later ones replace earlier ones.
    pub(crate) fn merge(&mut self, config: &Value) -> Result<(), SinkError> {
        self.books.accepted += 1;
        self.used = true;
        let written = self.update(|document| {
            let shown = redacted(config);
            match (document.get_mut("config"), shown) {
                (Some(Value::Object(all)), Value::Object(new)) => all.extend(new),
                (_, shown) => drop(document.insert("config".to_owned(), shown)),
            }
        });
        match &written {
            Ok(()) => self.books.delivered += 1,
            Err(error) => self.books.drop_for(error.reason(), 1),
        }
        written
    }

    /// The run has ended.
    pub(crate) fn end(&mut self, exit_code: i32) {
        self.exit_code = Some(exit_code);
    }

    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let Some(exit_code) = self.exit_code.filter(|_| self.used) else {
            return Ok(());
        };
        let written = self.update(|document| {
            let end = json!({"exit_code": exit_code, "time": epoch_seconds(SystemTime::now())});
            document.insert("end".to_owned(), end);
        });
        if self.recovered {
            // The next run of this folder begins with a document of its own.
            documents().get_or_insert_default().remove(&self.path);
        }
        written
    }

    pub(crate) fn books(&self) -> &SinkBooks {
        &self.books
    }

    fn update(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), SinkError> {
        let mut documents = documents();
        let document = documents
            .get_or_insert_default()
            .entry(self.path.clone())
            .or_insert_with(|| self.first_document());
        change(document);
        replace(&self.path, document)
            .map_err(|error| SinkError::from(error).doing(format!("write {}", self.path.display())))
    }

    fn first_document(&self) -> Map<String, Value> {
        let known = self.recovered.then(|| fs::read(&self.path).ok()).flatten();
        known
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_else(|| Map::from_iter([("environment".to_owned(), environment())]))
    }
}

/// By path, what the files of this process's runs hold.
fn documents() -> MutexGuard<'static, Option<HashMap<PathBuf, Map<String, Value>>>> {
    static DOCUMENTS: Mutex<Option<HashMap<PathBuf, Map<String, Value>>>> = Mutex::new(None);
    DOCUMENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the run takes place. No variables and no arguments: they may hold secrets.
fn environment() -> Value {
    let program = std::env::current_exe().ok();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    json!({
        "program": program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy()),
        "folder": std::env::current_dir().ok().map(|folder| folder.display().to_string()),
        "hostname": hostname.as_deref().map(str::trim).map(str::to_owned).or_else(|| std::env::var("HOSTNAME").ok()),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "pid": std::process::id(),
        "logcore": env!("CARGO_PKG_VERSION"),
        "started": epoch_seconds(SystemTime::now()),
    })
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
