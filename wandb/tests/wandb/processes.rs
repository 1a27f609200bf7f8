//! Notices on the terminal, and the files of killed processes. Each case is a child process: this
//! test program, run again.

use std::io::{BufRead as _, BufReader, Read as _};
#[cfg(unix)]
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use facade::wandb::{SyncError, SyncOptions, Synced, find_logs, sync};
use facade::{LogConfig, setup_logging};
use logcore::registry::build_sink;
use logcore::{BuildContext, Deadline, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, Sink, StopFlag};
use serde_json::json;
use tempfile::TempDir;

use crate::{config, sync_options, synced};
use testkit::wandb_server::{FaultTarget, KEY, ServerFault, WandbServer};

const CASE: &str = "WANDB_TEST_CASE";
const FOLDER: &str = "WANDB_TEST_FOLDER";

/// The child's part: it says what it does on standard output, and goes on when it is told on
/// standard input.
#[test]
fn the_child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let folder = std::env::var(FOLDER).unwrap();
    let folder = Path::new(&folder);
    if case == "sync" {
        let report = sync(&find_logs(folder)[0], &SyncOptions::default(), |_, _| {});
        return say(&report.map_or_else(|error| error.to_string(), |report| format!("{:?}", report.outcome)));
    }
    let mut lines = std::io::stdin().lines();
    let mut wait = || drop(lines.next());
    let options = match case.as_str() {
        "offline" | "forks" => json!({"mode": "offline"}),
        "no key" => json!({}),
        _ => json!({"transmit_interval": 0.05}),
    };
    let logger = setup_logging(LogConfig {
        finish_timeout: 5.0,
        enable_file: true,
        ..config(folder, "child", options)
    })
    .unwrap();
    let mut step = 0;
    let mut log = |count| {
        for _ in 0..count {
            logger.log_metrics_at(step, [("x", step)]);
            step += 1;
        }
        logger.flush().unwrap();
    };
    log(100);
    if case == "forks" {
        fork_a_sleeper();
    }
    say("logged");
    wait();
    log(100);
    say("logged");
    wait();
    logger.finish();
}

/// A worker as data loaders have them, which outlives its parent.
#[allow(unsafe_code, reason = "a fork is not to be had otherwise")]
fn fork_a_sleeper() {
    let (mut awake, here) = std::io::pipe().unwrap();
    // SAFETY: the child does nothing but to write a byte, to sleep and end.
    unsafe {
        if libc::fork() == 0 {
            libc::write(here.as_raw_fd(), b"a".as_ptr().cast(), 1);
            libc::sleep(30);
            libc::_exit(0);
        }
    }
    // The child gives up the locks when it first runs.
    awake.read_exact(&mut [0]).unwrap();
}

#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn say(word: &str) {
    println!("\n{word}");
}

/// The child's part on a disk that takes nothing now and then.
#[test]
fn the_child_on_a_full_disk() {
    if std::env::var(CASE).is_ok_and(|case| case != "full") || std::env::var(CASE).is_err() {
        return;
    }
    let folder = std::env::var(FOLDER).unwrap();
    let config = config(Path::new(&folder), "child", json!({"mode": "offline"}));
    let stop = StopFlag::default();
    let mut sink = build_sink("wandb", &config.sinks["wandb"], &BuildContext::new(&config, &stop)).unwrap();
    let mut lines = std::io::stdin().lines();
    let mut say_and_wait = |word| {
        say(word);
        drop(lines.next());
    };
    let mut step = 0;
    let mut log = |sink: &mut dyn Sink, count: usize| {
        for _ in 0..count {
            step += 1;
            // Some are refused, and counted.
            let _ = sink.metrics(&MetricBatch::new("child", step, &[("x", MetricValue::Int(1))]));
        }
        sink.deliver()
    };
    say_and_wait("built");
    assert!(sink.start(&Notices::new(|_, _| {})).is_err());
    say_and_wait("not started");
    while sink.books().unwrap().spooled == 0 {
        log(&mut *sink, 1).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    say_and_wait("started");
    assert!(log(&mut *sink, 100).is_err());
    assert!(!sink.resume_point().unwrap().is_complete());
    say_and_wait("full");
    log(&mut *sink, 100).unwrap();
    assert!(sink.resume_point().unwrap().is_complete());
    say_and_wait("free");
    assert!(log(&mut *sink, 100).is_err());
    sink.logger_ended(&LoggerEnd::default(), &LoggerSummary::default());
    sink.finish(Deadline::after(Duration::from_secs(5))).unwrap();
    say_and_wait("finished");
    let (books, result) = sink.pending_delivery().unwrap()(Deadline::after(Duration::from_millis(200)));
    assert!(books.balanced(), "{books:?}");
    let lost = books.dropped_total() - books.dropped["no log"];
    say(&format!("rows {} lost {lost} {}", books.spooled, result.is_ok()));
}

/// A child whose lines the test reads.
pub(crate) struct RunningChild {
    child: Child,
    words: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl RunningChild {
    fn start(case: &str, folder: &TempDir, server: &str) -> Self {
        Self::start_in(case, folder, server, &[])
    }

    /// The same, with more of an environment.
    pub(crate) fn start_in(case: &str, folder: &TempDir, server: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = this_program(Command::new(std::env::current_exe().unwrap()), "the_child");
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            child.env_remove(name).env_remove(name.to_uppercase());
        }
        child
            .env(CASE, case)
            .env(FOLDER, folder.path())
            .env("HOME", folder.path())
            .envs((case != "no key").then_some(("WANDB_API_KEY", KEY)))
            .env("WANDB_BASE_URL", server)
            .envs(environment.iter().copied());
        Self::spawn(child)
    }

    fn spawn(mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let words = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, words }
    }

    pub(crate) fn wait_for(&mut self, word: &str) {
        assert!(
            self.words.by_ref().any(|line| line.unwrap() == word),
            "it never said {word}"
        );
    }

    pub(crate) fn go_on(&mut self) {
        use std::io::Write as _;
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits for the end and returns the output on the terminal.
    pub(crate) fn errors(mut self) -> Vec<String> {
        self.go_on();
        self.words.by_ref().for_each(drop);
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains(KEY), "the key is on the terminal: {text}");
        text.lines()
            .filter(|line| line.contains("logcore:"))
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn a_killed_run_is_delivered_and_marked() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let mut running = RunningChild::start("offline", &folder, &server.url());
    running.wait_for("logged");
    let log = find_logs(folder.path()).remove(0);
    let early = sync(&log, &sync_options(&server), |_, _| {});
    assert!(matches!(early, Err(SyncError::Live)), "{early:?}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let run = server.run();
    // The newest row was still open, and is there.
    assert_eq!(run.steps(), (0..100).collect::<Vec<_>>());
    assert_eq!((run.exit_code, &run.summary["x"]), (Some(137), &json!(99)));
    assert_eq!(synced(&server, &folder), Synced::AlreadyThere);
}

/// A child of a fork has the lock on the log as well.
#[cfg(unix)]
#[test]
fn a_killed_run_is_delivered_though_a_worker_of_it_lives() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let mut running = RunningChild::start("forks", &folder, &server.url());
    running.wait_for("logged");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let run = server.run();
    assert_eq!(run.steps(), (0..100).collect::<Vec<_>>());
    assert_eq!(run.exit_code, Some(137));
}

/// Without the ring, the records in the log are delivered.
#[test]
fn a_killed_run_without_its_ring_is_delivered_as_far_as_it_was_written() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let mut running = RunningChild::start("offline", &folder, &server.url());
    running.wait_for("logged");
    let log = find_logs(folder.path()).remove(0);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let report = logcore_wandb::sync(&log, &sync_options(&server), |_, _| {}).unwrap();
    assert_eq!(report.outcome, Synced::Killed);
    let run = server.run();
    // The newest row was still open.
    assert_eq!(run.steps(), (0..99).collect::<Vec<_>>());
    assert_eq!(run.exit_code, Some(1));
    assert_eq!(run.summary["x"], 98, "as its rows say: {}", run.summary);
    assert_eq!(run.summary["_step"], 98);
    assert!(
        run.summary["_timestamp"].is_f64() && run.summary["_runtime"].is_u64(),
        "{}",
        run.summary
    );
}

#[test]
fn a_run_killed_online_is_gone_on_with_by_a_sync() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let mut running = RunningChild::start("online", &folder, &server.url());
    running.wait_for("logged");
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() >= 50));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert!(server.run().is_whole());
    assert_eq!(server.run().steps(), (0..100).collect::<Vec<_>>());
    assert_eq!(server.run().exit_code, Some(137));
}

#[test]
fn without_a_key_one_line_says_how_to_send_it() {
    let folder = TempDir::new().unwrap();
    let mut running = RunningChild::start("no key", &folder, "http://127.0.0.1:9");
    running.wait_for("logged");
    running.go_on();
    running.wait_for("logged");
    let errors = running.errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("logcore sync") && errors[0].contains("offline-run-"),
        "{errors:?}"
    );
}

#[test]
fn each_kind_of_trouble_is_one_line_and_one_when_it_is_over() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::Stream, ServerFault::Status(503), 3);
    let mut running = RunningChild::start("online", &folder, &server.url());
    running.wait_for("logged");
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() >= 99));
    running.go_on();
    running.wait_for("logged");
    let errors = running.errors();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(errors[0].contains("W&B: the run is at http://127.0.0.1"), "{errors:#?}");
    assert!(errors[1].contains("503") && errors[1].contains("W&B"), "{errors:#?}");
    assert!(errors[2].contains("accepts requests again"), "{errors:#?}");
}

#[test]
fn a_refused_key_is_one_line_and_the_end_says_how_to_send_the_rest() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::Any, ServerFault::Status(401), usize::MAX);
    let mut running = RunningChild::start("online", &folder, &server.url());
    running.wait_for("logged");
    server.wait_until(|state| !state.requests.is_empty());
    running.go_on();
    running.wait_for("logged");
    let errors = running.errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].contains("401"), "{errors:#?}");
    assert!(errors[1].contains("200 of 200 calls are only on disk"), "{errors:#?}");
    assert!(errors[1].contains("logcore sync"), "{errors:#?}");
}

#[test]
fn a_silent_run_says_nothing_and_a_quiet_one_says_its_troubles() {
    for (variable, lines) in [("WANDB_SILENT", 0), ("WANDB_QUIET", 2)] {
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        server.fault(FaultTarget::Stream, ServerFault::Status(401), usize::MAX);
        let mut running = RunningChild::start_in("online", &folder, &server.url(), &[(variable, "true")]);
        running.wait_for("logged");
        server.wait_until(|state| state.requests.iter().any(|seen| seen.status == 401));
        running.go_on();
        running.wait_for("logged");
        let errors = running.errors();
        assert_eq!(errors.len(), lines, "{variable}: {errors:#?}");
        assert!(errors.iter().all(|line| line.contains("401")), "{errors:#?}");
    }
}

fn this_program(mut command: Command, test: &str) -> Command {
    let name = format!("processes::{test}");
    command.args(["--exact", &name, "--nocapture", "--test-threads=1"]);
    command
}

/// Files of the child cannot grow beyond so many bytes, as on a disk that is full.
#[cfg(target_os = "linux")]
fn limit_files(running: &RunningChild, bytes: &str) {
    let limited = Command::new("prlimit")
        .args(["--pid", &running.child.id().to_string(), &format!("--fsize={bytes}:")])
        .status();
    assert!(limited.unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_nothing_once_it_has_room_again() {
    for freed_at_the_end in [true, false] {
        let folder = TempDir::new().unwrap();
        let mut shell = Command::new("sh");
        // The signal would end it; without it a write fails.
        shell
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap());
        let mut child = this_program(shell, "the_child_on_a_full_disk");
        child
            .env(CASE, "full")
            .env(FOLDER, folder.path())
            .env("HOME", folder.path());
        let mut running = RunningChild::spawn(child);
        running.wait_for("built");
        limit_files(&running, "0");
        running.go_on();
        running.wait_for("not started");
        let runs = std::fs::read_dir(folder.path().join("wandb")).unwrap();
        assert_eq!(runs.count(), 0, "no folder is left, and no link to one");
        limit_files(&running, "unlimited");
        running.go_on();
        running.wait_for("started");
        let log = find_logs(folder.path()).remove(0);
        let fill = |running: &RunningChild| {
            let limit = std::fs::metadata(&log).unwrap().len() + 9;
            limit_files(running, &limit.to_string());
        };
        fill(&running);
        running.go_on();
        running.wait_for("full");
        limit_files(&running, "unlimited");
        running.go_on();
        running.wait_for("free");
        fill(&running);
        running.go_on();
        running.wait_for("finished");
        if freed_at_the_end {
            limit_files(&running, "unlimited");
        }
        running.go_on();
        let told = running
            .words
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.starts_with("rows "));
        let told = told.unwrap();
        let [rows, lost] = [1, 3].map(|at| told.split(' ').nth(at).unwrap().parse::<usize>().unwrap());
        assert!(running.child.wait().unwrap().success());
        assert_eq!(told.ends_with("true"), freed_at_the_end);
        let server = WandbServer::start();
        match freed_at_the_end {
            true => {
                assert_eq!(lost, 0);
                assert_eq!(synced(&server, &folder), Synced::Delivered);
                assert_eq!(server.run().history.len(), rows);
            }
            false => {
                // The newest row that was written was open until then.
                assert_eq!(lost, 101);
                assert_eq!(synced(&server, &folder), Synced::Killed);
                assert_eq!(server.run().history.len(), rows);
            }
        }
        let steps = server.run().steps();
        assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "{steps:?}");
    }
}

/// Wherever a text of the server is cut.
#[test]
fn a_key_that_a_server_repeats_is_not_shown() {
    let credentials = STANDARD.encode(format!("api:{KEY}"));
    let said = |before: usize, form: &str| format!("{} {form} {form}", "x".repeat(before));
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    for form in [KEY, credentials.as_str()] {
        for (status, before) in [(200, 45), (503, 185), (400, 185)] {
            server.fault(
                FaultTarget::GraphQl("UpsertBucket"),
                ServerFault::StatusWithBody(status, said(before, form)),
                1,
            );
        }
    }
    let errors = said(185, KEY);
    let errors = json!({"errors": [{"message": errors}]}).to_string();
    server.fault(
        FaultTarget::GraphQl("UpsertBucket"),
        ServerFault::StatusWithBody(200, errors),
        1,
    );
    let mut running = RunningChild::start("online", &folder, &server.url());
    running.wait_for("logged");
    server.wait_until(|state| state.requests.len() >= 3);
    running.go_on();
    running.wait_for("logged");
    let errors = running.errors().join("\n");
    assert!(errors.contains("***"), "{errors}");
    for secret in [KEY, credentials.as_str()] {
        for part in secret.as_bytes().windows(8) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(!errors.contains(part), "{part} of the key is in {errors}");
        }
    }
}
