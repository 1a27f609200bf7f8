//! The page of a run, which `report = true` writes at its end.
#![cfg(feature = "full")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use facade::{LogConfig, UnifiedLogger, setup_logging};
use serde_json::Value;

/// Names the case in the child, this test program run again.
const CASE: &str = "REPORT_CASE";
const FOLDER: &str = "REPORT_FOLDER";

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        report: true,
        ..LogConfig::default()
    }
}

fn quiet(folder: &Path) -> LogConfig {
    LogConfig {
        enable_console: false,
        ..config(folder)
    }
}

fn train(logger: &UnifiedLogger) {
    logger.info("Starting training");
    for step in 1..=1000 {
        logger.log_metrics_at(step, [("loss", 1.0)]);
    }
    logger.info("the last line");
}

/// Returns the data in the page of a folder.
fn data(folder: &Path) -> Value {
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.ends_with("</html>\n"), "the page is whole");
    let (_, data) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with(".lock")).collect()
}

#[test]
fn the_page_has_the_end_of_its_run_and_the_last_rows_and_lines() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet(folder.path())).unwrap();
    train(&logger);
    let other = LogConfig {
        name: "evaluator".into(),
        report: false,
        ..quiet(folder.path())
    };
    let other = setup_logging(other).unwrap();
    logger.finish();
    let page = logger.run_dir().join("report.html");
    assert!(!page.exists(), "the run goes on");
    other.log_metrics_at(7, [("accuracy", 0.9)]);
    other.set_exit_code(3);
    other.finish();
    let data = data(&logger.run_dir());
    assert_eq!(data["runs"].as_array().unwrap().len(), 1);
    let run = &data["runs"][0];
    assert_eq!(
        (&run["state"], &run["exit_code"], &run["id"]),
        (&"failed".into(), &3.into(), &logger.run().id().into())
    );
    let curve = |name: &str| {
        let number = data["names"].as_array().unwrap().iter().position(|own| own == name);
        let curves = run["curves"].as_array().unwrap();
        curves
            .iter()
            .find(|curve| curve["name"].as_u64() == number.map(|number| number as u64))
            .unwrap()
    };
    assert_eq!(
        (&curve("metrics/loss")["count"], &curve("metrics/loss")["step1"]),
        (&1000.into(), &1000.into())
    );
    assert_eq!(curve("metrics/accuracy")["step1"], 7);
    let lines = run["lines"].to_string();
    assert!(
        lines.contains("Starting training") && lines.contains("the last line"),
        "{lines}"
    );
    assert_eq!(run["summary"]["trainer"]["last_step"], 1000);
}

#[test]
fn a_flat_run_has_its_page_in_the_log_dir_and_replaces_the_one_before() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        let config = LogConfig {
            name: name.into(),
            run: "flat".into(),
            ..quiet(folder.path())
        };
        train(&setup_logging(config).unwrap());
        assert_eq!(data(folder.path())["runs"][0]["name"], name);
    }
    let temporary = names_in(folder.path()).iter().any(|name| name.ends_with(".tmp"));
    assert!(!temporary, "{:?}", names_in(folder.path()));
}

#[test]
fn the_page_alone_is_reason_for_a_folder() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        enable_file: false,
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..quiet(folder.path())
    };
    let logger = setup_logging(config).unwrap();
    logger.info("goes nowhere");
    logger.finish();
    assert_eq!(data(&logger.run_dir())["runs"][0]["state"], "finished");
}

#[test]
fn only_rank_0_writes_the_page() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        rank: Some(1),
        world_size: Some(2),
        run: "flat".into(),
        ..quiet(folder.path())
    };
    let logger = setup_logging(config).unwrap();
    train(&logger);
    logger.finish();
    let names = names_in(folder.path());
    assert!(names.contains(&"training.rank1.log".to_owned()), "{names:?}");
    assert!(!names.contains(&"report.html".to_owned()), "{names:?}");
}

#[test]
fn a_run_without_the_field_has_no_page() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        report: false,
        ..quiet(folder.path())
    };
    let logger = setup_logging(config).unwrap();
    train(&logger);
    logger.finish();
    assert!(!logger.run_dir().join("report.html").exists());
}

/// Runs a case in the child, instead of the tests.
fn child(case: &str, folder: &Path) {
    let mut config = config(folder);
    if case == "environment" {
        config.report = false;
        config = config.with_env().unwrap();
    }
    if case == "without rows" {
        config.sinks.insert("jsonl".to_owned(), false.into());
    }
    let logger = setup_logging(config).unwrap();
    train(&logger);
    match case {
        "exit" => std::process::exit(4),
        "blocked" => fs::create_dir(logger.run_dir().join("report.html")).unwrap(),
        _ => {}
    }
    let report = logger.finish();
    assert!(report.all_delivered(), "{report:?}");
}

fn run(case: &str, folder: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_of_the_tests", "--nocapture"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .env("NO_COLOR", "1")
        .envs((case == "environment").then_some(("LOGCORE_REPORT", "true")))
        .output()
        .unwrap()
}

#[test]
fn child_of_the_tests() {
    if let (Ok(case), Some(folder)) = (std::env::var(CASE), std::env::var_os(FOLDER)) {
        child(&case, Path::new(&folder));
    }
}

#[test]
fn the_closing_summary_names_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = run("finish", folder.path());
    let told = String::from_utf8_lossy(&output.stdout);
    let path = folder.path().join("latest").canonicalize().unwrap().join("report.html");
    let line = format!("  report    {}\n", path.display());
    assert!(told.contains(&line), "{told}");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_variable_switches_the_page_on() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run("environment", folder.path()).status.success());
    assert_eq!(data(&folder.path().join("latest"))["runs"][0]["state"], "finished");
}

#[test]
fn a_process_that_exits_leaves_the_page_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run("exit", folder.path()).status.code(), Some(4));
    let run = &data(&folder.path().join("latest"))["runs"][0];
    assert_eq!((&run["state"], &run["exit_code"]), (&"failed".into(), &4.into()));
}

#[test]
fn a_page_without_rows_costs_one_line_and_no_link_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let output = run("without rows", folder.path());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "logcore: the page of the run (`report`) gets no values of logger `trainer`, because the sink \
                    `jsonl` is off: leave `jsonl` on, or set `report` to false\n";
    assert_eq!(said, expected);
    let page = &data(&folder.path().join("latest"))["runs"][0];
    assert!(page["lines"].to_string().contains("the last line"), "{page}");
    for name in names_in(folder.path()) {
        assert!(folder.path().join(&name).exists(), "{name} leads nowhere");
    }
}

#[test]
fn a_page_that_cannot_be_written_costs_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = run("blocked", folder.path());
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let [line] = lines[..] else { panic!("{said}") };
    assert!(
        line.contains("cannot write ") && line.contains("`logcore report "),
        "{line}"
    );
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("✓ trainer finished") && !told.contains("report.html"),
        "{told}"
    );
    let latest = folder.path().join("latest");
    let temporary = names_in(&latest).iter().any(|name| name.ends_with(".tmp"));
    assert!(!temporary, "{:?}", names_in(&latest));
}
