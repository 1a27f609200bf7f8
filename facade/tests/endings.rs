//! The ends of a process, and the files afterwards. Each case is a child process: this test
//! program, run again.
#![cfg(feature = "file")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use facade::logcore::{LoggerEnd, LoggerSummary, MetricBatch, Record, Sink, SinkError};
use facade::{LogConfig, LogManager, UnifiedLogger, setup_logging};

/// Names the case in the child.
const CASE: &str = "ENDINGS_CASE";
const FOLDER: &str = "ENDINGS_FOLDER";

/// Writes the exit code at the end of the text file.
struct ExitCodeWriter;

impl Sink for ExitCodeWriter {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn logger_ended(&mut self, end: &LoggerEnd, _: &LoggerSummary) {
        let path = Path::new(&std::env::var_os(FOLDER).unwrap()).join("training.log");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "exit code {}", end.exit_code).unwrap();
    }
}

fn set_up() -> UnifiedLogger {
    LogManager::get_instance()
        .add_sink("witness", Box::new(ExitCodeWriter))
        .unwrap();
    setup_logging(LogConfig {
        name: "child".into(),
        log_dir: std::env::var_os(FOLDER).unwrap().into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap()
}

/// Runs a case in the child, instead of the tests.
fn child(case: &str) {
    #[cfg(unix)]
    if case == "behind the end" {
        say_behind_the_end();
        let _ = ENDED.set(set_up());
        std::process::exit(0);
    }
    if case == "panicking sink" {
        std::panic::set_hook(Box::new(|info| {
            let _ = writeln!(std::io::stderr(), "HOOK {info}");
        }));
    }
    let logger = set_up();
    for i in 0..10_000 {
        logger.info(i);
    }
    match case {
        "return" => std::mem::forget(logger),
        "exit" => std::process::exit(7),
        "exit from a thread" => {
            std::thread::scope(|scope| scope.spawn(|| std::process::exit(8)).join()).ok();
        }
        "panic" => panic!("the last word"),
        "abort" => {
            logger.error("the last word");
            std::process::abort();
        }
        "said afterwards" => {
            logger.finish();
            logger.info("late");
            logger.log_metrics([("late", 1)]);
            logger.log_config(&["late"]);
            facade::logcore::log::error!("late, of any crate");
            facade::logcore::log::debug!("the logger would not have taken this");
            std::process::exit(0);
        }
        #[cfg(unix)]
        "exit handlers" => say_in_exit_handlers(logger),
        "panicking sink" => log_to_a_sink_that_panics(&logger),
        other => unreachable!("{other}"),
    }
}

/// The one that was registered before the logger runs after its end.
#[cfg(unix)]
#[allow(unsafe_code, reason = "exit handlers have no other door")]
fn say_in_exit_handlers(logger: UnifiedLogger) {
    static LOGGER: std::sync::OnceLock<UnifiedLogger> = std::sync::OnceLock::new();
    extern "C" fn before() {
        LOGGER.get().unwrap().info("while it is open");
    }
    /// Thread locals of the main thread are dropped before all handlers.
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            LOGGER.get().unwrap().info("in a thread local");
        }
    }
    thread_local!(static LAST: Last = const { Last });
    let _ = LOGGER.set(logger);
    // SAFETY: the function lives for ever and does not unwind.
    unsafe { libc::atexit(before) };
    std::thread::scope(|scope| scope.spawn(|| LAST.with(|_| {})).join()).unwrap();
    std::process::exit(0);
}

/// Registered before there is a logger.
#[cfg(unix)]
#[allow(unsafe_code, reason = "as above")]
fn say_behind_the_end() {
    extern "C" fn behind() {
        // A handle to the logger that has ended, or a new one: nothing is lost without a word.
        if let Some(logger) = ENDED.get() {
            logger.info("behind the end");
            logger.error("behind the end");
        }
    }
    // SAFETY: as above.
    unsafe { libc::atexit(behind) };
}

static ENDED: std::sync::OnceLock<UnifiedLogger> = std::sync::OnceLock::new();

/// Panics whenever it is given something.
struct PanickingAtRecord(Arc<AtomicU64>);

impl Sink for PanickingAtRecord {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("no table for {}", record.message());
    }
}

fn log_to_a_sink_that_panics(logger: &UnifiedLogger) {
    let asked = Arc::default();
    let sink = PanickingAtRecord(Arc::clone(&asked));
    LogManager::get_instance()
        .add_sink("panicking", Box::new(sink))
        .unwrap();
    for i in 0..4000 {
        logger.info(i);
        if i % 100 == 0 {
            logger.flush().unwrap();
        }
    }
    let _ = std::thread::scope(|scope| scope.spawn(|| panic!("of the program")).join());
    let report = logger.finish();
    let books = &report.sinks["panicking"];
    // With the panic of the program, where that is captured.
    assert!(
        books.accepted >= 4000 && books.dropped["panic"] == books.accepted,
        "{books:?}"
    );
    let asked = asked.load(Ordering::Relaxed);
    assert!((3..100).contains(&asked), "asked {asked} times");
}

/// Runs this test program again as a child; returns how it ended and the lines that it left.
fn run(case: &str) -> (ExitStatus, Vec<String>) {
    let (status, lines, _) = run_and_listen(case);
    (status, lines)
}

/// Like `run`, and returns the text on stderr, too.
fn run_and_listen(case: &str) -> (ExitStatus, Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = fs::read_to_string(folder.path().join("training.log")).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status, text.lines().map(str::to_owned).collect(), said)
}

fn assert_all_there(lines: &[String]) {
    let numbers: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("| INFO "))
        .map(|line| line.rsplit(" | ").next().unwrap().parse::<u32>().unwrap())
        .collect();
    assert!(numbers.iter().copied().eq(0..10_000), "{} lines", numbers.len());
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case);
    }
}

#[test]
fn a_return_from_main_without_finish_loses_nothing() {
    let (status, lines) = run("return");
    assert!(status.success());
    assert_all_there(&lines);
}

#[test]
fn exit_loses_nothing() {
    let (status, lines) = run("exit");
    assert_eq!(status.code(), Some(7));
    assert_all_there(&lines);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    assert_eq!(lines.last().unwrap(), "exit code 7");
    let (status, lines) = run("exit from a thread");
    assert_eq!(status.code(), Some(8));
    assert_all_there(&lines);
}

#[test]
fn a_panic_loses_nothing_and_is_the_last_word() {
    let (status, lines) = run("panic");
    assert!(!status.success());
    assert_all_there(&lines);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("| ERROR | panic | thread") && line.contains("the last word"))
    );
}

#[test]
fn an_error_before_an_abort_is_on_disk() {
    let (status, lines) = run("abort");
    assert!(!status.success());
    assert_all_there(&lines);
    assert!(lines.last().unwrap().ends_with("| ERROR | child | the last word"));
}

#[test]
fn calls_to_a_finished_logger_are_reported() {
    let (status, lines, said) = run_and_listen("said afterwards");
    assert!(status.success(), "{said}");
    assert_all_there(&lines);
    assert_eq!(said.matches("logger `child` has ended").count(), 1, "{said}");
    #[cfg(feature = "metrics")]
    assert!(
        said.contains("logcore: 4 calls came after the end of their logger and were dropped\n"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn calls_from_exit_handlers_are_delivered_or_reported() {
    let (status, lines, said) = run_and_listen("exit handlers");
    assert!(status.success(), "{said}");
    assert_all_there(&lines[..10_000]);
    assert!(lines[10_000].ends_with("| in a thread local"), "{}", lines[10_000]);
    assert!(lines[10_001].ends_with("| while it is open"), "{}", lines[10_001]);
    let (status, _, said) = run_and_listen("behind the end");
    assert!(status.success(), "{said}");
    assert!(said.contains("logger `child` has ended"), "{said}");
    #[cfg(target_os = "linux")]
    assert!(said.contains("2 calls came after the end"), "{said}");
}

#[test]
fn a_panicking_sink_is_reported_once_and_called_less_and_less_often() {
    let (status, lines, said) = run_and_listen("panicking sink");
    assert!(status.success(), "{said}");
    assert!(lines.len() >= 14_000, "the others have theirs");
    assert_eq!(said.matches("the sink panicked: no table for").count(), 1, "{said}");
    assert_eq!(said.matches("HOOK").count(), 1, "{said}");
    assert!(said.contains("of the program"), "{said}");
}
