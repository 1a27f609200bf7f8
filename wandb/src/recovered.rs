//! A run whose process was killed, as the next process ends it.

use std::borrow::Cow;
use std::path::Path;

use logcore::{
    BuildContext, Deadline, EventKind, LoggerEnd, LoggerSummary, MetricBatch, Record, Sink, SinkBooks, SinkError,
    SinkErrorKind, redacted,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run_log::reopen::free_from_children;
use crate::run_log::{CallRejection, LogResumePoint, RunLog};
use crate::settings;
use crate::sink::read_message;

/// Goes on with the log of a run, and ends it. No server is told: that is for whoever syncs the log. All that it writes
/// follows from the mark and the calls, so that the lines a server has already stay as they are, and a recovery that is
/// killed itself is done again.
pub(crate) struct RecoveredSink {
    console: bool,
    /// `None` if the process had ended the run: what it was given since the mark is there.
    log: Option<RunLog>,
    exit_code: Option<i32>,
    books: SinkBooks,
}

/// Where a run stands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunResumePoint<'a> {
    /// Whether it takes messages as console lines.
    pub(crate) console: bool,
    /// The folder that W&B's is in, if that is not the log directory.
    #[serde(default)]
    pub(crate) dir: Option<Cow<'a, Path>>,
    /// Its path is relative to that folder.
    pub(crate) log: LogResumePoint<'a>,
}

impl RecoveredSink {
    pub(crate) fn recover(mark: RunResumePoint<'static>, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let path = match &mark.dir {
            None => context.resolve_beneath(mark.log.path())?,
            Some(dir) => context.resolve_beneath_folder(known_dir(dir, context)?, mark.log.path())?,
        };
        if context.is_for_dead_process() {
            free_from_children(&path).map_err(|error| error.doing(format!("go on with {}", path.display())))?;
        }
        Ok(Self {
            console: mark.console,
            log: RunLog::recover(&mark.log, &path)?,
            exit_code: None,
            books: SinkBooks::default(),
        })
    }

    fn write(&mut self, call: impl FnOnce(&mut RunLog) -> Result<(), CallRejection>) -> Result<(), SinkError> {
        self.books.accepted += 1;
        match self.log.as_mut().map_or(Ok(()), call) {
            Ok(()) => {
                self.books.spooled += 1;
                Ok(())
            }
            Err(refused) => {
                self.books.drop_for(refused.reason(), 1);
                refused.error()
            }
        }
    }

    fn write_out(&mut self) -> Result<(), SinkError> {
        Ok(self.log.as_mut().map_or(Ok(()), RunLog::write_out)?)
    }
}

/// The folder, if this start's settings name it, too: a mark may say anything.
fn known_dir<'d>(dir: &'d Path, context: &BuildContext<'_>) -> Result<&'d Path, SinkError> {
    let named = settings::named_dir(context.config().sinks.get("wandb"));
    let chosen = named.and_then(|dir| dir.canonicalize().ok());
    match chosen.is_some_and(|chosen| chosen == dir) {
        true => Ok(dir),
        false => {
            let words = format!(
                "its W&B folder is in {}, which neither `sinks.wandb.dir` nor `WANDB_DIR` names now",
                dir.display()
            );
            Err(SinkError::new(words).with_kind(SinkErrorKind::ForeignPath))
        }
    }
}

impl Sink for RecoveredSink {
    fn wants(&self, what: EventKind) -> bool {
        match what {
            EventKind::Record => self.console,
            EventKind::Metrics | EventKind::Config => true,
            _ => false,
        }
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.write(|log| log.console(record))
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.write(|log| log.metrics(batch))
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        self.write(|log| log.config(&redacted(config)))
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        let message = read_message(message)?;
        self.write(|log| message.write_to(log))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.write_out()
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        self.exit_code = Some(end.exit_code);
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        match (&mut self.log, self.exit_code) {
            (Some(log), Some(code)) => {
                // Its process is gone; the run has lasted until its last call.
                log.end(code, log.newest());
                log.sync()
                    .map_err(|error| SinkError::from(error).doing("write the end of the W&B run"))
            }
            _ => self.write_out(),
        }
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.books.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use logcore::log::Level;
    use logcore::registry::{build_sink, recover_sink};
    use logcore::{LogConfig, MetricValue, Notices, ResumePoint, StopFlag};
    use proptest::prelude::*;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::definition::MetricDefinition;
    use crate::log_format::proto::{self, RecordKind};
    use crate::log_format::{LogEntry, LogReader};
    use crate::message::Message;

    /// A call, at so many seconds after the start.
    #[derive(Debug, Clone)]
    enum LoggedCall {
        Metrics(u64, Vec<(String, MetricValue)>),
        Value(u64, String),
        Record(Level, String),
        Config(String),
        Define(MetricDefinition),
        Summary(String, f64),
    }

    impl LoggedCall {
        fn give(&self, sink: &mut dyn Sink, time: SystemTime) {
            let message = |message: &Message| serde_json::to_string(message).unwrap();
            match self {
                Self::Metrics(step, values) => {
                    let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                    sink.metrics(&MetricBatch::at(time, "run", *step, &values)).unwrap();
                }
                Self::Value(step, text) => {
                    let value = Message::Value {
                        step: *step,
                        time,
                        key: "note".to_owned(),
                        json: json!({"text": text}).to_string(),
                        file: None,
                        artifact: None,
                    };
                    sink.message(&message(&value)).unwrap();
                }
                Self::Record(level, text) => sink.record(&Record::at(time, *level, "run", text)).unwrap(),
                Self::Config(key) => sink.config(&json!({key.as_str(): 1})).unwrap(),
                Self::Define(definition) => sink.message(&message(&Message::Define(definition.clone()))).unwrap(),
                Self::Summary(key, value) => {
                    let summary = Message::Summary {
                        key: key.clone(),
                        value: json!(value),
                    };
                    sink.message(&message(&summary)).unwrap();
                }
            }
        }
    }

    fn call() -> impl Strategy<Value = LoggedCall> {
        let name = || prop::sample::select(vec!["a", "b", "c", "epoch", "system/gpu"]).prop_map(str::to_owned);
        let value = prop_oneof![
            any::<f64>().prop_map(MetricValue::Float),
            any::<i64>().prop_map(MetricValue::Int),
            Just(MetricValue::Float(f64::NAN)),
        ];
        let definition = (
            name(),
            any::<bool>(),
            prop::sample::subsequence(vec!["min", "mean", "last", "none"], 0..3),
        );
        prop_oneof![
            6 => (0..40_u64, prop::collection::vec((name(), value), 0..4)).prop_map(|(step, values)| LoggedCall::Metrics(step, values)),
            1 => (0..40_u64, ".{0,3}").prop_map(|(step, text)| LoggedCall::Value(step, text)),
            1 => (prop::sample::select(vec![Level::Info, Level::Error]), "x{0,9000}")
                .prop_map(|(level, text)| LoggedCall::Record(level, text)),
            1 => name().prop_map(LoggedCall::Config),
            3 => definition.prop_map(|(name, over, summary)| {
                let definition = MetricDefinition::new(name).summary(summary);
                LoggedCall::Define(if over { definition.step_metric("epoch") } else { definition })
            }),
            3 => (name(), any::<i8>()).prop_map(|(name, value)| LoggedCall::Summary(name, f64::from(value))),
        ]
    }

    /// The calls of a loop whose steps rise, however they were drawn.
    fn in_order(mut calls: Vec<LoggedCall>) -> Vec<LoggedCall> {
        let mut last = 0;
        for call in &mut calls {
            if let LoggedCall::Metrics(step, _) | LoggedCall::Value(step, _) = call {
                last += *step / 20;
                *step = last;
            }
        }
        calls
    }

    struct KilledRun {
        folder: TempDir,
        /// When the calls began.
        start: SystemTime,
        mark: ResumePoint,
        path: PathBuf,
        /// Bytes of the log at the mark, before the end and after it.
        at_mark: u64,
        before_end: Vec<u8>,
        whole: Vec<u8>,
    }

    /// Gives all calls to a sink that ends well, with a mark before the call `at`.
    fn run(calls: &[LoggedCall], at: usize) -> KilledRun {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let stop = StopFlag::default();
        let mut sink = build_sink("wandb", &json!({"mode": "offline"}), &BuildContext::new(&config, &stop)).unwrap();
        sink.start(&Notices::new(|_, _| {})).unwrap();
        let start = SystemTime::now();
        for (number, call) in calls[..at].iter().enumerate() {
            call.give(&mut *sink, start + Duration::from_secs(number as u64));
        }
        sink.deliver().unwrap();
        let mark = sink.resume_point().unwrap();
        assert!(mark.is_complete());
        let path = crate::find_logs(folder.path()).remove(0);
        let at_mark = fs::metadata(&path).unwrap().len();
        for (number, call) in calls.iter().enumerate().skip(at) {
            call.give(&mut *sink, start + Duration::from_secs(number as u64));
        }
        sink.deliver().unwrap();
        let before_end = fs::read(&path).unwrap();
        sink.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
        sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
        drop(sink);
        KilledRun {
            start,
            mark,
            at_mark,
            before_end,
            whole: fs::read(&path).unwrap(),
            path,
            folder,
        }
    }

    impl KilledRun {
        /// What a recovery makes of a log that has so many bytes.
        fn recovered(&self, calls: &[LoggedCall], at: usize, length: usize) -> Vec<u8> {
            fs::write(&self.path, &self.whole[..length]).unwrap();
            // One that is killed, too.
            let mut first = self.recover().unwrap();
            for (number, call) in calls.iter().enumerate().skip(at).take(length % 7) {
                call.give(&mut *first, self.start + Duration::from_secs(number as u64));
            }
            first.deliver().unwrap();
            drop(first);
            self.recovered_at_once(calls, at)
        }

        fn recovered_at_once(&self, calls: &[LoggedCall], at: usize) -> Vec<u8> {
            let mut sink = self.recover().unwrap();
            for (number, call) in calls.iter().enumerate().skip(at) {
                call.give(&mut *sink, self.start + Duration::from_secs(number as u64));
            }
            sink.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
            sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
            assert!(sink.books().unwrap().is_balanced());
            fs::read(&self.path).unwrap()
        }

        fn recover(&self) -> Result<Box<dyn Sink>, SinkError> {
            let config = config(&self.folder);
            recover_sink(
                "wandb",
                self.mark.text(),
                &BuildContext::new(&config, &StopFlag::default()),
            )
        }
    }

    fn config(folder: &TempDir) -> LogConfig {
        LogConfig {
            log_dir: folder.path().into(),
            name: "run".into(),
            ..LogConfig::default()
        }
    }

    /// All records, without how long the run took in all.
    fn records(path: &Path) -> Vec<proto::LogRecord> {
        let mut reader = LogReader::open(path).unwrap();
        let mut all = Vec::new();
        while let Ok(LogEntry::Record(mut record)) = reader.next() {
            match &mut record.kind {
                Some(RecordKind::Exit(exit)) => exit.runtime = 0,
                Some(RecordKind::Summary(items)) if items.update[0].nested_key == ["_wandb", "runtime"] => {
                    items.update.clear()
                }
                _ => {}
            }
            all.push(record);
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn wherever_it_was_killed_the_log_is_as_if_it_was_not(
            calls in prop::collection::vec(call(), 1..40).prop_map(in_order),
            at in 0.0..1.0,
            cut in 0.0..=1.0,
        ) {
            let at = (calls.len() as f64 * at) as usize;
            let killed = run(&calls, at);
            let expected = records(&killed.path);
            let behind = killed.before_end.len() - killed.at_mark as usize;
            let length = killed.at_mark as usize + (behind as f64 * cut) as usize;
            let once = killed.recovered(&calls, at, length);
            prop_assert_eq!(records(&killed.path), expected);
            fs::write(&killed.path, &killed.whole[..length]).unwrap();
            prop_assert_eq!(killed.recovered_at_once(&calls, at), once);
        }
    }

    fn some_calls() -> Vec<LoggedCall> {
        (0..10)
            .map(|step| LoggedCall::Metrics(step, vec![("a".to_owned(), MetricValue::Int(step as i64))]))
            .collect()
    }

    /// Statistics that began anew where a program set the summary have the row that was open then.
    #[test]
    fn statistics_go_on_behind_what_a_program_has_set() {
        let row = |step, value| LoggedCall::Metrics(step, vec![("a".to_owned(), MetricValue::Int(value))]);
        let other = |step| LoggedCall::Metrics(step, vec![("b".to_owned(), MetricValue::Int(1))]);
        let calls = [
            LoggedCall::Define(MetricDefinition::new("a").summary(["mean"])),
            row(0, 1),
            other(1),
            row(2, 3),
            LoggedCall::Summary("a".to_owned(), 0.5),
            other(3),
            row(4, 9),
        ];
        for at in 0..calls.len() {
            let killed = run(&calls, at);
            let expected = records(&killed.path);
            killed.recovered(&calls, at, killed.at_mark as usize);
            assert_eq!(records(&killed.path), expected, "killed before call {at}");
        }
    }

    #[test]
    fn a_run_that_has_ended_stays_as_it_is() {
        let calls = some_calls();
        let killed = run(&calls, 4);
        let whole = killed.recovered_at_once(&calls, 4);
        assert_eq!(whole, killed.whole);
    }

    #[test]
    fn what_is_not_the_log_of_the_mark_is_refused_and_left_alone() {
        let calls = some_calls();
        let killed = run(&calls, 4);
        let other = run(&calls, 4);
        let shorter = &killed.whole[..killed.at_mark as usize - 1];
        let mut flipped = killed.before_end.clone();
        flipped[100] ^= 1;
        for (bytes, reason) in [
            (shorter, "not the same file"),
            (b"", "not the same file"),
            (&flipped, "damaged"),
            (b"another file that is longer than any header", "damaged"),
        ] {
            fs::write(&killed.path, bytes).unwrap();
            assert_eq!(killed.recover().err().unwrap().reason(), reason);
            assert_eq!(fs::read(&killed.path).unwrap(), bytes);
        }
        fs::remove_file(&killed.path).unwrap();
        assert_eq!(killed.recover().err().unwrap().reason(), "not found");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&other.path, &killed.path).unwrap();
            assert_eq!(killed.recover().err().unwrap().reason(), "foreign path");
        }
    }

    #[test]
    fn a_log_that_is_being_written_is_refused() {
        let calls = some_calls();
        let killed = run(&calls, 4);
        fs::write(&killed.path, &killed.before_end).unwrap();
        let _first = killed.recover().unwrap();
        assert_eq!(killed.recover().err().unwrap().reason(), "still running");
    }

    #[test]
    fn a_mark_says_what_the_disk_has_not_taken() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let stop = StopFlag::default();
        let mut sink = build_sink("wandb", &json!({"mode": "offline"}), &BuildContext::new(&config, &stop)).unwrap();
        assert!(sink.resume_point().is_none(), "there is no log yet");
        sink.start(&Notices::new(|_, _| {})).unwrap();
        assert!(sink.resume_point().unwrap().is_complete());
        let before = sink.resume_point().unwrap();
        let path = crate::find_logs(folder.path()).remove(0);
        let within = path.strip_prefix(folder.path()).unwrap();
        assert!(before.text().contains(&json!(within).to_string()), "{}", before.text());
        sink.config(&json!({"a": 1})).unwrap();
        let waiting = sink.resume_point().unwrap();
        assert!(!waiting.is_complete());
        assert_eq!(
            waiting.text(),
            before.text(),
            "it is the place behind what is in the file"
        );
    }
}
