//! What a run leaves as its last word: in the report, in `summary.json`, on the console.
#![cfg(feature = "full")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use facade::{LogConfig, RunEnd, UnifiedLogger, setup_logging};
use serde_json::Value;

/// Names the case in the child, this test program run again.
const CASE: &str = "LAST_WORD_CASE";
const FOLDER: &str = "LAST_WORD_FOLDER";

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        ..LogConfig::default()
    }
}

fn quiet(folder: &Path) -> UnifiedLogger {
    setup_logging(LogConfig {
        enable_console: false,
        ..config(folder)
    })
    .unwrap()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_run_that_comes_to_its_end_has_finished() {
    let folder = tempfile::tempdir().unwrap();
    let logger = quiet(folder.path());
    for step in 0..100_u32 {
        logger.log_metrics_at(u64::from(step), [("loss", 1.0 / f64::from(step + 1))]);
    }
    logger.log_metrics_at(100, [("loss", f64::NAN)]);
    logger.warning("careful");
    let report = logger.finish();
    assert_eq!((report.end, report.exit_code), (RunEnd::Finished, 0));
    let path = folder.path().join("metrics.jsonl");
    assert_eq!(report.places["jsonl"], path.to_str().unwrap());
    let summary = &summary(folder.path())["trainer"];
    assert_eq!(summary["state"], "finished");
    assert_eq!(summary["last_step"], 100);
    assert_eq!(summary["warnings"], 1);
    assert!(summary["duration_seconds"].as_f64().unwrap() > 0.0);
    let loss = &summary["metrics"][0];
    assert_eq!(
        (&loss["name"], &loss["max"], &loss["min"]),
        (&"loss".into(), &1.0.into(), &0.01.into())
    );
    assert_eq!((&loss["last"], &loss["nan_count"]), (&"NaN".into(), &1.into()));
}

#[test]
fn a_run_that_fails_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let logger = quiet(folder.path());
    logger.log_metrics([("loss", 1.0)]);
    logger.set_exit_code(3);
    let report = logger.finish();
    assert_eq!((report.end, report.exit_code), (RunEnd::Failed { exit_code: 3 }, 3));
    let summary = &summary(folder.path())["trainer"];
    assert_eq!(
        (&summary["state"], &summary["exit_code"]),
        (&"failed".into(), &3.into())
    );
}

#[test]
fn loggers_with_one_folder_share_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let logger = setup_logging(LogConfig {
            name: name.into(),
            enable_console: false,
            ..config(folder.path())
        })
        .unwrap();
        logger.log_metrics([("loss", 1.0)]);
        logger.finish();
    }
    let summary = summary(folder.path());
    assert_eq!(
        (&summary["one"]["state"], &summary["two"]["state"]),
        (&"finished".into(), &"finished".into())
    );
}

/// What the child does, instead of the tests.
fn child(case: &str, folder: &Path) {
    let logger = setup_logging(LogConfig {
        finish_summary: case != "switched off",
        ..config(folder)
    })
    .unwrap();
    logger.info("a line");
    if case != "only text" {
        logger.log_metrics([("loss", 0.5)]);
    }
    match case {
        "panic" => panic!("the data are gone"),
        "exit" => std::process::exit(4),
        "kill" => {
            logger.flush().unwrap();
            let itself = std::process::id().to_string();
            Command::new("kill").args(["-9", &itself]).status().unwrap();
        }
        _ => drop(logger.finish()),
    }
}

/// Does nothing unless it is the child.
#[test]
fn the_child() {
    if let Ok(case) = std::env::var(CASE) {
        child(&case, Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
}

fn run(case: &str, folder: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

#[test]
fn the_console_tells_what_a_run_was() {
    let told = |case| {
        let folder = tempfile::tempdir().unwrap();
        String::from_utf8(run(case, folder.path()).stdout).unwrap()
    };
    let text = told("plain");
    assert!(text.contains("✓ trainer finished after "), "{text}");
    assert!(text.contains("  console  stdout: 1 delivered\n"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    for case in ["only text", "switched off"] {
        let text = told(case);
        assert!(text.contains("a line") && !text.contains("✓ trainer"), "{case}: {text}");
    }
}

#[test]
fn every_end_has_its_name() {
    let state = |case| {
        let folder = tempfile::tempdir().unwrap();
        let output = run(case, folder.path());
        // What a killed process leaves, the next one delivers.
        facade::recover(folder.path());
        let text = String::from_utf8(output.stdout).unwrap();
        (summary(folder.path())["trainer"].clone(), text)
    };
    let (panicked, text) = state("panic");
    assert_eq!(
        (&panicked["state"], &panicked["exit_code"]),
        (&"panicked".into(), &1.into())
    );
    let message = panicked["message"].as_str().unwrap();
    assert!(
        message.starts_with("panicked at ") && message.ends_with(": the data are gone"),
        "{message}"
    );
    assert!(
        text.contains("✗ trainer failed after ") && text.contains(": panicked at "),
        "{text}"
    );
    let (killed, _) = state("kill");
    assert_eq!(
        (&killed["state"], &killed["exit_code"]),
        (&"killed".into(), &137.into())
    );
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let (exited, text) = state("exit");
        assert_eq!((&exited["state"], &exited["exit_code"]), (&"failed".into(), &4.into()));
        assert!(text.contains("✗ trainer failed with exit code 4 after "), "{text}");
    }
}
