//! `logcore import`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{command, error, json, logcore, text};
use crate::support::{names, write_run};

/// Imports a file of this content, and returns the folder of the log directory and the output.
fn import(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    let imported = json(folder.path(), &["import", name, "--log-dir", "logs"]);
    (folder, imported)
}

fn dir(imported: &Value) -> PathBuf {
    PathBuf::from(
        imported["imported"][0]["dir"]
            .as_str()
            .unwrap_or_else(|| panic!("{imported}")),
    )
}

fn rows(folder: &Path) -> String {
    text(&logcore(
        folder,
        &["export", "latest", "--to", "csv", "--log-dir", "logs"],
    ))
}

#[test]
fn a_time_without_a_date_is_refused() {
    for time in ["1e19", "1e25", "1e300"] {
        let (folder, imported) = import("far.csv", format!("step,time,loss\n1,1,0.5\n2,{time},0.5\n"));
        let problem = imported["problems"][0]["error"].as_str().unwrap();
        assert!(
            problem.contains("far.csv") && problem.contains("line 3 has a time"),
            "{problem}"
        );
        assert!(problem.contains("after 9999"), "{problem}");
        assert!(
            names(&folder.path().join("logs"))
                .iter()
                .all(|name| !name.starts_with("far"))
        );
    }
}

/// Far more than the steps in a row take, and far less than those of every pair of names.
const MOST_TIME: Duration = Duration::from_secs(60);

#[test]
fn the_time_for_equal_and_for_many_names_is_linear() {
    let started = Instant::now();
    let header = format!("step{}", ",loss".repeat(50_000));
    let (folder, imported) = import("equal.csv", format!("{header}\n1{}\n", ",0.5".repeat(50_000)));
    assert_eq!(imported["imported"][0]["metrics"], 50_000);
    let problems = imported["problems"].as_array().unwrap();
    assert!(
        problems.len() == 11 && problems[10].to_string().contains("49989 more columns are there twice"),
        "{} problems",
        problems.len()
    );
    // Two rows of one step, without names of each other.
    let log_dir = folder.path().join("logs");
    let row = |names: std::ops::Range<u32>| {
        let values: String = names.map(|name| format!(",\"m{name}\":1")).collect();
        format!("{{\"step\":1,\"time\":1.5,\"logger\":\"a\"{values}}}\n")
    };
    let dir = write_run(&log_dir, "wide", "finished", 5_000_000_000);
    fs::write(dir.join("metrics.jsonl"), row(0..50_000) + &row(50_000..100_000)).unwrap();
    let export = ["export", "wide", "--to", "jsonl", "--log-dir", "logs"];
    assert_eq!(text(&logcore(folder.path(), &export)).matches("\"m").count(), 100_000);
    assert!(started.elapsed() < MOST_TIME, "{:?}", started.elapsed());
}

#[test]
fn a_table_becomes_a_finished_run() {
    let csv = "step,time,lr,loss\n1,1700000000,0.1,8.5\n2,1700000001.5,,nan\n3,2023-11-14T22:13:22Z,0.05,-inf\n";
    let (folder, imported) = import("first run.csv", csv);
    assert_eq!(
        (&imported["imported"][0]["rows"], &imported["imported"][0]["metrics"]),
        (&3.into(), &2.into())
    );
    let expected = "step,time,logger,attempt,metrics/lr,metrics/loss\n1,1700000000.0,first run,1,0.1,8.5\n\
                    2,1700000001.5,first run,1,,nan\n3,1700000002.0,first run,1,0.05,-inf\n";
    assert_eq!(rows(folder.path()), expected);
    let listed = json(folder.path(), &["show", "latest", "--log-dir", "logs"]);
    let run = &listed["runs"][0];
    assert_eq!((&run["state"], &run["name"]), (&"finished".into(), &"first run".into()));
    assert_eq!(
        (&run["started"], &run["ended"]),
        (&1_700_000_000.0.into(), &1_700_000_002.0.into())
    );
    assert_eq!((&run["last_step"], &run["attempt"]), (&3.into(), &1.into()));
    assert_eq!(run["summary"]["lr"]["min"], 0.05);
    assert_eq!(
        names(&dir(&imported)),
        [".lock", "config.json", "metrics.jsonl", "run.json", "summary.json"]
    );
    assert!(
        dir(&imported)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("first_run-20231114-")
    );
    for arguments in [&["plot", "latest", "loss"][..], &["report", "-o", "report.html"]] {
        text(&logcore(folder.path(), &[arguments, &["--log-dir", "logs"]].concat()));
    }
    // An export is imported as it was.
    fs::write(folder.path().join("again.csv"), expected).unwrap();
    let again = json(folder.path(), &["import", "again.csv", "--log-dir", "again"]);
    let exported = text(&logcore(
        folder.path(),
        &["export", dir(&again).to_str().unwrap(), "--to", "csv"],
    ));
    assert_eq!(exported, expected);
}

#[test]
fn tables_of_other_programs_are_understood() {
    let (folder, _) = import("mark.csv", "\u{feff}Step;\"a;b\"\r\n0;1\r\n1;2\r\n");
    assert!(
        rows(folder.path()).contains("metrics/a;b\n0,"),
        "{}",
        rows(folder.path())
    );
    let (folder, _) = import(
        "run-x-tag-train_loss.csv",
        "Wall time,Step,Value\n1700000000.0,5,0.25\n",
    );
    assert!(rows(folder.path()).contains("metrics/train_loss\n5,1700000000.0,"));
    let (folder, imported) = import("twice.csv", "Step,loss,loss,note\n1,2,3,good\n");
    let exported = rows(folder.path());
    assert!(
        exported.contains("metrics/loss,metrics/loss_2\n") && exported.ends_with(",twice,1,2,3\n"),
        "{exported}"
    );
    let notes = imported["problems"].to_string();
    assert!(
        notes.contains("loss is there twice") && notes.contains("note: 1 values"),
        "{notes}"
    );
    let (folder, _) = import("index.csv", ",loss\n0,0.5\n1,0.25\n");
    assert!(rows(folder.path()).contains("\n1,"), "without a step, rows are counted");
}

#[test]
fn what_cannot_be_imported_is_an_error_and_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let wide = (0..=100_020).map(|number| format!("m{number},")).collect::<String>() + "step\n";
    let late = (0..5000).map(|step| format!("{step},1\n")).collect::<String>();
    let late = format!("step,loss\n{late}x,1\n");
    let long = format!("step,loss\n1,\"{}", "x".repeat((64 << 20) + 10));
    for (name, content, part) in [
        ("a.csv", b"".as_slice(), "is empty"),
        ("a.csv", b"step,loss\n", "no rows"),
        ("a.csv", b"step,time\n1,2\n", "no column for a metric"),
        ("a.csv", b"step,loss\n1,2\n2,3,4\n", "line 3 has 3 fields"),
        ("a.csv", b"step,loss\nx,2\n", "line 2 has no step"),
        ("a.csv", b"step,loss\n-1,2\n", "line 2 has no step"),
        ("a.csv", b"step,time,loss\n1,yesterday,2\n", "line 2 has a time"),
        ("a.csv", b"step,\xff\n1,2\n", "column 2 is not UTF-8"),
        ("a.csv", b"\xff\xfes\0t\0", "Save it as UTF-8"),
        ("a.csv", wide.as_bytes(), "100000"),
        ("a.csv", late.as_bytes(), "line 5002 has no step"),
        ("a.csv", long.as_bytes(), "longer than"),
        ("a.parquet", b"", "Name a .csv file"),
        ("events.out.tfevents.1", b"", "TensorBoard"),
        (
            "a.wandb",
            b"no log",
            if cfg!(feature = "sync") {
                "not a W&B log"
            } else {
                "feature `sync`"
            },
        ),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
        let output = logcore(folder.path(), &["import", name, "--log-dir", "logs"]);
        assert_eq!(output.status.code(), Some(2), "{part}");
        assert!(error(&output).contains(part), "{part}: {}", error(&output));
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let missing = logcore(folder.path(), &["import", "missing.csv", "--log-dir", "logs"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(names(&folder.path().join("logs")), [".logcore"]);
    assert_eq!(names(&folder.path().join("logs/.logcore")), [""; 0]);
}

#[cfg(unix)]
#[test]
fn a_killed_import_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..2_000_000).map(|step| format!("{step},0.5\n")).collect::<String>();
    fs::write(folder.path().join("a.csv"), format!("step,loss\n{rows}")).unwrap();
    let imports = folder.path().join("logs/.logcore/imports");
    let mut child = command(folder.path(), &["import", "a.csv", "--log-dir", "logs"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while fs::read_dir(&imports).map_or(0, Iterator::count) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the import has ended");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(&folder.path().join("logs")), [".logcore"]);
    assert_eq!(names(&imports).len(), 1);
    assert!(
        json(folder.path(), &["ls", "logs"])["runs"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    fs::write(folder.path().join("b.csv"), "loss\n1\n").unwrap();
    let imported = json(folder.path(), &["import", "b.csv", "--log-dir", "logs"]);
    assert!(
        dir(&imported).exists() && !imports.exists(),
        "the next import removes what is left"
    );
}

#[test]
fn names_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.csv"),
        "step,../../x,\u{1b}[2J<script>,nonfinite,step/\u{0}\n1,1,2,3,4\n",
    )
    .unwrap();
    let arguments = ["import", "a.csv", "--log-dir", "logs", "--name", "../../\u{1b}[2J"];
    let imported = json(folder.path(), &arguments);
    let name = dir(&imported).file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("_.._"), "{name}");
    assert_eq!(names(folder.path()), ["a.csv", "logs"]);
    let shown = text(&logcore(folder.path(), &["show", "latest", "--log-dir", "logs"]));
    assert!(!shown.contains('\u{1b}') && shown.contains("../../x"), "{shown}");
}

#[cfg(feature = "sync")]
mod wandb {
    use super::*;

    /// Makes an offline run, and returns the folder of its W&B log.
    fn offline_run(log_dir: &Path) -> PathBuf {
        let logger = facade::setup_logging(facade::LogConfig {
            name: "trainer".into(),
            log_dir: log_dir.into(),
            run: "x".into(),
            wandb_name: Some("my/run".into()),
            enable_console: false,
            enable_wandb: true,
            finish_summary: false,
            sinks: [("wandb".to_owned(), serde_json::json!({"mode": "offline"}))].into(),
            ..facade::LogConfig::default()
        })
        .unwrap();
        logger.log_config(&serde_json::json!({"lr": 0.1, "api_key": "s3cr3t", "model": {"depth": 12}}));
        for step in 0..10_u32 {
            logger.log_metrics_at(
                u64::from(step),
                [("loss", 1.0 / f64::from(step + 1)), ("nan", f64::NAN)],
            );
            logger.info(format!("step {step}"));
        }
        logger.finish();
        let wandb = log_dir.join("x/wandb");
        let run = names(&wandb).into_iter().find(|name| name.starts_with("offline-run-"));
        wandb.join(run.unwrap())
    }

    #[test]
    fn a_wandb_run_has_its_rows_config_and_text() {
        testkit::own_process!();
        let folder = tempfile::tempdir().unwrap();
        let run = offline_run(folder.path());
        let imported = json(folder.path(), &["import", run.to_str().unwrap(), "--log-dir", "logs"]);
        assert_eq!(imported["imported"][0]["name"], "my/run");
        let show = |dir: &Path| json(folder.path(), &["show", dir.to_str().unwrap()])["runs"][0].clone();
        let (own, other) = (show(&folder.path().join("x")), show(&dir(&imported)));
        assert_eq!(
            (&other["state"], &other["config"]["lr"]),
            (&"finished".into(), &0.1.into())
        );
        assert_eq!(other["config"]["model"]["depth"], 12);
        assert!(!other.to_string().contains("s3cr3t"));
        assert_eq!(other["last_step"], own["last_step"]);
        let seconds = |run: &Value| run["started"].as_f64().unwrap();
        assert!((seconds(&own) - seconds(&other)).abs() < 5.0);
        assert_eq!(other["summary"]["loss"]["last"], 0.1);
        let values = |dir: &Path| {
            let rows = text(&logcore(
                folder.path(),
                &["export", dir.to_str().unwrap(), "--to", "jsonl"],
            ));
            let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            rows.filter(|row| !row["metrics/loss"].is_null())
                .map(|row| {
                    (
                        row["step"].clone(),
                        row["metrics/loss"].clone(),
                        row["nonfinite"].clone(),
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(values(&dir(&imported)), values(&folder.path().join("x")));
        let lines = fs::read_to_string(dir(&imported).join("training.log")).unwrap();
        assert!(lines.contains("step 9"), "{lines}");
    }

    #[test]
    fn a_damaged_log_is_imported_as_far_as_it_goes() {
        testkit::own_process!();
        let folder = tempfile::tempdir().unwrap();
        let run = offline_run(folder.path());
        let log = names(&run).into_iter().find(|name| name.ends_with(".wandb")).unwrap();
        let mut bytes = fs::read(run.join(&log)).unwrap();
        let half = bytes.len() / 2;
        fs::write(folder.path().join("cut.wandb"), &bytes[..half]).unwrap();
        let cut = json(folder.path(), &["import", "cut.wandb", "--log-dir", "logs"]);
        assert_eq!(
            json(folder.path(), &["show", dir(&cut).to_str().unwrap()])["runs"][0]["state"],
            "killed"
        );
        bytes[half] ^= 0xff;
        fs::write(folder.path().join("damaged.wandb"), &bytes).unwrap();
        let output = logcore(folder.path(), &["import", "damaged.wandb", "--log-dir", "logs"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(error(&output).contains("damaged at byte"), "{}", error(&output));
    }
}
