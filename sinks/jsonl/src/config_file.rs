//! `config.json`: hyper-parameters, environment and exit code of a run.
//!
//! ```json
//! {
//!   "config": {"lr": 0.0001, "batch_size": 32},
//!   "end": {"exit_code": 0, "time": 1763909300.5},
//!   "environment": {"host": "node7", "pid": 4711, "argv": ["train", "--lr", "1e-4"], "git": {"commit": "0c9…"}, …}
//! }
//! ```
//!
//! Values of secret names are replaced before they are written. The environment is the run's
//! [`RunFacts`](logcore::RunFacts). The file is written at each `log_config` and at the end of the
//! run.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use logcore::serde_json::{Map, Value, json};
use logcore::{Deadline, RunInfo, SinkBooks, SinkError, epoch_seconds, redacted};

use crate::document::{self, DocumentMembers, SharedDocument};

/// The part of one sink in `config.json`. Sinks with the same folder share the file.
pub(crate) struct ConfigFile {
    document: SharedDocument,
    run: RunInfo,
    books: SinkBooks,
    /// `true` if hyper-parameters of this sink are in the file.
    used: bool,
    /// `true` if the file is the one of a killed process, which is completed.
    recovered: bool,
    exit_code: Option<i32>,
}

impl ConfigFile {
    pub(crate) fn new(path: PathBuf, run: &RunInfo) -> Self {
        Self {
            document: SharedDocument::shared(path),
            run: run.clone(),
            books: SinkBooks::default(),
            used: false,
            recovered: false,
            exit_code: None,
        }
    }

    /// Continues the file of a killed process. `used` is `true` if that process had logged
    /// hyper-parameters.
    pub(crate) fn recover(path: PathBuf, run: &RunInfo, used: bool) -> Self {
        Self {
            document: SharedDocument::of_killed_process(path),
            run: run.clone(),
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
        existing.unwrap_or_else(|| Map::from_iter([("environment".to_owned(), environment(&self.run))]))
    }
}

/// Longest wait for the facts of the run, which a frozen file system may hold up.
const FACTS_TIMEOUT: Duration = Duration::from_secs(1);

/// Describes the process and its machine. Nothing is known of a killed process.
fn environment(run: &RunInfo) -> Value {
    let facts = run.wait_for_facts(Deadline::after(FACTS_TIMEOUT));
    let mut environment = facts.map_or_else(|| json!({}), |facts| json!(facts));
    if facts.is_some() {
        environment["started"] = epoch_seconds(SystemTime::now()).into();
    }
    environment
}
