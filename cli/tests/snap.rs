//! `logcore snap` on processes that live, hang, are stopped, and log at full speed.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use facade::{LogConfig, RingContent, setup_logging};
use logcore::{BuildContext, ConfigError, Record, Sink, SinkError, log};
use serde_json::{Value, json};

/// Names the case that this process is for.
const CASE: &str = "LOGCORE_TEST_SNAP";

/// A process that logs, until its standard input ends.
struct Logging {
    child: Child,
    folder: tempfile::TempDir,
}

impl Logging {
    /// Starts a case and waits until it is where it wants to be looked at.
    fn start(case: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_logs", "--nocapture"])
            .env(CASE, case)
            .env("LOGCORE_TEST_FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the process has ended");
        }
        Self { child, folder }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.pid()]).status().unwrap();
        assert!(status.success());
    }

    /// Lets the process end; returns whether it lost nothing.
    fn end(&mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }

    fn run_dir(&self) -> PathBuf {
        let mut runs = fs::read_dir(self.folder.path()).unwrap().flatten();
        runs.find(|entry| entry.path().join("run.json").exists())
            .unwrap()
            .path()
    }

    fn text_file(&self) -> String {
        fs::read_to_string(self.run_dir().join("training.log")).unwrap_or_default()
    }
}

fn logcore(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(arguments)
        .current_dir(folder)
        .env("TZ", "UTC")
        .env_remove("LOGCORE_LOG_DIR")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&logcore(folder, &[arguments, &["--json"]].concat()))).unwrap()
}

/// Returns the lines without their times.
fn lines(text: &str) -> Vec<String> {
    let without_time = |line: &str| match line.split_once(" | ") {
        Some((_, rest)) => rest.to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(without_time).collect()
}

#[test]
fn the_process_that_logs() {
    let Ok(case) = std::env::var(CASE) else { return };
    let folder = PathBuf::from(std::env::var_os("LOGCORE_TEST_FOLDER").unwrap());
    let config = |sink: &str| LogConfig {
        name: "trainer".into(),
        log_dir: folder.clone(),
        enable_console: false,
        ring_bytes: 1 << 20,
        sinks: [(sink.to_owned(), json!(true))].into(),
        ..LogConfig::default()
    };
    match &*case {
        "held" => {
            let logger = setup_logging(config("tally")).unwrap();
            logger.info("a line\nof \u{1b}[2Jtwo lines");
            facade::warn!(logger, "step {} of {:?}", 3, "deferred", lr = 0.5);
            logger.log_config(&json!({"lr": 0.5}));
            logger.start_progress(10, "Training");
            logger.update_progress(2, 64);
            logger.log_metrics([("loss", 0.25), ("bad", f64::NAN)]);
            logger.log_text("sample", "some text", 2);
            logger.alert("title", "text", facade::AlertLevel::Warn);
            logger.info("x".repeat(400 << 10));
            let written = || fs::read_to_string(logger.run_dir().join("training.log")).unwrap_or_default();
            // The thread of the rules tells of the NaN at a moment of its own.
            while !written().contains("bad is NaN") {
                thread::yield_now();
            }
            assert!(logger.flush().is_ok());
            wait_for_the_end();
            logger.finish();
        }
        "stuck" => {
            let (is_stuck, stuck) = channel();
            *STUCK.lock().unwrap() = Some(is_stuck);
            let logger = setup_logging(config("stuck")).unwrap();
            logger.info("the writer takes this line");
            stuck.recv().unwrap();
            for number in 0..50 {
                logger.info(format!("line {number} that no file has"));
            }
            wait_for_the_end();
            logger.finish();
        }
        _ => {
            let logger = setup_logging(LogConfig {
                enable_file: false,
                ..config("tally")
            })
            .unwrap();
            let is_over = std::sync::atomic::AtomicBool::new(false);
            let logged: u64 = thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|thread| {
                        let (logger, is_over) = (&logger, &is_over);
                        scope.spawn(move || {
                            let mut count = 0;
                            while !is_over.load(Ordering::Relaxed) {
                                logger.info(whole_line(thread, count));
                                count += 1;
                            }
                            count
                        })
                    })
                    .collect();
                wait_for_the_end();
                is_over.store(true, Ordering::Relaxed);
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            let report = logger.finish();
            assert!(report.all_delivered(), "{report:?}");
            assert_eq!(TALLY.load(Ordering::Relaxed), logged);
        }
    }
}

fn wait_for_the_end() {
    std::io::stdout().write_all(b"ready\n").unwrap();
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// A line that shows whether it is whole.
fn whole_line(thread: u64, count: u64) -> String {
    let times = 1 + (count % 40) as usize;
    format!("{thread}.{count} ").repeat(times) + &times.to_string()
}

fn is_whole(line: &str) -> bool {
    let mut words: Vec<_> = line.split(' ').collect();
    let times = words.pop().and_then(|times| times.parse().ok());
    Some(words.len()) == times && words.iter().all(|word| *word == words[0])
}

static TALLY: AtomicU64 = AtomicU64::new(0);

/// Counts records.
struct TallySink;

impl TallySink {
    fn build(_: Value, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

impl Sink for TallySink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        TALLY.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

logcore::register_sink!("tally", TallySink::build);

static STUCK: Mutex<Option<Sender<()>>> = Mutex::new(None);

/// Waits in its first record for the end of the standard input.
struct StuckSink;

impl StuckSink {
    fn build(_: Value, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

impl Sink for StuckSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        if let Some(is_stuck) = STUCK.lock().unwrap().take() {
            is_stuck.send(()).unwrap();
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        Ok(())
    }
}

logcore::register_sink!("stuck", StuckSink::build);

#[test]
fn the_last_calls_of_a_stopped_process_are_shown() {
    let mut process = Logging::start("held");
    process.signal("-STOP");
    let folder = process.folder.path();
    let by_pid = text(&logcore(folder, &["snap", &process.pid()]));
    let shown = lines(&by_pid);
    assert!(
        shown[0].starts_with(&format!("process {}: ", process.pid())),
        "{by_pid}"
    );
    for expected in [
        r"INFO     | trainer | a line\nof \x1b[2Jtwo lines",
        r#"WARN     | trainer | snap: step 3 of "deferred" | lr=0.5"#,
        r#"config   | trainer | {"lr":0.5}"#,
        "progress | trainer | Training 0/10, started",
        "alert    | trainer | WARN title: text",
        "media    | trainer | step=2 text sample",
    ] {
        assert!(shown.iter().any(|line| line == expected), "{expected}: {by_pid}");
    }
    let metrics = shown.iter().find(|line| line.contains("metrics/loss=0.25"));
    let metrics = metrics.unwrap_or_else(|| panic!("{by_pid}"));
    assert!(metrics.starts_with("metrics  | trainer | step=2 ") && metrics.contains(" metrics/bad=NaN"));
    // It went in chunks.
    let long = shown.iter().find(|line| line.ends_with(&"x".repeat(400 << 10)));
    assert!(long.is_some());

    let of_run = json_of(folder, &["--log-dir", ".", "snap", "latest", "-n", "1"]);
    let ring = &of_run["rings"][0];
    assert_eq!(ring["calls"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&ring["unwritten"], &ring["unreadable"]),
        (&json!(0), &json!(0)),
        "{ring}"
    );
    let all = json_of(folder, &["--log-dir", ".", "snap"]);
    let calls = all["rings"][0]["calls"].as_array().unwrap();
    let record = calls.iter().find(|call| call["level"] == "WARN").unwrap();
    assert_eq!(
        (&record["fields"], &record["is_written"], &record["logger"]),
        (&json!({"lr": 0.5}), &json!(true), &json!("trainer"))
    );
    process.signal("-CONT");
    assert!(process.end());
}

#[test]
fn lines_that_no_file_has_are_shown_while_the_writer_is_stuck() {
    let mut process = Logging::start("stuck");
    assert!(!process.text_file().contains("that no file has"));
    let shown = text(&logcore(process.folder.path(), &["snap", &process.pid(), "-n", "20"]));
    let shown = lines(&shown);
    let expected: Vec<_> = (30..50)
        .map(|number| format!("INFO     | trainer | line {number} that no file has"))
        .collect();
    assert_eq!(shown[2..], expected);
    assert!(shown[1].contains("has not noted the 51 calls"), "{shown:?}");
    assert!(process.end());
    assert!(process.text_file().contains("line 49 that no file has"));
}

#[test]
fn a_process_at_full_speed_loses_nothing_and_no_line_is_torn() {
    let mut process = Logging::start("fast");
    let rings = facade::rings_of_process(process.child.id()).unwrap();
    let mut shown = 0;
    for _ in 0..200 {
        let snapshot = facade::read_live_ring(&rings[0], usize::MAX).unwrap();
        assert_eq!(snapshot.unreadable, 0);
        for call in &snapshot.calls {
            let RingContent::Record { message, level, .. } = &call.content else {
                panic!("{call:?}");
            };
            assert!(is_whole(message), "{message}");
            assert_eq!((*level, call.logger.as_deref()), (log::Level::Info, Some("trainer")));
        }
        shown += snapshot.calls.len();
    }
    assert!(shown > 1000, "{shown}");
    for _ in 0..5 {
        let shown = text(&logcore(process.folder.path(), &["snap", &process.pid()]));
        assert!(shown.lines().count() > 1, "{shown}");
    }
    assert!(process.end());
}

#[test]
fn the_ring_of_a_killed_process_is_read_and_stays() {
    let mut process = Logging::start("stuck");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let folder = process.folder.path();
    let shown = text(&logcore(folder, &["--log-dir", ".", "snap"]));
    assert!(shown.contains("line 49 that no file has"), "{shown}");
    let by_pid = text(&logcore(folder, &["--log-dir", ".", "snap", &process.pid()]));
    assert_eq!(by_pid, shown);
    assert_eq!(facade::rings_in(&process.run_dir()).unwrap().len(), 1);
}

#[test]
fn what_is_no_ring_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("random.ring"),
        (0..5000_u32).flat_map(|n| (n * n).to_le_bytes()).collect::<Vec<_>>(),
    )
    .unwrap();
    fs::write(path("short.ring"), b"LOGRING2").unwrap();
    fs::write(path("pointer.ring"), b"at /dev/zero\non host 1 2\nof 1 1\n").unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(path("pipe.ring"))
            .status()
            .unwrap()
            .success()
    );
    std::os::unix::fs::symlink(path("random.ring"), path("link.ring")).unwrap();
    for (name, why) in [
        ("random.ring", "it is not a ring of this version"),
        ("short.ring", "it is shorter than its header"),
        ("pointer.ring", "it points to no ring"),
        ("pipe.ring", "it is not a file"),
        ("link.ring", "it cannot be opened"),
        ("/dev/zero", "it is not a file"),
    ] {
        let output = logcore(folder.path(), &["snap", name]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        assert!(
            error.contains("cannot read the ring") && error.contains(why),
            "{name}: {error}"
        );
    }
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    for (target, why) in [
        (other.id().to_string(), "cannot find a ring of the process"),
        (ended.id().to_string(), "no run"),
        ("nothing".to_owned(), "no run"),
    ] {
        let output = logcore(folder.path(), &["snap", &target]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{target}: {error}");
        assert!(error.contains(why), "{target}: {error}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}
