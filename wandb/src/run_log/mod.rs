//! The log of a run: rows, summary, config, console lines, files.
//!
//! Calls of one step are collected in the open row, because W&B has one value of a name per step.
//! The row is written when a later step begins or the run ends.

pub(crate) mod environment;
pub(crate) mod reopen;
mod resume_point;
pub(crate) mod row;

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logcore::escape::{Medium, escape};
use logcore::log::Level;
use logcore::{Alert, MetricBatch, MetricValue, Record, SinkError, epoch_seconds};
use serde_json::Value;

use self::reopen::reopen;
pub(crate) use self::resume_point::{LogResumePoint, RunResumePoint};
use self::resume_point::{OpenRow, RunLogState, RunOwner};
use self::row::RowColumns;
use crate::log_format::json;
use crate::log_format::proto::{self, AlertRecord, Item, ItemsRecord, RecordKind, Timestamp};
use crate::log_format::{LiveLog, LogLoss, LogWriter, RowItem};

/// Bytes that may wait for a full disk. Beyond that, calls are dropped and counted.
const MOST_WAITING: usize = 16 << 20;
/// The summary is written again when the rows since then are this many times its size. So the log
/// grows by a thirtieth, and the summary of a killed process is never far behind its rows.
const SUMMARY_SHARE: usize = 30;
/// Time between two summaries of rows that come so fast. Measured for 10^5 rows of ten metrics in
/// 0.2 s: the log is shorter by 3 %.
const SUMMARY_PAUSE: Duration = Duration::from_millis(100);
/// The summary is also written with a row that is this much newer.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(15);
/// Waiting bytes that are written before the sink delivers.
const WRITE_AHEAD: usize = 256 << 10;
/// Prefix of the names of machine readings, which are no rows.
const SYSTEM: &str = "system/";

/// The writer of the log of one run.
pub(crate) struct RunLog {
    log: LogWriter,
    columns: RowColumns,
    course: RunLogState,
    owner: RunOwner,
    console_line: String,
    /// The values of [`OWN`] of the newest row.
    own: [RowItem; OWN.len()],
}

/// The names of the values that each row has.
const OWN: [&str; 3] = ["_step", "_runtime", "_timestamp"];
/// In a second. A row states its runtime in microseconds, because its time in seconds since 1970 is
/// a double that has no more.
const MICROSECONDS: f64 = 1e6;

/// Reason in the books for rows behind the newest step, which W&B drops.
pub(crate) const LATE: &str = "late";

/// Describes the steps of a resumed run that are not sent again.
pub(crate) fn describe_late(first: u64, last: u64) -> String {
    let steps = if first == last {
        format!("step {first}")
    } else {
        format!("steps {first} to {last}")
    };
    format!("W&B has the steps of the run up to {last} already: {steps} of this attempt are only in metrics.jsonl")
}

/// Cause for which a call is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallRejection {
    /// The step is not after the newest closed row. The server would drop the row.
    Late { step: u64 },
    /// The disk is full, and so is the memory for waiting records.
    DiskFull,
}

impl CallRejection {
    /// Returns the reason in the books.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Late { .. } => LATE,
            Self::DiskFull => "disk full",
        }
    }

    /// Returns the error to report at once. Old steps are only counted, and reported at the end.
    pub(crate) fn into_error(self) -> Option<SinkError> {
        match self {
            Self::Late { .. } => None,
            Self::DiskFull => {
                Some(SinkError::new("the disk is full, and 16 MiB wait in memory").with_reason(self.reason()))
            }
        }
    }
}

/// The first records of a run.
pub(crate) struct RunStart {
    pub(crate) run: proto::RunRecord,
    pub(crate) environment: proto::EnvironmentRecord,
    pub(crate) telemetry: proto::TelemetryRecord,
    pub(crate) started: SystemTime,
    /// The lowest step of the first row.
    pub(crate) first_step: u64,
    /// Seconds for which earlier parts of the run lasted.
    pub(crate) earlier_runtime: f64,
    pub(crate) has_stats: bool,
}

impl RunLog {
    /// Creates the log with its first records.
    pub(crate) fn create(path: &Path, start: RunStart) -> io::Result<Self> {
        let owner = RunOwner {
            run_id: start.run.run_id.clone(),
            project: start.run.project.clone(),
            entity: start.run.entity.clone(),
        };
        let header = proto::HeaderRecord {
            version: Some(proto::VersionRecord {
                producer: env!("CARGO_PKG_VERSION").to_owned(),
                min_consumer: "0.70.0".to_owned(),
            }),
        };
        let first = [
            RecordKind::Header(header),
            RecordKind::Run(Box::new(start.run)),
            RecordKind::Environment(Box::new(start.environment)),
            RecordKind::Telemetry(start.telemetry),
        ];
        let log = LogWriter::create(path, first)?;
        Ok(Self {
            log,
            columns: RowColumns::default(),
            course: RunLogState {
                started: start.started,
                earlier_runtime: start.earlier_runtime,
                newest: start.started,
                has_stats: start.has_stats,
                open: None,
                highest: start.first_step.checked_sub(1),
                last_row: None,
                summarized: None,
                row_bytes_since_summary: 0,
                summary_size: 0,
            },
            owner,
            console_line: String::new(),
            own: OWN.map(RowItem::new),
        })
    }

    /// Continues the log of a killed process from a resume point. `None` if that process had ended
    /// the run: then the log has all calls.
    pub(crate) fn recover(point: &LogResumePoint<'_>, path: &Path) -> Result<Option<Self>, SinkError> {
        let reopened = reopen(path, point.end).map_err(|error| error.doing(format!("continue {}", path.display())))?;
        let Some((log, columns)) = reopened else {
            return Ok(None);
        };
        let mut recovered = Self {
            log,
            columns,
            course: point.course,
            owner: point.owner.clone().into_owned(),
            console_line: String::new(),
            own: OWN.map(RowItem::new),
        };
        for (name, value) in &point.row {
            recovered.columns.set_json(name, value);
        }
        for name in &point.set_summaries {
            recovered.columns.mark_summary_set(name);
        }
        Ok(Some(recovered))
    }

    /// Returns the position of the log. `path` is the path relative to a known folder.
    /// [Waiting](Self::is_waiting) records are not included.
    pub(crate) fn resume_point<'a>(&'a self, path: &'a Path) -> LogResumePoint<'a> {
        let row = self.columns.row();
        LogResumePoint {
            path: Cow::Borrowed(path),
            end: self.log.end(),
            course: self.course,
            owner: Cow::Borrowed(&self.owner),
            row: row.map(|item| (item.name().into(), item.value().into())).collect(),
            set_summaries: self.columns.set_summaries().map(Cow::from).collect(),
        }
    }

    /// Returns `true` if records wait for the disk.
    pub(crate) fn is_waiting(&self) -> bool {
        self.log.waiting() > 0
    }

    /// Returns `true` if so much waits that a batch of many rows would take much memory.
    pub(crate) fn is_write_due(&self) -> bool {
        self.log.waiting() >= WRITE_AHEAD
    }

    /// Adds the values of a call to the row of its step.
    pub(crate) fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), CallRejection> {
        self.check_room()?;
        self.note_time(batch.time());
        if self.columns.knows(batch) {
            self.open_row(batch.step(), batch.time())?;
            self.columns.set_numbers(batch);
            return Ok(());
        }
        let mut readings: Vec<(&str, MetricValue)> = Vec::new();
        let (mut opened, mut has_readings) = (false, false);
        for (name, value) in batch.iter() {
            if let Some(name) = name.strip_prefix(SYSTEM) {
                has_readings = true;
                if self.course.has_stats {
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
        if opened && !has_readings {
            self.columns.note_layout(batch);
        }
        if !readings.is_empty() {
            self.write_stats(batch.time(), &readings);
        }
        Ok(())
    }

    /// Adds a JSON value to the row of `step`.
    pub(crate) fn value(&mut self, step: u64, time: SystemTime, name: &str, value: &str) -> Result<(), CallRejection> {
        self.check_room()?;
        self.note_time(time);
        self.open_row(step, time)?;
        self.columns.set_json(name, value);
        Ok(())
    }

    /// Adds hyper-parameters.
    pub(crate) fn config(&mut self, config: &Value) -> Result<(), CallRejection> {
        self.check_room()?;
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
        self.check_room()?;
        self.note_time(record.time());
        let mut line = std::mem::take(&mut self.console_line);
        line.clear();
        line.push_str(match record.level() {
            Level::Error => "ERROR: ",
            Level::Warn => "WARN: ",
            _ => "",
        });
        // The page of a run interprets control sequences like a terminal.
        escape(record.message(), Medium::Terminal, &mut line, |line| line.push('\n'));
        line.push('\n');
        let output = proto::OutputRaw {
            output_type: proto::STDOUT,
            timestamp: Some(Timestamp::from_system(record.time())),
            line,
        };
        if let (_, Some(RecordKind::Output(output))) = self.log.append(RecordKind::Output(output)) {
            self.console_line = output.line;
        }
        Ok(())
    }

    /// Adds metric definitions.
    pub(crate) fn define(&mut self, metrics: Vec<proto::MetricRecord>) -> Result<(), CallRejection> {
        self.check_room()?;
        for metric in metrics {
            self.columns.define(metric.clone());
            self.log.append(RecordKind::Metric(metric));
        }
        Ok(())
    }

    /// Sets a summary value, in place of the values of the rows.
    pub(crate) fn set_summary(&mut self, key: &str, value: &Value) -> Result<(), CallRejection> {
        self.check_room()?;
        // The values of earlier rows come first.
        self.write_summary();
        self.columns.set_summary(key);
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

    /// Adds a record.
    pub(crate) fn record(&mut self, kind: RecordKind) -> Result<(), CallRejection> {
        self.check_room()?;
        self.log.append(kind);
        Ok(())
    }

    /// Adds an alert.
    pub(crate) fn alert(&mut self, alert: &Alert) -> Result<(), CallRejection> {
        self.record(RecordKind::Alert(AlertRecord {
            title: alert.title.clone(),
            text: alert.text.clone(),
            level: alert.level.name().to_owned(),
            // The time between equal alerts of the official client, in milliseconds.
            wait_duration: 60_000,
        }))
    }

    /// Returns the number of the last record.
    pub(crate) fn last(&self) -> i64 {
        self.log.last()
    }

    /// Returns the number of calls whose row is still open.
    pub(crate) fn open_calls(&self) -> u64 {
        self.course.open.map_or(0, |open| open.calls)
    }

    /// Writes everything but the open row to the file.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        self.log.write_out()
    }

    /// Returns the path of the log.
    pub(crate) fn path(&self) -> &Path {
        self.log.path()
    }

    /// Returns the state that the reader of a delivery follows.
    pub(crate) fn live(&self) -> Option<Arc<LiveLog>> {
        self.log.live()
    }

    /// Returns the records that another program has cut off since the last call. After a loss, the
    /// whole summary is written again.
    pub(crate) fn take_losses(&mut self) -> Vec<LogLoss> {
        let losses = self.log.take_losses();
        if !losses.is_empty() {
            self.columns.mark_all_stale();
            // The next row writes the summary.
            self.course.summary_size = 0;
        }
        losses
    }

    /// Returns the time of the newest call.
    pub(crate) fn newest(&self) -> SystemTime {
        self.course.newest
    }

    /// Adds the last records of the run. [`sync`](Self::sync) writes them.
    pub(crate) fn end(&mut self, exit_code: i32, time: SystemTime) {
        self.close_row();
        self.write_summary();
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

    /// Writes everything to the file, and waits until the file is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.log.sync()
    }

    /// Opens the row of a step, and closes the row of an earlier step.
    fn open_row(&mut self, step: u64, time: SystemTime) -> Result<(), CallRejection> {
        match &mut self.course.open {
            Some(open) if open.step == step => {
                open.time = time;
                open.calls += 1;
                return Ok(());
            }
            Some(open) if step < open.step => return Err(CallRejection::Late { step }),
            Some(_) => self.close_row(),
            None => {}
        }
        if self.course.highest.is_some_and(|highest| step <= highest) {
            return Err(CallRejection::Late { step });
        }
        self.course.open = Some(OpenRow { step, time, calls: 1 });
        Ok(())
    }

    /// Writes the open row, and the summary if it is due.
    fn close_row(&mut self) {
        let Some(open) = self.course.open.take() else { return };
        self.course.highest = Some(open.step);
        self.course.last_row = Some(open.time);
        if self.columns.is_empty() {
            return;
        }
        self.columns.fill_step_metrics();
        let runtime = (self.runtime(open.time) * MICROSECONDS).round() / MICROSECONDS;
        let [step, of_runtime, timestamp] = &mut self.own;
        step.set(|text| json::put_number(open.step.into(), text));
        of_runtime.set(|text| json::put_number(runtime.into(), text));
        timestamp.set(|text| json::put_number(epoch_seconds(open.time).into(), text));
        let before = self.log.waiting();
        self.log.append_row(open.step, self.columns.row().chain(&self.own));
        self.columns.close_row();
        self.course.row_bytes_since_summary += self.log.waiting() - before;
        let course = &self.course;
        let is_outgrown = course.row_bytes_since_summary >= course.summary_size * SUMMARY_SHARE;
        let is_due = match course.summarized.map(|at| open.time.duration_since(at)) {
            // Without a size, there is no summary in the file.
            Some(Ok(since)) if course.summary_size > 0 => {
                since >= SUMMARY_INTERVAL || (is_outgrown && since >= SUMMARY_PAUSE)
            }
            Some(Ok(_)) | None => is_outgrown,
            // The clock was set back.
            Some(Err(_)) => true,
        };
        if is_due {
            self.write_summary();
        }
    }

    /// Writes the changes of the summary.
    fn write_summary(&mut self) {
        let mut update = self.columns.take_stale();
        self.course.row_bytes_since_summary = 0;
        self.course.summarized = self.course.last_row;
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

    /// Writes readings of the machine.
    fn write_stats(&mut self, time: SystemTime, readings: &[(&str, MetricValue)]) {
        let item = readings
            .iter()
            .map(|(name, value)| item(name, json::number_text(*value)))
            .collect();
        self.log.append(RecordKind::Stats(proto::StatsRecord {
            stats_type: 0,
            timestamp: Some(Timestamp::from_system(time)),
            item,
        }));
    }

    /// Returns the seconds since the start of the run, including earlier parts.
    fn runtime(&self, time: SystemTime) -> f64 {
        let course = &self.course;
        course.earlier_runtime + time.duration_since(course.started).unwrap_or_default().as_secs_f64()
    }

    /// Notes the time of a call.
    fn note_time(&mut self, time: SystemTime) {
        self.course.newest = self.course.newest.max(time);
    }

    /// Rejects a call while too much waits for the disk.
    fn check_room(&self) -> Result<(), CallRejection> {
        match self.log.waiting() > MOST_WAITING {
            true => Err(CallRejection::DiskFull),
            false => Ok(()),
        }
    }
}

/// Creates an item without a nested key.
fn item(key: &str, value_json: String) -> Item {
    Item {
        key: key.to_owned(),
        value_json,
        ..Item::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
            Self::started(SystemTime::now())
        }

        fn started(start: SystemTime) -> Self {
            let folder = TempDir::new().unwrap();
            let first = RunStart {
                run: proto::RunRecord::default(),
                environment: proto::EnvironmentRecord::default(),
                telemetry: proto::TelemetryRecord::default(),
                started: start,
                first_step: 0,
                earlier_runtime: 0.0,
                has_stats: true,
            };
            let log = RunLog::create(&folder.path().join("run-x.wandb"), first).unwrap();
            Self { log, start, folder }
        }

        /// Logs a row at a number of seconds after the start. The number is negative if the clock
        /// was set back.
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

        /// Returns a summary value that a reader of the file has.
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
    fn the_summary_of_rare_rows_follows_the_newest_closed_row() {
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
    fn the_summary_of_fast_rows_is_at_most_a_moment_older_than_the_newest_closed_row() {
        let mut running = TestLog::new();
        let mut written = Vec::new();
        for step in 0..1000_u64 {
            let time = running.start + Duration::from_millis(step);
            let values = [("loss", MetricValue::UInt(step))];
            running.log.metrics(&MetricBatch::at(time, "x", step, &values)).unwrap();
            if step % 100 == 50 {
                written.push(running.summary("_step").unwrap().parse::<u64>().unwrap());
            }
        }
        for (at, step) in written.iter().enumerate() {
            let closed = at as u64 * 100 + 49;
            assert!(closed - step <= SUMMARY_PAUSE.as_millis() as u64, "{step} at {closed}");
        }
        let records = running.records();
        let summaries = records.iter().filter(|kind| matches!(kind, RecordKind::Summary(_)));
        assert!(summaries.count() <= 11);
    }

    #[test]
    fn rows_state_their_runtime_in_microseconds() {
        let mut running = TestLog::new();
        for (step, nanos) in [(0, 1_234_567_891), (1, 1_999_999_600), (2, 3_000_000_000)] {
            let time = running.start + Duration::from_nanos(nanos);
            let values = [("loss", MetricValue::UInt(step))];
            running.log.metrics(&MetricBatch::at(time, "x", step, &values)).unwrap();
        }
        running.log.end(0, running.start);
        let runtimes: Vec<_> = running
            .records()
            .into_iter()
            .filter_map(|kind| match kind {
                RecordKind::History(history) => history.item.into_iter().find(|item| item.key == "_runtime"),
                _ => None,
            })
            .map(|item| item.value_json)
            .collect();
        assert_eq!(runtimes, ["1.234568", "2", "3"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Batches that have the number of their names write what batches without one write.
        #[test]
        fn layout_changes_no_record(calls in prop::collection::vec((0..3_u64, 0..6_usize, any::<bool>()), 1..30)) {
            let layouts: [&[&str]; 6] = [&["a", "b"], &["a", "b"], &["b", "a"], &["a", "system/gpu"], &["c"], &[]];
            let start = SystemTime::now();
            let [mut numbered, mut plain] = [(); 2].map(|()| TestLog::started(start));
            let mut step = 0;
            for (at, (pause, layout, sets_summary)) in calls.into_iter().enumerate() {
                step += pause;
                let values = layouts[layout].iter().map(|name| (*name, MetricValue::Float(0.1 + at as f64)));
                let values: Vec<_> = values.collect();
                let batch = MetricBatch::at(start + Duration::from_secs(at as u64), "x", step, &values);
                let number = std::num::NonZeroU64::MIN.saturating_add(layout as u64);
                let results = [
                    numbered.log.metrics(&batch.with_layout(number)),
                    plain.log.metrics(&batch),
                ];
                prop_assert_eq!(results[0], results[1]);
                if sets_summary {
                    numbered.log.set_summary("a", &json!(at)).unwrap();
                    plain.log.set_summary("a", &json!(at)).unwrap();
                }
            }
            for running in [&mut numbered, &mut plain] {
                running.log.end(0, start);
            }
            prop_assert_eq!(numbered.records(), plain.records());
        }
    }

    #[test]
    fn rows_and_summaries_continue_after_the_clock_is_set_back() {
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
    fn a_set_summary_overrides_earlier_rows() {
        let mut running = TestLog::new();
        running.row(0, 0, &[("loss", 0.5), ("other", 1.0)]).unwrap();
        running.log.set_summary("loss", &json!(0.1)).unwrap();
        running.log.end(0, running.start);
        assert_eq!(running.summary("loss").as_deref(), Some("0.1"));
        assert_eq!(running.summary("other").as_deref(), Some("1"));
    }

    #[test]
    fn later_rows_override_a_set_summary() {
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
    fn statistics_start_anew_when_the_summary_is_set() {
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
    fn a_call_with_an_old_step_writes_nothing() {
        let mut running = TestLog::new();
        running.row(5, 0, &[("loss", 0.5)]).unwrap();
        let before = running.records().len();
        let late = running.row(3, 0, &[("system/gpu", 1.0), ("loss", 1.0), ("system/cpu", 1.0)]);
        assert_eq!(late, Err(CallRejection::Late { step: 3 }));
        assert_eq!(running.records().len(), before);
    }
}
