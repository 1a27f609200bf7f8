//! The bridge to burn: its tests, and its example, which is killed and started again.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{BURN, command, linting, target};
use crate::cargo;

/// Checks the bridge and its example.
pub(super) fn check() -> Result<()> {
    check_tests()?;
    check_example()
}

/// Lints and tests the bridge.
fn check_tests() -> Result<()> {
    let start = Instant::now();
    let tests = ["test", "--quiet", "--features", "gpu"];
    cargo::run_command(&mut linting(command(BURN, &tests)))?;
    println!(
        "frameworks: burn, linted and tested, in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Trains with burn on the processor, kills the program behind a checkpoint, starts the program
/// again, and checks that one run with all epochs is left.
fn check_example() -> Result<()> {
    let start = Instant::now();
    let left = clean_outputs()?;
    // The tests have built the example.
    let mut program = Command::new(target().join(format!("debug/examples/digits{EXE_SUFFIX}")));
    program.current_dir(cargo::root().join(BURN));
    let checkpoint = left.join("latest/burn/checkpoint/scheduler-2.bpk");
    kill_behind(&checkpoint, program.stdout(Stdio::null()).spawn()?)?;
    let output = program.stdout(Stdio::piped()).output()?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "burn's example failed:\n{printed}");
    for part in [
        "Learner Summary",
        "Stopping training loop, no improvement",
        "Test unseen",
    ] {
        ensure!(printed.contains(part), "burn's example prints no `{part}`:\n{printed}");
    }

    let run = left.join("latest");
    let manifest: Value = serde_json::from_str(&fs::read_to_string(run.join("run.json"))?)?;
    let attempts = manifest["attempts"].as_array().context("attempts of run.json")?;
    let states: Vec<_> = attempts.iter().map(|attempt| &attempt["state"]).collect();
    ensure!(
        states == ["killed", "finished"],
        "attempts of burn's example: {states:?}"
    );
    for folder in ["tensorboard", "wandb"] {
        ensure!(run.join(folder).is_dir(), "burn's example leaves no folder {folder}");
    }
    let rows = read_rows(&run)?;
    let first = attempts[1]["first_step"]["digits"].as_u64().context("first step")?;
    let is_of_second = |row: &&Value| row["step"].as_u64() >= Some(first);
    let rows_of_second = rows.iter().skip_while(|row| row["attempt"] != 2).filter(is_of_second);
    let before = rows.iter().take_while(|row| row["attempt"] != 2);
    let steps: Vec<_> = before
        .filter(|row| !is_of_second(row))
        .chain(rows_of_second)
        .filter(|row| row["metrics/train/Loss"].is_number())
        .filter_map(|row| row["step"].as_u64())
        .collect();
    ensure!(
        steps.iter().copied().eq(1..=steps.len() as u64),
        "burn's steps do not count on: {steps:?}"
    );
    let accuracy = rows.iter().find_map(|row| row["metrics/test/unseen/Accuracy"].as_f64());
    ensure!(accuracy > Some(80.0), "accuracy of burn's example: {accuracy:?} %");
    println!(
        "frameworks: burn trains, is killed and goes on at step {first} of {}, accuracy {:.0} %, in {:.0} s",
        steps.len(),
        accuracy.unwrap_or_default(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Kills a program as soon as a file is there.
fn kill_behind(file: &Path, mut program: Child) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !file.exists() {
        if let Some(status) = program.try_wait()? {
            bail!("the program ended with {status} before it made {}", file.display());
        }
        if Instant::now() > deadline {
            program.kill()?;
            bail!("the program did not make {} in time", file.display());
        }
        thread::sleep(Duration::from_millis(5));
    }
    program.kill()?;
    program.wait()?;
    Ok(())
}

/// Removes what earlier runs of the example have left, and returns the folder.
fn clean_outputs() -> Result<PathBuf> {
    let left = cargo::root().join(BURN).join("outputs/examples/digits");
    if left.exists() {
        fs::remove_dir_all(&left).with_context(|| format!("clean {}", left.display()))?;
    }
    Ok(left)
}

fn read_rows(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rows: Result<_, _> = text.lines().map(serde_json::from_str).collect();
    Ok(rows?)
}
