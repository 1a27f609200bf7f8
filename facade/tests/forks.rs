//! Children of a fork without `exec`. Each case is a process of its own: this test program, run
//! again.
#![cfg(all(unix, feature = "file", feature = "jsonl", feature = "metrics"))]
#![allow(unsafe_code, reason = "a fork")]

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facade::{LogConfig, UnifiedLogger, setup_logging};

const CASE: &str = "FORKS_CASE";
const FOLDER: &str = "FORKS_FOLDER";
/// A limit for anything that should happen soon, on a machine with much to do.
const SOON: Duration = Duration::from_secs(60);

fn config(folder: &Path, name: &str) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.into(),
        run: "flat".into(),
        enable_console: false,
        ..LogConfig::default()
    }
}

fn say_all(logger: &UnifiedLogger, number: u64) {
    logger.info(format!("said {number}"));
    logger.log_metrics([("said", number)]);
    logger.log_metrics([(format!("new in {number}"), number)]);
    logger.metric("by handle").record(number, number);
    logger.start_progress(2, "progress");
    logger.update_progress(1, 1);
    logger.finish_progress();
    logger.log_memory();
    logger.log_config(&serde_json::json!({"number": number}));
    #[cfg(feature = "tracing")]
    say_in_a_span(number);
}

#[cfg(feature = "tracing")]
fn say_in_a_span(number: u64) {
    let span = tracing::info_span!("work", metric = true, number, phase = tracing::field::Empty);
    span.record("phase", "said");
    span.in_scope(|| {
        tracing::info!(metric.of_event = number, "event {number}");
        facade::logcore::log::info!(target: "run", "record {number}");
    });
}

/// Runs `work` in a child, which ends by `_exit`; returns its id.
fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: the child runs only the case at hand, and ends by `_exit`.
    unsafe {
        match libc::fork() {
            0 => {
                // A child that hangs is killed by a signal, which its parent sees.
                libc::alarm(SOON.as_secs() as u32);
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(i32::from(done.is_err()))
            }
            pid => pid,
        }
    }
}

/// How a child has ended; 0 is well.
fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: our own child, and a number to write to.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

/// The work of the process, instead of the tests.
fn child(case: &str, folder: &Path) {
    match case {
        "descriptors" => lose_no_descriptor(folder),
        "storm" => fork_while_threads_log(folder),
        "own" => set_up_in_the_child(folder, false),
        "own after the end" => set_up_in_the_child(folder, true),
        "daemon by _exit" => become_a_daemon(folder, |_| {
            // SAFETY: ends this process alone.
            unsafe { libc::_exit(0) }
        }),
        "daemon by exit" => become_a_daemon(folder, |_| std::process::exit(0)),
        "daemon after finish" => become_a_daemon(folder, |logger| {
            logger.finish();
            std::process::exit(0);
        }),
        "killed" => kill_children_that_log(folder),
        "signal" => be_ended_by_a_signal(folder),
        "exit" => exit_in_a_worker(folder),
        "plain memory" => log_beside_a_ring_in_plain_memory(folder),
        #[cfg(feature = "health")]
        "tripped" => ask_for_tripped_metrics(folder),
        other => unreachable!("{other}"),
    }
}

fn lose_no_descriptor(folder: &Path) {
    let look = |when: &str| {
        let files: Vec<File> = (0..30).map(|_| File::open("/dev/null").unwrap()).collect();
        let status = wait(fork(|| {
            for file in &files {
                // SAFETY: asks for flags.
                assert!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) } >= 0);
            }
        }));
        assert_eq!(status, 0, "{when}");
        for open in 0..12 {
            let _files: Vec<File> = (0..open).map(|_| File::open("/dev/null").unwrap()).collect();
            let mut command = Command::new("echo");
            command
                .arg("well")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            // SAFETY: nothing is done; that there is something has std fork.
            unsafe { command.pre_exec(|| Ok(())) };
            assert_eq!(command.output().unwrap().stdout, b"well\n", "{when}");
        }
    };
    for _ in 0..3 {
        let logger = setup_logging(config(folder, "run")).unwrap();
        look("while there is a logger");
        logger.finish();
        look("after the last logger");
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn fork_while_threads_log(folder: &Path) {
    const CHILDREN: u64 = 60;
    let patient = LogConfig {
        // The threads log so much that the writer lags behind on a busy machine.
        flush_timeout: SOON.as_secs_f64() / 3.0,
        finish_timeout: SOON.as_secs_f64() / 3.0,
        ..config(folder, "run")
    };
    let logger = setup_logging(patient).unwrap();
    #[cfg(feature = "tracing")]
    let _outer = {
        use tracing_subscriber::layer::SubscriberExt as _;
        let layer = facade::tracing::layer(&logger);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
        tracing::info_span!("outer", job = 7).entered()
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for its threads.
        let _end = OnDrop(|| over.store(true, Ordering::Relaxed));
        for thread in 0..3 {
            let (logger, over) = (&logger, &over);
            scope.spawn(move || {
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    say_all(logger, number * 3 + thread);
                    let _ = logger.metrics().averages();
                    number += 1;
                }
            });
        }
        for number in 0..CHILDREN {
            let status = wait(fork(|| {
                say_all(&logger, number);
                logger.info(format!("child {number}"));
                if number % 3 == 0 {
                    logger.error("an error of a child");
                    logger.flush().unwrap();
                }
                if number % 5 == 0 {
                    assert_eq!(logger.finish().problem, None);
                }
            }));
            assert_eq!(status, 0, "child {number}");
        }
    });
    logger.finish();
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    for number in 0..CHILDREN {
        // With its span's fields, where there are spans.
        let said = ["\n", " | job=7 span=outer\n"].map(|end| format!("| child {number}{end}"));
        assert!(said.iter().any(|line| text.contains(line)), "{number}");
    }
}

fn set_up_in_the_child(folder: &Path, after_the_end: bool) {
    let logger = setup_logging(config(folder, "run")).unwrap();
    logger.info("of the parent");
    if after_the_end {
        logger.finish();
    }
    let own = folder.join("own");
    let status = wait(fork(|| {
        // A worker of a worker, too.
        for depth in 0..2 {
            let before = Instant::now();
            let logger = setup_logging(config(&own, &format!("worker {depth}"))).unwrap();
            (0..1000).for_each(|number| logger.info(number));
            logger.error("last");
            logger.flush().unwrap();
            let report = logger.finish();
            assert!(
                report.all_delivered() && report.sink("file").unwrap().accepted == 1001,
                "{report:?}"
            );
            assert!(before.elapsed() < SOON / 4, "it waited for its parent");
            let inner = fork(|| {
                let logger = setup_logging(config(&own, "inner")).unwrap();
                logger.info("of the worker of a worker");
                assert!(logger.finish().all_delivered());
            });
            assert_eq!(wait(inner), 0);
        }
    }));
    assert_eq!(status, 0);
    assert_eq!(
        fs::read_to_string(own.join("training.log")).unwrap().lines().count(),
        2004
    );
    assert_no_ring(&own);
    logger.finish();
}

fn become_a_daemon(folder: &Path, end: impl FnOnce(&UnifiedLogger)) {
    let logger = setup_logging(config(folder, "run")).unwrap();
    logger.info("before");
    logger.log_metrics([("value", 0)]);
    let parent = std::process::id();
    let daemon = || {
        // Until the process has ended that has the writer. SAFETY: signal 0 only checks that the
        // process exists; nobody waits for its end before that.
        while unsafe { libc::kill(parent as i32, 0) } == 0 && !is_zombie(parent) {
            thread::yield_now();
        }
        for number in 0..100 {
            logger.info(format!("in the daemon {number}"));
            logger.log_metrics([("value", 1 + number)]);
        }
        logger.flush().unwrap();
        let report = logger.finish();
        let text = fs::read_to_string(folder.join("training.log")).unwrap();
        assert!(report.all_delivered() && report.problem.is_none(), "{report:?}");
        assert_eq!(report.sink("file").unwrap().accepted, 100, "{report:?}");
        assert_eq!(text.matches("in the daemon").count(), 100);
        assert!(!text.contains("was killed"), "{text}");
        fs::write(folder.join("daemon"), "well").unwrap();
    };
    // Twice, as daemons do.
    let first = fork(|| {
        fork(daemon);
    });
    assert_eq!(wait(first), 0);
    end(&logger);
}

/// Returns `true` if all threads of the process have ended. The first one may end before the
/// writer.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
        && threads <= 1
}

fn kill_children_that_log(folder: &Path) {
    let logger = setup_logging(config(folder, "run")).unwrap();
    for round in 0..40 {
        let children: Vec<i32> = (0..3)
            .map(|_| fork(|| (0..u64::MAX).for_each(|number| logger.info(number))))
            .collect();
        thread::sleep(Duration::from_micros(2000 + round * 97));
        for pid in children {
            // SAFETY: our own child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            wait(pid);
        }
        logger.info("of the parent");
    }
    let before = Instant::now();
    let report = logger.finish();
    assert_eq!(report.problem, None, "after {:?}", before.elapsed());
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    assert_eq!(text.matches("| of the parent\n").count(), 40);
}

fn be_ended_by_a_signal(folder: &Path) {
    let logger = setup_logging(config(folder, "run")).unwrap();
    let pid = fork(|| {
        let logger = setup_logging(config(&folder.join("own"), "worker")).unwrap();
        (0..1000).for_each(|number| logger.info(number));
        // SAFETY: a signal to this process alone.
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        thread::sleep(SOON);
    });
    let status = wait(pid);
    assert!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM,
        "{status}"
    );
    let text = fs::read_to_string(folder.join("own/training.log")).unwrap();
    assert_eq!(text.lines().count(), 1001);
    assert!(text.ends_with("Interrupted by SIGTERM\n"));
    // A child without loggers of its own ends as usual.
    let pid = fork(|| {
        logger.info("of the child");
        // SAFETY: as above.
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        thread::sleep(SOON);
    });
    assert!(libc::WIFSIGNALED(wait(pid)));
    logger.info("of the parent");
    assert!(logger.finish().problem.is_none());
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    assert!(text.contains("of the child") && text.ends_with("of the parent\n") && !text.contains("Interrupted"));
}

/// The writer opens and ends episodes, under the lock that `tripped` takes, while children ask.
#[cfg(feature = "health")]
fn ask_for_tripped_metrics(folder: &Path) {
    let logger = setup_logging(LogConfig {
        rules: vec![facade::Rule {
            metric: "*".into(),
            nan: true,
            window: 10,
            ..facade::Rule::default()
        }],
        ..config(folder, "run")
    })
    .unwrap();
    logger.log_metrics([("always", f64::NAN)]);
    logger.flush().unwrap();
    assert!(logger.tripped("always"));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for at in 0..11 {
                    logger.log_metrics([("now and then", if at == 0 { f64::NAN } else { 1.0 })]);
                }
            }
        });
        for _ in 0..50 {
            assert_eq!(wait(fork(|| assert!(!logger.tripped("always")))), 0);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(logger.tripped("always"));
}

fn exit_in_a_worker(folder: &Path) {
    let logger = setup_logging(config(folder, "run")).unwrap();
    let pid = fork(|| {
        logger.info("of the worker");
        std::process::exit(3);
    });
    assert_eq!(libc::WEXITSTATUS(wait(pid)), 3);
    logger.info("of the parent");
    let report = logger.finish();
    assert!(report.all_delivered(), "{report:?}");
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    assert!(text.contains("of the worker") && text.ends_with("of the parent\n"));
}

fn log_beside_a_ring_in_plain_memory(folder: &Path) {
    let config = LogConfig {
        ring_place: facade::RingPlace::Memory,
        ring_bytes: 64 << 10,
        ..config(folder, "run")
    };
    let logger = setup_logging(config).unwrap();
    logger.info("of the parent");
    let status = wait(fork(|| {
        logger.flush().unwrap();
        // More than the ring has room for.
        (0..5000).for_each(|number| logger.info(format!("of the child {number}")));
        logger.flush().unwrap();
    }));
    assert_eq!(status, 0);
    logger.info("of the parent");
    assert!(logger.finish().all_delivered());
    let text = fs::read_to_string(folder.join("training.log")).unwrap();
    assert_eq!(text.matches("of the child").count(), 5000);
    assert_eq!(text.matches("of the parent").count(), 2);
}

fn assert_no_ring(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let rings: Vec<_> = names.filter(|name| name.to_string_lossy().contains("ring")).collect();
    assert!(rings.is_empty(), "{rings:?}");
}

/// Does nothing unless it is the process of a case.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case, Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
}

/// Runs a case; returns its folder and its text on stderr.
fn run(case: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{case}: {}: {said}", output.status);
    (folder, said)
}

#[test]
fn a_fork_closes_no_file_descriptor_of_the_program() {
    run("descriptors");
}

#[test]
fn a_child_waits_for_no_lock_that_a_thread_held_at_the_fork() {
    run("storm");
}

#[test]
fn a_child_can_set_up_a_logger_of_its_own() {
    run("own");
    run("own after the end");
}

#[test]
fn a_daemon_continues_with_its_own_writer() {
    for case in ["daemon by _exit", "daemon by exit", "daemon after finish"] {
        // Its output ends when the daemon has ended, too.
        let (folder, said) = run(case);
        assert!(folder.path().join("daemon").exists(), "{case}: {said}");
        assert!(said.contains("logger `run` goes on here"), "{case}: {said}");
        assert_no_ring(folder.path());
        let text = fs::read_to_string(folder.path().join("training.log")).unwrap();
        assert_eq!(text.matches("| before\n").count(), 1, "{case}");
        let rows = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let steps: Vec<u64> = rows
            .lines()
            .map(|row| {
                serde_json::from_str::<serde_json::Value>(row).unwrap()["step"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert!(steps.iter().copied().eq(steps[0]..=steps[0] + 100), "{case}: {steps:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn killed_children_do_not_block_other_processes() {
    run("killed");
}

#[test]
fn a_signal_ends_a_child_as_it_ends_its_parent() {
    run("signal");
}

#[test]
fn the_exit_of_a_worker_ends_no_logger_of_its_parent() {
    run("exit");
}

#[cfg(feature = "health")]
#[test]
fn nothing_is_tripped_in_a_child() {
    run("tripped");
}

#[test]
fn a_child_has_its_own_writer_if_the_ring_is_in_plain_memory() {
    run("plain memory");
}
