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
//! [`RunFacts`](logcore::RunFacts). The file is written when the facts are known, at each
//! `log_config`, and at the end of the run.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use logcore::serde_json::{Map, Value, json};
use logcore::{BuildContext, Deadline, FileRank, RunInfo, SinkBooks, SinkError, epoch_seconds, redacted};

use crate::document::{self, DocumentMembers, SharedDocument};

/// The part of one sink in `config.json`. Sinks with the same folder share the file.
pub(crate) struct ConfigFile {
    document: SharedDocument,
    run: RunInfo,
    /// The hyper-parameters of the logger's config, until they are in the file; `None` also if this
    /// sink has no file without a `log_config`.
    unwritten: Option<Value>,
    books: SinkBooks,
    /// `true` if this sink has a part in the file.
    used: bool,
    /// `true` if the file is the one of a killed process, which is completed.
    recovered: bool,
    exit_code: Option<i32>,
}

impl ConfigFile {
    /// Returns the part of a logger. The file of rank 0 has the facts and the hyper-parameters of
    /// the logger's config, other ranks have a file if they log hyper-parameters.
    pub(crate) fn new(path: PathBuf, run_id: Option<&str>, context: &BuildContext<'_>) -> Self {
        let config = context.config();
        let is_first = FileRank::from_config(config).0.is_none();
        Self {
            document: SharedDocument::shared(path, run_id),
            run: context.run().clone(),
            unwritten: is_first.then(|| config.redacted_hyper_parameters()),
            books: SinkBooks::default(),
            used: false,
            recovered: false,
            exit_code: None,
        }
    }

    /// Continues the file of a killed process. `used` is `true` if that process had logged
    /// hyper-parameters.
    pub(crate) fn recover(path: PathBuf, run_id: Option<&str>, run: &RunInfo, used: bool) -> Self {
        Self {
            document: SharedDocument::of_killed_process(path, run_id),
            run: run.clone(),
            unwritten: None,
            books: SinkBooks::default(),
            used,
            recovered: true,
            exit_code: None,
        }
    }

    /// Writes the facts of the run and the hyper-parameters of the config, once the facts are
    /// known.
    pub(crate) fn begin(&mut self) -> Result<(), SinkError> {
        // A folder that has been renamed meanwhile is not made again.
        let is_due = self.unwritten.is_some() && self.run.facts().is_some() && self.document.has_folder();
        if is_due { self.write_first() } else { Ok(()) }
    }

    fn write_first(&mut self) -> Result<(), SinkError> {
        let Some(config) = &self.unwritten else { return Ok(()) };
        self.update(|document| merged(document, config.clone()))?;
        (self.used, self.unwritten) = (true, None);
        Ok(())
    }

    /// Returns `true` if this sink has a part in the file.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// Adds hyper-parameters by name. A later value replaces an earlier one.
    pub(crate) fn merge(&mut self, config: &Value) -> Result<(), SinkError> {
        self.books.accepted += 1;
        let begun = self.write_first();
        self.used = true;
        let written = begun.and(self.update(|document| merged(document, redacted(config))));
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
        let begun = self.write_first();
        let waiting = !self.books.balanced();
        let exit_code = self.exit_code.filter(|_| self.used);
        if exit_code.is_none() && !waiting {
            return begun;
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
        let is_resumed = self.run.attempt() > 1;
        let existing = (self.recovered || is_resumed).then(|| document::read(path)).flatten();
        let environment = || ("environment".to_owned(), environment(&self.run));
        match existing {
            Some(existing) if self.recovered => existing,
            // Hyper-parameters of earlier attempts stay until this one logs others.
            Some(existing) => {
                let kept = existing.into_iter().filter(|(name, _)| name == "config");
                kept.chain([environment()]).collect()
            }
            None => Map::from_iter([environment()]),
        }
    }
}

/// Returns the member `config` of a document with further hyper-parameters.
fn merged(document: &DocumentMembers, new: Value) -> Map<String, Value> {
    let merged = match (document.get("config"), new) {
        (Some(Value::Object(all)), Value::Object(new)) => all.clone().into_iter().chain(new).collect(),
        // A value that is not a table must not erase the table.
        (Some(Value::Object(all)), other) => {
            let value = ("value".to_owned(), other);
            all.clone().into_iter().chain([value]).collect()
        }
        (_, shown) => shown,
    };
    Map::from_iter([("config".to_owned(), merged)])
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
