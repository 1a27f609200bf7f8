//! `summary.json`: what each run of this folder was, by its logger.

use std::path::{Path, PathBuf};

use logcore::serde_json::{self, Map, Value, json};
use logcore::{SinkBooks, SinkError};

use crate::document::{self, SharedDocument};

/// The part of one logger in `summary.json`. Loggers with one folder share the file.
pub(crate) struct SummaryFile {
    document: SharedDocument,
    /// It is that of a killed process.
    left: bool,
    /// The logger whose process was killed; nobody else will say how its run ended.
    killed: Option<String>,
    exit_code: Option<i32>,
    /// The newest summary is in the document, and not yet in the file.
    unwritten: bool,
    /// Only a summary that is lost is in them: it is none of the calls that are counted.
    books: SinkBooks,
}

impl SummaryFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self::over(SharedDocument::shared(path), None)
    }

    /// The file of a killed process.
    pub(crate) fn recover(path: PathBuf, logger: &str) -> Self {
        Self::over(SharedDocument::left(path), Some(logger.to_owned()))
    }

    fn over(document: SharedDocument, killed: Option<String>) -> Self {
        Self {
            document,
            left: killed.is_some(),
            killed,
            exit_code: None,
            unwritten: false,
            books: SinkBooks::default(),
        }
    }

    /// Takes what the logger says of its run: an object with its name.
    pub(crate) fn merge(&mut self, summary: &str) -> Result<(), SinkError> {
        let summary: Map<String, Value> = serde_json::from_str(summary).map_err(SinkError::new)?;
        // Its process was killed after it had said this.
        self.killed = None;
        self.update(summary)
    }

    /// The run has ended.
    pub(crate) fn end(&mut self, exit_code: i32) {
        self.exit_code = Some(exit_code);
    }

    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let mut written = Ok(());
        if let (Some(exit_code), Some(logger)) = (self.exit_code, self.killed.take()) {
            let end = json!({"state": "killed", "exit_code": exit_code});
            written = self.update(Map::from_iter([(logger, end)]));
        } else if self.unwritten {
            written = self.update(Map::new());
        }
        if let Err(error) = &written {
            self.books.accepted += 1;
            self.books.drop_for(error.reason(), 1);
        }
        written
    }

    pub(crate) fn books(&self) -> &SinkBooks {
        &self.books
    }

    fn update(&mut self, part: Map<String, Value>) -> Result<(), SinkError> {
        let left = self.left;
        let first = |path: &Path| left.then(|| document::read(path)).flatten().unwrap_or_default();
        let written = self.document.update(first, |_| part);
        self.unwritten = written.is_err();
        written
    }
}
