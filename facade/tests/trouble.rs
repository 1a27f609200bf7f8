//! Changes that other programs make to a run's files while the run continues.
#![cfg(all(unix, feature = "file", feature = "jsonl"))]
#![allow(unsafe_code, reason = "limits and pipes have no names in the standard library")]
#![allow(clippy::print_stdout, reason = "a child tells its parent how it went")]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use facade::{LogConfig, UnifiedLogger, setup_logging};

/// Opens a logger. The tests of a process run beside each other, so each has a name of its own.
fn open(name: &str, folder: &Path) -> UnifiedLogger {
    setup_logging(LogConfig {
        name: name.into(),
        log_dir: folder.into(),
        run: "flat".into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap()
}

fn messages(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("training.log")).unwrap_or_default();
    text.lines()
        .map(|line| line.splitn(4, " | ").nth(3).unwrap().to_owned())
        .collect()
}

fn rows(folder: &Path) -> usize {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    text.lines().count()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_removed_log_directory_is_created_again() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("log");
    let logger = open("removed", &folder);
    logger.info("before");
    logger.log_metrics_at(0, [("value", 0)]);
    logger.flush().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    // It is looked at most ten times a second.
    thread::sleep(Duration::from_millis(110));
    for number in 0..100 {
        logger.info(number);
        logger.log_metrics_at(1 + number, [("value", number)]);
    }
    logger.flush().unwrap();
    let report = logger.finish();
    assert!(report.all_delivered(), "{report:?}");
    let mut messages = messages(&folder);
    messages.truncate(100);
    assert_eq!(messages, numbers(0..100));
    assert_eq!(rows(&folder), 100);
}

#[test]
fn a_truncated_file_continues_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let logger = open("truncated", folder.path());
    logger.info("before");
    logger.flush().unwrap();
    fs::File::options()
        .write(true)
        .open(folder.path().join("training.log"))
        .unwrap()
        .set_len(0)
        .unwrap();
    (0..100).for_each(|number| logger.info(number));
    assert!(logger.finish().all_delivered());
    let mut messages = messages(folder.path());
    messages.truncate(100);
    assert_eq!(messages, numbers(0..100));
}

/// A pipe takes as much as it has room for, and a reader decides when.
#[test]
fn a_pipe_in_the_place_of_a_file_gets_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.log");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the text ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // A reader opens the pipe before the logger does; the thread may be late.
    let mut options = fs::File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let opened = options.read(true).open(&path).unwrap();
    let reader = thread::Builder::new().name("reader".to_owned());
    let read = move || {
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let reader = reader.spawn(read).unwrap();
    let logger = open("piped", folder.path());
    (0..20_000).for_each(|number: u64| logger.info(number));
    assert!(logger.finish().all_delivered());
    drop(logger);
    let text = reader.join().unwrap();
    drop(opened);
    let lines = text.lines().map(|line| line.rsplit(" | ").next().unwrap().to_owned());
    assert!(lines.take(20_000).eq(numbers(0..20_000)));
}

const FOLDER: &str = "TROUBLE_FOLDER";

/// Imitates a quota: files cannot grow, and later they can.
#[test]
fn a_file_size_limit_that_is_lifted_again_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut messages = messages(folder.path());
    // Not the lines about the incident and the end.
    messages.retain(|message| message.parse::<u32>().is_ok());
    assert_eq!(messages, numbers(0..5000));
    assert_eq!(rows(folder.path()), 5000);
    // One line for the ring and one for each sink.
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("The ring is in plain memory").count(), 1, "{said}");
    for sink in ["file", "jsonl"] {
        let trouble: Vec<_> = said
            .lines()
            .filter(|line| line.contains(&format!("sink `{sink}`")))
            .collect();
        assert!(matches!(trouble[..], [one] if one.contains("File too large")), "{said}");
    }
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let limit_to = |bytes: libc::rlim_t| {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: numbers alone are passed; the process is a child for this test.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    };
    // Less than the ring needs. SIGXFSZ, by which the system ends a process that writes beyond it,
    // has its default effect.
    limit_to(1 << 20);
    let logger = open("child", Path::new(&folder));
    limit_to(15_000);
    let long_name = "x".repeat(100);
    for number in 0..5000_u32 {
        logger.info(number);
        let value = if number == 1000 { f64::NAN } else { number.into() };
        logger.log_metrics_at(number.into(), [("value", value), (&*long_name, 0.0)]);
    }
    assert!(logger.flush().is_err());
    // The 200 rows before the NaN do not fit into a file, either.
    let incidents = logger.run_dir().join("incidents");
    let until = Instant::now() + Duration::from_secs(60);
    while !incidents.is_dir() || fs::read_dir(&incidents).unwrap().next().is_some() {
        assert!(Instant::now() < until, "the incident is not given up");
        thread::sleep(Duration::from_millis(1));
    }
    limit_to(libc::RLIM_INFINITY);
    logger.flush().unwrap();
    let report = logger.finish();
    assert!(report.all_delivered(), "{report:?}");
}
