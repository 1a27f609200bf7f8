//! Runs that are asked to stop. Each case is one or more child processes: this test program, run
//! again.
#![cfg(all(unix, feature = "file", feature = "health", feature = "jsonl"))]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use facade::{LogConfig, LogManager, OnSignal, Rule, RuleAnswer, UnifiedLogger, setup_logging};
use logcore::{Record, RunManifest, RunState, Sink, SinkError};

const CASE: &str = "STOPPING_CASE";
const FOLDER: &str = "STOPPING_FOLDER";
/// A limit for anything that should happen soon.
const SOON: Duration = Duration::from_secs(60);

/// Runs a case in the child, instead of the tests: a program that trains until it is to stop, and
/// then writes its step and the reason.
fn child(case: &str, folder: &Path) {
    if case == "full" {
        LogManager::get_instance().add_sink("stuck", Box::new(Stuck)).unwrap();
    }
    let logger = setup_logging(LogConfig {
        name: "child".into(),
        run: "run".into(),
        grace: match case {
            "silent" => 0.5,
            "full" => 600.0,
            _ => 3.0,
        },
        ring_bytes: 1 << 16,
        finish_timeout: 2.0,
        on_signal: OnSignal::Ask,
        stop_before: match case {
            "deadline" => (seconds() + 4).to_string(),
            _ => "off".into(),
        },
        rules: match case {
            "rule" => vec![Rule {
                metric: "loss".into(),
                above: Some(20.0),
                then: RuleAnswer::Stop,
                ..Rule::default()
            }],
            _ => Vec::new(),
        },
        enable_console: false,
        rank_wait: 30.0,
        log_dir: folder.into(),
        ..LogConfig::default()
    })
    .unwrap();
    if case == "full" {
        for line in 0.. {
            match line {
                0..50 => logger.info("x".repeat(1000)),
                // The next lines fill the ring to the last byte, and this thread waits.
                50 => fs::write(folder.join("ready"), "").unwrap(),
                _ => logger.info(line % 2),
            }
        }
    }
    let rank = std::env::var("RANK").unwrap_or_default();
    let pace = match rank.parse::<u64>() {
        // One that is far behind, and ten times as far within a minute.
        Ok(rank) if case == "far" => Duration::from_millis(5 + 495 * rank),
        // Ranks that are not in step.
        Ok(rank) => Duration::from_millis(20 + 3 * rank),
        Err(_) => Duration::from_millis(5),
    };
    train(&logger, case, pace, &folder.join(format!("ready{rank}")));
    if case == "late file" {
        fs::write(logger.run_dir().join("STOP"), "").unwrap();
    }
    fs::write(
        folder.join(format!("stopped{rank}")),
        format!(
            "{} {}",
            logger.metrics().history("loss").unwrap().len(),
            logger.stop_reason().unwrap()
        ),
    )
    .unwrap();
}

/// A sink that hangs.
struct Stuck;

impl Sink for Stuck {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        thread::sleep(10 * SOON);
        Ok(())
    }
}

/// Trains for a minute, unless the run is to stop.
fn train(logger: &UnifiedLogger, case: &str, pace: Duration, ready: &Path) {
    let end = Instant::now() + SOON;
    logger.start_progress(1_000_000, "Train");
    for step in 1..1_000_000_u64 {
        thread::sleep(pace);
        logger.update_progress(1, 1);
        logger.log_metrics([("loss", step)]);
        if step == 10 {
            fs::write(ready, "").unwrap();
        }
        assert!(Instant::now() < end, "nobody asks the run to stop");
        if case != "silent" && logger.stop_requested() {
            return;
        }
    }
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case, Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
}

/// The processes of a run.
struct Running {
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts one process, and waits until it trains.
    fn start(case: &str) -> Self {
        let mut running = Self {
            children: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        running.add(case, &[]);
        running.wait_for("ready");
        running
    }

    /// Starts the ranks of a run, and waits until all of them train.
    fn start_ranks(case: &str, world_size: u32) -> Self {
        let mut running = Self {
            children: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        for rank in 0..world_size {
            let variables = [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", world_size)];
            running.add(case, &variables.map(|(name, value)| (name, value.to_string())));
        }
        (0..world_size).for_each(|rank| running.wait_for(&format!("ready{rank}")));
        running
    }

    fn add(&mut self, case: &str, variables: &[(&str, String)]) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .env(FOLDER, self.folder.path())
            .envs(variables.iter().cloned())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.children.push(child);
    }

    fn wait_for(&self, file: &str) {
        let until = Instant::now() + SOON;
        while !self.folder.path().join(file).exists() {
            assert!(Instant::now() < until, "no file `{file}`");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&self, signal: i32) {
        self.send_to(signal, 0..self.children.len());
    }

    fn send_to(&self, signal: i32, children: std::ops::Range<usize>) {
        for child in &self.children[children] {
            let sent = Command::new("kill")
                .args([format!("-{signal}"), child.id().to_string()])
                .status()
                .unwrap();
            assert!(sent.success());
        }
    }

    fn end(&mut self) -> Vec<ExitStatus> {
        let until = Instant::now() + SOON;
        let mut ended = Vec::new();
        for child in &mut self.children {
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                assert!(Instant::now() < until, "it does not end");
                thread::sleep(Duration::from_millis(1));
            };
            ended.push(status);
        }
        ended
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn state(&self) -> RunState {
        RunManifest::read(&self.run_dir()).unwrap().state
    }

    fn stopped(&self, rank: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("stopped{rank}"))).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_signal_asks_a_program_that_asks() {
    for (signal, name) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGUSR1, "SIGUSR1")] {
        let mut running = Running::start("asks");
        running.send(signal);
        assert!(running.end()[0].success(), "{name}");
        assert!(running.stopped("").ends_with(&format!("the signal {name}")), "{name}");
        assert_eq!(running.state(), RunState::Preempted, "{name}");
        let text = fs::read_to_string(running.run_dir().join("training.log")).unwrap();
        assert!(
            text.contains(&format!("| WARN  | child | {name} asks the program to stop")),
            "{text}"
        );
        let events = fs::read_to_string(running.run_dir().join("events.jsonl")).unwrap();
        assert!(events.contains(r#""kind":"stop""#), "{events}");
    }
}

#[test]
fn a_program_that_never_asks_ends_as_before() {
    let mut running = Running::start("silent");
    running.send(libc::SIGTERM);
    assert_eq!(running.end()[0].signal(), Some(libc::SIGTERM));
    assert_eq!(running.state(), RunState::Interrupted);
}

#[test]
fn a_signal_is_answered_while_calls_wait_for_a_sink_that_hangs() {
    let mut running = Running::start("full");
    running.send(libc::SIGTERM);
    let until = Instant::now() + SOON;
    while !running.run_dir().join("events.jsonl").exists() {
        assert!(Instant::now() < until, "nobody asks the run to stop");
        thread::sleep(Duration::from_millis(1));
    }
    // The second signal ends the process.
    running.send(libc::SIGUSR1);
    assert_eq!(running.end()[0].signal(), Some(libc::SIGUSR1));
}

#[test]
fn a_file_stops_the_run_and_is_gone_afterwards() {
    let mut running = Running::start("file");
    fs::write(running.run_dir().join("STOP"), "").unwrap();
    assert!(running.end()[0].success());
    assert!(running.stopped("").ends_with("the file STOP"));
    assert_eq!(running.state(), RunState::Interrupted);
    assert!(!running.run_dir().join("STOP").exists());
}

#[test]
fn a_file_that_comes_after_another_reason_does_not_stop_the_next_attempt() {
    let mut running = Running::start("late file");
    running.send(libc::SIGTERM);
    assert!(running.end()[0].success());
    assert!(running.stopped("").ends_with("the signal SIGTERM"));
    assert!(!running.run_dir().join("STOP").exists());
}

#[test]
fn the_run_stops_before_its_deadline() {
    let mut running = Running::start("deadline");
    assert!(running.end()[0].success());
    assert!(running.stopped("").ends_with("the end of the job"));
    assert_eq!(running.state(), RunState::Preempted);
}

#[test]
fn a_rule_stops_the_run_and_the_run_has_failed() {
    let mut running = Running::start("rule");
    assert!(running.end()[0].success());
    assert!(running.stopped("").ends_with("the rule loss-above"));
    assert_eq!(running.state(), RunState::Failed);
}

/// SLURM signals all ranks of a job, Kubernetes the pod that it takes away.
#[test]
fn all_ranks_stop_at_one_step() {
    for signaled in [0..8, 3..4] {
        let mut running = Running::start_ranks("ranks", 8);
        running.send_to(libc::SIGTERM, signaled.clone());
        assert!(running.end().iter().all(ExitStatus::success));
        let stopped: Vec<String> = (0..8).map(|rank| running.stopped(&rank.to_string())).collect();
        assert!(
            stopped.iter().all(|one| *one == stopped[0]),
            "{signaled:?}: {stopped:?}"
        );
        assert_eq!(running.state(), RunState::Preempted);
    }
}

/// The job is killed before the slow rank could come to the step of the fast one.
#[test]
fn a_rank_that_is_far_from_the_agreed_step_stops_at_its_own() {
    let mut running = Running::start_ranks("far", 2);
    running.send(libc::SIGTERM);
    let signaled = Instant::now();
    assert!(running.end().iter().all(ExitStatus::success));
    assert!(signaled.elapsed() < SOON / 2);
    let step = |rank: &str| -> u64 { running.stopped(rank).split(' ').next().unwrap().parse().unwrap() };
    assert!(step("0") > 10 * step("1"), "{} {}", step("0"), step("1"));
    let events = fs::read_to_string(running.run_dir().join("events.rank1.jsonl")).unwrap();
    assert!(
        events.contains("rank 1 is to stop at once, because of the signal SIGTERM, and not as agreed"),
        "{events}"
    );
    assert!(events.contains("and would come there too late"), "{events}");
    assert_eq!(running.state(), RunState::Preempted);
}
