//! The cost of a call to the official Python client of W&B.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use hot_paths::{TEN_METRICS, Timing};

/// Prints the nanoseconds of each call.
const SCRIPT: &str = r#"
import sys, time
import wandb

calls, names = int(sys.argv[1]), sys.argv[2:]
run = wandb.init(project="bench", mode="offline", settings=wandb.Settings(silent=True))
times = []
for step in range(calls + 200):
    row = {name: 0.2 + at * 1e-4 + step * 1e-6 for at, name in enumerate(names)}
    started = time.perf_counter_ns()
    run.log(row)
    times.append(time.perf_counter_ns() - started)
run.finish()
print(*times[200:])
"#;

/// Times `wandb.log` of ten metrics, offline, with the `python3` of the path.
///
/// # Errors
///
/// Most likely, that there is no such package.
pub(crate) fn wandb_log(calls: u64) -> Result<Timing> {
    let folder = tempfile::tempdir().context("make a folder for Python's run")?;
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &calls.to_string()])
        .args(TEN_METRICS)
        .env("WANDB_DIR", folder.path())
        .env("WANDB_ERROR_REPORTING", "false")
        .env("HOME", folder.path())
        // Not here: a folder of the package's name would be taken for the package.
        .current_dir(folder.path())
        .output()
        .context("start python3")?;
    let trouble = String::from_utf8_lossy(&output.stderr);
    let trouble = trouble.trim().lines().last().unwrap_or("it says nothing");
    ensure!(output.status.success(), "{trouble}");
    let text = String::from_utf8(output.stdout).context("read the times")?;
    let times = text.lines().last().unwrap_or_default().split_whitespace();
    let mut times: Vec<u32> = times
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("read the times")?;
    ensure!(times.len() as u64 == calls, "{} times of {calls} calls", times.len());
    Ok(Timing::of(&mut times))
}
