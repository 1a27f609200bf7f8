//! The programs for candle, burn, tch and cudarc, each in the framework's newest version.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{cargo, no_arguments};

/// The workspaces, each with a lock file of its own.
const MOST: &str = "examples/frameworks";
const TCH: &str = "examples/frameworks/tch";

/// The programs, each with its workspace and its selection. They are built one by one: together,
/// burn would get the version of CUDA that the program for cudarc names.
const PROGRAMS: [(&str, &str, &[&str]); 4] = [
    ("cudarc", MOST, &["--package", "cudarc-memory"]),
    ("tch", TCH, &["--features", "doc-only"]),
    ("burn", MOST, &["--package", "burn-memory"]),
    ("candle", MOST, &["--package", "candle-memory"]),
];

/// Number of rows that the program for candle logs.
const STEPS: usize = 20;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    for workspace in [MOST, TCH] {
        cargo::run_command(&mut command(workspace, &["fmt", "--check"]))?;
    }
    for (framework, workspace, selection) in PROGRAMS {
        let start = Instant::now();
        lint(workspace, selection)?;
        println!("frameworks: {framework} in {:.0} s", start.elapsed().as_secs_f64());
    }
    check_candle_without_gpu()
}

fn lint(workspace: &str, selection: &[&str]) -> Result<()> {
    let clippy = [
        &["clippy", "--quiet", "--all-targets"],
        selection,
        &["--", "-D", "warnings"],
    ]
    .concat();
    // The CUDA compiler of burn downloads LLVM, except for documentation.
    cargo::run_command(command(workspace, &clippy).env("DOCS_RS", "1"))
}

/// Trains with candle on the processor and checks that the rows hold a falling loss and no GPU
/// memory.
fn check_candle_without_gpu() -> Result<()> {
    let start = Instant::now();
    let left = cargo::root().join(MOST).join("outputs/examples/candle-memory");
    if left.exists() {
        fs::remove_dir_all(&left).with_context(|| format!("clean {}", left.display()))?;
    }
    // On a machine with a GPU, NVML would report its memory.
    let mut program = command(MOST, &["run", "--quiet", "-p", "candle-memory"]);
    let output = program.env("GPU_PROBE", "pool").output().context("start cargo")?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "candle's program failed:\n{printed}");
    ensure!(!printed.contains("GPU"), "candle's program mentions GPUs:\n{printed}");

    let rows = left.join("metrics.jsonl");
    let text = fs::read_to_string(&rows).with_context(|| format!("read {}", rows.display()))?;
    ensure!(!text.contains("gpu"), "GPU memory without a GPU:\n{text}");
    let rows: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let losses: Vec<f64> = rows.iter().filter_map(|row| row["metrics/loss"].as_f64()).collect();
    ensure!(
        losses.len() == STEPS,
        "{STEPS} steps, and {} losses:\n{text}",
        losses.len()
    );
    let (first, last) = (losses[0], losses[STEPS - 1]);
    ensure!(last < first, "the loss went from {first} to {last}");
    println!(
        "frameworks: candle trains on the processor, loss {first:.2} -> {last:.2}, no GPU memory, in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Returns a command of cargo in a workspace of frameworks, with a target folder of its own.
fn command<S: AsRef<OsStr>>(workspace: &str, arguments: &[S]) -> Command {
    let root = cargo::root();
    let mut command = cargo::command(arguments);
    command
        .current_dir(root.join(workspace))
        .env("CARGO_TARGET_DIR", root.join("target/frameworks"));
    command
}
