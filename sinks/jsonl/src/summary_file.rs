//! `summary.json`: what each run of this folder was, by its logger.

use std::path::PathBuf;

use logcore::SinkError;
use logcore::serde_json::{self, Map, Value, json};

use crate::document;

/// The part of one logger in `summary.json`. Loggers with one folder share the file.
pub(crate) struct SummaryFile {
    path: PathBuf,
    /// The logger whose process was killed; nobody else will say how its run ended.
    killed: Option<String>,
    exit_code: Option<i32>,
}

impl SummaryFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            killed: None,
            exit_code: None,
        }
    }

    /// The file of a killed process.
    pub(crate) fn recover(path: PathBuf, logger: &str) -> Self {
        Self {
            killed: Some(logger.to_owned()),
            ..Self::new(path)
        }
    }

    /// Takes what the logger says of its run: an object with its name.
    pub(crate) fn merge(&mut self, summary: &str) -> Result<(), SinkError> {
        let summary: Map<String, Value> = serde_json::from_str(summary).map_err(SinkError::new)?;
        // Its process was killed after it had said this.
        self.killed = None;
        document::update(&self.path, Map::new, |document| document.extend(summary))
    }

    /// The run has ended.
    pub(crate) fn end(&mut self, exit_code: i32) {
        self.exit_code = Some(exit_code);
    }

    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let (Some(exit_code), Some(logger)) = (self.exit_code, self.killed.take()) else {
            return Ok(());
        };
        let known = || document::read(&self.path).unwrap_or_default();
        let written = document::update(&self.path, known, |document| {
            document.insert(logger, json!({"state": "killed", "exit_code": exit_code}));
        });
        document::forget(&self.path);
        written
    }
}
