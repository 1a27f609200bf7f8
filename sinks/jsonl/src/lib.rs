//! The sink `jsonl`: metrics, records, hyper-parameters and the summary of a run as JSON, for other
//! programs to read.
//!
//! | file | contents |
//! |---|---|
//! | `metrics.jsonl` | one row per step, with a column for each metric |
//! | `media.jsonl` | one media value per line: its key, step, time and kind, and its file in `media/` |
//! | `records.jsonl` | one record per line, with `sinks.jsonl.records = true` |
//! | `config.json` | hyper-parameters, environment and exit code, once hyper-parameters are logged |
//! | `summary.json` | the end of each logger's run, with statistics of its metrics |
//!
//! ```text
//! {"step":12,"time":1763909295.123,"logger":"my_module","metrics/loss":0.5,"nonfinite":"","attempt":1}
//! {"step":13,"time":1763909295.167,"logger":"my_module","metrics/loss":null,"nonfinite":"{\"metrics/loss\":\"NaN\"}"}
//! ```
//!
//! - The rows are flat, so pandas (`read_json(…, lines=True)`), polars and DuckDB open the file as
//!   it is.
//! - JSON has no number for NaN and the infinities. Such a value is `null`, so that its column
//!   stays one of numbers, and stands in `nonfinite`: a text that holds an object of names and
//!   `"NaN"`, `"Infinity"` or `"-Infinity"`.
//! - From the second attempt of a run on, each row has the number of the `attempt`. The first row
//!   of each file has both columns, for readers that take the columns from the first rows.
//! - Media values are on lines like `{"time":1763909295.2,"logger":"my_module","key":"samples",
//!   "step":12,"caption":"a cat","path":"media/images/samples_12_….png","size":4096,"sha256":"…",
//!   "kind":"image","format":"png","width":64,"height":64}`. A histogram has `counts` and `edges` in
//!   place of a file.
//! - A row is written when the step moves on, on `flush` and on `finish`. If a name was logged
//!   several times at one step, the row has the last value, and each earlier value precedes it in a
//!   row of its own.
//! - A file is created when there is something to write.
//! - Ranks above 0 have files of their own: `metrics.rank3.jsonl`, …
//!
//! # Options
//!
//! Under `sinks.jsonl` in the config:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `records` | bool | `false` | write `records.jsonl`, too |
//!
//! # Example
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use std::time::Duration;
//!
//! use logcore::{BuildContext, Deadline, LogConfig, MetricBatch, MetricValue, StopFlag, registry, serde_json};
//! # use logcore_jsonl as _;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let stop = StopFlag::default();
//! let context = BuildContext::new(&config, &stop);
//! let mut sink = registry::build_sink("jsonl", &serde_json::json!(true), &context).unwrap();
//! sink.metrics(&MetricBatch::new("trainer", 12, &[("metrics/loss", MetricValue::Float(0.5))])).unwrap();
//! sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
//!
//! let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
//! let row: serde_json::Value = serde_json::from_str(&text).unwrap();
//! assert_eq!((&row["step"], &row["metrics/loss"]), (&12.into(), &0.5.into()));
//! ```
//!
//! For a log that people read, use the sink `file`.

mod config_file;
mod document;
mod row;
mod summary_file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logcore::serde_json::{self, Value};
use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, FileRank, LoggerEnd, LoggerSummary, MediaItem, MetricBatch, Record,
    ResumePoint, Row, RowMerger, Sink, SinkBooks, SinkError, StoredMedia,
};
use logcore_appender::{Appender, FilePosition, LazyAppender, Rotation};
use serde::{Deserialize, Serialize};

use crate::config_file::ConfigFile;
use crate::row::RowWriter;
use crate::summary_file::SummaryFile;

/// The sink that writes JSON files. It is registered as `jsonl`, and built from a config.
pub struct JsonlSink {
    metrics: JsonLines,
    records: Option<JsonLines>,
    /// The index of the files in `media/`.
    media: JsonLines,
    config: ConfigFile,
    summary: SummaryFile,
    rows: RowMerger,
    row_writer: RowWriter,
    /// Number of the run's attempt, counted from 1.
    attempt: u32,
    /// Number of calls whose values are in the open row.
    open_calls: u64,
    /// Id of the run that `config.json` and `summary.json` belong to; `None` on ranks above 0,
    /// which have files of their own or share those of rank 0.
    run_id: Option<String>,
    paths: JsonlPaths,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsonlOptions {
    records: bool,
}

/// State from which another process continues the files. The folder may have moved, so the paths
/// are names only.
#[derive(Serialize, Deserialize)]
struct JsonlResumeState<R> {
    run_files: RankedNames,
    metrics: FilePosition,
    records: Option<FilePosition>,
    /// `None` in a resume point of a version without media.
    #[serde(default)]
    media: Option<FilePosition>,
    /// `true` if this sink has a part in `config.json`.
    config: bool,
    row: Option<R>,
    open_calls: u64,
    #[serde(default = "first_attempt")]
    attempt: u32,
    #[serde(default)]
    run_id: Option<String>,
}

/// The attempt of a resume point that names none.
fn first_attempt() -> u32 {
    1
}

#[derive(Serialize, Deserialize)]
struct RankedNames {
    rank: FileRank,
}

/// The folder of a run's files, and the rank in their names.
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
            // This file will certainly be written, so a folder that cannot be created is an error
            // at setup.
            std::fs::create_dir_all(folder).map_err(|error| {
                let remedy = format!("the folder cannot be made ({error}); name one that can");
                ConfigError::new("log_dir", folder.display(), remedy)
            })?;
        }
        let paths = JsonlPaths {
            folder: folder.to_owned(),
            rank: FileRank::from_config(context.config()),
        };
        let attempt = context.run().attempt();
        let is_first = context.ranks().is_first();
        let run_id = Some(context.run().id()).filter(|id| is_first && !id.is_empty());
        Ok(Self {
            metrics: JsonLines::new(paths.path("metrics.jsonl")).with_all_columns(attempt),
            records: options.records.then(|| JsonLines::new(paths.path("records.jsonl"))),
            media: JsonLines::new(paths.path("media.jsonl")),
            config: ConfigFile::new(paths.path("config.json"), run_id, context),
            summary: SummaryFile::new(paths.path("summary.json"), run_id, context.logger()),
            rows: RowMerger::default(),
            row_writer: RowWriter::default(),
            attempt,
            run_id: run_id.map(str::to_owned),
            open_calls: 0,
            paths,
        })
    }

    /// Continues the files of a killed process.
    fn recover(state: JsonlResumeState<Row>, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let paths = JsonlPaths {
            folder: context.log_dir().to_owned(),
            rank: state.run_files.rank,
        };
        logcore::files::remove_stale_replacements(&paths.folder);
        let media = paths.folder.join("media");
        // Somebody may have put a link in its place.
        if !media.is_symlink() {
            logcore::files::remove_stale_replacements(&media);
        }
        let run_id = state.run_id.as_deref();
        let beneath = |name: &str| context.resolve_beneath(Path::new(&paths.rank.file_name(name)));
        let records = state
            .records
            .map(|position| JsonLines::recover(beneath("records.jsonl")?, position));
        Ok(Self {
            metrics: JsonLines::recover(beneath("metrics.jsonl")?, state.metrics)?.with_all_columns(state.attempt),
            records: records.transpose()?,
            media: match state.media {
                Some(position) => JsonLines::recover(beneath("media.jsonl")?, position)?,
                None => JsonLines::new(paths.path("media.jsonl")),
            },
            config: ConfigFile::recover(paths.path("config.json"), run_id, context.run(), state.config),
            summary: SummaryFile::recover(paths.path("summary.json"), run_id, context.logger()),
            rows: RowMerger::reopen(state.row),
            row_writer: RowWriter::default(),
            attempt: state.attempt,
            open_calls: state.open_calls,
            run_id: state.run_id,
            paths,
        })
    }

    /// Writes rows as one record, which counts as the calls that were open.
    fn write_rows(&mut self, rows: &[Row]) -> Result<(), SinkError> {
        if rows.is_empty() {
            return Ok(());
        }
        let calls = std::mem::take(&mut self.open_calls);
        let (attempt, writer) = (self.attempt, &mut self.row_writer);
        self.metrics.append(calls, |lines| {
            rows.iter().try_for_each(|row| writer.append_row(row, attempt, lines))
        })
    }

    fn files(&mut self) -> impl Iterator<Item = &mut LazyAppender> {
        let lines = [&mut self.metrics, &mut self.media]
            .into_iter()
            .chain(&mut self.records);
        lines.map(|lines| &mut lines.file)
    }
}

impl Sink for JsonlSink {
    fn wants(&self, what: EventKind) -> bool {
        match what {
            EventKind::Record => self.records.is_some(),
            EventKind::Metrics | EventKind::Config | EventKind::Media => true,
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
        complete.into_iter().for_each(|row| self.rows.recycle(row));
        self.open_calls += 1;
        written
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.config.merge(config)
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        let attempt = self.attempt;
        self.media
            .append(1, |line| row::append_json(&StoredMedia::new(item, attempt), line))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        let begun = self.config.begin();
        self.files().map(LazyAppender::deliver).fold(begun, Result::and)
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        let mut complete = true;
        let mut position = |lines: &JsonLines| {
            let (position, written) = lines.file.position();
            complete &= written;
            position.file_name_only()
        };
        let point = ResumePoint::new(&JsonlResumeState {
            run_files: RankedNames { rank: self.paths.rank },
            metrics: position(&self.metrics),
            records: self.records.as_ref().map(&mut position),
            media: Some(position(&self.media)),
            config: self.config.is_used(),
            row: self.rows.open(),
            open_calls: self.open_calls,
            attempt: self.attempt,
            run_id: self.run_id.clone(),
        })?;
        Some(if complete { point } else { point.incomplete() })
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        let open = self.rows.take();
        let written = self.write_rows(open.as_slice());
        self.files().map(LazyAppender::deliver_now).fold(written, Result::and)
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        self.config.end(end.exit_code);
        self.summary.end(end, summary);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let flushed = self.flush(deadline);
        self.files()
            .map(LazyAppender::finish)
            .fold(flushed, Result::and)
            .and(self.config.finish())
            .and(self.summary.finish())
    }

    fn books(&self) -> Option<SinkBooks> {
        let mut books = self.metrics.file.books();
        if let Some(records) = &self.records {
            books.add(&records.file.books());
        }
        books.add(&self.media.file.books());
        books.add(self.config.books());
        books.add(self.summary.books());
        books.accepted += self.open_calls;
        Some(books)
    }

    fn destination(&self) -> Option<String> {
        let file = &self.records.as_ref().unwrap_or(&self.metrics).file;
        Some(file.path().to_string_lossy().into_owned())
    }
}

impl fmt::Debug for JsonlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonlSink")
            .field("folder", &self.paths.folder)
            .finish_non_exhaustive()
    }
}

logcore::register_sink!("jsonl", JsonlSink::build, JsonlSink::recover);

/// A file of JSON lines, which is created with its first line.
struct JsonLines {
    file: LazyAppender,
    line: Vec<u8>,
}

impl JsonLines {
    fn new(path: PathBuf) -> Self {
        LazyAppender::new(path, Rotation::default()).into()
    }

    /// Continues a file of a killed process. The process may have been killed before it created the
    /// file.
    fn recover(path: PathBuf, position: FilePosition) -> Result<Self, SinkError> {
        Ok(match path.symlink_metadata() {
            Ok(_) => LazyAppender::from(Appender::recover(&position.with_path(path))?).into(),
            Err(_) => Self::new(path),
        })
    }

    /// Gives the first row of each file all columns that are not metrics.
    fn with_all_columns(self, attempt: u32) -> Self {
        let first_form = move |rows: &[u8]| row::with_all_columns(rows, attempt);
        Self {
            file: self.file.with_first_form(Arc::new(first_form)),
            line: self.line,
        }
    }

    /// Appends what `write` writes, which counts as `weight` calls.
    fn append(
        &mut self,
        weight: u64,
        write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<(), SinkError> {
        self.line.clear();
        if let Err(error) = write(&mut self.line) {
            let error = SinkError::new(error).with_reason("no form in JSON");
            self.file.reject(weight, error.reason());
            return Err(error);
        }
        self.file.append(&self.line, weight)
    }
}

impl From<LazyAppender> for JsonLines {
    fn from(file: LazyAppender) -> Self {
        Self { file, line: Vec::new() }
    }
}
