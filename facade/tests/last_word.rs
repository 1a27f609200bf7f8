//! The end of a run in the report, in `summary.json`, and on the console.
#![cfg(feature = "full")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use facade::{BookUnit, LogConfig, RunEnd, UnifiedLogger, setup_logging};
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
fn a_run_without_errors_ends_as_finished() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = quiet(folder.path());
    for step in 0..100_u32 {
        logger.log_metrics_at(u64::from(step), [("loss", 1.0 / f64::from(step + 1))]);
    }
    logger.log_metrics_at(100, [("loss", f64::NAN)]);
    logger.warning("careful");
    let report = logger.finish();
    assert_eq!((&report.end, report.exit_code), (&RunEnd::Finished, 0));
    let path = logger.run_dir().join("metrics.jsonl");
    assert_eq!(report.places["jsonl"], path.to_str().unwrap());
    let units = ["file", "jsonl"].map(|sink| report.sink(sink).unwrap().unit);
    assert_eq!(units, [BookUnit::Lines, BookUnit::Calls]);
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
fn a_run_with_an_exit_code_ends_as_failed() {
    testkit::own_process!();
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
fn every_sink_gets_the_end_and_the_summary_of_its_logger() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        enable_console: false,
        sinks: [("memory".to_owned(), true.into())].into(),
        ..config(folder.path())
    })
    .unwrap();
    logger.log_metrics_at(7, [("loss", 0.5)]);
    logger.error("loss is NaN");
    logger.set_exit_code(3);
    logger.finish();
    let memory = facade::MemorySink::of("trainer").unwrap();
    assert_eq!(memory.end().unwrap().run_end, RunEnd::Failed { exit_code: 3 });
    let summary = memory.summary().unwrap();
    assert_eq!((summary.last_step, summary.errors), (Some(7), 1));
    assert_eq!(
        (summary.metrics[0].name.as_str(), summary.metrics[0].stats.last),
        ("loss", 0.5)
    );
}

#[test]
fn loggers_with_one_folder_share_the_file() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let loggers = ["one", "two"].map(|name| {
        setup_logging(LogConfig {
            name: name.into(),
            enable_console: false,
            ..config(folder.path())
        })
        .unwrap()
    });
    for logger in loggers {
        logger.log_metrics([("loss", 1.0)]);
        logger.finish();
    }
    let summary = summary(folder.path());
    assert_eq!(
        (&summary["one"]["state"], &summary["two"]["state"]),
        (&"finished".into(), &"finished".into())
    );
}

struct FailingValue(&'static str);

impl serde::Serialize for FailingValue {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(self.0))
    }
}

/// Logs a secret with every call, and panics with it.
fn tell_everywhere(logger: &UnifiedLogger, secret: &'static str) {
    logger.info(secret);
    logger.log_metrics([("loss", 0.5)]);
    logger.start_progress(1, secret);
    logger.update_progress(1, 1);
    logger.log_config(&serde_json::json!({"note": secret, "list": [{"deep": secret}]}));
    logger.log_config(&std::collections::BTreeMap::from([("fails", FailingValue(secret))]));
    let wandb = logger.wandb();
    wandb.set_summary("note", secret);
    wandb.alert(secret, secret, facade::wandb::AlertLevel::Warn);
    panic!("{secret}");
}

/// Runs a case in the child, instead of the tests.
fn child(case: &str, folder: &Path) {
    let secret = case == "secret";
    let formatter = if case == "lines for programs" {
        "json"
    } else {
        "colored"
    };
    let logger = setup_logging(LogConfig {
        finish_summary: case != "switched off",
        redact: secret.then(|| r"password=\S+".to_owned()).into_iter().collect(),
        enable_wandb: secret,
        sinks: [
            ("wandb".to_owned(), serde_json::json!({"mode": "offline"})),
            ("console".to_owned(), serde_json::json!({"formatter": formatter})),
        ]
        .into(),
        ..config(folder)
    })
    .unwrap();
    logger.info("a line");
    if secret {
        tell_everywhere(&logger, "cannot connect: password=hunter2");
    }
    if case != "only text" {
        logger.log_metrics([("loss", 0.5)]);
    }
    match case {
        "two loggers" => {
            let other = LogConfig {
                name: "evaluator".into(),
                ..config(folder)
            };
            let other = setup_logging(other).unwrap();
            other.info("another line");
            logger.finish();
            other.set_exit_code(3);
        }
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

/// Text that `redact` hides is in no output about the end of a run.
#[test]
fn redaction_hides_matches_at_the_end_of_a_run_too() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let output = run("secret", folder.path());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("✗ trainer failed after ") && told.contains("cannot connect: ***"),
        "{told}"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    // The third line of a panic is that of Rust's own hook.
    let ours: Vec<&str> = said.lines().filter(|line| line.starts_with("logcore: ")).collect();
    assert!(
        ours.iter()
            .any(|line| line.contains("leaves out") && line.contains("***")),
        "{said}"
    );
    let mut everywhere = told + &ours.join("\n");
    let mut folders = vec![folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    everywhere.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).unwrap()))
                }
                _ => {}
            }
        }
    }
    assert!(everywhere.contains("cannot connect: ***"), "it is told");
    let at = everywhere
        .find("hunter2")
        .map(|at| everywhere[..at].chars().rev().take(200).collect::<Vec<_>>());
    assert_eq!(at.map(|before| before.into_iter().rev().collect::<String>()), None);
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
fn the_console_shows_the_closing_summary() {
    testkit::own_process!();
    let told = |case| {
        let folder = tempfile::tempdir().unwrap();
        String::from_utf8(run(case, folder.path()).stdout).unwrap()
    };
    let text = told("plain");
    assert!(text.contains("✓ trainer finished after "), "{text}");
    let of_console = text.lines().find(|line| line.starts_with("  console   1 line "));
    assert!(of_console.is_some_and(|line| line.ends_with("  stdout")), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    // Once for the run, with its worst end, and a section for each logger that said anything.
    let text = told("two loggers");
    let titles: Vec<&str> = text.lines().filter(|line| line.contains(" after ")).collect();
    assert_eq!(titles.len(), 3, "{text}");
    assert!(titles[0].starts_with("✗ trainer failed"), "{text}");
    assert!(titles[1].starts_with("  trainer finished after "), "{text}");
    assert!(titles[2].starts_with("  evaluator failed"), "{text}");
    for case in ["only text", "switched off", "lines for programs"] {
        let text = told(case);
        assert!(text.contains("a line") && !text.contains("✓ trainer"), "{case}: {text}");
    }
}

#[test]
fn summary_json_names_every_kind_of_end() {
    testkit::own_process!();
    let state = |case| {
        let folder = tempfile::tempdir().unwrap();
        let output = run(case, folder.path());
        // The next process delivers the calls that a killed one has left.
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
