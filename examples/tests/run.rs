//! Runs each example, and checks the files that it writes.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Runs an example with a folder of its own.
fn run(program: &str, arguments: &[&str]) -> (TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .arg(folder.path())
        // A test must not use an API key of the machine.
        .env("HOME", folder.path())
        .env_remove("WANDB_API_KEY")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    (folder, output)
}

fn read(folder: &TempDir, name: &str) -> String {
    let path = folder.path().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows(folder: &TempDir) -> Vec<Value> {
    read(folder, "metrics.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn quick_start() {
    let (folder, output) = run(env!("CARGO_BIN_EXE_quick_start"), &[]);
    assert_eq!(read(&folder, "training.log").lines().count(), 4);
    assert_eq!(rows(&folder).last().unwrap()["throughput/accumulated_samples"], 3200);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("Processing data: 100% 100/100") && !shown.contains("Debug information"),
        "{shown}"
    );
}

#[test]
fn full_config() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_full_config"), &[]);
    let config: Value = serde_json::from_str(&read(&folder, "config.json")).unwrap();
    assert_eq!(
        (&config["config"]["batch_size"], &config["end"]["exit_code"]),
        (&32.into(), &0.into())
    );
    assert!(read(&folder, "latest/records.jsonl").contains("\"message\":\"Configured\""));
}

#[test]
fn several_loggers() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_several_loggers"), &[]);
    let text = read(&folder, "training.log");
    for part in [
        "| app.loader | Loading",
        "| app.trainer | Starting",
        "| app::loader::shard | shard 1",
    ] {
        assert!(text.contains(part), "{text}");
    }
    for file in ["eval.log", "bleu.log"] {
        assert!(read(&folder, file).contains("| eval.bleu | in bleu.log and in eval.log"));
    }
}

#[test]
fn progress() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_progress"), &[]);
    let rows = rows(&folder);
    let steps: Vec<u64> = rows
        .iter()
        .filter(|row| row.get("metrics/loss").is_some())
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=120).collect::<Vec<_>>());
}

#[test]
fn metrics() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_metrics"), &[]);
    assert!(
        rows(&folder)
            .iter()
            .any(|row| row["step"] == 50 && row["nonfinite"] == r#"{"metrics/loss/train":"NaN"}"#)
    );
    assert!(read(&folder, "training.log").contains("points kept: Some(101)"));
}

#[cfg(unix)]
#[test]
fn resume() {
    let folder = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resume"));
        command.arg(folder.path()).args(arguments).stdout(Stdio::null());
        command.status().unwrap()
    };
    assert!(!start(&["37"]).success());
    assert!(start(&[]).success());
    let manifest: Value = serde_json::from_str(&read(&folder, "latest/run.json")).unwrap();
    assert_eq!(manifest["state"], "finished");
    let (first, second) = (&manifest["attempts"][0], &manifest["attempts"][1]);
    assert_eq!(
        (&first["state"], &second["state"]),
        (&"killed".into(), &"finished".into())
    );
    assert_eq!(
        (&second["first_step"]["resume"], &second["last_step"]),
        (&31.into(), &60.into())
    );
    let rows = rows(&folder);
    let steps = |attempt: u64| -> Vec<u64> {
        let of_attempt = rows
            .iter()
            .filter(|row| row["attempt"].as_u64().unwrap_or(1) == attempt);
        of_attempt.map(|row| row["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps(1), (1..=37).collect::<Vec<_>>());
    assert_eq!(steps(2), (31..=60).collect::<Vec<_>>());
}

#[test]
fn memory() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_memory"), &[]);
    let row = &rows(&folder)[0];
    assert!(row["system/open_files"].as_u64().unwrap() > 2, "{row}");
    assert!(row["system/proc.memory.rssMB"].as_f64().unwrap() > 1.0, "{row}");
    assert_eq!((&row["step"], &row["metrics/loss"]), (&0.into(), &0.5.into()));
}

#[test]
fn context_manager() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_context_manager"), &[]);
    let runs = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let runs = runs.filter(|entry| entry.file_name().to_string_lossy().starts_with("block-"));
    let mut lines: Vec<usize> = runs
        .map(|run| {
            fs::read_to_string(run.path().join("training.log"))
                .unwrap()
                .lines()
                .count()
        })
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 2], "each set-up began a run of its own");
}

#[test]
fn threads() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_threads"), &[]);
    assert_eq!(read(&folder, "training.log").lines().count(), 4000);
}

#[test]
fn in_tokio() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_in_tokio"), &[]);
    assert_eq!(read(&folder, "training.log").lines().count(), 6);
}

#[test]
fn custom_sink() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_custom_sink"), &[]);
    let tally: Value = serde_json::from_str(&read(&folder, "latest/tally.json")).unwrap();
    assert_eq!(
        (&tally["records"]["INFO"], &tally["best"]["step"]),
        (&1.into(), &2.into())
    );
}

#[test]
fn from_file_and_env() {
    let (folder, _) = run(env!("CARGO_BIN_EXE_from_file_and_env"), &[]);
    let text = read(&folder, "training.log");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records[1]["message"].as_str().unwrap().contains("metrics_window"));
}

#[test]
fn wandb_run() {
    let (folder, output) = run(env!("CARGO_BIN_EXE_wandb_run"), &[]);
    let run = fs::canonicalize(folder.path().join("latest/wandb/latest-run")).unwrap();
    let name = run.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("offline-run-"), "{name}");
    assert!(run.join("files/media/images").is_dir());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches("wandb sync").count(), 1, "{stderr}");
    assert!(stderr.contains(&name), "{stderr}");
}

#[test]
fn train() {
    let (folder, output) = run(env!("CARGO_BIN_EXE_train"), &["--steps", "12", "--log-dir"]);
    let rows = rows(&folder);
    let steps: Vec<u64> = rows
        .iter()
        .filter(|row| row.get("metrics/loss").is_some())
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=12).collect::<Vec<_>>());
    assert!(
        rows.iter()
            .any(|row| row["metrics/val/loss"].as_f64().is_some_and(|loss| loss < 8.0))
    );
    let config: Value = serde_json::from_str(&read(&folder, "config.json")).unwrap();
    assert_eq!(config["config"]["batch_size"], 192);
    assert!(read(&folder, "training.log").contains("Sample of the model:\n    "));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("bits per byte: first 8.00")
    );
}

#[cfg(unix)]
#[test]
fn a_stdout_that_cannot_be_written_is_reported_once_and_the_run_continues() {
    // In place of a stream that is closed at the start, std opens /dev/null, which causes no
    // errors.
    for (redirection, times) in [("> /dev/full", 1), (">&-", 0)] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("exec \"$0\" \"$1\" {redirection}"))
            .arg(env!("CARGO_BIN_EXE_several_loggers"))
            .arg(folder.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr.matches("write to stdout: ").count(), times, "{stderr}");
        assert!(!stderr.contains("delivers again"), "{stderr}");
        assert!(read(&folder, "training.log").contains("Starting training"));
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_on_stdout_is_reported_once_and_the_run_continues() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_several_loggers"))
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("write to stdout: Broken pipe").count(), 1, "{stderr}");
    assert!(read(&folder, "training.log").contains("Starting training"));
}
