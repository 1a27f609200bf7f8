//! `cargo xtask frameworks`: the programs for candle, burn, tch and cudarc, each in the framework's newest version.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{cargo, no_arguments};

/// The workspaces, whose lock files are their own.
const MOST: &str = "examples/frameworks";
const TCH: &str = "examples/frameworks/tch";

/// One by one, as people build them: together, burn would get the version of CUDA that the program for cudarc names.
const PROGRAMS: [(&str, &str, &[&str]); 4] = [
    ("cudarc", MOST, &["--package", "cudarc-memory"]),
    ("tch", TCH, &["--features", "doc-only"]),
    ("burn", MOST, &["--package", "burn-memory"]),
    ("candle", MOST, &["--package", "candle-memory"]),
];

/// Rows that candle's program leaves.
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
    candle_on_the_processor()
}

fn lint(workspace: &str, selection: &[&str]) -> Result<()> {
    let clippy = [
        &["clippy", "--quiet", "--all-targets"],
        selection,
        &["--", "-D", "warnings"],
    ]
    .concat();
    // burn's compiler for CUDA stands on LLVM, which is downloaded unless the code is only to be read.
    cargo::run_command(command(workspace, &clippy).env("DOCS_RS", "1"))
}

/// Where no GPU is used there is no GPU memory, and all else is as it should be.
fn candle_on_the_processor() -> Result<()> {
    let start = Instant::now();
    let left = cargo::root().join(MOST).join("outputs/examples/candle-memory");
    if left.exists() {
        fs::remove_dir_all(&left).with_context(|| format!("clean {}", left.display()))?;
    }
    // On a machine that has a GPU, NVML would know of the device, if not of this process.
    let mut program = command(MOST, &["run", "--quiet", "-p", "candle-memory"]);
    let output = program.env("GPU_PROBE", "pool").output().context("start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "candle's program failed:\n{said}");
    ensure!(!said.contains("GPU"), "candle's program speaks of GPUs:\n{said}");

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

/// A command of cargo in a workspace of frameworks. What they build is kept apart from ours.
fn command<S: AsRef<OsStr>>(workspace: &str, arguments: &[S]) -> Command {
    let root = cargo::root();
    let mut command = cargo::command(arguments);
    command
        .current_dir(root.join(workspace))
        .env("CARGO_TARGET_DIR", root.join("target/frameworks"));
    command
}
