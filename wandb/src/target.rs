//! The logs that the sink writes to: of an open run, and of a run whose process was killed.
//!
//! The sink treats both alike through [`LogTarget`]. Only an open run has a delivery.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logcore::{BuildContext, Deadline, Notices, PendingDelivery, ResumePoint, SinkBooks, SinkError, SinkErrorKind};

use crate::run::{ABANDONED_RUN_TIMEOUT, WandbRun};
use crate::run_log::reopen::free_from_children;
use crate::run_log::{CallRejection, RunLog, RunResumePoint};
use crate::settings;

/// A call that writes to a log.
pub(crate) type LogCall<'a> = &'a mut dyn FnMut(&mut RunLog) -> Result<(), CallRejection>;

/// A run with a log, as the sink writes it.
pub(crate) trait LogTarget: Send {
    /// Starts the run, if it has to be started.
    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        let _ = notices;
        Ok(())
    }

    /// Returns `true` if log records become console lines.
    fn has_console(&self) -> bool;

    /// Runs and counts a call.
    fn write(&mut self, call: LogCall<'_>) -> Result<(), SinkError>;

    /// Writes the waiting records to the file.
    fn write_out(&mut self) -> Result<(), SinkError>;

    /// Writes the waiting records, and sends them soon.
    fn flush(&mut self) -> Result<(), SinkError> {
        self.write_out()
    }

    /// Returns the position of the log, for a process that recovers the run.
    fn resume_point(&mut self) -> Option<ResumePoint> {
        None
    }

    /// Closes the sink. `exit_code` is `None` if the logger continues with another configuration.
    fn finish(&mut self, exit_code: Option<i32>, deadline: Deadline) -> Result<(), SinkError>;

    /// Returns the folder of the run, once it exists.
    fn folder(&self) -> Option<PathBuf> {
        None
    }

    /// Returns the delivery that continues after `finish`.
    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        None
    }

    /// Returns `true` if the log is delivered to a server.
    fn is_remote(&self) -> bool {
        false
    }

    /// Returns the books.
    fn books(&self) -> SinkBooks;
}

/// The run of this process, which several sinks share while one configuration replaces another.
pub(crate) struct OpenRun {
    run: Arc<WandbRun>,
    finished: bool,
    /// `true` if another sink continues the run, and accounts for the calls of this sink, too.
    handed_over: bool,
}

impl OpenRun {
    pub(crate) fn new(run: Arc<WandbRun>) -> Self {
        run.add_user();
        Self {
            run,
            finished: false,
            handed_over: false,
        }
    }
}

impl LogTarget for OpenRun {
    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.run.start(notices)
    }

    fn has_console(&self) -> bool {
        self.run.settings.has_console
    }

    fn write(&mut self, call: LogCall<'_>) -> Result<(), SinkError> {
        self.run.write(call)
    }

    fn write_out(&mut self) -> Result<(), SinkError> {
        self.run.write_out()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.run.write_out()?;
        self.run.control.request_flush();
        Ok(())
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        self.run.resume_point()
    }

    fn finish(&mut self, exit_code: Option<i32>, deadline: Deadline) -> Result<(), SinkError> {
        self.finished = true;
        let has_users = self.run.drop_user();
        if exit_code.is_none() && has_users {
            self.handed_over = true;
            return self.run.write_out();
        }
        self.run.end(exit_code.unwrap_or(0), deadline);
        settings::forget_after(&self.run.settings, exit_code);
        match exit_code {
            // A full disk delays only the thread that waits for the pending delivery.
            Some(_) => Ok(()),
            None => self.run.write_end(Deadline::after(Duration::ZERO)),
        }
    }

    fn folder(&self) -> Option<PathBuf> {
        self.run.folder()
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let run = Arc::clone(&self.run);
        Some(Box::new(move |deadline| run.wait_for_delivery(deadline)))
    }

    fn is_remote(&self) -> bool {
        !self.handed_over && self.run.is_online()
    }

    fn books(&self) -> SinkBooks {
        match self.handed_over {
            true => SinkBooks::default(),
            false => self.run.books(),
        }
    }
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        if !self.finished && !self.run.drop_user() {
            self.run.end(0, Deadline::after(ABANDONED_RUN_TIMEOUT));
        }
    }
}

/// Continues and ends the log of a killed process. Nothing is sent: that is left to a sync.
///
/// All that is written follows from the resume point and the calls. So lines that the server has
/// already stay as they are, and a recovery that is killed itself can be repeated.
pub(crate) struct RecoveredRun {
    has_console: bool,
    /// `None` if the process had ended the run: then the log has all calls since the resume point.
    log: Option<RunLog>,
    books: SinkBooks,
}

impl RecoveredRun {
    /// Opens the log of a resume point.
    pub(crate) fn open(point: &RunResumePoint<'_>, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        let path = match &point.dir {
            None => context.resolve_beneath(point.log.path())?,
            Some(dir) => context.resolve_beneath_folder(check_dir(dir, context)?, point.log.path())?,
        };
        if context.is_for_dead_process() {
            free_from_children(&path).map_err(|error| error.doing(format!("continue {}", path.display())))?;
        }
        Ok(Self {
            has_console: point.console,
            log: RunLog::recover(&point.log, &path)?,
            books: SinkBooks::default(),
        })
    }
}

impl LogTarget for RecoveredRun {
    fn has_console(&self) -> bool {
        self.has_console
    }

    fn write(&mut self, call: LogCall<'_>) -> Result<(), SinkError> {
        self.books.accepted += 1;
        match self.log.as_mut().map_or(Ok(()), call) {
            Ok(()) => {
                self.books.spooled += 1;
                Ok(())
            }
            Err(rejection) => {
                self.books.drop_for(rejection.reason(), 1);
                rejection.into_error().map_or(Ok(()), Err)
            }
        }
    }

    fn write_out(&mut self) -> Result<(), SinkError> {
        Ok(self.log.as_mut().map_or(Ok(()), RunLog::write_out)?)
    }

    fn finish(&mut self, exit_code: Option<i32>, _: Deadline) -> Result<(), SinkError> {
        match (&mut self.log, exit_code) {
            (Some(log), Some(code)) => {
                // The time of the kill is unknown, so that the run ends with its last call.
                log.end(code, log.newest());
                log.sync()
                    .map_err(|error| SinkError::from(error).doing("write the end of the W&B run"))
            }
            _ => self.write_out(),
        }
    }

    fn books(&self) -> SinkBooks {
        self.books.clone()
    }
}

/// Returns the folder of the resume point if the current settings name that folder, too. A resume
/// point may be forged.
fn check_dir<'d>(dir: &'d Path, context: &BuildContext<'_>) -> Result<&'d Path, SinkError> {
    let explicit = settings::explicit_dir(context.config().sinks.get("wandb"));
    let explicit = explicit.and_then(|dir| dir.canonicalize().ok());
    match explicit.is_some_and(|explicit| explicit == dir) {
        true => Ok(dir),
        false => {
            let text = format!(
                "its W&B folder is in {}, which neither `sinks.wandb.dir` nor `WANDB_DIR` names now",
                dir.display()
            );
            Err(SinkError::new(text).with_kind(SinkErrorKind::ForeignPath))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use logcore::log::Level;
    use logcore::registry::{build_sink, recover_sink};
    use logcore::{
        GitFacts, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Record, RunFacts, RunInfo, Sink,
        StopFlag,
    };
    use proptest::prelude::*;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::definition::MetricDefinition;
    use crate::log_format::proto::{self, RecordKind};
    use crate::log_format::{LogEntry, LogReader};
    use crate::message::Message;

    /// A call of a program.
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
        fn send(&self, sink: &mut dyn Sink, time: SystemTime) {
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
            6 => (0..40_u64, prop::collection::vec((name(), value), 0..4))
                .prop_map(|(step, values)| LoggedCall::Metrics(step, values)),
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

    /// Makes the steps of random calls rise.
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
        point: ResumePoint,
        path: PathBuf,
        /// Bytes of the log at the resume point, before the end of the run, and after it.
        length_at_point: u64,
        before_end: Vec<u8>,
        whole: Vec<u8>,
    }

    /// Gives all calls to a sink that is not killed, with a resume point before the call `at`.
    fn run(calls: &[LoggedCall], at: usize) -> KilledRun {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let stop = StopFlag::default();
        let mut sink = build_sink("wandb", &json!({"mode": "offline"}), &BuildContext::new(&config, &stop)).unwrap();
        sink.start(&Notices::new(|_, _| {})).unwrap();
        let start = SystemTime::now();
        for (number, call) in calls[..at].iter().enumerate() {
            call.send(&mut *sink, start + Duration::from_secs(number as u64));
        }
        sink.deliver().unwrap();
        let point = sink.resume_point().unwrap();
        assert!(point.is_complete());
        let path = crate::find_logs(folder.path()).remove(0);
        let length_at_point = fs::metadata(&path).unwrap().len();
        for (number, call) in calls.iter().enumerate().skip(at) {
            call.send(&mut *sink, start + Duration::from_secs(number as u64));
        }
        sink.deliver().unwrap();
        let before_end = fs::read(&path).unwrap();
        sink.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
        sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
        drop(sink);
        KilledRun {
            start,
            point,
            length_at_point,
            before_end,
            whole: fs::read(&path).unwrap(),
            path,
            folder,
        }
    }

    impl KilledRun {
        /// Recovers a log that has `length` bytes.
        fn recovered(&self, calls: &[LoggedCall], at: usize, length: usize) -> Vec<u8> {
            fs::write(&self.path, &self.whole[..length]).unwrap();
            // The first recovery is killed, too.
            let mut first = self.recover().unwrap();
            for (number, call) in calls.iter().enumerate().skip(at).take(length % 7) {
                call.send(&mut *first, self.start + Duration::from_secs(number as u64));
            }
            first.deliver().unwrap();
            drop(first);
            self.recovered_at_once(calls, at)
        }

        fn recovered_at_once(&self, calls: &[LoggedCall], at: usize) -> Vec<u8> {
            let mut sink = self.recover().unwrap();
            for (number, call) in calls.iter().enumerate().skip(at) {
                call.send(&mut *sink, self.start + Duration::from_secs(number as u64));
            }
            sink.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
            sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
            assert!(sink.books().unwrap().balanced());
            fs::read(&self.path).unwrap()
        }

        fn recover(&self) -> Result<Box<dyn Sink>, SinkError> {
            let config = config(&self.folder);
            recover_sink(
                "wandb",
                self.point.text(),
                &BuildContext::new(&config, &StopFlag::default()),
            )
        }
    }

    /// The name is that of the folder, because tests in one process share the open runs, by logger.
    fn config(folder: &TempDir) -> LogConfig {
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        LogConfig {
            log_dir: folder.path().into(),
            name: name.trim_start_matches('.').into(),
            ..LogConfig::default()
        }
    }

    /// All records, without the total runtime of the run.
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
        fn a_recovered_log_equals_the_log_of_a_run_that_was_not_killed(
            calls in prop::collection::vec(call(), 1..40).prop_map(in_order),
            at in 0.0..1.0,
            cut in 0.0..=1.0,
        ) {
            let at = (calls.len() as f64 * at) as usize;
            let killed = run(&calls, at);
            let expected = records(&killed.path);
            let behind = killed.before_end.len() - killed.length_at_point as usize;
            let length = killed.length_at_point as usize + (behind as f64 * cut) as usize;
            let once = killed.recovered(&calls, at, length);
            prop_assert_eq!(records(&killed.path), expected);
            fs::write(&killed.path, &killed.whole[..length]).unwrap();
            prop_assert_eq!(killed.recovered_at_once(&calls, at), once);
        }
    }

    /// Returns the first records of a run with these facts.
    fn first_records(facts: RunFacts) -> (proto::RunRecord, proto::EnvironmentRecord) {
        let folder = TempDir::new().unwrap();
        let hyper_parameters = [("lr".to_owned(), json!(0.1)), ("hf_token".to_owned(), json!("X"))].into();
        let config = LogConfig {
            hyper_parameters,
            ..config(&folder)
        };
        let stop = StopFlag::default();
        let info = RunInfo::new("k3v9q2ab", "run", folder.path(), 1);
        info.note_facts(facts);
        let context = BuildContext::new(&config, &stop).with_run(&info);
        let mut sink = build_sink("wandb", &json!({"mode": "offline"}), &context).unwrap();
        sink.start(&Notices::new(|_, _| {})).unwrap();
        let (mut run, mut environment) = (None, None);
        for record in records(&crate::find_logs(folder.path())[0]) {
            match record.kind {
                Some(RecordKind::Run(record)) => run = Some(*record),
                Some(RecordKind::Environment(record)) => environment = Some(*record),
                _ => {}
            }
        }
        (run.unwrap(), environment.unwrap())
    }

    #[test]
    fn the_facts_of_the_run_are_in_its_first_records() {
        let text = |text: &str| text.to_owned();
        let (run, environment) = first_records(RunFacts {
            host: text("node7"),
            user: text("ann"),
            executable: "/srv/train".into(),
            argv: vec![text("./train"), text("--api-key"), text("***")],
            git: Some(GitFacts {
                commit: Some(text("0c9")),
                branch: Some(text("main")),
                remote: Some(text("git@host:a.git")),
            }),
            cpu: Some(text("AMD EPYC")),
            gpus: vec![text("NVIDIA H200"); 2],
            ..RunFacts::default()
        });
        let git = proto::GitRecord {
            remote_url: text("git@host:a.git"),
            commit: text("0c9"),
        };
        assert_eq!((&run.host, &run.git), (&text("node7"), &Some(git.clone())));
        let config: Vec<_> = run
            .config
            .unwrap()
            .update
            .into_iter()
            .map(|item| (item.key, item.value_json))
            .collect();
        assert_eq!(config, [(text("hf_token"), text("\"***\"")), (text("lr"), text("0.1"))]);
        let gpu = proto::GpuRecord {
            name: text("NVIDIA H200"),
        };
        let expected = proto::EnvironmentRecord {
            args: vec![text("--api-key"), text("***")],
            program: text("train"),
            executable: text("/srv/train"),
            git: Some(git),
            host: text("node7"),
            username: text("ann"),
            gpu_type: text("NVIDIA H200"),
            gpu_count: 2,
            gpu_nvidia: vec![gpu.clone(), gpu],
            cpu: Some(proto::CpuRecord {
                model: text("AMD EPYC"),
            }),
            os: text("-"),
            started_at: environment.started_at,
            writer_id: environment.writer_id.clone(),
            ..proto::EnvironmentRecord::default()
        };
        assert_eq!(environment, expected);
        assert_eq!(first_records(RunFacts::default()).0.git, None);
    }

    fn some_calls() -> Vec<LoggedCall> {
        (0..10)
            .map(|step| LoggedCall::Metrics(step, vec![("a".to_owned(), MetricValue::Int(step as i64))]))
            .collect()
    }

    /// Statistics that started anew when a program set the summary include the row that was open
    /// then.
    #[test]
    fn recovered_statistics_continue_behind_a_summary_of_the_program() {
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
            killed.recovered(&calls, at, killed.length_at_point as usize);
            assert_eq!(records(&killed.path), expected, "killed before call {at}");
        }
    }

    #[test]
    fn the_log_of_an_ended_run_is_unchanged() {
        let calls = some_calls();
        let killed = run(&calls, 4);
        let whole = killed.recovered_at_once(&calls, 4);
        assert_eq!(whole, killed.whole);
    }

    #[test]
    fn a_log_that_does_not_fit_the_resume_point_is_refused_unchanged() {
        let calls = some_calls();
        let killed = run(&calls, 4);
        let other = run(&calls, 4);
        let shorter = &killed.whole[..killed.length_at_point as usize - 1];
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
    fn a_log_of_a_running_writer_is_refused() {
        let calls = some_calls();
        let killed = run(&calls, 4);
        fs::write(&killed.path, &killed.before_end).unwrap();
        let _first = killed.recover().unwrap();
        assert_eq!(killed.recover().err().unwrap().reason(), "still running");
    }

    #[test]
    fn a_batch_of_many_rows_does_not_wait_in_memory() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let stop = StopFlag::default();
        let mut sink = build_sink("wandb", &json!({"mode": "offline"}), &BuildContext::new(&config, &stop)).unwrap();
        sink.start(&Notices::new(|_, _| {})).unwrap();
        let path = crate::find_logs(folder.path()).remove(0);
        for step in 0..10_000 {
            let values = [("a", MetricValue::Float(0.1 + step as f64))];
            sink.metrics(&MetricBatch::at(SystemTime::now(), "run", step, &values))
                .unwrap();
        }
        let ahead = records(&path).len();
        sink.deliver().unwrap();
        let all = records(&path).len();
        assert!(ahead > 4 && ahead < all && all - ahead < 4000, "{ahead} of {all}");
        assert!(sink.resume_point().unwrap().is_complete());
    }

    #[test]
    fn a_resume_point_is_incomplete_while_records_wait() {
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
            "the position is behind the records in the file"
        );
    }
}
