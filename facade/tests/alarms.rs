//! Alarms about a run, from calls to files.
#![cfg(all(feature = "file", feature = "health", feature = "jsonl"))]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use facade::{LogConfig, Rule, UnifiedLogger, setup_logging};

/// A limit for anything that should happen soon.
const SOON: Duration = Duration::from_secs(60);

/// Checks that a NaN at step 3 is in all files of a run.
fn check_files(run: &Path) {
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    let line = "| WARN  | trainer | loss is NaN at step 3, after 2 (rule *-nan)";
    assert_eq!(
        read("training.log").matches(line).count(),
        1,
        "{}",
        read("training.log")
    );
    assert!(read("events.jsonl").contains(r#""incident":"3-any-nan.json""#));
    assert!(read("incidents/3-any-nan.json").contains("| INFO  | trainer | the last step"));
}

#[test]
fn a_logger_that_ends_at_once_tells_what_its_rules_find() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let logger = setup_logging(LogConfig {
            name: "trainer".into(),
            run: format!("run{round}"),
            log_dir: folder.path().into(),
            enable_console: false,
            ..LogConfig::default()
        })
        .unwrap();
        logger.info("the last step");
        for loss in [0.5, 1.0, 2.0, f64::NAN] {
            logger.log_metrics([("loss", loss)]);
        }
        let run = logger.run_dir();
        logger.finish();
        check_files(&run);
    }
}

/// The thread that tells looks at all runs once a second, also between the beginning of a run and
/// the first logger's entry into the run.
#[test]
fn each_of_many_runs_that_begin_and_end_tells_what_its_rules_find() {
    let until = Instant::now() + Duration::from_secs(5);
    thread::scope(|scope| {
        for worker in 0..24 {
            let work = move || {
                while Instant::now() < until {
                    let folder = tempfile::tempdir().unwrap();
                    let logger = setup_logging(LogConfig {
                        name: format!("trainer{worker}"),
                        log_dir: folder.path().into(),
                        enable_console: false,
                        ..LogConfig::default()
                    })
                    .unwrap();
                    logger.log_metrics([("loss", f64::NAN)]);
                    let text = logger.run_dir().join("training.log");
                    logger.finish();
                    let text = fs::read_to_string(text).unwrap();
                    assert!(text.contains("loss is NaN at step 0"), "{text}");
                }
            };
            thread::Builder::new().spawn_scoped(scope, work).unwrap();
        }
    });
}

/// The file that an event names is there before the event, and whatever becomes of the run.
#[cfg(unix)]
#[test]
fn a_killed_run_has_the_incidents_that_its_events_name() {
    const FOLDER: &str = "ALARMS_FOLDER";
    const NAME: &str = "a_killed_run_has_the_incidents_that_its_events_name";
    let open = |name: &str, folder: &Path| {
        setup_logging(LogConfig {
            name: name.into(),
            run: "run".into(),
            log_dir: folder.into(),
            enable_console: false,
            ..LogConfig::default()
        })
        .unwrap()
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        let loggers = ["trainer", "eval"].map(|name| open(name, Path::new(&folder)));
        for step in 0..8 {
            loggers.iter().for_each(|logger| {
                logger.log_metrics_at(step, [("loss", if step == 7 { f64::NAN } else { 0.5 })]);
                logger.flush().unwrap();
            });
        }
        // Killed before a further row.
        thread::sleep(SOON);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let run = folder.path().join("run");
    let events = || fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let until = Instant::now() + SOON;
    while events().lines().count() < 2 {
        assert!(
            Instant::now() < until && child.try_wait().unwrap().is_none(),
            "{}",
            events()
        );
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for name in ["7-any-nan.json", "7-any-nan-2.json"] {
        assert!(events().contains(&format!(r#""incident":"{name}""#)), "{}", events());
        let incident = fs::read_to_string(run.join("incidents").join(name)).unwrap();
        assert!(
            incident.contains(r#""complete":false"#) && incident.contains(r#"{"step":6,"#),
            "{incident}"
        );
    }
}

#[test]
fn a_long_phase_is_an_event_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        name: "phases".into(),
        run: "run".into(),
        log_dir: folder.path().into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap();
    logger.start_progress(100, "Train");
    logger.update_progress(1, 1);
    let began = Instant::now();
    {
        let _eval = logger.phase("eval");
        let _own = logger.phase("each \u{1b} image");
        let _data = logger.phase("data");
        // Shorter phases are not told.
        thread::sleep(Duration::from_secs(10));
    }
    let took = began.elapsed().as_secs_f64();
    drop(logger.phase("checkpoint"));
    let run = logger.run_dir();
    let read = || fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let until = Instant::now() + SOON;
    while read().lines().count() < 2 {
        assert!(Instant::now() < until, "{}", read());
        thread::sleep(Duration::from_millis(1));
    }
    logger.finish();
    let events = read();
    let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{events:?}");
    // Some seconds more on a busy machine.
    let texts = [
        ("each \u{1b} image", r"the phase each \x1b image took 00:1"),
        ("eval", "the phase eval took 00:1"),
    ];
    for (event, (name, text)) in events.iter().zip(texts) {
        assert_eq!(
            (&event["kind"], &event["level"], &event["phase"]),
            (&"phase".into(), &"info".into(), &name.into())
        );
        assert!(event["text"].as_str().unwrap().starts_with(text), "{event}");
        let seconds = event["value"].as_f64().unwrap();
        assert!((10.0..=took + 0.01).contains(&seconds), "{seconds} {took}");
        assert_eq!(event.get("usual"), None);
    }
    let log = fs::read_to_string(run.join("training.log")).unwrap();
    assert_eq!(
        log.matches("| INFO  | phases | the phase eval took 00:1").count(),
        1,
        "{log}"
    );
}

#[test]
fn the_line_about_a_stall_is_no_movement() {
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        name: "waiter".into(),
        run: "run".into(),
        stall_after: "1s".into(),
        log_dir: folder.path().into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap();
    let events = || fs::read_to_string(logger.run_dir().join("events.jsonl")).unwrap_or_default();
    let wait_for = |text: &str, meanwhile: &dyn Fn()| {
        let until = Instant::now() + SOON;
        while !events().contains(text) {
            assert!(Instant::now() < until, "{text}: {}", events());
            meanwhile();
            thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for("the run has not moved", &|| {});
    // The next looks find the line in the text file.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(events().lines().count(), 1, "{}", events());
    wait_for("the run moves again", &|| logger.info("data are loaded"));
}

/// Returns the events of a run whose stalls are told after two seconds, in which `work` happens.
fn events_of(name: &str, work: impl FnOnce(&UnifiedLogger)) -> String {
    events_with(name, &[], work)
}

fn events_with(name: &str, rules: &[Rule], work: impl FnOnce(&UnifiedLogger)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        name: name.into(),
        rules: rules.to_vec(),
        run: "run".into(),
        stall_after: "2s".into(),
        log_dir: folder.path().into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap();
    let run = logger.run_dir();
    work(&logger);
    logger.finish();
    fs::read_to_string(run.join("events.jsonl")).unwrap_or_default()
}

/// The time of some stalls, in parts.
fn tenths() -> impl Iterator<Item = u64> {
    (0..80).inspect(|_| thread::sleep(Duration::from_millis(100)))
}

#[test]
fn a_step_that_goes_back_is_movement_and_the_same_step_is_none() {
    let log = |logger: &UnifiedLogger, step| {
        logger.log_metrics_at(step, [("loss", 0.5)]);
    };
    let back = |logger: &UnifiedLogger| {
        log(logger, 1000);
        tenths().for_each(|step| log(logger, step));
    };
    thread::scope(|scope| {
        let back = scope.spawn(|| events_of("back", back));
        let same = scope.spawn(|| events_of("same", |logger| tenths().for_each(|_| log(logger, 1000))));
        assert_eq!(back.join().unwrap(), "");
        let events = same.join().unwrap();
        assert!(events.contains("the run has not moved for"), "{events}");
    });
}

#[cfg(feature = "media")]
#[test]
fn media_without_rows_are_movement() {
    // Before the first step, the limit is three times as long.
    let long = || tenths().chain(tenths());
    thread::scope(|scope| {
        let runs = [("steps", true), ("no steps", false)].map(|(name, has_step)| {
            let log = move |logger: &UnifiedLogger, step| logger.log_text("sample", "text", has_step.then_some(step));
            scope.spawn(move || events_of(name, |logger| long().for_each(|step| log(logger, step))))
        });
        for run in runs {
            assert_eq!(run.join().unwrap(), "");
        }
    });
}

#[test]
fn an_evaluation_on_another_thread_is_no_stall() {
    let events = events_of("elsewhere", |logger| {
        logger.start_progress(100, "Train");
        logger.update_progress(1, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _eval = logger.phase("eval");
                tenths().for_each(drop);
            });
        });
    });
    assert_eq!(events, "");
}

#[test]
fn a_metric_is_not_missing_in_an_evaluation() {
    let rule = Rule {
        metric: "loss".into(),
        missing: Some("3s".into()),
        ..Rule::default()
    };
    let events = events_with("missing", &[rule], |logger| {
        logger.log_metrics([("loss", 0.5)]);
        let _eval = logger.phase("eval");
        tenths().for_each(drop);
    });
    assert_eq!(events, "");
}

/// The disk is full, or the process has no file left: here a folder is in the way.
#[test]
fn events_that_the_disk_does_not_take_are_written_later_and_at_the_end() {
    for is_at_end in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let logger = setup_logging(LogConfig {
            name: "blocked".into(),
            run: "run".into(),
            log_dir: folder.path().into(),
            enable_console: false,
            ..LogConfig::default()
        })
        .unwrap();
        let run = logger.run_dir();
        let blocked = ["events.jsonl", "incidents"].map(|name| run.join(name));
        fs::create_dir(&blocked[0]).unwrap();
        fs::write(&blocked[1], "").unwrap();
        let told = |step: u64| {
            logger.log_metrics_at(step, [(format!("metric{step}").as_str(), f64::NAN)]);
            let line = format!("metric{step} is NaN");
            let until = Instant::now() + SOON;
            while !fs::read_to_string(run.join("training.log")).unwrap().contains(&line) {
                assert!(Instant::now() < until, "{line}");
                thread::sleep(Duration::from_millis(1));
            }
        };
        [1, 2, 3].into_iter().for_each(told);
        fs::remove_dir(&blocked[0]).unwrap();
        fs::remove_file(&blocked[1]).unwrap();
        let read = || fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        if !is_at_end {
            // Without a further event.
            let until = Instant::now() + SOON;
            while read().lines().count() < 3 {
                assert!(Instant::now() < until, "{}", read());
                thread::sleep(Duration::from_millis(1));
            }
        }
        logger.finish();
        let events = read();
        let metrics: Vec<String> = events
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["metric"].to_string())
            .collect();
        assert_eq!(metrics, [1, 2, 3].map(|step| format!(r#""metric{step}""#)), "{events}");
    }
}
