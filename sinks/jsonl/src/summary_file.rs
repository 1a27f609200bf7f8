//! `summary.json`: the end of each run in this folder and statistics of its metrics, by logger.
//!
//! ```json
//! {
//!   "train": {
//!     "state": "finished", "exit_code": 0, "duration_seconds": 6.2, "last_step": 900,
//!     "steps_per_sec": 136.1, "samples_per_sec": 17400.0, "mfu": 0.41, "gpu_energy_kwh": 0.0011,
//!     "warnings": 0, "errors": 0,
//!     "ledger": {"startup": 0.4, "data": 0.9, "step": 4.9}, "goodput": 0.79,
//!     "metrics": [{"name": "loss", "last": 2.4811, "mean": 2.6926, "min": 2.1872, "max": 8.0, "count": 900}]
//!   }
//! }
//! ```
//!
//! The entry of a killed run has `state` and `exit_code` only. A logger without metrics and without
//! a ledger has no entry.

use std::path::{Path, PathBuf};

use logcore::serde_json::{self, Map, Value, json};
use logcore::{LoggerEnd, LoggerSummary, MetricSummary, RunEnd, SinkBooks, SinkError};
use serde::Serialize;

use crate::document::{self, SharedDocument};

/// The entry of one logger in `summary.json`. Loggers with the same folder share the file.
pub(crate) struct SummaryFile {
    document: SharedDocument,
    logger: String,
    /// `true` if the file is the one of a killed process.
    recovered: bool,
    /// The entry that [`finish`](Self::finish) writes.
    entry: serde_json::Result<Option<Value>>,
    /// Counts a summary that could not be written. Summaries are not among the counted calls.
    books: SinkBooks,
}

/// One logger's entry in the file.
#[derive(Serialize)]
struct SummaryEntry<'a> {
    #[serde(flatten)]
    run_end: &'a RunEnd,
    exit_code: i32,
    duration_seconds: f64,
    last_step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_per_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples_per_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_energy_kwh: Option<f64>,
    warnings: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    ledger: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goodput: Option<f64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    other_threads: Map<String, Value>,
    metrics: &'a [MetricSummary],
}

impl SummaryFile {
    pub(crate) fn new(path: PathBuf, run_id: Option<&str>, logger: &str) -> Self {
        Self::with_document(SharedDocument::shared(path, run_id), logger, false)
    }

    /// Continues the file of a killed process.
    pub(crate) fn recover(path: PathBuf, run_id: Option<&str>, logger: &str) -> Self {
        Self::with_document(SharedDocument::of_killed_process(path, run_id), logger, true)
    }

    fn with_document(document: SharedDocument, logger: &str, recovered: bool) -> Self {
        Self {
            document,
            logger: logger.to_owned(),
            recovered,
            entry: Ok(None),
            books: SinkBooks::default(),
        }
    }

    /// Writes the end of the logger. A run without metrics and ledger has no entry.
    ///
    /// The file is written now, because another sink may hang when it finishes. A write that fails
    /// is repeated by [`finish`](Self::finish).
    pub(crate) fn end(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        let LoggerEnd { run_end, exit_code, .. } = end;
        self.entry = match run_end {
            RunEnd::Killed => Ok(Some(json!({"state": "killed", "exit_code": exit_code}))),
            run_end if summary.has_metrics() || !summary.ledger.is_empty() => serde_json::to_value(SummaryEntry {
                run_end,
                exit_code: *exit_code,
                duration_seconds: summary.duration.as_secs_f64(),
                last_step: summary.last_step,
                steps_per_sec: summary.steps_per_sec,
                samples_per_sec: summary.samples_per_sec,
                mfu: summary.mfu,
                gpu_energy_kwh: summary.gpu_energy_kwh,
                warnings: summary.warnings,
                errors: summary.errors,
                ledger: object_of(&summary.ledger),
                goodput: summary.goodput,
                other_threads: object_of(&summary.other_threads),
                metrics: &summary.metrics,
            })
            .map(Some),
            _ => Ok(None),
        };
        if self.write_entry().is_ok() {
            self.entry = Ok(None);
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let written = self.write_entry();
        self.entry = Ok(None);
        if let Err(error) = &written {
            self.books.accepted += 1;
            self.books.drop_for(error.reason(), 1);
        }
        written
    }

    pub(crate) fn books(&self) -> &SinkBooks {
        &self.books
    }

    fn write_entry(&self) -> Result<(), SinkError> {
        match &self.entry {
            Ok(None) => Ok(()),
            Ok(Some(entry)) => self.update(Map::from_iter([(self.logger.clone(), entry.clone())])),
            Err(error) => Err(SinkError::new(error).with_reason("no form in JSON")),
        }
    }

    fn update(&self, entry: Map<String, Value>) -> Result<(), SinkError> {
        let first = |path: &Path| {
            self.recovered
                .then(|| document::read(path))
                .flatten()
                .unwrap_or_default()
        };
        self.document.update(first, |_| entry)
    }
}

fn object_of(pairs: &[(String, f64)]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(name, seconds)| (name.clone(), (*seconds).into()))
        .collect()
}
