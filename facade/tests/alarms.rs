//! Alarms about a run, from calls to files.
#![cfg(all(feature = "file", feature = "health", feature = "jsonl"))]

use std::fs;
use std::path::Path;

use facade::{LogConfig, setup_logging};

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
