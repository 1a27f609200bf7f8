//! The training with candle: it is killed, started again, and its run is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{PROGRAMS, command, linting, target};
use crate::cargo;

/// Steps of the training, with a validation and a checkpoint at every third.
const STEPS: u64 = 24;
/// The training is killed when it has logged this step.
const KILLED_AT: u64 = 13;
/// The last checkpoint before the kill may be that of this step.
const SAVED_AT: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(120);

/// Trains on the processor, and checks the run of a training that was killed.
pub(super) fn check() -> Result<()> {
    let start = Instant::now();
    let program = build()?;
    let built = start.elapsed();
    let log_dir = target().join("candle");
    if log_dir.exists() {
        fs::remove_dir_all(&log_dir).with_context(|| format!("clean {}", log_dir.display()))?;
    }
    kill_training(&program, &log_dir)?;
    let output = training(&program, &log_dir).output().context("start the training")?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the training failed:\n{printed}");
    ensure!(!printed.contains("GPU"), "the training mentions GPUs:\n{printed}");

    let run = log_dir.join("latest");
    check_attempts(&run)?;
    let (first, last) = check_rows(&run)?;
    check_files(&run)?;
    println!(
        "frameworks: candle trains on the processor, is killed and goes on: loss {first:.2} -> {last:.2}; {:.0} s, and \
         {:.0} s to build",
        (start.elapsed() - built).as_secs_f64(),
        built.as_secs_f64()
    );
    Ok(())
}

/// Builds the programs and lints them on the way.
fn build() -> Result<PathBuf> {
    let arguments = ["build", "--quiet", "--package=candle-training", "--bins", "--examples"];
    cargo::run_command(&mut linting(command(PROGRAMS, &arguments)))?;
    Ok(target().join("debug/candle-training"))
}

/// Returns a command that trains without keys and settings of this machine.
fn training(program: &Path, log_dir: &Path) -> Command {
    let mut training = Command::new(program);
    training
        .arg(STEPS.to_string())
        .env("LOGCORE_LOG_DIR", log_dir)
        .env("HOME", log_dir)
        .env_remove("WANDB_API_KEY")
        // On a machine with a GPU, NVML would report its memory.
        .env("GPU_PROBE", "pool");
    training
}

/// Starts a training and kills it behind a checkpoint.
fn kill_training(program: &Path, log_dir: &Path) -> Result<()> {
    let mut training = training(program, log_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start the training")?;
    let reached = wait_for_step(&mut training, &log_dir.join("latest/metrics.jsonl"));
    training.kill()?;
    training.wait()?;
    reached
}

fn wait_for_step(training: &mut Child, rows: &Path) -> Result<()> {
    let start = Instant::now();
    while newest_step(rows) < KILLED_AT {
        if let Some(status) = training.try_wait()? {
            bail!("the training ended before step {KILLED_AT}: {status}");
        }
        ensure!(start.elapsed() < PATIENCE, "no step {KILLED_AT} after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns the step of the newest whole row; 0 without rows.
fn newest_step(rows: &Path) -> u64 {
    let text = fs::read_to_string(rows).unwrap_or_default();
    let step = |line| serde_json::from_str::<Value>(line).ok()?["step"].as_u64();
    text.lines().rev().find_map(step).unwrap_or_default()
}

/// Checks that one attempt was killed, and the next one went on behind the last checkpoint.
fn check_attempts(run: &Path) -> Result<()> {
    let manifest: Value = serde_json::from_str(&read(&run.join("run.json"))?)?;
    let attempts = manifest["attempts"].as_array().context("run.json has no attempts")?;
    let [killed, finished] = &attempts[..] else {
        bail!("{} attempts: {attempts:?}", attempts.len());
    };
    ensure!(
        killed["state"] == "killed" && killed["last_step"].as_u64() >= Some(KILLED_AT),
        "the killed attempt is {killed}"
    );
    ensure!(
        finished["state"] == "finished"
            && finished["first_step"]["candle"].as_u64() > Some(SAVED_AT)
            && finished["last_step"] == STEPS,
        "the attempt that went on is {finished}"
    );
    Ok(())
}

/// Checks that each attempt has each of its steps, that steps done again have the loss that they
/// had, and that there is no GPU memory. Returns the first loss and the last one.
fn check_rows(run: &Path) -> Result<(f64, f64)> {
    let text = read(&run.join("metrics.jsonl"))?;
    ensure!(!text.contains("gpu"), "GPU memory without a GPU:\n{text}");
    let [mut killed, mut finished] = [BTreeMap::new(), BTreeMap::new()];
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        let (Some(step), Some(loss)) = (row["step"].as_u64(), row["metrics/loss"].as_f64()) else {
            continue;
        };
        let attempt = if row["attempt"] == 2 {
            &mut finished
        } else {
            &mut killed
        };
        attempt.insert(step, loss);
    }
    let (Some((&1, &first)), Some((&STEPS, &last))) = (killed.first_key_value(), finished.last_key_value()) else {
        bail!("the first step or the last one is missing:\n{text}");
    };
    let all: BTreeSet<u64> = killed.keys().chain(finished.keys()).copied().collect();
    ensure!(
        all.len() as u64 == STEPS && finished.keys().copied().eq(STEPS + 1 - finished.len() as u64..=STEPS),
        "steps are missing:\n{text}"
    );
    for (step, loss) in &finished {
        let before = killed.get(step).unwrap_or(loss);
        ensure!(
            loss == before,
            "step {step} had the loss {before}, and {loss} when it was done again"
        );
    }
    ensure!(last < 0.8 * first, "the loss went from {first} to {last}");
    Ok((first, last))
}

/// Checks that the run has checkpoints, media, and a file of each sink.
fn check_files(run: &Path) -> Result<()> {
    for file in [
        "newest.safetensors",
        "best.safetensors",
        "training.log",
        "report.html",
        "media.jsonl",
    ] {
        ensure!(!read_bytes(&run.join(file))?.is_empty(), "{file} is empty");
    }
    let validations = STEPS / 3;
    for media in ["media/text", "media/images"] {
        let files = fs::read_dir(run.join(media))
            .with_context(|| format!("list {media}"))?
            .count() as u64;
        ensure!(
            files >= validations,
            "{files} files in {media}, and {validations} validations"
        );
    }
    for (folder, attempts) in [("tensorboard", 2), ("wandb", 2)] {
        let entries = fs::read_dir(run.join(folder)).with_context(|| format!("list {folder}"))?;
        let names: Vec<String> = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into()))
            .collect::<Result<_>>()?;
        let of_run = names
            .iter()
            .filter(|name| name.contains("tfevents") || name.starts_with("offline-run-"));
        ensure!(of_run.count() == attempts, "{folder} has {names:?}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8(read_bytes(path)?)?)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
