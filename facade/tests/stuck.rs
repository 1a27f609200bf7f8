//! Streams that nobody reads any more: pipes that are full. Each case is a process of its own: this
//! test program, run again.
#![cfg(all(unix, feature = "file", feature = "console"))]

use std::fs;
use std::io::pipe;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use facade::{LogConfig, OnFull, setup_logging};

const CASE: &str = "STUCK_CASE";
const FOLDER: &str = "STUCK_FOLDER";
const FINISH_TIMEOUT: f64 = 2.0;
/// Timeout for anything that must end in time, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(8);
/// A limit for anything else.
const SOON: Duration = Duration::from_secs(60);

/// The work of the process, instead of the tests.
fn child(case: &str, folder: &Path) {
    let logger = setup_logging(LogConfig {
        name: "child".into(),
        log_dir: folder.into(),
        finish_timeout: FINISH_TIMEOUT,
        ring_bytes: 1 << 20,
        on_full: match case {
            "drop" => OnFull::Drop,
            _ => OnFull::Wait,
        },
        ..LogConfig::default()
    })
    .unwrap();
    let stage = |name: &str| fs::write(folder.join(name), "").unwrap();
    match case {
        "finish" => (0..3000).for_each(|number| logger.info(format!("{number:060}"))),
        "drop" => {
            // More than the pipe, the ring and the queue of the terminal hold together.
            let line = "x".repeat(256 << 10);
            let mut longest = Duration::ZERO;
            for _ in 0..500 {
                let before = Instant::now();
                logger.info(&line);
                logger.error("an error");
                longest = longest.max(before.elapsed());
            }
            fs::write(folder.join("longest"), longest.as_millis().to_string()).unwrap();
        }
        _ => {
            let line = "x".repeat(64 << 10);
            let receipts = fs::File::create(folder.join("returned")).unwrap();
            for number in 0_u64.. {
                logger.info(format!("{number} {line}"));
                receipts.write_all_at(&(number + 1).to_le_bytes(), 0).unwrap();
            }
        }
    }
    stage("logged");
    let report = logger.finish();
    fs::write(folder.join("finished"), format!("{report:?}")).unwrap();
    // A call after the end must not wait, either.
    logger.info("late");
}

/// Does nothing unless it is the process of a case.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case, Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
}

struct StuckChild {
    child: Child,
    folder: tempfile::TempDir,
    /// Open, and never read.
    _reader: std::io::PipeReader,
}

impl StuckChild {
    fn start(case: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = pipe().unwrap();
        // Its output is not the harness's, which would write there, too.
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                "exec \"$0\" --exact the_child --nocapture --test-threads=1 --quiet",
            ])
            .arg(std::env::current_exe().unwrap())
            .env(CASE, case)
            .env(FOLDER, folder.path())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .spawn()
            .unwrap();
        Self {
            child,
            folder,
            _reader: reader,
        }
    }

    fn wait_for(&mut self, file: &str, limit: Duration) -> Duration {
        let since = Instant::now();
        while !self.folder.path().join(file).exists() {
            if since.elapsed() > limit {
                let _ = self.child.kill();
                panic!("no file `{file}` after {limit:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        since.elapsed()
    }

    fn end(&mut self, limit: Duration) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if since.elapsed() > limit {
                let _ = self.child.kill();
                panic!("it does not end within {limit:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn returned(&self) -> u64 {
        let receipt = fs::read(self.folder.path().join("returned")).unwrap_or_default();
        receipt.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }
}

impl Drop for StuckChild {
    fn drop(&mut self) {
        // The harness of the child writes its own last word into the pipe, too, and waits for ever.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn finish_waits_for_a_stuck_reader_only_until_its_deadline() {
    let mut running = StuckChild::start("finish");
    running.wait_for("logged", SOON);
    running.wait_for("finished", LIMIT);
    let text = running.read("training.log");
    assert_eq!(text.lines().count(), 3000);
    let report = running.read("finished");
    assert!(report.contains("terminal stalled"), "{report}");
}

#[test]
fn a_dropping_logger_never_waits_for_a_stuck_reader() {
    let mut running = StuckChild::start("drop");
    running.wait_for("finished", SOON);
    let longest: u128 = running.read("longest").parse().unwrap();
    assert!(longest < 2000, "a call took {longest} ms");
}

#[test]
fn a_signal_ends_the_process_within_the_time_for_its_end() {
    let mut running = StuckChild::start("term");
    // Waits until nothing moves: the pipe is full, then the queue, then the ring.
    let (mut returned, mut since) = (0, Instant::now());
    while returned == 0 || since.elapsed() < Duration::from_secs(2) {
        let now = running.returned();
        if now > returned {
            (returned, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let sent = Command::new("kill")
        .args(["-TERM", &running.child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(running.end(LIMIT).signal(), Some(libc::SIGTERM));
    let returned = running.returned();
    // On a machine with much to do the time may be over before the ring is empty.
    for outcome in facade::recover(running.folder.path()) {
        outcome.unwrap();
    }
    let text = running.read("training.log");
    let numbers = text
        .lines()
        .filter_map(|line| line.split(" | ").nth(3)?.split(' ').next()?.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.take(returned as usize).collect();
    assert!(
        numbers.iter().copied().eq(0..returned),
        "{} of {returned}",
        numbers.len()
    );
    assert!(text.contains("| Interrupted by SIGTERM\n"));
}
