//! Turns the records of a log into the content that is sent to the server.
//!
//! Rows, readings and console lines become lines with consecutive numbers. Config and summary are
//! trees whose current state is sent as a whole. A row without a step, or with a step that the
//! server has already, gets the next free step.

use std::collections::VecDeque;
use std::fmt::Write as _;

use jiff::Timestamp;
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::log_format::RowView;
use crate::log_format::items::{self, ItemTree};
use crate::log_format::json;
use crate::log_format::proto::{
    self, AlertRecord, ArtifactRecord, EnvironmentRecord, ExitRecord, FilesItem, HistoryRecord, ItemsRecord, LogRecord,
    RecordKind, RunRecord, STDOUT,
};
use crate::upload::state::progress_file::UploadProgress;
use crate::upload::stream::definitions::MetricDefinitions;
use crate::upload::stream::metadata::environment_json;
use crate::upload::stream::tail_summary::TailSummary;
use crate::upload::stream::unsent_lines::{LONGEST_LINE, StreamLines};
use crate::upload::stream::yaml::yaml_value;

/// The content of a log, as far as the log has been read.
#[derive(Default)]
pub(crate) struct Assembler {
    /// The names of the run.
    pub(crate) run: Option<RunRecord>,
    /// Rows.
    pub(crate) history: StreamLines,
    /// Readings of the machine.
    pub(crate) events: StreamLines,
    /// Console lines.
    pub(crate) output: StreamLines,
    /// Files to upload.
    pub(crate) files: VecDeque<FilesItem>,
    /// Artifacts to upload.
    pub(crate) artifacts: VecDeque<ArtifactRecord>,
    /// Alerts to send.
    pub(crate) alerts: VecDeque<AlertRecord>,
    /// The end of the run.
    pub(crate) exit: Option<ExitRecord>,
    /// `true` if the run is about to be preempted.
    pub(crate) preempting: bool,
    /// `true` if the server has a newer part of the run. Then only the lines and files of this log
    /// are sent, and the run itself is not changed.
    pub(crate) superseded: bool,
    /// Console text that is not in the file `output.log` yet.
    pub(crate) console: String,
    /// The number of the newest record.
    pub(crate) num: i64,
    /// Number of calls whose line is too long for a server. A summary counts as no call.
    too_long: Option<u64>,
    /// `true` if the server accepts console lines as JSON.
    pub(crate) structured_console: bool,
    /// The config.
    config: ItemTree,
    config_changed: bool,
    /// Number of calls that changed the config since the config was taken.
    config_calls: u64,
    /// `true` if a record has changed the name, the notes or the tags.
    run_changed: bool,
    /// The summary.
    summary: ItemTree,
    summary_changed: bool,
    /// The summary of the last rows. `None` while the log still grows.
    tail_summary: Option<TailSummary>,
    /// The metric definitions.
    definitions: MetricDefinitions,
    telemetry: Map<String, Value>,
    features: Vec<u32>,
    /// The environment of the run.
    environment: Option<EnvironmentRecord>,
    /// The writers of earlier parts of the run.
    earlier_writers: Map<String, Value>,
    /// Seconds for which earlier parts of the run lasted.
    earlier_runtime: f64,
    /// The lowest step of the next row.
    next_step: i64,
    last_step: Option<i64>,
    /// The lowest step for rows from `first_row` on.
    first_step: i64,
    first_row: u64,
    /// The first step that the server did not have when the run was resumed.
    resumed_at: i64,
    late: Option<LateRows>,
    /// Unfinished lines of standard output and standard error.
    partial: [String; 2],
    /// The line of the newest row, kept to reuse its memory.
    line: String,
}

/// The name of the step among the values of a row.
const STEP: &str = "_step";

/// Rows with steps that the server has already, of a run that keeps its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateRows {
    /// The lowest of the steps.
    pub(crate) first: u64,
    /// The newest step that the server has.
    pub(crate) last: u64,
    /// Number of the rows.
    pub(crate) rows: u64,
}

impl Assembler {
    /// Sets the position on the server: the first lines of this log, the lines that the server has,
    /// the lowest step.
    pub(crate) fn begin_at(&mut self, progress: &UploadProgress) {
        self.first_step = progress.first_step;
        self.first_row = progress.first_row;
        self.resumed_at = progress.resumed_at;
        self.earlier_runtime = progress.earlier_runtime;
        self.earlier_writers.clone_from(&progress.earlier_writers);
        for (lines, extent) in [
            (&mut self.history, progress.history),
            (&mut self.events, progress.events),
            (&mut self.output, progress.output),
        ] {
            lines.begin_at(extent.start, extent.sent);
        }
    }

    /// Adds the config and the summary of an earlier part of the run, without changing existing
    /// values.
    pub(crate) fn inherit(&mut self, config: &ItemTree, summary: &ItemTree) {
        self.config.inherit(config);
        self.summary.inherit(summary);
        self.config_changed = true;
    }

    /// Adds a record. Records behind the exit record are ignored.
    pub(crate) fn read(&mut self, record: LogRecord) {
        self.num = self.num.max(record.num);
        if self.exit.is_some() {
            return;
        }
        match record.kind {
            Some(RecordKind::Run(run)) => self.begin(*run),
            Some(RecordKind::History(history)) => self.history(&history),
            Some(RecordKind::Summary(items)) => {
                self.apply_summary(&items);
                if let Some(tail_summary) = &mut self.tail_summary {
                    tail_summary.reset();
                }
            }
            Some(RecordKind::Config(items)) => {
                self.config.apply(&items);
                self.config_calls += 1;
                self.config_changed = true;
            }
            Some(RecordKind::Stats(stats)) => self.stats(&stats),
            Some(RecordKind::Output(output)) => {
                let time = output
                    .timestamp
                    .unwrap_or_else(|| proto::Timestamp::from_system(std::time::SystemTime::now()));
                self.console(&output.line, output.output_type != STDOUT, time);
            }
            Some(RecordKind::OutputLine(output)) => {
                let now = proto::Timestamp::from_system(std::time::SystemTime::now());
                self.console(&format!("{}\n", output.line), false, now);
            }
            Some(RecordKind::Metric(metric)) => {
                if let Some(tail_summary) = &mut self.tail_summary {
                    tail_summary.define(metric.clone());
                }
                self.definitions.add(metric);
                self.config_calls += 1;
                self.config_changed = true;
            }
            Some(RecordKind::Telemetry(telemetry)) => self.telemetry(&telemetry),
            Some(RecordKind::Environment(environment)) => {
                self.merge_environment(*environment);
            }
            Some(RecordKind::Files(files)) => self.files.extend(files.files),
            Some(RecordKind::Artifact(artifact)) => self.artifacts.push_back(*artifact),
            Some(RecordKind::Alert(alert)) => self.alerts.push_back(alert),
            Some(RecordKind::Preempting(_)) => self.preempting = !self.superseded,
            Some(RecordKind::Exit(exit)) => self.end(exit),
            Some(RecordKind::Header(_)) | None => {}
        }
    }

    /// As [`read`](Self::read), for a row that was not decoded.
    pub(crate) fn read_row(&mut self, mut row: RowView<'_>) {
        self.num = self.num.max(row.num);
        if self.exit.is_some() {
            return;
        }
        for (_, value) in row.values.iter_mut().filter(|(_, value)| !json::is_valid(value)) {
            *value = "null";
        }
        self.row(&row.values, &ItemTree::default());
    }

    /// Prepares for a log without an exit record: derives the last summary from the rows. Call this
    /// before reading.
    pub(crate) fn derive_summary(&mut self) {
        self.tail_summary = Some(TailSummary::default());
    }

    /// Adds the rows behind the last summary record to the summary.
    pub(crate) fn add_tail_summary(&mut self) {
        if let Some(items) = self.tail_summary.as_mut().and_then(TailSummary::take) {
            self.apply_summary(&items);
        }
    }

    /// Applies a change of the summary.
    fn apply_summary(&mut self, items: &ItemsRecord) {
        self.summary.apply(items);
        self.summary_changed = true;
    }

    /// Sets the step of the summary to that of the newest row, which may have another step on the
    /// server than in the log.
    fn set_summary_step(&mut self) {
        if let Some(step) = self.last_step {
            self.summary.set(&[STEP], step.to_string());
        }
    }

    /// Returns the number of waiting bytes.
    pub(crate) fn waiting(&self) -> usize {
        self.history.bytes() + self.events.bytes() + self.output.bytes()
    }

    /// Returns the whole config in the form of the server, if the config has changed since the last
    /// call.
    pub(crate) fn take_config(&mut self) -> Option<String> {
        std::mem::take(&mut self.config_changed).then(|| self.wrapped_config())
    }

    /// Reverts [`take_config`](Self::take_config), because the config was not sent.
    pub(crate) fn return_config(&mut self) {
        self.config_changed = true;
    }

    /// Returns the number of calls that changed the config since the last call of this function.
    pub(crate) fn take_config_calls(&mut self) -> u64 {
        std::mem::take(&mut self.config_calls)
    }

    /// Returns `true` if the name, the notes or the tags have changed since the last call.
    pub(crate) fn take_run_changed(&mut self) -> bool {
        std::mem::take(&mut self.run_changed)
    }

    /// Returns the number of calls with lines that are too long, if there was such a line since the
    /// last call.
    pub(crate) fn take_too_long(&mut self) -> Option<u64> {
        self.too_long.take()
    }

    /// Counts a line that was not accepted.
    fn count_if_too_long(&mut self, accepted: bool) {
        if !accepted {
            *self.too_long.get_or_insert(0) += 1;
        }
    }

    /// Returns `true` if the config has to be sent.
    pub(crate) fn config_changed(&self) -> bool {
        self.config_changed && !self.superseded
    }

    /// Returns the whole summary, if the summary has changed since the last call.
    pub(crate) fn take_summary(&mut self) -> Option<String> {
        if self.superseded || !std::mem::take(&mut self.summary_changed) {
            return None;
        }
        let summary = self.summary_text();
        if summary.len() > LONGEST_LINE {
            self.too_long.get_or_insert(0);
            return None;
        }
        Some(summary)
    }

    /// Returns `true` if the summary has to be sent.
    pub(crate) fn summary_changed(&self) -> bool {
        self.summary_changed && !self.superseded
    }

    /// Returns the content of `wandb-summary.json`.
    pub(crate) fn summary_text(&mut self) -> String {
        self.set_summary_step();
        self.summary.text()
    }

    /// Returns the content of `config.yaml`.
    pub(crate) fn config_yaml(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.config_entries() {
            let mut name = String::new();
            json::put_string(key, &mut name);
            let _ = writeln!(text, "{name}:\n    value: {}", yaml_value(&value));
        }
        text
    }

    /// Returns the content of `wandb-metadata.json`.
    pub(crate) fn metadata(&self) -> Option<String> {
        let environment = self.environment.as_ref()?;
        serde_json::to_string_pretty(&environment_json(environment)).ok()
    }

    /// Returns the environment of the run, if it is known.
    pub(crate) fn environment(&self) -> Option<&EnvironmentRecord> {
        self.environment.as_ref()
    }

    /// Returns `true` if the environment of the run is known.
    pub(crate) fn has_environment(&self) -> bool {
        self.environment.is_some()
    }

    /// Returns the name of the program.
    pub(crate) fn program(&self) -> Option<String> {
        let program = self.environment.as_ref()?.program.clone();
        (!program.is_empty()).then_some(program)
    }

    /// Returns the id that distinguishes this log from others of the same run.
    pub(crate) fn writer_id(&self) -> String {
        let writer = self
            .environment
            .as_ref()
            .map(|environment| environment.writer_id.clone());
        writer.unwrap_or_default()
    }

    /// Merges a record of the environment into the earlier ones.
    fn merge_environment(&mut self, newer: EnvironmentRecord) {
        self.config_changed = true;
        match &mut self.environment {
            // Decoding cannot fail: the bytes are valid.
            Some(environment) => drop(environment.merge(newer.encode_to_vec().as_slice())),
            None => self.environment = Some(newer),
        }
    }

    /// Applies a run record.
    fn begin(&mut self, run: RunRecord) {
        if let Some(first) = &mut self.run {
            // A later record changes what a person may change: the name, the notes, the tags.
            first.display_name = run.display_name;
            first.notes = run.notes;
            first.tags = run.tags;
            self.config_changed = true;
            self.run_changed = true;
            return;
        }
        if let Some(config) = &run.config {
            self.config.apply(config);
        }
        if let Some(summary) = &run.summary {
            self.summary.apply(summary);
            self.summary_changed = true;
        }
        if let Some(telemetry) = &run.telemetry {
            self.telemetry(telemetry);
        }
        self.config_changed = true;
        self.run = Some(run);
    }

    /// Applies the exit record, and completes the unfinished console lines.
    fn end(&mut self, exit: ExitRecord) {
        for stderr in [false, true] {
            if !self.partial[usize::from(stderr)].is_empty() {
                let now = proto::Timestamp::from_system(std::time::SystemTime::now());
                self.console("\n", stderr, now);
            }
        }
        self.exit = Some(exit);
    }

    /// Adds a row that may have nested values and values of any type.
    fn history(&mut self, history: &HistoryRecord) {
        let (mut plain, mut nested) = (Vec::with_capacity(history.item.len()), ItemTree::default());
        for item in &history.item {
            match items::path(item).as_slice() {
                [] => {}
                [key] => plain.push((*key, items::value(item))),
                longer => nested.set(longer, items::value(item)),
            }
        }
        let plain: Vec<_> = plain.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.row(&plain, &nested);
    }

    /// Adds a row as a line of the history. The values are valid JSON.
    fn row(&mut self, values: &[(&str, &str)], nested: &ItemTree) {
        if let Some(tail_summary) = &mut self.tail_summary {
            tail_summary.row(values);
        }
        let stated = values.iter().find(|(key, _)| *key == STEP);
        let stated = stated.and_then(|(_, value)| value.parse::<i64>().ok());
        if let Some(step) = stated
            && self.is_late(step)
        {
            return;
        }
        if self.history.end() >= self.first_row {
            self.next_step = self.next_step.max(self.first_step);
        }
        let step = stated.unwrap_or(self.next_step).max(self.next_step);
        self.next_step = step.saturating_add(1);
        self.last_step = Some(step);
        let line = &mut self.line;
        line.clear();
        line.push('{');
        for (key, value) in values.iter().filter(|(key, _)| *key != STEP) {
            json::put_string(key, line);
            line.push(':');
            line.push_str(value);
            line.push(',');
        }
        for (key, value) in nested.entries() {
            json::put_string(key, line);
            let _ = write!(line, ":{value},");
        }
        let _ = write!(line, "\"{STEP}\":{step}}}");
        let accepted = self.history.push(line);
        self.count_if_too_long(accepted);
    }

    /// Returns `true`, and counts the row, if the run keeps its steps and the server has this one.
    fn is_late(&mut self, step: i64) -> bool {
        let keeps_steps = self.run.as_ref().is_some_and(|run| run.keeps_steps);
        if !keeps_steps || step >= self.resumed_at {
            return false;
        }
        let [first, last] = [step, self.resumed_at - 1].map(|step| u64::try_from(step).unwrap_or(0));
        let late = self.late.get_or_insert(LateRows { first, last, rows: 0 });
        late.rows += 1;
        true
    }

    /// Returns the late rows since the last call.
    pub(crate) fn take_late(&mut self) -> Option<LateRows> {
        self.late.take()
    }

    /// Adds readings of the machine as a line of the events.
    fn stats(&mut self, stats: &proto::StatsRecord) {
        let time = stats.timestamp.map_or(0.0, proto::Timestamp::seconds);
        // The runtime of rows includes earlier parts only if the run was resumed at its start.
        let resumed = self.run.as_ref().is_some_and(|run| run.resumed);
        let earlier = if resumed { self.earlier_runtime } else { 0.0 };
        let start = self.run.as_ref().and_then(|run| run.start_time);
        let start = start.map_or(time, proto::Timestamp::seconds);
        let mut line = format!(
            "{{\"_wandb\":true,\"_timestamp\":{},\"_runtime\":{}",
            json::float(time),
            json::float(earlier + time - start)
        );
        for item in &stats.item {
            line.push(',');
            json::put_string(&format!("system.{}", item.key), &mut line);
            line.push(':');
            line.push_str(&items::value(item));
        }
        line.push('}');
        let accepted = self.events.push(&line);
        self.count_if_too_long(accepted);
    }

    /// Adds console text, which may contain several lines or parts of lines.
    fn console(&mut self, text: &str, stderr: bool, time: proto::Timestamp) {
        let mut partial = std::mem::take(&mut self.partial[usize::from(stderr)]);
        partial.push_str(text);
        let mut rest = partial.as_str();
        while let Some((line, after)) = rest.split_once('\n') {
            self.console_line(line, stderr, time);
            rest = after;
        }
        let rest = rest.to_owned();
        self.partial[usize::from(stderr)] = rest;
    }

    /// Adds a complete console line.
    fn console_line(&mut self, line: &str, stderr: bool, time: proto::Timestamp) {
        // A terminal shows only the text after the last carriage return.
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').next().unwrap_or(line);
        let at = Timestamp::new(time.seconds, time.nanos).unwrap_or(Timestamp::UNIX_EPOCH);
        let at = at.strftime("%Y-%m-%dT%H:%M:%S%.6f");
        self.console.push_str(line);
        self.console.push('\n');
        let sent = match (self.structured_console, stderr) {
            (true, true) => json!({"level": "error", "ts": at.to_string(), "content": line}).to_string(),
            (true, false) => json!({"ts": at.to_string(), "content": line}).to_string(),
            (false, true) => format!("ERROR {at} {line}"),
            (false, false) => format!("{at} {line}"),
        };
        let accepted = self.output.push(&sent);
        self.count_if_too_long(accepted);
    }

    /// Merges a record about the client.
    fn telemetry(&mut self, telemetry: &proto::TelemetryRecord) {
        for (number, text) in [
            ("5", &telemetry.cli_version),
            ("12", &telemetry.core_version),
            ("13", &telemetry.platform),
        ] {
            if !text.is_empty() {
                self.telemetry.insert(number.to_owned(), Value::from(text.as_str()));
            }
        }
        let feature = telemetry.feature.unwrap_or_default();
        for (on, number) in [(feature.finish, 2), (feature.offline, 4), (feature.resumed, 5)] {
            if on && !self.features.contains(&number) {
                self.features.push(number);
            }
        }
        self.config_changed = true;
    }

    /// Returns the user's config and W&B's internal part.
    fn config_entries(&self) -> Vec<(&str, String)> {
        let mut entries: Vec<_> = self
            .config
            .entries()
            .filter(|(key, _)| !matches!(*key, "_wandb" | "wandb_version"))
            .collect();
        entries.push(("_wandb", self.own_config().to_string()));
        entries
    }

    /// Returns the config in the form of the server: each value in an object of its own.
    fn wrapped_config(&self) -> String {
        let mut text = String::from("{");
        for (key, value) in self.config_entries() {
            if text.len() > 1 {
                text.push(',');
            }
            json::put_string(key, &mut text);
            let _ = write!(text, ":{{\"value\":{value}}}");
        }
        text.push('}');
        text
    }

    /// Returns W&B's internal part of the config. A run without `t` counts as not started and
    /// cannot be resumed.
    fn own_config(&self) -> Value {
        let mut t = self.telemetry.clone();
        let mut features = self.features.clone();
        features.sort_unstable();
        t.insert("3".to_owned(), features.into());
        let mut own = json!({"t": t, "m": self.definitions.list()});
        if let Some(version) = self.telemetry.get("5") {
            own["cli_version"] = version.clone();
        }
        if let Some(environment) = &self.environment {
            let mut writers = self.earlier_writers.clone();
            writers.insert(environment.writer_id.clone(), environment_json(environment));
            own["e"] = writers.into();
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_format::proto::{HistoryStep, Item, OutputRaw, StatsRecord};

    fn read(kinds: impl IntoIterator<Item = RecordKind>) -> Assembler {
        let mut assembler = Assembler::default();
        for kind in kinds {
            let kind = Some(kind);
            assembler.read(LogRecord { num: 0, kind });
        }
        assembler
    }

    fn item(key: &str, value: &str) -> Item {
        Item {
            key: key.to_owned(),
            value_json: value.to_owned(),
            ..Item::default()
        }
    }

    fn row(items: impl IntoIterator<Item = Item>) -> RecordKind {
        RecordKind::History(HistoryRecord {
            item: items.into_iter().collect(),
            step: None::<HistoryStep>,
        })
    }

    #[test]
    fn a_line_that_is_too_long_is_counted_and_skipped() {
        let long = format!("\"{}\"", "x".repeat(LONGEST_LINE));
        let summary = |value: &str| {
            RecordKind::Summary(ItemsRecord {
                update: vec![item("x", value)],
                remove: Vec::new(),
            })
        };
        let mut assembler = read([
            row([item("x", &long)]),
            row([item("x", "1")]),
            RecordKind::Stats(StatsRecord {
                item: vec![item("x", &long)],
                ..StatsRecord::default()
            }),
            RecordKind::Output(OutputRaw {
                line: format!("{long}\n"),
                ..OutputRaw::default()
            }),
            summary(&long),
        ]);
        assert_eq!(assembler.take_summary(), None);
        assert_eq!(assembler.take_too_long(), Some(3));
        assert_eq!(assembler.take_too_long(), None);
        assert_eq!(assembler.history.portion(1000), (1, r#""{\"x\":1,\"_step\":1}""#));
        assert!(assembler.events.is_empty() && assembler.output.is_empty());
        assembler.read(LogRecord {
            num: 0,
            kind: Some(summary("1")),
        });
        assert_eq!(assembler.take_summary().unwrap(), r#"{"_step":1,"x":1}"#);
    }

    #[test]
    fn the_greatest_step_does_not_overflow() {
        let last = i64::MAX.to_string();
        let assembler = read([row([item("_step", &last)]), row([item("_step", &last)])]);
        assert_eq!(assembler.history.portion(1000).0, 2);
    }

    #[test]
    fn a_renumbered_row_has_its_number_in_the_summary_too() {
        let mut assembler = Assembler::default();
        assembler.begin_at(&UploadProgress {
            first_step: 8,
            ..UploadProgress::default()
        });
        let summary = ItemsRecord {
            update: vec![item("_step", "0"), item("x", "1")],
            remove: Vec::new(),
        };
        for kind in [row([item("_step", "0")]), RecordKind::Summary(summary)] {
            let kind = Some(kind);
            assembler.read(LogRecord { num: 0, kind });
        }
        assert_eq!(assembler.summary_text(), r#"{"_step":8,"x":1}"#);
    }

    /// The runtime includes earlier parts only if the run was resumed at setup, as in the official
    /// client.
    #[test]
    fn readings_of_a_resumed_run_count_from_its_first_part() {
        for (resumed, runtime) in [(true, 110.0), (false, 10.0)] {
            let at = |seconds| Some(proto::Timestamp { seconds, nanos: 0 });
            let mut assembler = Assembler::default();
            let run = RecordKind::Run(Box::new(RunRecord {
                start_time: at(1000),
                resumed,
                ..RunRecord::default()
            }));
            assembler.read(LogRecord {
                num: 1,
                kind: Some(run),
            });
            assembler.begin_at(&UploadProgress {
                earlier_runtime: 100.0,
                ..UploadProgress::default()
            });
            let stats = RecordKind::Stats(StatsRecord {
                timestamp: at(1010),
                ..StatsRecord::default()
            });
            assembler.read(LogRecord {
                num: 2,
                kind: Some(stats),
            });
            let (_, line) = assembler.events.portion(1000);
            let line: String = serde_json::from_str(line).unwrap();
            assert_eq!(json::read(&line).unwrap()["_runtime"], runtime);
        }
    }

    #[test]
    fn earlier_writers_stay_in_the_config() {
        let mut assembler = read([RecordKind::Environment(Box::new(EnvironmentRecord {
            writer_id: "b".to_owned(),
            ..EnvironmentRecord::default()
        }))]);
        assembler.begin_at(&UploadProgress {
            earlier_writers: [("a".to_owned(), json!({"os": "x"}))].into_iter().collect(),
            ..UploadProgress::default()
        });
        let writers = assembler.own_config()["e"].clone();
        assert_eq!(writers, json!({"a": {"os": "x"}, "b": {"writerId": "b"}}));
    }
}
