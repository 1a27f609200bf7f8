//! How a process may end, and what is then on disk. Each case is a child process: this test program, run again.
#![cfg(feature = "file")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use facade::logcore::{MetricBatch, Record, Sink, SinkError};
use facade::{LogConfig, LogManager, UnifiedLogger, setup_logging};

/// Names the case in the child.
const CASE: &str = "ENDINGS_CASE";
const FOLDER: &str = "ENDINGS_FOLDER";

/// Says at the end of the text how the run ended.
struct Witness;

impl Sink for Witness {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn exit_code(&mut self, code: i32) {
        let path = Path::new(&std::env::var_os(FOLDER).unwrap()).join("training.log");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "exit code {code}").unwrap();
    }
}

fn set_up() -> UnifiedLogger {
    LogManager::get_instance()
        .add_sink("witness", Box::new(Witness))
        .unwrap();
    setup_logging(LogConfig {
        name: "child".into(),
        log_dir: std::env::var_os(FOLDER).unwrap().into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap()
}

/// What the child does, instead of the tests.
fn child(case: &str) {
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
        other => unreachable!("{other}"),
    }
}

/// Runs this test program again as a child; returns how it ended and the lines that it left.
fn run(case: &str) -> (ExitStatus, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = fs::read_to_string(folder.path().join("training.log")).unwrap();
    (output.status, text.lines().map(str::to_owned).collect())
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
