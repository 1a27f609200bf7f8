//! What a run writes into its log: rows, summary, config, console lines, files.

pub(crate) mod environment;
pub(crate) mod reopen;
pub(crate) mod row;

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logcore::escape::{Medium, escape};
use logcore::log::Level;
use logcore::{MetricBatch, MetricValue, Record, SinkError, epoch_seconds};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::log_format::json;
use crate::log_format::proto::{self, HistoryRecord, Item, ItemsRecord, RecordKind, Timestamp};
use crate::log_format::{LiveLog, LogEnd, LogLoss, LogWriter};
use crate::run_log::reopen::reopen;
use crate::run_log::row::RowColumns;

/// What may wait for a disk that takes nothing; beyond it records are given up and counted.
const MOST_WAITING: usize = 16 << 20;
/// The summary is written again when the rows since then are this many times its size: a thirtieth more bytes, and what a
/// killed process leaves is never far behind its rows.
const SUMMARY_SHARE: usize = 30;
/// The same for rows that are rare: a row so much newer than the summary takes it along.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(15);
/// Families that are readings of the machine, not rows.
const SYSTEM: &str = "system/";

/// The log of one run, as the sink writes it.
pub(crate) struct RunLog {
    log: LogWriter,
    columns: RowColumns,
    course: RunCourse,
    owner: RunOwner,
    console_line: String,
}

/// Whose run it is; the official client attaches artifacts by it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunOwner {
    run_id: String,
    project: String,
    entity: String,
}

/// How far a run has come, beside what its columns hold.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RunCourse {
    #[serde(with = "logcore::signed_time")]
    started: SystemTime,
    /// Seconds that earlier parts of the run took.
    earlier: f64,
    /// When the newest call was made.
    #[serde(with = "logcore::signed_time")]
    newest: SystemTime,
    /// Readings of the machine are kept.
    stats: bool,
    open: Option<OpenRow>,
    /// The newest step of a row that is closed, or that the server has.
    highest: Option<u64>,
    /// When the newest closed row was logged.
    #[serde(with = "logcore::signed_time::option")]
    last_row: Option<SystemTime>,
    /// `last_row` when the summary was written.
    #[serde(with = "logcore::signed_time::option")]
    summarised: Option<SystemTime>,
    summary_debt: usize,
    summary_size: usize,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct OpenRow {
    step: u64,
    #[serde(with = "logcore::signed_time")]
    time: SystemTime,
    calls: u64,
}

/// Where a log stands, for a process that goes on with it: what the log itself does not tell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogResumePoint<'a> {
    path: Cow<'a, Path>,
    end: LogEnd,
    course: RunCourse,
    owner: Cow<'a, RunOwner>,
    /// Names and values of the open row.
    row: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Names whose summary was set since their last value.
    said: Vec<Cow<'a, str>>,
}

impl LogResumePoint<'_> {
    /// Where the log is within its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Why something is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallRejection {
    /// The server would drop a row behind one that it has.
    Late,
    /// The disk takes nothing and memory is not for that.
    DiskFull,
}

impl CallRejection {
    /// What it is counted under.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Late => "step behind the newest, which W&B drops",
            Self::DiskFull => "disk full",
        }
    }

    /// What is said at once. The late ones are said at the end, with their count.
    pub(crate) fn error(self) -> Result<(), SinkError> {
        match self {
            Self::Late => Ok(()),
            Self::DiskFull => {
                Err(SinkError::new("the disk takes nothing and 16 MiB wait in memory").with_reason(self.reason()))
            }
        }
    }
}

/// How a run begins.
pub(crate) struct RunStart {
    pub(crate) run: proto::RunRecord,
    pub(crate) environment: proto::EnvironmentRecord,
    pub(crate) telemetry: proto::TelemetryRecord,
    pub(crate) started: SystemTime,
    /// The first step that the server has not.
    pub(crate) first_step: u64,
    pub(crate) earlier: f64,
    pub(crate) stats: bool,
}

impl RunLog {
    /// Makes the log and writes what must be in it from the first moment.
    pub(crate) fn create(path: &Path, beginning: RunStart) -> io::Result<Self> {
        let owner = RunOwner {
            run_id: beginning.run.run_id.clone(),
            project: beginning.run.project.clone(),
            entity: beginning.run.entity.clone(),
        };
        let header = proto::HeaderRecord {
            version: Some(proto::VersionRecord {
                producer: env!("CARGO_PKG_VERSION").to_owned(),
                min_consumer: "0.70.0".to_owned(),
            }),
        };
        let first = [
            RecordKind::Header(header),
            RecordKind::Run(Box::new(beginning.run)),
            RecordKind::Environment(Box::new(beginning.environment)),
            RecordKind::Telemetry(beginning.telemetry),
        ];
        let log = LogWriter::create(path, first)?;
        Ok(Self {
            log,
            columns: RowColumns::default(),
            course: RunCourse {
                started: beginning.started,
                earlier: beginning.earlier,
                newest: beginning.started,
                stats: beginning.stats,
                open: None,
                highest: beginning.first_step.checked_sub(1),
                last_row: None,
                summarised: None,
                summary_debt: 0,
                summary_size: 0,
            },
            owner,
            console_line: String::new(),
        })
    }

    /// Goes on with a log whose process was killed, from where it stood at `mark`. `None` if that process had ended the run:
    /// then all that it was given is there.
    pub(crate) fn recover(mark: &LogResumePoint<'_>, path: &Path) -> Result<Option<Self>, SinkError> {
        let reopened = reopen(path, mark.end).map_err(|error| error.doing(format!("go on with {}", path.display())))?;
        let Some((log, columns)) = reopened else {
            return Ok(None);
        };
        let mut recovered = Self {
            log,
            columns,
            course: mark.course,
            owner: mark.owner.clone().into_owned(),
            console_line: String::new(),
        };
        for (name, value) in &mark.row {
            recovered.columns.set_json(name, value);
        }
        mark.said.iter().for_each(|name| recovered.columns.keep_said(name));
        Ok(Some(recovered))
    }

    /// Where the log stands, which is at `path` within a folder that others know. Records that [wait](Self::waits) are not in it.
    pub(crate) fn mark<'a>(&'a self, path: &'a Path) -> LogResumePoint<'a> {
        let row = self.columns.row();
        LogResumePoint {
            path: Cow::Borrowed(path),
            end: self.log.end(),
            course: self.course,
            owner: Cow::Borrowed(&self.owner),
            row: row.map(|(name, value)| (name.into(), value.into())).collect(),
            said: self.columns.said().map(Cow::from).collect(),
        }
    }

    /// Whether the disk has not taken everything.
    pub(crate) fn waits(&self) -> bool {
        self.log.waiting() > 0
    }

    /// Adds the values of a call to the row of its step.
    pub(crate) fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), CallRejection> {
        self.room()?;
        self.note(batch.time());
        let mut readings: Vec<(&str, MetricValue)> = Vec::new();
        let mut opened = false;
        for (name, value) in batch.iter() {
            if let Some(name) = name.strip_prefix(SYSTEM) {
                if self.course.stats {
                    readings.push((name, value));
                }
                continue;
            }
            if !opened {
                self.open_row(batch.step(), batch.time())?;
                opened = true;
            }
            self.columns.set_number(name, value);
        }
        if !readings.is_empty() {
            self.stats(batch.time(), &readings);
        }
        Ok(())
    }

    /// Adds a value that is no number, as JSON, to the row of `step`.
    pub(crate) fn value(&mut self, step: u64, time: SystemTime, name: &str, value: &str) -> Result<(), CallRejection> {
        self.room()?;
        self.note(time);
        self.open_row(step, time)?;
        self.columns.set_json(name, value);
        Ok(())
    }

    /// Adds hyper-parameters.
    pub(crate) fn config(&mut self, config: &Value) -> Result<(), CallRejection> {
        self.room()?;
        let update = match config {
            Value::Object(all) => all.iter().map(|(key, value)| item(key, value.to_string())).collect(),
            other => vec![item("config", other.to_string())],
        };
        self.log.append(RecordKind::Config(ItemsRecord {
            update,
            remove: Vec::new(),
        }));
        Ok(())
    }

    /// Adds a message as console lines.
    pub(crate) fn console(&mut self, record: &Record<'_>) -> Result<(), CallRejection> {
        self.room()?;
        self.note(record.time());
        let mut line = std::mem::take(&mut self.console_line);
        line.clear();
        line.push_str(match record.level() {
            Level::Error => "ERROR: ",
            Level::Warn => "WARN: ",
            _ => "",
        });
        // The page of a run obeys codes as a terminal does.
        escape(record.message(), Medium::Terminal, &mut line, |line| line.push('\n'));
        line.push('\n');
        let output = proto::OutputRaw {
            output_type: proto::STDOUT,
            timestamp: Some(Timestamp::of(record.time())),
            line,
        };
        if let (_, Some(RecordKind::Output(output))) = self.log.append(RecordKind::Output(output)) {
            self.console_line = output.line;
        }
        Ok(())
    }

    pub(crate) fn define(&mut self, metrics: Vec<proto::MetricRecord>) -> Result<(), CallRejection> {
        self.room()?;
        for metric in metrics {
            self.columns.define(metric.clone());
            self.log.append(RecordKind::Metric(metric));
        }
        Ok(())
    }

    /// Sets a summary value, whatever the rows say.
    pub(crate) fn set_summary(&mut self, key: &str, value: &Value) -> Result<(), CallRejection> {
        self.room()?;
        // What the rows before say is older than this.
        self.summary();
        self.columns.say(key);
        self.log.append(RecordKind::Summary(ItemsRecord {
            update: vec![item(key, value.to_string())],
            remove: Vec::new(),
        }));
        Ok(())
    }

    /// Adds an artifact of the run.
    pub(crate) fn artifact(&mut self, artifact: proto::ArtifactRecord) -> Result<(), CallRejection> {
        let RunOwner {
            run_id,
            project,
            entity,
        } = self.owner.clone();
        self.record(RecordKind::Artifact(Box::new(proto::ArtifactRecord {
            run_id,
            project,
            entity,
            ..artifact
        })))
    }

    /// Adds a record as it is.
    pub(crate) fn record(&mut self, kind: RecordKind) -> Result<(), CallRejection> {
        self.room()?;
        self.log.append(kind);
        Ok(())
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> i64 {
        self.log.last()
    }

    /// Calls whose row is in no record yet.
    pub(crate) fn open_calls(&self) -> u64 {
        self.course.open.map_or(0, |open| open.calls)
    }

    /// Writes everything but the open row to the file.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        self.log.write_out()
    }

    pub(crate) fn path(&self) -> &Path {
        self.log.path()
    }

    /// For the delivery.
    pub(crate) fn live(&self) -> Option<Arc<LiveLog>> {
        self.log.live()
    }

    /// The records that others have cut off the log since the last call. After a loss, the values that rows
    /// have put into the summary are written again.
    pub(crate) fn take_losses(&mut self) -> Vec<LogLoss> {
        let losses = self.log.take_losses();
        if !losses.is_empty() {
            self.columns.make_stale();
            // With the next row.
            self.course.summary_size = 0;
        }
        losses
    }

    /// When the newest call was made.
    pub(crate) fn newest(&self) -> SystemTime {
        self.course.newest
    }

    /// Adds what stands at the end of a run, for [`sync`](Self::sync) to write.
    pub(crate) fn end(&mut self, exit_code: i32, time: SystemTime) {
        self.close_row();
        self.summary();
        let runtime = self.runtime(time);
        self.log.append(RecordKind::Summary(ItemsRecord {
            update: vec![
                Item {
                    nested_key: vec!["_wandb".to_owned(), "runtime".to_owned()],
                    value_json: (runtime as i64).to_string(),
                    ..Item::default()
                },
                item("_runtime", (runtime as i64).to_string()),
            ],
            remove: Vec::new(),
        }));
        self.log.append(RecordKind::Telemetry(proto::TelemetryRecord {
            feature: Some(proto::FeatureRecord {
                finish: true,
                ..proto::FeatureRecord::default()
            }),
            ..proto::TelemetryRecord::default()
        }));
        self.log.append(RecordKind::Exit(proto::ExitRecord {
            exit_code,
            runtime: (runtime as i64).try_into().unwrap_or(i32::MAX),
            not_complete: false,
        }));
    }

    /// Writes everything to the file, and has the operating system put it on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.log.sync()
    }

    fn open_row(&mut self, step: u64, time: SystemTime) -> Result<(), CallRejection> {
        match &mut self.course.open {
            Some(open) if open.step == step => {
                open.time = time;
                open.calls += 1;
                return Ok(());
            }
            Some(open) if step < open.step => return Err(CallRejection::Late),
            Some(_) => self.close_row(),
            None => {}
        }
        if self.course.highest.is_some_and(|highest| step <= highest) {
            return Err(CallRejection::Late);
        }
        self.course.open = Some(OpenRow { step, time, calls: 1 });
        Ok(())
    }

    fn close_row(&mut self) {
        let Some(open) = self.course.open.take() else { return };
        self.course.highest = Some(open.step);
        self.course.last_row = Some(open.time);
        if self.columns.is_empty() {
            return;
        }
        self.columns.sync_steps();
        let own = [
            item("_step", open.step.to_string()),
            item("_runtime", json::float(self.runtime(open.time))),
            item("_timestamp", json::float(epoch_seconds(open.time))),
        ];
        let before = self.log.waiting();
        let log = &mut self.log;
        self.columns.close(own, |items| {
            let history = HistoryRecord {
                item: items,
                step: Some(proto::HistoryStep {
                    num: i64::try_from(open.step).unwrap_or(i64::MAX),
                }),
            };
            match log.append(RecordKind::History(history)) {
                (_, Some(RecordKind::History(history))) => ((), history.item),
                _ => ((), Vec::new()),
            }
        });
        self.course.summary_debt += self.log.waiting() - before;
        let course = &self.course;
        let due = course.summarised.is_some_and(|at| match open.time.duration_since(at) {
            Ok(since) => since >= SUMMARY_INTERVAL,
            // The clock was put back.
            Err(_) => true,
        });
        if due || course.summary_debt >= course.summary_size * SUMMARY_SHARE {
            self.summary();
        }
    }

    /// Writes what has changed in the summary.
    fn summary(&mut self) {
        let mut update = self.columns.take_stale();
        self.course.summary_debt = 0;
        self.course.summarised = self.course.last_row;
        let (Some(step), Some(time), false) = (self.course.highest, self.course.last_row, update.is_empty()) else {
            return;
        };
        update.push(item("_step", step.to_string()));
        update.push(item("_timestamp", json::float(epoch_seconds(time))));
        update.push(item("_runtime", (self.runtime(time) as i64).to_string()));
        let before = self.log.waiting();
        self.log.append(RecordKind::Summary(ItemsRecord {
            update,
            remove: Vec::new(),
        }));
        self.course.summary_size = self.log.waiting() - before;
    }

    fn stats(&mut self, time: SystemTime, readings: &[(&str, MetricValue)]) {
        let item = readings
            .iter()
            .map(|(name, value)| {
                let mut text = String::new();
                json::put_number(*value, &mut text);
                item(name, text)
            })
            .collect();
        self.log.append(RecordKind::Stats(proto::StatsRecord {
            stats_type: 0,
            timestamp: Some(Timestamp::of(time)),
            item,
        }));
    }

    /// Seconds since the run began, earlier parts of it included.
    fn runtime(&self, time: SystemTime) -> f64 {
        let course = &self.course;
        course.earlier + time.duration_since(course.started).unwrap_or_default().as_secs_f64()
    }

    fn note(&mut self, time: SystemTime) {
        self.course.newest = self.course.newest.max(time);
    }

    fn room(&self) -> Result<(), CallRejection> {
        match self.log.waiting() > MOST_WAITING {
            true => Err(CallRejection::DiskFull),
            false => Ok(()),
        }
    }
}

fn item(key: &str, value_json: String) -> Item {
    Item {
        key: key.to_owned(),
        value_json,
        ..Item::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::log_format::{LogEntry, LogReader};

    struct TestLog {
        log: RunLog,
        start: SystemTime,
        folder: TempDir,
    }

    impl TestLog {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let start = SystemTime::now();
            let beginning = RunStart {
                run: proto::RunRecord::default(),
                environment: proto::EnvironmentRecord::default(),
                telemetry: proto::TelemetryRecord::default(),
                started: start,
                first_step: 0,
                earlier: 0.0,
                stats: true,
            };
            let log = RunLog::create(&folder.path().join("run-x.wandb"), beginning).unwrap();
            Self { log, start, folder }
        }

        /// Logs a row, so many seconds after the start; negative where the clock was put back.
        fn row(&mut self, step: u64, seconds: i64, values: &[(&str, f64)]) -> Result<(), CallRejection> {
            let values: Vec<_> = values
                .iter()
                .map(|(name, value)| (*name, MetricValue::Float(*value)))
                .collect();
            let distance = Duration::from_secs(seconds.unsigned_abs());
            let time = if seconds < 0 {
                self.start - distance
            } else {
                self.start + distance
            };
            self.log.metrics(&MetricBatch::at(time, "x", step, &values))
        }

        fn records(&mut self) -> Vec<RecordKind> {
            self.log.write_out().unwrap();
            let mut reader = LogReader::open(&self.folder.path().join("run-x.wandb")).unwrap();
            let mut all = Vec::new();
            while let Ok(LogEntry::Record(record)) = reader.next() {
                all.extend(record.kind);
            }
            all
        }

        /// The summary that a reader of the file has.
        fn summary(&mut self, key: &str) -> Option<String> {
            let records = self.records();
            let mut summaries = records.iter().filter_map(|kind| match kind {
                RecordKind::Summary(items) => items.update.iter().find(|item| item.key == key),
                _ => None,
            });
            summaries.next_back().map(|item| item.value_json.clone())
        }
    }

    #[test]
    fn the_summary_of_rare_rows_is_that_of_the_newest_one() {
        let mut running = TestLog::new();
        for epoch in 0..30 {
            running
                .row(epoch, epoch as i64 * 60, &[("loss", epoch as f64)])
                .unwrap();
        }
        assert_eq!(running.summary("loss").as_deref(), Some("28"), "row 29 is still open");
        assert_eq!(running.summary("_step").as_deref(), Some("28"));
    }

    #[test]
    fn a_clock_that_is_put_back_stops_nothing() {
        let mut running = TestLog::new();
        for (step, seconds) in [0, 100, -3600, -3590, -3500].into_iter().enumerate() {
            running.row(step as u64, seconds, &[("loss", step as f64)]).unwrap();
        }
        assert_eq!(running.summary("loss").as_deref(), Some("2"));
        running.row(5, -3400, &[("loss", 5.0)]).unwrap();
        assert_eq!(
            running.summary("loss").as_deref(),
            Some("4"),
            "intervals count from there"
        );
        let steps = running.records();
        let rows = steps.iter().filter(|kind| matches!(kind, RecordKind::History(_)));
        assert_eq!(rows.count(), 5);
    }

    #[test]
    fn what_a_program_has_set_wins_over_what_it_had_logged() {
        let mut running = TestLog::new();
        running.row(0, 0, &[("loss", 0.5), ("other", 1.0)]).unwrap();
        running.log.set_summary("loss", &json!(0.1)).unwrap();
        running.log.end(0, running.start);
        assert_eq!(running.summary("loss").as_deref(), Some("0.1"));
        assert_eq!(running.summary("other").as_deref(), Some("1"));
    }

    #[test]
    fn what_is_logged_later_wins_over_what_a_program_had_set() {
        for step in [0, 1] {
            let mut running = TestLog::new();
            running.row(0, 0, &[("loss", 0.5)]).unwrap();
            running.log.set_summary("loss", &json!(0.1)).unwrap();
            running.row(step, 1, &[("loss", 0.7)]).unwrap();
            running.log.end(0, running.start);
            assert_eq!(running.summary("loss").as_deref(), Some("0.7"), "at step {step}");
        }
    }

    #[test]
    fn statistics_begin_anew_where_a_program_sets_the_summary() {
        let mut running = TestLog::new();
        let definition = crate::MetricDefinition::new("loss").summary(["min", "mean"]);
        running.log.define(definition.records()).unwrap();
        running.row(0, 0, &[("loss", 0.5)]).unwrap();
        running.row(1, 0, &[("other", 0.5)]).unwrap();
        running.log.set_summary("loss", &json!(0.1)).unwrap();
        running.row(2, 0, &[("loss", 2.0)]).unwrap();
        running.row(3, 0, &[("loss", 4.0)]).unwrap();
        running.log.end(0, running.start);
        assert_eq!(running.summary("loss").as_deref(), Some(r#"{"min":2,"mean":3}"#));
    }

    #[test]
    fn a_late_call_leaves_nothing() {
        let mut running = TestLog::new();
        running.row(5, 0, &[("loss", 0.5)]).unwrap();
        let before = running.records().len();
        let late = running.row(3, 0, &[("system/gpu", 1.0), ("loss", 1.0), ("system/cpu", 1.0)]);
        assert_eq!(late, Err(CallRejection::Late));
        assert_eq!(running.records().len(), before);
    }
}
