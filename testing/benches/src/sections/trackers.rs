//! The time of a call that logs a step to TensorBoard, MLflow and W&B, beside the writers that
//! others use, and the steps that are there after a kill.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use facade::logcore::serde_json::{Value, json};
use facade::{LogConfig, UnifiedLogger, recover, setup_logging};
use hot_paths::{TEN_METRICS, Timing, median};

use super::alone::ALONE;
use crate::amounts::Amounts;
use crate::table::{ReportTable, figure};

/// The name under which a process logs steps and kills itself.
pub(crate) const KILLED: &str = "killed tracker";
/// Names the folder of that process.
const FOLDER: &str = "TRACKER_FOLDER";
/// Steps of that process.
const STEPS: u64 = 1000;
/// Time between two calls: that of a short training step.
const GAP: Duration = Duration::from_micros(200);

/// Logs steps of ten metrics with a writer of Python. With `kill`, the process kills itself behind
/// the last call; with `count`, the steps that are there are printed.
const SCRIPT: &str = r#"
import os, signal, sys, time

peer, mode, folder, calls, names = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]
if peer == "tensorboardX":
    if mode == "count":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        reader = EventAccumulator(folder, size_guidance={"scalars": 0})
        reader.Reload()
        print(len(reader.Scalars(names[-1])) if names[-1] in reader.Tags()["scalars"] else 0)
        sys.exit()
    from tensorboardX import SummaryWriter
    writer = SummaryWriter(folder)
    def log(step, row):
        for name, value in row.items():
            writer.add_scalar(name, value, step)
else:
    import mlflow
    if mode == "count":
        runs = mlflow.search_runs(experiment_names=["bench"], output_format="list")
        print(len(mlflow.MlflowClient().get_metric_history(runs[0].info.run_id, names[-1])))
        sys.exit()
    mlflow.set_experiment("bench")
    mlflow.start_run()
    is_async = peer == "mlflow, asynchronous"
    def log(step, row):
        mlflow.log_metrics(row, step=step, synchronous=not is_async)
times = []
for step in range(calls):
    row = {name: 0.2 + at * 1e-4 + step * 1e-6 for at, name in enumerate(names)}
    started = time.perf_counter_ns()
    log(step, row)
    times.append(time.perf_counter_ns() - started)
    time.sleep(0.0002)
print(*times, flush=True)
if mode == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"#;

/// The sinks of each row of ours, beside `jsonl`.
const OURS: [(&str, &[&str]); 5] = [
    ("log_metrics, rows on disk", &[]),
    ("with TensorBoard", &["tensorboard"]),
    ("with MLflow", &["mlflow"]),
    ("with W&B offline", &["wandb"]),
    ("with all of them", &["tensorboard", "mlflow", "wandb"]),
];

pub(crate) fn measure(amounts: &Amounts) -> Result<Vec<ReportTable>> {
    let server = std::env::var("MLFLOW_TRACKING_URI").ok();
    let calls = amounts.calls.min(5000);
    let mut notes = Vec::new();
    if server.is_none() {
        notes.push("MLflow has no row here: MLFLOW_TRACKING_URI names no server.".to_owned());
    }
    let mut rows: Vec<(String, Vec<Timing>, String)> = Vec::new();
    for (name, sinks) in OURS {
        if sinks.contains(&"mlflow") && server.is_none() {
            continue;
        }
        let timings = (0..amounts.rounds).map(|_| ours(sinks, calls)).collect::<Result<_>>()?;
        rows.push((name.to_owned(), timings, kept_of_ours(sinks)?.to_string()));
    }
    let python_calls = calls.min(STEPS);
    for peer in ["tensorboardX", "mlflow", "mlflow, asynchronous"] {
        if peer.starts_with("mlflow") && server.is_none() {
            continue;
        }
        match python(peer, python_calls) {
            Ok((timing, kept)) => rows.push((format!("Python's {peer}"), vec![timing], kept)),
            Err(reason) => notes.push(format!("Python's {peer} has no row here: {reason:#}.")),
        }
    }
    let note = format!(
        "Microseconds of the caller for a step of ten metrics, {} µs apart: {} rounds of {calls} steps, Python's in one \
         round of {python_calls}. The last column has the steps that are there after a kill behind {STEPS} calls, of \
         ours after the next start. {}",
        GAP.as_micros(),
        amounts.rounds,
        notes.join(" ")
    );
    let columns = ["call", "p50", "p99", "mean", "kept of 1000"];
    let mut table = ReportTable::new("Trackers", note.trim_end(), &columns);
    for (name, timings, kept) in rows {
        let of = |value: fn(&Timing) -> f64| figure(median(timings.iter().map(value)) / 1000.0);
        table.row([name, of(|t| t.p50), of(|t| t.p99), of(|t| t.mean), kept]);
    }
    Ok(vec![table])
}

/// Times our calls with these sinks.
fn ours(sinks: &[&str], calls: u64) -> Result<Timing> {
    let folder = tempfile::tempdir().context("make a folder for a run")?;
    let logger = open(folder.path(), sinks)?;
    let mut times = Vec::new();
    log_steps(&logger, calls, |time| times.push(time.as_nanos() as u32));
    logger.finish();
    Ok(Timing::of(&mut times))
}

/// A logger with these sinks and rows on disk, in the run `run` of the folder.
pub(crate) fn open(folder: &Path, sinks: &[&str]) -> Result<UnifiedLogger> {
    let options = |sink: &&str| match *sink {
        "wandb" => json!({"mode": "offline"}),
        // A rate at which no points are left out.
        "mlflow" => json!({"experiment": "bench", "rate": 1e6}),
        _ => json!({}),
    };
    let chosen = sinks.iter().map(|sink| ((*sink).to_owned(), options(sink)));
    Ok(setup_logging(LogConfig {
        name: "bench".into(),
        log_dir: folder.into(),
        run: "run".into(),
        enable_console: false,
        enable_file: false,
        enable_wandb: sinks.contains(&"wandb"),
        metrics_prefix: String::new(),
        finish_timeout: 300.0,
        sinks: chosen.collect::<std::collections::BTreeMap<String, Value>>(),
        ..LogConfig::default()
    })?)
}

/// Logs rows without a pause.
pub(crate) fn log_rows(logger: &UnifiedLogger, rows: u64) {
    for step in 0..rows {
        logger.log_metrics_at(step, row_at(step));
    }
}

fn row_at(step: u64) -> [(&'static str, f64); 10] {
    let value = |at: usize| 0.2 + at as f64 * 1e-4 + step as f64 * 1e-6;
    let mut pairs = [("", 0.0); 10];
    for (at, (pair, name)) in pairs.iter_mut().zip(TEN_METRICS).enumerate() {
        *pair = (name, value(at));
    }
    pairs
}

fn log_steps(logger: &UnifiedLogger, calls: u64, mut note: impl FnMut(Duration)) {
    for step in 0..calls {
        let row = row_at(step);
        let started = Instant::now();
        logger.log_metrics_at(step, row);
        note(started.elapsed());
        std::thread::sleep(GAP);
    }
}

/// Returns the steps that are in the rows after a process with these sinks was killed.
fn kept_of_ours(sinks: &[&str]) -> Result<usize> {
    let folder = tempfile::tempdir().context("make a folder for a run")?;
    let program = std::env::current_exe().context("find this program")?;
    let status = Command::new(program)
        .args([ALONE, KILLED])
        .env(FOLDER, folder.path())
        .env("TRACKER_SINKS", sinks.join(","))
        .status()
        .context("start this program")?;
    ensure!(status.code().is_none(), "the process ended with {status}");
    for recovered in recover(folder.path()) {
        recovered.context("recover the run")?;
    }
    let rows = fs::read_to_string(folder.path().join("run/metrics.jsonl")).context("read the rows")?;
    Ok(rows.lines().count())
}

/// Logs steps, and kills this process.
pub(crate) fn log_and_die() -> Result<Vec<f64>> {
    let folder = std::env::var_os(FOLDER).context("TRACKER_FOLDER names no folder")?;
    let sinks = std::env::var("TRACKER_SINKS").unwrap_or_default();
    let sinks: Vec<_> = sinks.split(',').filter(|sink| !sink.is_empty()).collect();
    let logger = open(Path::new(&folder), &sinks)?;
    log_steps(&logger, STEPS, drop);
    // SIGKILL, as from a scheduler.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    Ok(Vec::new())
}

/// Times the calls of a writer of Python, and counts the steps that are there after a kill.
fn python(peer: &str, calls: u64) -> Result<(Timing, String)> {
    let folder = tempfile::tempdir().context("make a folder for Python's run")?;
    let script = |mode: &str, calls: u64| -> Result<String> {
        let output = Command::new("python3")
            .args(["-c", SCRIPT, peer, mode])
            .arg(folder.path().join(mode.replace("count", "kill")))
            .arg(calls.to_string())
            .args(TEN_METRICS)
            // Not here: a folder of the package's name would be taken for the package.
            .current_dir(folder.path())
            .output()
            .context("start python3")?;
        let trouble = String::from_utf8_lossy(&output.stderr);
        let trouble = trouble.trim().lines().last().unwrap_or("it says nothing");
        ensure!(output.status.success() || mode == "kill", "{trouble}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text = script("time", calls)?;
    let numbers = text
        .lines()
        .rev()
        .find(|line| line.split_whitespace().count() as u64 == calls);
    let numbers = numbers.context("the script printed no times")?;
    let mut times: Vec<u32> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    script("kill", STEPS)?;
    let kept = script("count", STEPS)?;
    Ok((Timing::of(&mut times), kept.lines().last().unwrap_or("-").to_owned()))
}
