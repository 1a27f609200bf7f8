//! Signals that end a process that logs. Each case is a child process: this test program, run
//! again.
#![cfg(all(unix, feature = "file"))]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facade::logcore::{
    BuildContext, ConfigError, Deadline, LoggerEnd, LoggerSummary, MetricBatch, PendingDelivery, Record, Sink,
    SinkBooks, SinkError,
};
use facade::{LogConfig, LogManager, UnifiedLogger, setup_logging};

const CASE: &str = "SIGNALS_CASE";
const FOLDER: &str = "SIGNALS_FOLDER";
/// A limit for anything that should happen soon.
const SOON: Duration = Duration::from_secs(60);

/// Writes down how the run ended.
struct ExitCodeFile(PathBuf);

impl Sink for ExitCodeFile {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        fs::write(self.0.join("exit code"), end.exit_code.to_string()).unwrap();
    }
}

/// Hangs when it is to end.
struct HangingSink(PathBuf);

impl Sink for HangingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        fs::write(self.0.join("hangs"), "").unwrap();
        thread::sleep(SOON);
        Ok(())
    }
}

/// A remote sink, which needs time to end.
struct RemoteSink;

#[derive(serde::Deserialize)]
struct RemoteOptions {}

impl RemoteSink {
    fn build(_: RemoteOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

impl Sink for RemoteSink {
    fn is_remote(&self) -> bool {
        true
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        Some(Box::new(|_| {
            let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
            fs::write(folder.join("delivers"), "").unwrap();
            let until = Instant::now() + SOON;
            while !folder.join("go on").exists() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            (SinkBooks::default(), Ok(()))
        }))
    }
}

facade::logcore::register_sink!("remote", RemoteSink::build);

/// Logs without end; after each call the file has the number of returned calls.
fn log_at_full_speed(logger: &UnifiedLogger, folder: &Path) {
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            scope.spawn(move || {
                let receipts = fs::File::create(folder.join(format!("returned {thread}"))).unwrap();
                for number in 0_u64.. {
                    logger.info(format!("t{thread} {number}"));
                    logger.log_metrics_at(number, [(format!("t{thread}"), number)]);
                    receipts.write_all_at(&(number + 1).to_le_bytes(), 0).unwrap();
                    if number == 100 {
                        fs::write(folder.join("ready"), "").unwrap();
                    }
                }
            });
        }
    });
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn own_handler(signal: i32) {
    SEEN.store(signal, Ordering::SeqCst);
}

fn handle_by_itself(signal: i32) {
    // SAFETY: the handler does nothing but an atomic store.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(signal, own_handler as *const () as usize);
    }
}

/// Closes all descriptors but the standard ones, as daemons do, and takes their numbers.
fn close_descriptors() {
    for number in 3..64 {
        // SAFETY: the owners of these descriptors are what is under test.
        #[allow(unsafe_code)]
        unsafe {
            libc::close(number);
        }
    }
    // The owners must not read, write or close what others have opened since.
    for _ in 3..64 {
        std::mem::forget(fs::File::open("/dev/zero").unwrap());
    }
}

/// Runs a case in the child, instead of the tests.
fn child(case: &str, folder: &Path) {
    if case == "earlier handler" {
        handle_by_itself(libc::SIGTERM);
    }
    let manager = LogManager::get_instance();
    manager
        .add_sink("witness", Box::new(ExitCodeFile(folder.into())))
        .unwrap();
    if case == "hanging" {
        manager
            .add_sink("hanging", Box::new(HangingSink(folder.into())))
            .unwrap();
    }
    let config = LogConfig {
        name: "child".into(),
        log_dir: folder.into(),
        enable_console: false,
        handle_signals: case != "left alone",
        sinks: match case {
            "remote" | "finishing" => [("remote".to_owned(), true.into())].into(),
            _ => Default::default(),
        },
        ..LogConfig::default()
    };
    let logger = setup_logging(config).unwrap();
    if matches!(case, "full speed" | "remote") {
        return log_at_full_speed(&logger, folder);
    }
    if case == "later handler" {
        handle_by_itself(libc::SIGTERM);
    }
    for i in 0..10_000 {
        logger.info(i);
    }
    if case == "descriptors closed" {
        close_descriptors();
    }
    fs::write(folder.join("ready"), "").unwrap();
    if case == "finishing" {
        logger.finish();
    }
    while SEEN.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    logger.info("handled");
    logger.finish();
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case, Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
}

struct SignaledChild {
    child: Child,
    folder: tempfile::TempDir,
}

impl SignaledChild {
    /// Starts the child and waits until it is ready.
    fn start(case: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self { child, folder };
        running.wait_for("ready");
        running
    }

    fn wait_for(&self, file: &str) {
        let until = Instant::now() + SOON;
        while !self.folder.path().join(file).exists() {
            assert!(Instant::now() < until, "no file `{file}`");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&self, signal: i32) {
        let sent = Command::new("kill")
            .args([format!("-{signal}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join("training.log")).unwrap()
    }

    fn exit_code(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("exit code")).ok()
    }
}

#[test]
fn a_signal_delivers_the_last_lines_and_ends_the_process_as_usual() {
    for (signal, name) in [
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGHUP, "SIGHUP"),
    ] {
        let mut running = SignaledChild::start("plain");
        running.send(signal);
        assert_eq!(running.end().signal(), Some(signal), "{name}");
        let text = running.text();
        let numbers = text
            .lines()
            .filter_map(|line| line.rsplit(" | ").next()?.parse::<u32>().ok());
        assert!(numbers.eq(0..10_000), "{name}");
        let last = text.lines().last().unwrap();
        assert!(
            last.ends_with(&format!("| WARN  | child | Interrupted by {name}")),
            "{last}"
        );
        assert_eq!(running.exit_code(), Some((128 + signal).to_string()), "{name}");
    }
}

#[test]
fn a_handler_of_the_program_replaces_ours() {
    for case in ["earlier handler", "later handler"] {
        let mut running = SignaledChild::start(case);
        running.send(libc::SIGTERM);
        assert!(running.end().success(), "{case}");
        let text = running.text();
        assert!(
            text.ends_with("| INFO  | child | handled\n") && !text.contains("Interrupted"),
            "{case}"
        );
        assert_eq!(running.exit_code().as_deref(), Some("0"), "{case}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut running = SignaledChild::start("hanging");
    running.send(libc::SIGINT);
    running.wait_for("hangs");
    running.send(libc::SIGINT);
    let before = Instant::now();
    assert_eq!(running.end().signal(), Some(libc::SIGINT));
    assert!(before.elapsed() < SOON / 2, "it waited for the sink");
}

#[test]
fn signals_are_answered_after_the_program_has_closed_all_descriptors() {
    let mut running = SignaledChild::start("descriptors closed");
    // The thread of the signals makes a new pipe at once, but at a moment of its own.
    let folder = PathBuf::from(format!("/proc/{}/fd", running.child.id()));
    let has_both_ends = || {
        let targets = (3..1024).filter_map(|number| fs::read_link(folder.join(number.to_string())).ok());
        let is_pipe = |target: &PathBuf| target.to_string_lossy().starts_with("pipe:");
        let mut pipes: Vec<_> = targets.filter(is_pipe).collect();
        pipes.sort_unstable();
        pipes.windows(2).any(|pair| pair[0] == pair[1])
    };
    while cfg!(target_os = "linux") && !has_both_ends() {
        thread::sleep(Duration::from_millis(1));
    }
    running.send(libc::SIGTERM);
    assert_eq!(running.end().signal(), Some(libc::SIGTERM));
    assert!(running.text().contains("| WARN  | child | Interrupted by SIGTERM"));
}

#[test]
fn without_handle_signals_a_signal_has_its_default_effect() {
    let mut running = SignaledChild::start("left alone");
    running.send(libc::SIGTERM);
    assert_eq!(running.end().signal(), Some(libc::SIGTERM));
    assert!(!running.text().contains("Interrupted"));
    assert_eq!(running.exit_code(), None);
}

impl SignaledChild {
    /// Looks for each call that had returned.
    fn assert_nothing_missing(&self, case: &str) {
        let text = self.text();
        let rows = fs::read_to_string(self.folder.path().join("metrics.jsonl")).unwrap();
        for thread in 0..3 {
            // A thread that had not begun has none.
            let receipt = fs::read(self.folder.path().join(format!("returned {thread}"))).unwrap_or_default();
            let returned = receipt.try_into().map_or(0, u64::from_le_bytes);
            let mark = format!("| t{thread} ");
            let said = text
                .lines()
                .filter_map(|line| line.split(&mark).nth(1)?.parse::<u64>().ok());
            assert!(
                said.take(returned as usize).eq(0..returned),
                "{case}: lines of {thread}"
            );
            let name = format!("\"metrics/t{thread}\":");
            let values = rows.lines().filter_map(|row| {
                let value = row.split(&name).nth(1)?.split([',', '}']).next()?;
                value.parse::<f64>().ok().map(|value| value as u64)
            });
            let mut values: Vec<u64> = values.collect();
            values.sort_unstable();
            values.dedup();
            assert!(
                values.len() as u64 >= returned,
                "{case}: {} of {returned} values of {thread}",
                values.len()
            );
        }
        assert!(text.contains("| WARN  | child | Interrupted by SIG"), "{case}");
    }
}

#[test]
fn a_signal_at_any_moment_loses_no_returned_call() {
    for (number, signal) in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGTERM]
        .into_iter()
        .enumerate()
    {
        let mut running = SignaledChild::start("full speed");
        thread::sleep(Duration::from_millis(37 * number as u64));
        running.send(signal);
        assert_eq!(running.end().signal(), Some(signal));
        running.assert_nothing_missing("full speed");
    }
}

#[test]
fn calls_are_taken_while_remote_sinks_end() {
    let mut running = SignaledChild::start("remote");
    running.send(libc::SIGTERM);
    running.wait_for("delivers");
    let returned = || fs::read(running.folder.path().join("returned 0")).unwrap();
    let before = returned();
    let until = Instant::now() + SOON;
    while returned() == before {
        assert!(Instant::now() < until, "calls do not return any more");
        thread::sleep(Duration::from_millis(1));
    }
    fs::write(running.folder.path().join("go on"), "").unwrap();
    assert_eq!(running.end().signal(), Some(libc::SIGTERM));
    running.assert_nothing_missing("remote");
}

#[test]
fn a_signal_during_finish_waits_for_the_finish() {
    let mut running = SignaledChild::start("finishing");
    running.wait_for("delivers");
    running.send(libc::SIGTERM);
    fs::write(running.folder.path().join("go on"), "").unwrap();
    assert_eq!(running.end().signal(), Some(libc::SIGTERM));
    assert_eq!(running.text().lines().count(), 10_000);
    let left = fs::read_dir(running.folder.path().join("latest")).unwrap();
    assert!(
        left.flatten()
            .all(|entry| !entry.file_name().to_string_lossy().contains("ring"))
    );
}
