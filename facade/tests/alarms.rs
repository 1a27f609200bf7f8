//! Alarms about a run, from calls to files.
#![cfg(all(feature = "file", feature = "health", feature = "jsonl"))]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use facade::{LogConfig, setup_logging};

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
