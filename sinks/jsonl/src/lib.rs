//! JSON lines, as the sink `jsonl`: `metrics.jsonl`, `records.jsonl`, `config.json`, `summary.json`.
//!
//! | file | what |
//! |---|---|
//! | `metrics.jsonl` | a flat row a step: `{"step":12,"time":1763909295.123,"logger":"my_module","metrics/loss":0.5}` |
//! | `records.jsonl` | with `sinks.jsonl.records`: a record a line |
//! | `summary.json` | how the run of each logger ended, and its metrics in short |
//! | `config.json` | hyper-parameters, environment and how the run ended, once hyper-parameters are logged |
//!
//! Ranks above 0 have files of their own: `metrics.rank3.jsonl`, …
//!
//! Each comes into being when there is something to write. What JSON has no number for is `"NaN"`, `"Infinity"` or
//! `"-Infinity"`. A row is written when the step moves on, on `flush` and on `finish`. Of several values of one name at one
//! step the row has the last; the earlier ones stand before it, each in a row of its own.

mod config_file;
mod document;
mod row;
mod summary_file;

use std::path::{Path, PathBuf};

use logcore::serde_json::{self, Value};
use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, FileRank, LoggerEnd, LoggerSummary, MetricBatch, Record,
    ResumePoint, Row, RowMerger, Sink, SinkBooks, SinkError,
};
use logcore_appender::{Appender, FilePosition, Rotation};
use serde::{Deserialize, Serialize};

use crate::config_file::ConfigFile;
use crate::summary_file::SummaryFile;

/// Writes JSON lines.
pub struct JsonlSink {
    metrics: LazyFile,
    records: Option<LazyFile>,
    config: ConfigFile,
    summary: SummaryFile,
    rows: RowMerger,
    /// Calls that the open row holds.
    open_calls: u64,
    run_files: JsonlPaths,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsonlOptions {
    records: bool,
}

/// The state that another process needs to go on. That process knows where the folder is.
#[derive(Serialize, Deserialize)]
struct JsonlResumeState<R> {
    run_files: RankedNames,
    metrics: FilePosition,
    records: Option<FilePosition>,
    /// `config.json` has something of this sink.
    config: bool,
    row: Option<R>,
    open_calls: u64,
}

#[derive(Serialize, Deserialize)]
struct RankedNames {
    rank: FileRank,
}

/// Where the files of a run are, and what their names are for the rank that writes them.
struct JsonlPaths {
    folder: PathBuf,
    rank: FileRank,
}

impl JsonlPaths {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(self.rank.file_name(name))
    }
}

impl JsonlSink {
    fn build(options: JsonlOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let folder = context.log_dir();
        if folder.exists() && !folder.is_dir() {
            return Err(ConfigError::new(
                "log_dir",
                folder.display(),
                "it is a file; name a folder",
            ));
        }
        if options.records {
            // Something will be written for certain, so that a folder that cannot be made is better known now.
            std::fs::create_dir_all(folder).map_err(|error| {
                let remedy = format!("the folder cannot be made ({error}); name one that can");
                ConfigError::new("log_dir", folder.display(), remedy)
            })?;
        }
        let run_files = JsonlPaths {
            folder: folder.to_owned(),
            rank: FileRank::from_config(context.config()),
        };
        Ok(Self {
            metrics: LazyFile::new(run_files.path("metrics.jsonl")),
            records: options.records.then(|| LazyFile::new(run_files.path("records.jsonl"))),
            config: ConfigFile::new(run_files.path("config.json")),
            summary: SummaryFile::new(run_files.path("summary.json"), context.logger()),
            rows: RowMerger::default(),
            open_calls: 0,
            run_files,
        })
    }

    /// Goes on where a killed process stood.
    fn recover(state: JsonlResumeState<Row>, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let run_files = JsonlPaths {
            folder: context.log_dir().to_owned(),
            rank: state.run_files.rank,
        };
        logcore_files::remove_stale_replacements(&run_files.folder);
        let beneath = |name: &str| context.resolve_beneath(Path::new(&run_files.rank.file_name(name)));
        let records = state
            .records
            .map(|place| LazyFile::recover(beneath("records.jsonl")?, place));
        Ok(Self {
            metrics: LazyFile::recover(beneath("metrics.jsonl")?, state.metrics)?,
            records: records.transpose()?,
            config: ConfigFile::recover(run_files.path("config.json"), state.config),
            summary: SummaryFile::recover(run_files.path("summary.json"), context.logger()),
            rows: RowMerger::reopen(state.row),
            open_calls: state.open_calls,
            run_files,
        })
    }

    /// Writes rows as one record, which stands for the calls that were open.
    fn write_rows(&mut self, rows: &[Row]) -> Result<(), SinkError> {
        if rows.is_empty() {
            return Ok(());
        }
        let calls = std::mem::take(&mut self.open_calls);
        self.metrics
            .append(calls, |lines| rows.iter().try_for_each(|row| row::write(row, lines)))
    }

    fn files(&mut self) -> impl Iterator<Item = &mut LazyFile> {
        std::iter::once(&mut self.metrics).chain(&mut self.records)
    }
}

impl Sink for JsonlSink {
    fn wants(&self, what: EventKind) -> bool {
        match what {
            EventKind::Record => self.records.is_some(),
            EventKind::Metrics | EventKind::Config => true,
            _ => false,
        }
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let Some(file) = &mut self.records else { return Ok(()) };
        file.append(1, |line| row::append_json(record, line))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let complete = self.rows.push(batch);
        let written = self.write_rows(&complete);
        self.open_calls += 1;
        written
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.config.merge(config)
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.files().map(|file| file.deliver(false)).fold(Ok(()), Result::and)
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let mut complete = true;
        let mut place = |file: &LazyFile| {
            let (place, written) = file.position();
            complete &= written;
            place.named()
        };
        let mark = ResumePoint::new(&JsonlResumeState {
            run_files: RankedNames {
                rank: self.run_files.rank,
            },
            metrics: place(&self.metrics),
            records: self.records.as_ref().map(place),
            config: self.config.is_used(),
            row: self.rows.open(),
            open_calls: self.open_calls,
        })?;
        Some(if complete { mark } else { mark.incomplete() })
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        let open = self.rows.take();
        let written = self.write_rows(open.as_slice());
        self.files().map(|file| file.deliver(true)).fold(written, Result::and)
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        self.config.end(end.exit_code);
        self.summary.end(end, summary);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let flushed = self.flush(deadline);
        self.files()
            .map(LazyFile::finish)
            .fold(flushed, Result::and)
            .and(self.config.finish())
            .and(self.summary.finish())
    }

    fn books(&self) -> Option<SinkBooks> {
        let mut books = self.metrics.books();
        if let Some(records) = &self.records {
            books.add(&records.books());
        }
        books.add(self.config.books());
        books.add(self.summary.books());
        books.accepted += self.open_calls;
        Some(books)
    }

    fn destination(&self) -> Option<String> {
        let file = self.records.as_ref().unwrap_or(&self.metrics);
        Some(file.path.to_string_lossy().into_owned())
    }
}

logcore::register_sink!("jsonl", JsonlSink::build, JsonlSink::recover);

/// A file that comes into being with its first line.
struct LazyFile {
    path: PathBuf,
    appender: Option<Appender>,
    line: Vec<u8>,
    /// What could not even be opened.
    unopened: SinkBooks,
}

impl LazyFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            appender: None,
            line: Vec::new(),
            unopened: SinkBooks::default(),
        }
    }

    /// A file of a killed process, which may have come into being after the mark.
    fn recover(path: PathBuf, place: FilePosition) -> Result<Self, SinkError> {
        let appender = match path.symlink_metadata() {
            Ok(_) => Some(Appender::recover(&place.at(path.clone()))?),
            Err(_) => None,
        };
        Ok(Self {
            appender,
            ..Self::new(path)
        })
    }

    fn position(&self) -> (FilePosition, bool) {
        match &self.appender {
            Some(appender) => appender.position(),
            None => (FilePosition::end_of(&self.path), true),
        }
    }

    fn append(
        &mut self,
        weight: u64,
        write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<(), SinkError> {
        let appended = self.try_append(weight, write);
        if let Err(error) = &appended {
            self.unopened.accepted += weight;
            self.unopened.drop_for(error.reason(), weight);
        }
        appended
    }

    fn try_append(
        &mut self,
        weight: u64,
        write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<(), SinkError> {
        self.line.clear();
        write(&mut self.line).map_err(|error| SinkError::new(error).with_reason("no form in JSON"))?;
        if self.appender.is_none() {
            let opened = Appender::open(&self.path, Rotation::default());
            self.appender =
                Some(opened.map_err(|error| SinkError::from(error).doing(format!("open {}", self.path.display())))?);
        }
        if let Some(appender) = &mut self.appender {
            appender.append(&self.line, weight);
        }
        Ok(())
    }

    fn deliver(&mut self, at_once: bool) -> Result<(), SinkError> {
        self.appender
            .as_mut()
            .map_or(Ok(()), |appender| appender.deliver(at_once))
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.appender.as_mut().map_or(Ok(()), Appender::finish)
    }

    fn books(&self) -> SinkBooks {
        let mut books = self.unopened.clone();
        if let Some(appender) = &self.appender {
            books.add(&appender.books());
        }
        books
    }
}
