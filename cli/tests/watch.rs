//! `logcore watch` beside processes that stand still, are stopped, or die.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use facade::{LogConfig, setup_logging};
use logcore::{AlertLevel, FileRank};
use logcore_health::event::{Event, EventLog, HealthKind};
use logcore_health::slot::{RankPhase, RankState, SlotFolder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Set in the process of a run. Its value is the file that the process locks.
const LOCK: &str = "LOGCORE_CLI_TEST_LOCK";

/// Set in the process that logs a run itself. Its value is the `log_dir`.
const LOG_DIR: &str = "LOGCORE_CLI_TEST_LOG_DIR";

/// Set in the process that evaluates. Its value is the `log_dir`.
const EVALUATION: &str = "LOGCORE_CLI_TEST_EVALUATION";

/// A run, whose process is a child of the test.
struct LiveRun {
    folder: tempfile::TempDir,
    child: Child,
}

impl LiveRun {
    fn start(host: &str, world_size: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("live");
        fs::create_dir(&dir).unwrap();
        let child = start_process(&dir.join(".lock"));
        let manifest = format!(
            "{{\"id\":\"live\",\"state\":\"running\",\"host\":\"{host}\",\"pid\":{},\"world_size\":{world_size},\
             \"attempts\":[{{}},{{}}]}}",
            child.id()
        );
        fs::write(dir.join("run.json"), manifest).unwrap();
        Self { folder, child }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    fn watch(&self, arguments: &[&str]) -> (i32, Value) {
        self.watch_run("live", arguments)
    }

    fn watch_run(&self, run: &str, arguments: &[&str]) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_logcore"))
            .args(["watch", run])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let object = serde_json::from_slice(&output.stdout);
        let object = object.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), object)
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for LiveRun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process that holds a lock, and has a thread that sleeps.
fn start_process(lock: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "process_that_holds_a_lock",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(LOCK, lock)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));
    child
}

fn own_host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned()
}

const STALL: [&str; 4] = ["--until", "end,stall", "--stall-after", "0.3s"];

/// A run that is away for longer than the time between two looks.
#[test]
fn a_watch_waits_for_a_folder_that_is_away() {
    let run = LiveRun::start(&own_host(), 1);
    let (dir, away) = (run.dir(), run.folder.path().join("away"));
    fs::write(dir.join("metrics.jsonl"), "").unwrap();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_logcore"))
        .args(["watch", "live"])
        .current_dir(run.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let files = PathBuf::from(format!("/proc/{}/fd", watch.id()));
    let has_rows = || {
        let files = fs::read_dir(&files).into_iter().flatten().flatten();
        let mut paths = files.filter_map(|file| fs::read_link(file.path()).ok());
        paths.any(|path| path.ends_with("metrics.jsonl"))
    };
    while !has_rows() {
        thread::yield_now();
    }
    fs::rename(&dir, &away).unwrap();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(watch.try_wait().unwrap(), None, "the folder may come back");
    fs::write(away.join("run.json"), r#"{"id":"live","state":"finished"}"#).unwrap();
    fs::rename(&away, &dir).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

/// The process of a run, which is a test so that the test program can start itself.
#[test]
fn process_that_holds_a_lock() {
    let Some(path) = std::env::var_os(LOCK) else { return };
    let file = File::create(path).unwrap();
    file.lock().unwrap();
    let sleeper = thread::Builder::new().name("a\n\u{1b}[2Jsleeper".to_owned());
    sleeper.spawn(|| thread::sleep(Duration::from_secs(3600))).unwrap();
    // The harness has written half a line.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(b"\nlocked\n").unwrap();
    stdout.flush().unwrap();
    drop(stdout);
    loop {
        thread::park();
    }
}

/// A program that stands still after its first steps: it reads a pipe into which nobody writes.
#[test]
fn process_that_logs() {
    let Some(log_dir) = std::env::var_os(LOG_DIR) else {
        return;
    };
    let logger = setup_logging(LogConfig {
        name: "trainer".to_owned(),
        log_dir: log_dir.into(),
        run: "stuck".to_owned(),
        enable_console: false,
        stall_after: "1s".to_owned(),
        ..LogConfig::default()
    })
    .unwrap();
    logger.start_progress(100, "Training");
    logger.update_progress(3, 8);
    let (mut reader, _writer) = pipe().unwrap();
    let _ = reader.read(&mut [0]);
}

#[test]
fn a_run_that_stands_still_is_told_with_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process_that_logs", "--test-threads=1"])
        .env(LOG_DIR, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let run = LiveRun { folder, child };
    while !run.folder.path().join("stuck/run.json").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let (code, stall) = run.watch_run("stuck", &["--until", "end,stall", "--timeout", "60s"]);
    assert_eq!(
        (code, &stall["event"], &stall["step"]),
        (14, &"stall".into(), &3.into())
    );
    assert_eq!(
        (&stall["process"], &stall["pid"]),
        (&"hung".into(), &run.child.id().into())
    );
    let incident = run.folder.path().join(stall["incident"].as_str().unwrap());
    let report = fs::read_to_string(incident).unwrap();
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        for text in [report.as_str(), &stall["explanation"].to_string()] {
            assert!(text.contains("waits for bytes from the pipe pipe:["), "{text}");
        }
    }
}

#[test]
fn a_hung_a_stopped_and_a_dead_process_are_told_apart() {
    let mut run = LiveRun::start(&own_host(), 1);
    let pid = run.child.id();
    let (code, hung) = run.watch(&STALL);
    assert_eq!(
        (code, &hung["event"], &hung["process"]),
        (14, &"stall".into(), &"hung".into())
    );
    assert_eq!((&hung["pid"], &hung["rank"]), (&pid.into(), &0.into()));
    let threads = hung["threads"].as_array().unwrap();
    let sleeper = threads
        .iter()
        .find(|thread| thread["name"] == r"a\n\x1b[2Jsleeper")
        .unwrap();
    assert_eq!(
        (&sleeper["state"], &sleeper["waits_since_last"]),
        (&"S".into(), &0.into())
    );
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        assert_eq!(sleeper["call"], "clock_nanosleep");
        assert!(
            hung["explanation"].to_string().contains("sleeps for a set time"),
            "{hung}"
        );
    }
    assert_eq!(
        hung["advice"][0],
        format!("gdb -p {pid} -batch -ex \"thread apply all bt\"")
    );

    run.send(Signal::STOP);
    let (code, stopped) = run.watch(&STALL);
    assert_eq!((code, &stopped["process"]), (14, &"stopped".into()));
    assert_eq!(stopped["advice"], serde_json::json!([format!("kill -CONT {pid}")]));
    run.send(Signal::CONT);

    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let (code, dead) = run.watch(&["--stall-after", "1h"]);
    assert_eq!(
        (code, &dead["event"], &dead["process"]),
        (11, &"killed".into(), &"dead".into())
    );
    // A watch that waits for no end is told, too, and at once.
    for until in ["stall", "stall,nan"] {
        let (code, dead) = run.watch(&["--until", until, "--stall-after", "1h", "--timeout", "1h"]);
        assert_eq!(
            (code, &dead["event"], &dead["process"], &dead["rank"]),
            (14, &"stall".into(), &"dead".into(), &0.into())
        );
    }
}

/// A program that evaluates, and then hangs, each until a line comes.
#[test]
fn process_that_evaluates() {
    let Some(log_dir) = std::env::var_os(EVALUATION) else {
        return;
    };
    let logger = setup_logging(LogConfig {
        name: "trainer".to_owned(),
        log_dir: log_dir.into(),
        run: "evaluates".to_owned(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap();
    logger.start_progress(100, "Training");
    logger.update_progress(3, 8);
    let wait_for_a_line = || drop(std::io::stdin().read_line(&mut String::new()));
    let evaluation = logger.phase("eval");
    let forward = logger.phase("forward");
    wait_for_a_line();
    drop((forward, evaluation));
    wait_for_a_line();
}

#[test]
fn a_process_without_other_ranks_tells_that_it_evaluates() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process_that_evaluates", "--test-threads=1"])
        .env(EVALUATION, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let run = LiveRun { folder, child };
    let dir = run.folder.path().join("evaluates");
    let phase = || {
        let state = SlotFolder::new(&dir).read_all(1, 1).pop();
        state.map(|state| (state.phase, state.step))
    };
    let wait_for = |expected| {
        while phase() != Some((expected, Some(3))) {
            thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for(RankPhase::Eval);
    let watch = |timeout| {
        run.watch_run(
            "evaluates",
            &["--until", "stall", "--stall-after", "1s", "--timeout", timeout],
        )
    };
    assert_eq!(watch("3s").0, 15, "an evaluation may last long");
    stdin.write_all(b"\n").unwrap();
    wait_for(RankPhase::Step);
    let (code, stall) = watch("1h");
    assert_eq!(
        (code, &stall["process"], &stall["step"]),
        (14, &"hung".into(), &3.into())
    );
    // The process ends in good order, and takes its slot away.
    drop(stdin);
    while dir.join("ranks").exists() {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_process_of_another_machine_is_not_looked_for_here() {
    let run = LiveRun::start("another-machine", 1);
    // Without a holder here, the id in `run.json` is that of a stranger.
    fs::rename(run.dir().join(".lock"), run.dir().join("moved")).unwrap();
    fs::write(run.dir().join(".lock"), "").unwrap();
    let (code, object) = run.watch(&STALL);
    assert_eq!((code, &object["process"]), (14, &"elsewhere".into()));
    assert_eq!(object.get("threads"), None);
}

#[test]
fn a_rank_is_looked_at_by_its_own_lock() {
    let run = LiveRun::start(&own_host(), 2);
    let mut other = start_process(&run.dir().join(".lock.rank1"));
    let mut slots = [0, 1].map(|rank| (SlotFolder::new(&run.dir()), RankState::new(rank, 2)));
    for (folder, state) in &mut slots {
        // Rank 1 has stopped first: rank 0 is a step ahead, and waits for it.
        state.step = Some(130 - u64::from(state.rank));
        state.phase = RankPhase::Step;
        folder.write(state).unwrap();
    }
    let (code, object) = run.watch(&STALL);
    assert_eq!(
        (code, &object["first_stopped"], &object["step"]),
        (14, &1.into(), &129.into())
    );
    assert_eq!(
        (&object["process"], &object["pid"]),
        (&"hung".into(), &other.id().into())
    );
    other.kill().unwrap();
    other.wait().unwrap();
    // On a disk of this machine, the lock tells at once. Elsewhere the slot is old a minute later.
    for age in [Duration::ZERO, Duration::from_secs(61)] {
        let (folder, state) = &mut slots[1];
        state.time -= age;
        folder.write(state).unwrap();
        let (_, object) = run.watch(&STALL);
        assert_eq!(
            (&object["rank"], &object["process"]),
            (&1.into(), &"dead".into()),
            "{object}"
        );
    }
}

#[test]
fn ranks_that_move_or_evaluate_do_not_stall() {
    let run = LiveRun::start(&own_host(), 2);
    let mut slots = SlotFolder::new(&run.dir());
    let mut state = RankState::new(0, 2);
    (state.step, state.phase) = (Some(1), RankPhase::Eval);
    slots.write(&state).unwrap();
    let watch = || {
        run.watch(&["--until", "stall", "--stall-after", "1.5s", "--timeout", "2.5s"])
            .0
    };
    assert_eq!(watch(), 15, "an evaluation may last long");
    state.phase = RankPhase::Step;
    let is_over = AtomicBool::new(false);
    let code = thread::scope(|scope| {
        let mover = thread::Builder::new().name("mover".to_owned()).spawn_scoped(scope, || {
            while !is_over.load(Ordering::Relaxed) {
                state.moved = SystemTime::now();
                slots.write(&state).unwrap();
                thread::sleep(Duration::from_millis(100));
            }
        });
        mover.unwrap();
        let code = watch();
        is_over.store(true, Ordering::Relaxed);
        code
    });
    assert_eq!(code, 15, "rows are not the only movement");
    assert_eq!(watch(), 14);
}

#[test]
fn a_stall_that_the_run_tells_is_seen_at_once_until_it_is_over() {
    let run = LiveRun::start(&own_host(), 1);
    let mut log = EventLog::new(&run.dir(), FileRank(None));
    let mut tell = |level, attempt| {
        let mut event = Event::new(HealthKind::Stall, level, "nothing has moved for 10:00");
        event.attempt = attempt;
        event.step = Some(7);
        event.incident = Some("stall-20261130-120000.txt".to_owned());
        log.append(&event).unwrap();
    };
    let watch = || run.watch(&["--until", "stall", "--timeout", "0.5s"]);
    tell(AlertLevel::Warn, 1);
    assert_eq!(watch().0, 15, "an earlier attempt stood still");
    tell(AlertLevel::Warn, 2);
    let (code, stall) = watch();
    assert_eq!(
        (code, &stall["step"], &stall["process"]),
        (14, &7.into(), &"hung".into())
    );
    assert_eq!(stall["text"], "nothing has moved for 10:00");
    assert!(
        stall["incident"]
            .as_str()
            .unwrap()
            .ends_with("incidents/stall-20261130-120000.txt")
    );
    tell(AlertLevel::Info, 2);
    assert_eq!(watch().0, 15, "the run moves again");
}
