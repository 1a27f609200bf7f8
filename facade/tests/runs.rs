//! Runs: folders, links, `run.json`, and who begins one.
#![cfg(all(unix, feature = "file", feature = "jsonl", feature = "metrics"))]
#![allow(clippy::print_stdout, reason = "a child tells its parent where its run is")]

mod live_run;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facade::logcore::{RunManifest, RunState};
use facade::{LogConfig, LogManager, UnifiedLogger, setup_logging};

use crate::live_run::{LiveRun, config, names_in, refused, resuming, state_of};

fn start_rank(rank: &str, case: &str, folder: &Path) -> LiveRun {
    let id = if case == "id" { "k3v9" } else { "" };
    LiveRun::start_with(
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
fn an_error_about_an_id_shows_the_id_as_it_was_given() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let live = LiveRun::start_with("auto", folder.path(), &[("LOGCORE_RUN_ID", "rid")]);
    let error = refused(LogConfig {
        run_id: Some("rid".into()),
        ..config(folder.path())
    });
    assert_eq!((&*error.field, &*error.value), ("run_id", "rid"), "{error}");
    live.kill();
}

#[test]
fn an_id_that_two_folders_have_is_refused() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let first = setup_logging(config(folder.path())).unwrap();
    let (id, dir) = (first.run().id().to_owned(), first.run_dir());
    first.finish();
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(dir.join("run.json"), copy.join("run.json")).unwrap();
    let error = refused(resuming(folder.path(), &id));
    assert_eq!((&*error.field, &*error.value), ("resume", &*id));
    for dir in [&dir, &copy] {
        assert!(error.remedy.contains(&dir.display().to_string()), "{error}");
    }
    let by_folder = setup_logging(resuming(folder.path(), "copy")).unwrap();
    assert_eq!((by_folder.run().id(), by_folder.run_dir()), (&*id, copy));
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
            let waiting = scope.spawn(|| start_rank("1", "auto", folder));
            let first = start_rank("0", "auto", folder);
            (first, waiting.join().unwrap())
        });
        assert_eq!(first.dir, second.dir);
        assert!(first.dir.join("metrics.rank1.jsonl").exists());
        // The next launch has the same facts, and a run of its own.
        second.kill();
        dirs.push(first.kill());
    }
    assert_ne!(dirs[0], dirs[1]);

    let alone = start_rank("1", "alone", folder).kill();
    assert!(alone.to_string_lossy().ends_with("-rank1"), "{}", alone.display());

    // With an id, no rank waits, and the next launch goes on with the run.
    for attempt in 1..3 {
        let second = start_rank("1", "id", folder);
        let first = start_rank("0", "id", folder);
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
