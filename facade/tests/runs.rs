//! Runs: folders, links, `run.json`, and going on with an earlier run.
#![cfg(all(unix, feature = "file", feature = "jsonl", feature = "metrics"))]
#![allow(clippy::print_stdout, reason = "a child tells its parent where its run is")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facade::logcore::{RunManifest, RunState, StoredRow};
use facade::{LogConfig, LogError, LogManager, UnifiedLogger, setup_logging};

const CASE: &str = "RUNS_CASE";
const FOLDER: &str = "RUNS_FOLDER";

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        enable_console: false,
        ..LogConfig::default()
    }
}

fn resuming(folder: &Path, resume: &str) -> LogConfig {
    LogConfig {
        resume: Some(resume.to_owned()),
        ..config(folder)
    }
}

fn refused(config: LogConfig) -> facade::ConfigError {
    match setup_logging(config) {
        Err(LogError::Config(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Does nothing unless it is the child: a run that waits to be killed.
#[test]
fn the_child() {
    let (Ok(case), Some(folder)) = (std::env::var(CASE), std::env::var_os(FOLDER)) else {
        return;
    };
    let logger = setup_logging(LogConfig {
        run: match case.as_str() {
            "flat" | "named" => case.clone(),
            _ => "auto".into(),
        },
        rank_wait: if case == "alone" { 0.1 } else { 60.0 },
        enable_wandb: case == "wandb must",
        sinks: (case == "wandb must")
            .then(|| {
                (
                    "wandb".to_owned(),
                    serde_json::json!({"mode": "offline", "resume": "must"}),
                )
            })
            .into_iter()
            .collect(),
        ..config(Path::new(&folder))
    })
    .unwrap();
    if case == "undelivered" {
        for step in 0..2000 {
            logger.log_metrics_at(step, [("loss", 0.5)]);
        }
    } else {
        logger.log_metrics_at(7, [("loss", 0.5)]);
        logger.flush().unwrap();
    }
    println!("\nrun {}", logger.run_dir().display());
    thread::sleep(Duration::from_secs(600));
    drop(logger);
}

/// A process with a live run.
struct LiveRun {
    process: Child,
    dir: PathBuf,
}

impl LiveRun {
    fn start(case: &str, folder: &Path) -> Self {
        Self::start_with(case, folder, &[])
    }

    fn start_rank(rank: &str, case: &str, folder: &Path) -> Self {
        let id = if case == "id" { "k3v9" } else { "" };
        Self::start_with(
            case,
            folder,
            &[
                ("RANK", rank),
                ("WORLD_SIZE", "2"),
                ("MASTER_PORT", "29500"),
                ("LOGCORE_RUN_ID", id),
            ],
        )
    }

    fn start_with(case: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        Self::try_start(case, folder, variables).unwrap()
    }

    /// Returns `None` if the set-up is refused.
    fn try_start(case: &str, folder: &Path, variables: &[(&str, &str)]) -> Option<Self> {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child", "--nocapture"])
            .env(CASE, case)
            .env(FOLDER, folder)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let dir = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("run ").map(PathBuf::from));
        if dir.is_none() {
            process.wait().unwrap();
        }
        Some(Self { process, dir: dir? })
    }

    fn kill(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.dir.clone()
    }
}

fn state_of(dir: &Path) -> RunState {
    RunManifest::read(dir).unwrap().read_state(dir)
}

#[test]
fn each_run_has_a_folder_and_the_links_lead_to_the_newest() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut runs = Vec::new();
    for line in ["first", "second"] {
        let logger = setup_logging(config(folder)).unwrap();
        logger.info(line);
        logger.log_metrics([("loss", 0.5)]);
        let run = logger.run();
        assert_eq!(
            (run.name(), run.attempt(), run.dir().parent()),
            ("trainer", 1, Some(folder))
        );
        logger.finish();
        runs.push(run);
    }
    assert_ne!(runs[0].id(), runs[1].id());
    for (run, line) in runs.iter().zip(["first", "second"]) {
        let text = fs::read_to_string(run.dir().join("training.log")).unwrap();
        assert!(
            text.ends_with(&format!("{line}\n")) && text.lines().count() == 1,
            "{text}"
        );
    }
    for name in ["training.log", "metrics.jsonl", "summary.json"] {
        let through_link = fs::read(folder.join(name)).unwrap();
        assert_eq!(through_link, fs::read(runs[1].dir().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn run_json_tells_the_run_from_its_begin_to_its_end() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config(folder.path())).unwrap();
    let dir = logger.run_dir();
    let manifest = RunManifest::read(&dir).unwrap();
    assert_eq!((&*manifest.id, &*manifest.name), (logger.run().id(), "trainer"));
    assert_eq!(
        (manifest.loggers.as_slice(), manifest.ended),
        (["trainer".to_owned()].as_slice(), None)
    );
    assert_eq!(manifest.facts.pid, std::process::id());
    assert_eq!(manifest.read_state(&dir), RunState::Running);

    let evaluator = setup_logging(LogConfig {
        name: "evaluator".into(),
        ..config(folder.path())
    })
    .unwrap();
    assert_eq!(evaluator.run_dir(), dir);
    logger.log_metrics_at(12, [("loss", 0.5)]);
    logger.finish();
    assert_eq!(state_of(&dir), RunState::Running, "one logger is open");
    evaluator.set_exit_code(3);
    evaluator.finish();
    let manifest = RunManifest::read(&dir).unwrap();
    assert_eq!((manifest.state, manifest.exit_code), (RunState::Failed, Some(3)));
    assert_eq!(manifest.loggers, ["trainer", "evaluator"]);
    assert!(manifest.ended >= Some(manifest.started), "{manifest:?}");
    assert!(!manifest.facts.argv.is_empty(), "the facts are there");
    let attempt = manifest.attempts.last().unwrap();
    assert_eq!((attempt.state, attempt.last_step), (RunState::Failed, Some(12)));
    // The names of the ring are gone, too.
    let left = names_in(&dir);
    assert!(
        !left.iter().any(|name| name.contains("ring") || name.contains("tmp")),
        "{left:?}"
    );
}

#[test]
fn a_reader_never_takes_a_living_or_finished_run_for_a_killed_one() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir(folder.path()).unwrap().flatten() {
                    // A link may lead elsewhere, or be gone, between two looks.
                    if entry.path().is_symlink() {
                        continue;
                    }
                    // The folder is there a moment before the file.
                    if let Ok(manifest) = RunManifest::read(&entry.path()) {
                        let state = manifest.read_state(&entry.path());
                        assert!(matches!(state, RunState::Running | RunState::Finished), "{state:?}");
                    }
                }
            }
        });
        for _ in 0..50 {
            let logger = setup_logging(config(folder.path())).unwrap();
            logger.info("a line");
            logger.finish();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_refused_set_up_leaves_no_folder() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let log_dir = folder.path().join("not/yet");
    let wrong = LogConfig {
        sinks: [("file".to_owned(), serde_json::json!({"keep": "many"}))].into(),
        ..config(&log_dir)
    };
    for (run, run_id) in [("auto", None), ("named", None), ("auto", Some("k3v9")), ("flat", None)] {
        let wrong = LogConfig {
            run: run.into(),
            run_id: run_id.map(str::to_owned),
            ..wrong.clone()
        };
        assert_eq!(refused(wrong.clone()).field, "sinks.file.keep");
        assert!(LogManager::get_instance().configure_from_config(wrong).is_err());
        assert_eq!(names_in(folder.path()), [""; 0], "{run} {run_id:?}");
    }
    let right = LogConfig {
        run: "named".into(),
        ..config(&log_dir)
    };
    assert_eq!(setup_logging(right).unwrap().run_dir(), log_dir.join("named"));
}

#[test]
fn without_a_sink_that_leaves_files_the_folder_comes_with_run_dir() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        enable_file: false,
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..config(folder.path())
    })
    .unwrap();
    assert_eq!(logger.run().id().len(), 8);
    assert_eq!(names_in(folder.path()), [""; 0]);
    let dir = logger.run_dir();
    assert_eq!(state_of(&dir), RunState::Running);
    logger.finish();
    assert_eq!(state_of(&dir), RunState::Finished);
}

#[test]
fn a_folder_that_comes_late_is_not_that_of_another_process() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let without_files = LogConfig {
        run: "named".into(),
        enable_file: false,
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..config(folder.path())
    };
    let logger = setup_logging(without_files).unwrap();
    let other = LiveRun::start("named", folder.path());
    let begun = RunManifest::read(&other.dir).unwrap();
    assert_eq!(logger.run_dir(), other.dir, "the notice says that the folder is taken");
    let with_files = LogConfig {
        name: "second".into(),
        run: "named".into(),
        ..config(folder.path())
    };
    assert_eq!(refused(with_files).field, "log_dir");
    logger.finish();
    let dir = other.kill();
    let now = RunManifest::read(&dir).unwrap();
    assert_eq!((now.id, now.attempts.len()), (begun.id, 1));
}

#[test]
fn a_rank_without_a_world_leaves_the_run_to_rank_0() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let named = LogConfig {
        run: "named".into(),
        rank: Some(1),
        ..config(folder.path())
    };
    let logger = setup_logging(named).unwrap();
    let first = LiveRun::start("named", folder.path());
    assert_eq!(first.dir, logger.run_dir());
    assert_eq!(
        state_of(&first.kill()),
        RunState::Killed,
        "rank 1 has a lock of its own"
    );
}

#[test]
fn a_name_is_used_once_unless_the_run_is_resumed() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let named = |resume: Option<&str>| LogConfig {
        run: "baseline".into(),
        resume: resume.map(str::to_owned),
        ..config(folder.path())
    };
    let say = |logger: UnifiedLogger, line: &str| {
        logger.info(line);
        logger.finish();
        logger.run()
    };
    // There is none yet, so `auto` begins one.
    let first = say(setup_logging(named(Some("auto"))).unwrap(), "first");
    assert_eq!(first.dir(), folder.path().join("baseline"));
    let error = refused(named(None));
    assert_eq!(error.field, "run");
    assert!(error.remedy.contains("resume = \"baseline\""), "{error}");
    for (attempt, resume) in (2..).zip(["auto", "baseline", "latest", first.id()]) {
        let run = say(setup_logging(named(Some(resume))).unwrap(), resume);
        assert_eq!(
            (run.id(), run.dir(), run.attempt()),
            (first.id(), first.dir(), attempt),
            "{resume}"
        );
    }
    let text = fs::read_to_string(first.dir().join("training.log")).unwrap();
    assert_eq!(text.lines().count(), 5);

    let live = LiveRun::start("named", folder.path());
    assert_eq!(live.dir, folder.path().join("named"));
    let beside = LogConfig {
        run: "named".into(),
        ..named(Some("auto"))
    };
    let other = say(setup_logging(beside).unwrap(), "beside a live run");
    assert_ne!(other.dir(), live.dir, "a live run is never resumed");
    live.kill();
    let manifest = RunManifest::read(first.dir()).unwrap();
    assert_eq!((manifest.attempts.len(), manifest.state), (5, RunState::Finished));
    assert_eq!(manifest.resumed_from.as_deref(), Some(first.id()));
    assert_eq!(refused(resuming(folder.path(), "nobody")).field, "resume");
}

#[test]
fn a_killed_run_is_known_at_once_and_auto_goes_on_with_it() {
    testkit::own_process!();
    for case in ["auto", "flat"] {
        let folder = tempfile::tempdir().unwrap();
        let live = LiveRun::start(case, folder.path());
        assert_eq!(state_of(&live.dir), RunState::Running, "{case}");
        if case == "auto" {
            let other = setup_logging(resuming(folder.path(), "auto")).unwrap();
            assert_ne!(other.run_dir(), live.dir, "a live run is passed over");
            other.finish();
        }
        let dir = live.kill();
        let killed = RunManifest::read(&dir).unwrap();
        assert_eq!(
            (killed.state, killed.read_state(&dir)),
            (RunState::Running, RunState::Killed)
        );

        let logger = setup_logging(LogConfig {
            run: case.into(),
            ..resuming(folder.path(), "auto")
        })
        .unwrap();
        assert_eq!(
            (logger.run().id(), logger.run_dir(), logger.run().attempt()),
            (&*killed.id, dir.clone(), 2)
        );
        logger.start_from(5);
        let manifest = RunManifest::read(&dir).unwrap();
        let (first, second) = (&manifest.attempts[0], &manifest.attempts[1]);
        assert_eq!((first.state, second.state), (RunState::Killed, RunState::Running));
        assert!(
            first.ended >= Some(first.started) && first.ended <= Some(second.started),
            "{manifest:?}"
        );
        assert_eq!(second.first_step.get("trainer"), Some(&5));
        logger.finish();
        let manifest = RunManifest::read(&dir).unwrap();
        assert_eq!((manifest.state, manifest.started), (RunState::Finished, killed.started));
        assert_eq!(
            setup_logging(resuming(folder.path(), "auto")).unwrap().run().attempt(),
            1,
            "nothing is unfinished"
        );
    }
}

#[test]
fn a_run_that_is_named_by_a_link_goes_on_in_its_folder() {
    testkit::own_process!();
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = setup_logging(config(folder.path())).unwrap();
    let dir = first.run_dir();
    first.finish();
    let latest = folder.path().join("latest");
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let spellings = ["latest/", "./latest", latest.to_str().unwrap(), link.to_str().unwrap()];
    for (attempt, resume) in (2..).zip(spellings) {
        let logger = setup_logging(resuming(folder.path(), resume)).unwrap();
        logger.log_metrics([("loss", 0.5)]);
        assert_eq!(
            (logger.run_dir(), logger.run().attempt()),
            (dir.clone(), attempt),
            "{resume}"
        );
        logger.finish();
        assert_eq!(
            fs::read_link(&latest).unwrap(),
            Path::new(dir.file_name().unwrap()),
            "{resume}"
        );
    }
    let rows = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), spellings.len());
}

#[test]
fn a_run_whose_manifest_cannot_be_read_is_refused_at_once() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("broken");
    fs::create_dir(&run).unwrap();
    for text in ["", "[]", "{\"id\":7}", &"[".repeat(200_000)] {
        fs::write(run.join("run.json"), text).unwrap();
        let since = Instant::now();
        let error = refused(resuming(folder.path(), "broken"));
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "it waits for the end of no run"
        );
        assert_eq!(error.field, "resume");
        assert!(
            error.remedy.contains("cannot read") && error.remedy.contains("broken/run.json"),
            "{error}"
        );
        let by_name = LogConfig {
            run: "broken".into(),
            ..resuming(folder.path(), "auto")
        };
        assert!(refused(by_name).remedy.contains("cannot read"));
        assert_eq!(fs::read_to_string(run.join("run.json")).unwrap(), text);
    }
    // The run of another folder is not this one's.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(
        elsewhere.path().join("run.json"),
        "{\"id\":\"k3v9q2ab\",\"state\":\"killed\"}",
    )
    .unwrap();
    fs::remove_file(run.join("run.json")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("run.json"), run.join("run.json")).unwrap();
    for resume in ["broken", "k3v9q2ab", "latest"] {
        refused(resuming(folder.path(), resume));
    }
}

#[test]
fn no_run_is_led_out_of_the_log_dir_by_a_link() {
    testkit::own_process!();
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let by_name = LogConfig {
        run: "mine".into(),
        ..config(folder.path())
    };
    let by_id = LogConfig {
        run_id: Some("k3v9".into()),
        ..config(folder.path())
    };
    for (name, config) in [("mine", by_name), ("trainer-k3v9", by_id)] {
        std::os::unix::fs::symlink(outside.path(), folder.path().join(name)).unwrap();
        let error = refused(config);
        assert!(error.remedy.contains(&format!("{name}: it is a link")), "{error}");
        assert_eq!(names_in(outside.path()), [""; 0]);
    }
}

#[test]
fn a_killed_attempt_never_ends_before_it_starts() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config(folder.path())).unwrap();
    let dir = logger.run_dir();
    logger.finish();
    let mut manifest = RunManifest::read(&dir).unwrap();
    (manifest.state, manifest.ended) = (RunState::Running, None);
    let mut attempt = manifest.attempts[0].clone();
    // Its process was killed before it gave a sign of life.
    attempt.started += 0.5;
    (attempt.state, attempt.ended) = (RunState::Running, None);
    manifest.attempts.push(attempt.clone());
    manifest.write(&dir).unwrap();
    setup_logging(resuming(folder.path(), "latest")).unwrap().finish();
    let ended = RunManifest::read(&dir).unwrap().attempts[1].ended;
    assert_eq!(ended, Some(attempt.started));
}

#[test]
fn a_live_run_takes_no_logger_that_wants_another() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config(folder.path())).unwrap();
    let other = LogConfig {
        name: "other".into(),
        run: "mine".into(),
        ..config(folder.path())
    };
    let error = refused(other.clone());
    assert_eq!(error.field, "run");
    assert!(error.remedy.contains(logger.run().id()), "{error}");
    logger.finish();
    assert_eq!(setup_logging(other).unwrap().run_dir(), folder.path().join("mine"));
}

#[test]
fn a_logger_moves_to_the_run_of_its_new_folder() {
    testkit::own_process!();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let logger = setup_logging(config(first.path())).unwrap();
    logger.log_metrics([("loss", 1)]);
    let left = logger.run_dir();
    let logger = setup_logging(config(second.path())).unwrap();
    logger.log_metrics([("loss", 2)]);
    assert_eq!(logger.run_dir().parent(), Some(second.path()));
    let soon = Instant::now() + Duration::from_secs(60);
    while state_of(&left) == RunState::Running && Instant::now() < soon {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(state_of(&left), RunState::Finished);
    logger.finish();
    let rows = fs::read_to_string(logger.run().dir().join("metrics.jsonl")).unwrap();
    assert!(rows.contains("\"step\":1"), "steps count on: {rows}");
}

#[test]
fn the_ranks_of_a_launch_share_the_run_of_rank_0() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut dirs = Vec::new();
    for _ in 0..2 {
        let (first, second) = thread::scope(|scope| {
            let waiting = scope.spawn(|| LiveRun::start_rank("1", "auto", folder));
            let first = LiveRun::start_rank("0", "auto", folder);
            (first, waiting.join().unwrap())
        });
        assert_eq!(first.dir, second.dir);
        assert!(first.dir.join("metrics.rank1.jsonl").exists());
        // The next launch has the same facts, and a run of its own.
        second.kill();
        dirs.push(first.kill());
    }
    assert_ne!(dirs[0], dirs[1]);

    let alone = LiveRun::start_rank("1", "alone", folder).kill();
    assert!(alone.to_string_lossy().ends_with("-rank1"), "{}", alone.display());

    // With an id, no rank waits, and the next launch goes on with the run.
    for attempt in 1..3 {
        let second = LiveRun::start_rank("1", "id", folder);
        let first = LiveRun::start_rank("0", "id", folder);
        assert_eq!((&first.dir, &second.dir), (&folder.join("trainer-k3v9"), &first.dir));
        assert_eq!(RunManifest::read(&first.dir).unwrap().attempts.len(), attempt);
        second.kill();
        let dir = first.kill();
        let rows = fs::read_to_string(dir.join("metrics.rank1.jsonl")).unwrap();
        assert_eq!(rows.lines().count(), attempt);
        assert!(attempt == 1 || rows.ends_with(",\"attempt\":2}\n"), "{rows}");
    }
}

#[test]
fn a_config_without_a_logger_does_not_wait_for_rank_0() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        rank: Some(1),
        world_size: Some(2),
        rank_wait: 30.0,
        ..config(folder.path())
    };
    let since = Instant::now();
    LogManager::get_instance()
        .configure_from_config(config.clone())
        .unwrap();
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert!(names_in(folder.path()).is_empty(), "{:?}", names_in(folder.path()));
    let unknown = LogConfig {
        rank: Some(0),
        resume: Some("nosuch".into()),
        ..config
    };
    assert!(
        LogManager::get_instance().configure_from_config(unknown).is_err(),
        "rank 0 knows that it is wrong"
    );
    assert!(names_in(folder.path()).is_empty(), "{:?}", names_in(folder.path()));
}

#[test]
fn of_processes_that_begin_one_run_one_has_it() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let log_dir = folder.path().join(round.to_string());
        let starts = thread::scope(|scope| {
            let start = || LiveRun::try_start("named", &log_dir, &[]);
            [scope.spawn(start), scope.spawn(start)].map(|start| start.join().unwrap())
        });
        assert_eq!(
            starts.iter().flatten().count(),
            1,
            "one has a run, the other is refused"
        );
        let dir = starts.into_iter().flatten().next().unwrap().kill();
        assert_eq!(RunManifest::read(&dir).unwrap().attempts.len(), 1);
        assert_eq!(
            fs::read_to_string(dir.join("metrics.jsonl")).unwrap().lines().count(),
            1
        );
    }
}

#[cfg(feature = "wandb")]
#[test]
fn resume_in_the_environment_excludes_a_condition_of_wandb() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let start = |variables| LiveRun::try_start("wandb must", folder.path(), variables);
    assert!(start(&[("LOGCORE_RESUME", "auto")]).is_none());
    start(&[]).unwrap().kill();
}

#[test]
fn a_killed_run_elsewhere_is_delivered_before_it_goes_on() {
    testkit::own_process!();
    let (elsewhere, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (case, last) in [("undelivered", 1999), ("flat", 7)] {
        let dir = LiveRun::start(case, elsewhere.path()).kill();
        let logger = setup_logging(resuming(folder.path(), &dir.to_string_lossy())).unwrap();
        assert_eq!(logger.run_dir().canonicalize().unwrap(), dir.canonicalize().unwrap());
        logger.log_metrics([("loss", 0.25)]);
        drop(logger);
        assert!(names_in(&dir).iter().all(|name| !name.ends_with(".ring")));
        assert!(
            !dir.join("metrics.jsonl").is_symlink(),
            "the run writes into its own folder"
        );
        let first = if case == "flat" { 7 } else { 0 };
        assert!(
            steps_in(&dir).into_iter().eq(first..=last + 1),
            "{case}: the rows that the ring had count"
        );
    }
}

/// Returns the steps of the rows, in their order.
fn steps_in(dir: &Path) -> Vec<u64> {
    let rows = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let read_step = |row: &str| serde_json::from_str::<StoredRow>(row).unwrap().step;
    rows.lines().map(read_step).collect()
}

#[test]
fn a_run_that_is_killed_while_another_start_waits_is_delivered_first() {
    testkit::own_process!();
    for nested in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let log_dir = if nested {
            folder.path().join("sub")
        } else {
            folder.path().to_owned()
        };
        let live = LiveRun::start("undelivered", &log_dir);
        let name = live.dir.strip_prefix(folder.path()).unwrap().to_owned();
        let logger = thread::scope(|scope| {
            let waiting = scope.spawn(|| setup_logging(resuming(folder.path(), &name.to_string_lossy())));
            thread::sleep(Duration::from_millis(200));
            live.kill();
            waiting.join().unwrap().unwrap()
        });
        logger.log_metrics([("loss", 0.25)]);
        let dir = logger.run_dir();
        logger.finish();
        assert!(steps_in(&dir).into_iter().eq(0..=2000), "{:?}", steps_in(&dir));
    }
}

#[test]
fn of_starts_that_go_on_with_one_run_none_writes_before_the_run_is_delivered() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let dir = LiveRun::start("undelivered", folder.path()).kill();
    let starts = thread::scope(|scope| {
        let start = || LiveRun::start_with("auto", folder.path(), &[("LOGCORE_RESUME", "auto")]);
        [(); 4].map(|()| scope.spawn(start)).map(|start| start.join().unwrap())
    });
    let dirs = starts.map(LiveRun::kill);
    let went_on = dirs.iter().filter(|own| **own == dir).count();
    assert_eq!(went_on, 1, "the others begin runs of their own");
    let steps = steps_in(&dir);
    assert!(
        steps[..2000].iter().copied().eq(0..2000) && steps.len() == 2001,
        "{steps:?}"
    );
}

#[test]
fn a_flat_run_writes_nothing_through_the_links_of_other_runs() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let say = |run: &str, line: &str| {
        let logger = setup_logging(LogConfig {
            run: run.into(),
            ..config(folder.path())
        })
        .unwrap();
        logger.info(line);
        logger.finish();
        fs::read_to_string(logger.run_dir().join("training.log")).unwrap()
    };
    say("auto", "one");
    let own = fs::read_dir(folder.path()).unwrap().flatten();
    let earlier = own
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.join("run.json").exists());
    let flat = say("flat", "two");
    assert!(flat.contains("two") && !flat.contains("one"), "{flat}");
    let text = fs::read_to_string(earlier.unwrap().join("training.log")).unwrap();
    assert!(text.contains("one") && !text.contains("two"), "{text}");
}

#[test]
fn a_resumed_logger_goes_on_where_it_says() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let train = |logger: &UnifiedLogger, steps: u64| {
        for _ in 0..steps {
            logger.update_progress(1, 32);
            logger.log_metrics([("loss", 0.5)]);
        }
        logger.finish();
    };
    let logger = setup_logging(config(folder.path())).unwrap();
    logger.start_progress(100, "Training");
    train(&logger, 7);
    let rows = logger.run().dir().join("metrics.jsonl");

    let logger = setup_logging(resuming(folder.path(), "latest")).unwrap();
    // The checkpoint may be read after the start of the progress.
    logger.start_progress(100, "Training");
    logger.start_from(5);
    train(&logger, 2);
    #[cfg(feature = "progress")]
    {
        let manifest = RunManifest::read(&logger.run_dir()).unwrap();
        let [first, second] = [0, 1].map(|attempt| &manifest.attempts[attempt]);
        assert!(first.ledger.contains_key("step") && !first.ledger.contains_key("lost"));
        assert!(second.ledger["down"] > 0.0 && second.ledger["lost"] > 0.0, "{second:?}");
        let wall = manifest.ended.unwrap() - manifest.started;
        let booked: f64 = second.ledger.values().sum();
        assert!((wall - booked).abs() < 0.1, "{wall} seconds, {:?}", second.ledger);
    }
    // Without a first step, the run counts on behind the rows that are kept.
    let logger = setup_logging(resuming(folder.path(), "latest")).unwrap();
    logger.start_progress(100, "Training");
    train(&logger, 1);
    let text = fs::read_to_string(rows).unwrap();
    let shown: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<StoredRow>(line).unwrap())
        .map(|row| (row.attempt, row.step, row.value("throughput/accumulated_samples")))
        .collect();
    let samples = |step: u64| cfg!(feature = "progress").then_some(step as f64 * 32.0);
    let first = (1..=7).map(|step| (1, step, samples(step)));
    let later = [(2, 5, samples(5)), (2, 6, samples(6)), (3, 7, samples(7))];
    assert_eq!(shown, first.chain(later).collect::<Vec<_>>());
}

/// Probes log readings before the program has loaded its checkpoint.
#[test]
fn a_resumed_logger_says_its_first_step_after_readings() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let probing = |config: LogConfig| LogConfig {
        probes: [("host".to_owned(), true.into())].into(),
        ..config
    };
    let logger = setup_logging(probing(config(folder.path()))).unwrap();
    for step in 0..9 {
        logger.log_metrics_at(step, [("loss", 0.5)]);
    }
    logger.finish();
    let logger = setup_logging(probing(resuming(folder.path(), "latest"))).unwrap();
    logger.log_memory();
    logger.start_from(5);
    assert_eq!(logger.log_metrics([("loss", 0.4)]).step(), 5);
    let dir = logger.run_dir();
    logger.finish();
    assert_eq!(RunManifest::read(&dir).unwrap().attempts[1].first_step["trainer"], 5);
}

/// A process that is killed at once after its start does not take the time of earlier ones with it.
#[cfg(feature = "progress")]
#[test]
fn the_ledger_is_there_from_the_start_of_an_attempt() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config(folder.path())).unwrap();
    logger.start_progress(2, "Training");
    logger.update_progress(1, 32);
    logger.finish();
    let logger = setup_logging(resuming(folder.path(), "latest")).unwrap();
    let attempts = RunManifest::read(&logger.run_dir()).unwrap().attempts;
    assert!(attempts[0].ledger["step"] <= attempts[1].ledger["step"] && attempts[1].ledger["down"] > 0.0);
}

/// `config.json` is there without a `log_config`, and keeps what an earlier attempt has logged.
#[test]
fn hyper_parameters_of_the_config_go_to_config_json() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let start = |lr: f64, resume: Option<&str>| {
        setup_logging(LogConfig {
            hyper_parameters: [
                ("lr".into(), serde_json::json!(lr)),
                ("hf_token".into(), serde_json::json!("s3cr3t")),
            ]
            .into(),
            resume: resume.map(str::to_owned),
            ..config(folder.path())
        })
        .unwrap()
    };
    let read = || -> serde_json::Value {
        let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
        assert!(!text.contains("s3cr3t"), "{text}");
        serde_json::from_str(&text).unwrap()
    };
    start(0.1, None).finish();
    let config = read();
    assert_eq!(config["config"]["lr"], 0.1);
    assert_eq!(config["environment"]["pid"], std::process::id());
    assert_eq!(config["end"]["exit_code"], 0);

    let logger = start(0.2, Some("latest"));
    logger.log_config(&serde_json::json!({"seed": 7}));
    logger.finish();
    start(0.3, Some("latest")).finish();
    let config = read();
    assert_eq!(
        (&config["config"]["lr"], &config["config"]["seed"]),
        (&serde_json::json!(0.3), &serde_json::json!(7))
    );
}

#[test]
fn a_first_step_that_comes_late_changes_nothing_and_is_told() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config(folder.path())).unwrap();
    logger.log_metrics_at(3, [("loss", 0.5)]);
    logger.start_from(9);
    logger.log_metrics([("loss", 0.5)]);
    assert_eq!(logger.metrics().history("loss").unwrap()[1].step, 4);
    let dir = logger.run_dir();
    assert!(RunManifest::read(&dir).unwrap().attempts[0].first_step.is_empty());
    logger.finish();
    let text = fs::read_to_string(dir.join("training.log")).unwrap();
    assert!(
        text.contains("WARN  | trainer | start_from(9) changes nothing"),
        "{text}"
    );
}
