//! Going on with an earlier run: which one, what goes on, and what counts no more.
#![cfg(all(unix, feature = "file", feature = "jsonl", feature = "metrics"))]
#![allow(clippy::print_stdout, reason = "a child tells its parent where its run is")]

mod live_run;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use facade::logcore::{RunManifest, RunState, StoredRow};
use facade::{LogConfig, UnifiedLogger, setup_logging};

use crate::live_run::{LiveRun, config, names_in, refused, resuming, state_of};

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
