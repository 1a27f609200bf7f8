//! `config.json`: hyper-parameters, environment and exit code of a run.
//!
//! ```json
//! {
//!   "config": {"lr": 0.0001, "batch_size": 32},
//!   "end": {"exit_code": 0, "time": 1763909300.5},
//!   "environment": {"program": "train", "hostname": "node7", "cpus": 16, "pid": 4711, "started": 1763909295.1}
//! }
//! ```
//!
//! Values of secret names are replaced before they are written. The environment is that of the
//! first write; variables and arguments of the process are left out. The file is written at each
//! `log_config` and at the end of the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use logcore::serde_json::{Map, Value, json};
use logcore::{SinkBooks, SinkError, epoch_seconds, redacted};

use crate::document::{self, DocumentMembers, SharedDocument};

/// The part of one sink in `config.json`. Sinks with the same folder share the file.
pub(crate) struct ConfigFile {
    document: SharedDocument,
    books: SinkBooks,
    /// `true` if hyper-parameters of this sink are in the file.
    used: bool,
    /// `true` if the file is the one of a killed process, which is completed.
    recovered: bool,
    exit_code: Option<i32>,
}

impl ConfigFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            document: SharedDocument::shared(path),
            books: SinkBooks::default(),
            used: false,
            recovered: false,
            exit_code: None,
        }
    }

    /// Continues the file of a killed process. `used` is `true` if that process had logged
    /// hyper-parameters.
    pub(crate) fn recover(path: PathBuf, used: bool) -> Self {
        Self {
            document: SharedDocument::of_killed_process(path),
            books: SinkBooks::default(),
            used,
            recovered: true,
            exit_code: None,
        }
    }

    /// Returns `true` if hyper-parameters of this sink are in the file.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// Adds hyper-parameters by name. A later value replaces an earlier one.
    pub(crate) fn merge(&mut self, config: &Value) -> Result<(), SinkError> {
        self.books.accepted += 1;
        self.used = true;
        let written = self.update(|document| {
            let merged = match (document.get("config"), redacted(config)) {
                (Some(Value::Object(all)), Value::Object(new)) => all.clone().into_iter().chain(new).collect(),
                // A value that is not a table must not erase the table.
                (Some(Value::Object(all)), other) => {
                    let value = ("value".to_owned(), other);
                    all.clone().into_iter().chain([value]).collect()
                }
                (_, shown) => shown,
            };
            Map::from_iter([("config".to_owned(), merged)])
        });
        // After a failure the value is still in the document, so the next write includes it.
        if written.is_ok() {
            self.settle();
        }
        written
    }

    /// Notes the exit code of the run, for [`finish`](Self::finish).
    pub(crate) fn end(&mut self, exit_code: i32) {
        self.exit_code = Some(exit_code);
    }

    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let waiting = !self.books.balanced();
        let exit_code = self.exit_code.filter(|_| self.used);
        if exit_code.is_none() && !waiting {
            return Ok(());
        }
        let written = self.update(|_| {
            let end = exit_code.map(|code| json!({"exit_code": code, "time": epoch_seconds(SystemTime::now())}));
            end.into_iter().map(|end| ("end".to_owned(), end)).collect()
        });
        match &written {
            Ok(()) => self.settle(),
            Err(error) => {
                let lost = self.books.accepted - self.books.delivered - self.books.dropped.values().sum::<u64>();
                self.books.drop_for(error.reason(), lost);
            }
        }
        written
    }

    pub(crate) fn books(&self) -> &SinkBooks {
        &self.books
    }

    fn settle(&mut self) {
        self.books.delivered = self.books.accepted - self.books.dropped.values().sum::<u64>();
    }

    fn update(&self, change: impl FnOnce(&DocumentMembers) -> Map<String, Value>) -> Result<(), SinkError> {
        self.document.update(|path| self.first_document(path), change)
    }

    fn first_document(&self, path: &Path) -> Map<String, Value> {
        let existing = self.recovered.then(|| document::read(path)).flatten();
        existing.unwrap_or_else(|| Map::from_iter([("environment".to_owned(), environment())]))
    }
}

/// Describes the machine and the process. Variables and arguments are left out, because they may
/// contain secrets.
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
