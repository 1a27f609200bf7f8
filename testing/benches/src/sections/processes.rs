//! Whole programs that log rows to a tracker, from their start to their end: ours beside those of
//! the official clients. Time, processor time and memory are those of all processes of a program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use facade::logcore::Notices;
use facade::logcore::serde_json::json;
use facade::wandb::{SyncOptions, find_logs, sync};
use hot_paths::{TEN_METRICS, median};
use testkit::mlflow_server::MlflowServer;
use testkit::wandb_server::{KEY, WandbServer};

use super::alone::ALONE;
use super::trackers::{log_rows, open};
use crate::amounts::Amounts;
use crate::process_use::{ProcessUse, measure_process};
use crate::table::{ReportTable, figure};
use crate::usage::cpu_seconds;

/// Before the name of a program of ours, which a process of its own is to be.
pub(crate) const PART: &str = "processes/";

/// Names the folder of that process, its number of rows, and the server.
const FOLDER: &str = "PROCESS_FOLDER";
const ROWS: &str = "PROCESS_ROWS";
const SERVER: &str = "PROCESS_SERVER";

/// The most rounds: a whole program is long enough to be steady.
const ROUNDS: usize = 3;

/// Logs rows of ten metrics with the client of this name, and ends.
const SCRIPT: &str = r#"
import sys

peer, rows, folder, names = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]

def row(step):
    return {name: 0.2 + at * 1e-4 + step * 1e-6 for at, name in enumerate(names)}

if peer == "wandb":
    import wandb
    run = wandb.init(project="bench", mode="offline", settings=wandb.Settings(silent=True))
    for step in range(rows):
        run.log(row(step))
    run.finish()
elif peer == "tensorboardX":
    from tensorboardX import SummaryWriter
    writer = SummaryWriter(folder)
    for step in range(rows):
        for name, value in row(step).items():
            writer.add_scalar(name, value, step)
    writer.close()
else:
    import mlflow
    mlflow.set_experiment("bench")
    with mlflow.start_run():
        for step in range(rows):
            mlflow.log_metrics(row(step), step=step, synchronous=peer == "mlflow")
        mlflow.flush_async_logging()
"#;

/// A program that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// Ours, with the sink or the task of this name.
    Ours(&'static str),
    /// Python with the client of this name.
    Python(&'static str),
    /// `wandb sync`.
    OfficialSync,
}

use Program::{OfficialSync, Ours, Python};

/// All programs with their labels; those of a pair do the same, ours first. A sync delivers the log
/// of the program before it.
const PROGRAMS: [(Program, &str); 9] = [
    (Ours("wandb"), "logcore, W&B offline"),
    (Ours("sync"), "logcore, sync of these rows"),
    (Python("wandb"), "Python's wandb, offline"),
    (OfficialSync, "`wandb sync` of these rows"),
    (Ours("tensorboard"), "logcore, TensorBoard"),
    (Python("tensorboardX"), "Python's tensorboardX"),
    (Ours("mlflow"), "logcore, MLflow"),
    (Python("mlflow"), "Python's mlflow"),
    (Python("mlflow, asynchronous"), "Python's mlflow, asynchronous"),
];

/// Ours beside theirs, by their places in [`PROGRAMS`].
const PAIRS: [(usize, usize, &str); 5] = [
    (0, 2, "W&B offline"),
    (1, 3, "W&B sync"),
    (4, 5, "TensorBoard"),
    (6, 7, "MLflow"),
    (6, 8, "MLflow, asynchronous"),
];

pub(crate) fn measure(amounts: &Amounts) -> Result<Vec<ReportTable>> {
    let mut notes = Vec::new();
    let versions = ["wandb", "tensorboardX", "mlflow"].map(|package| match version_of(package) {
        Ok(version) => {
            notes.push(format!("Python has {package} {version}."));
            Some(package)
        }
        Err(reason) => {
            notes.push(format!("Python's {package} has no row here: {reason:#}."));
            None
        }
    });
    let can_run = |program: Program| match program {
        Ours(_) => true,
        OfficialSync => versions.contains(&Some("wandb")),
        Python(client) => versions.iter().flatten().any(|package| client.starts_with(package)),
    };
    let rounds = amounts.rounds.min(ROUNDS);
    let mut turns: Vec<Vec<ProcessTurn>> = PROGRAMS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        let mut folder = tempfile::tempdir().context("make a folder for a program")?;
        for (at, (program, label)) in PROGRAMS.into_iter().enumerate() {
            if !can_run(program) {
                continue;
            }
            if !program.is_sync() {
                folder = tempfile::tempdir().context("make a folder for a program")?;
            }
            let turn = turn(program, rows_of(amounts, program), folder.path());
            turns[at].push(turn.with_context(|| format!("measure `{label}`"))?);
        }
    }
    notes.push(format!(
        "The servers are stand-ins in the measuring process; they took {} s of processor time for our sync and {} s \
         for the official one.",
        figure(median(turns[1].iter().map(|turn| turn.of_server))),
        figure(median(turns[3].iter().map(|turn| turn.of_server))),
    ));
    Ok(vec![programs(amounts, rounds, &turns, &notes.join(" ")), pairs(&turns)])
}

fn programs(amounts: &Amounts, rounds: usize, turns: &[Vec<ProcessTurn>], notes: &str) -> ReportTable {
    let note = format!(
        "Each program logs rows of ten metrics without a pause and ends; from its start to its end, medians of \
         {rounds} rounds. CPU is user and system time of all its processes. `Tracker's files` are the event files or \
         the `.wandb` log; ours also writes `metrics.jsonl`. The peak is the largest sum of the resident memory of \
         all its processes, looked at every 2 ms. `There` has the rows that the server has at the end. {notes}"
    );
    let columns = [
        "program",
        "rows",
        "wall, s",
        "CPU, s",
        "all files, MB",
        "tracker's files, MB",
        "peak, MB",
        "there",
    ];
    let mut table = ReportTable::new("Whole programs", note, &columns);
    for ((program, label), turns) in PROGRAMS.iter().zip(turns).filter(|(_, turns)| !turns.is_empty()) {
        let of = |value: fn(&ProcessTurn) -> f64| figure(median(turns.iter().map(value)));
        let there = turns.iter().map(|turn| turn.there).fold(f64::INFINITY, f64::min);
        let delivers = there.is_finite();
        table.row([
            (*label).to_owned(),
            rows_of(amounts, *program).to_string(),
            of(|turn| turn.used.wall),
            of(|turn| turn.used.cpu),
            of(|turn| turn.files),
            of(|turn| turn.own_files),
            of(|turn| turn.used.peak_mb),
            if delivers { there.to_string() } else { "-".to_owned() },
        ]);
    }
    table
}

fn pairs(turns: &[Vec<ProcessTurn>]) -> ReportTable {
    let note = "Ratios of the programs above with equal rows, in the same round; medians. Below 1, ours takes less.";
    let columns = ["ours to theirs", "× wall", "× CPU", "× tracker's files", "× peak"];
    let mut table = ReportTable::new("Whole programs, ours to the official clients'", note, &columns);
    for (ours, theirs, label) in PAIRS.iter().filter(|(_, theirs, _)| !turns[*theirs].is_empty()) {
        let ratio = |value: fn(&ProcessTurn) -> f64| {
            let both = turns[*ours].iter().zip(&turns[*theirs]);
            figure(median(both.map(|(ours, theirs)| value(ours) / value(theirs))))
        };
        table.row([
            (*label).to_owned(),
            ratio(|turn| turn.used.wall),
            ratio(|turn| turn.used.cpu),
            ratio(|turn| turn.own_files),
            ratio(|turn| turn.used.peak_mb),
        ]);
    }
    table
}

struct ProcessTurn {
    used: ProcessUse,
    /// MB of all files in its folder; NaN for a sync.
    files: f64,
    /// MB of the tracker's.
    own_files: f64,
    /// Rows on the server; infinite without one.
    there: f64,
    /// Processor seconds of the server.
    of_server: f64,
}

impl Program {
    fn is_sync(self) -> bool {
        matches!(self, Ours("sync") | OfficialSync)
    }

    fn command(self, rows: u64, folder: &Path) -> Result<Command> {
        let mut command = Command::new("python3");
        match self {
            Ours(part) => {
                command = Command::new(std::env::current_exe().context("find this program")?);
                command.args([ALONE, &format!("{PART}{part}")]);
                command.env(FOLDER, folder).env(ROWS, rows.to_string());
            }
            Python(client) => {
                command.args(["-c", SCRIPT, client, &rows.to_string()]);
                command.arg(folder).args(TEN_METRICS);
            }
            OfficialSync => {
                command.args(["-m", "wandb", "sync"]).args(official_runs(folder)?);
            }
        }
        command
            .env("WANDB_DIR", folder)
            .env("WANDB_ERROR_REPORTING", "false")
            .env("WANDB_API_KEY", KEY)
            .env("HOME", folder)
            // Not here: a folder of the package's name would be taken for the package.
            .current_dir(folder);
        Ok(command)
    }
}

fn turn(program: Program, rows: u64, folder: &Path) -> Result<ProcessTurn> {
    let mut command = program.command(rows, folder)?;
    let before = cpu_seconds();
    let (used, there) = match program {
        _ if program.is_sync() => {
            let server = WandbServer::start();
            command.env("WANDB_BASE_URL", server.url()).env(SERVER, server.url());
            (measure_process(&mut command)?, server.run().history.len() as f64)
        }
        Ours("mlflow") | Python("mlflow" | "mlflow, asynchronous") => {
            let server = MlflowServer::start();
            command.env("MLFLOW_TRACKING_URI", server.url());
            let used = measure_process(&mut command)?;
            (used, server.run().points(TEN_METRICS[9]).len() as f64)
        }
        _ => (measure_process(&mut command)?, f64::INFINITY),
    };
    let of_server = cpu_seconds() - before;
    let is_own = |name: &str| name.ends_with(".wandb") || name.contains("tfevents");
    let size = |is_counted: &dyn Fn(&str) -> bool| megabytes(folder, is_counted);
    let has_files = !program.is_sync();
    Ok(ProcessTurn {
        used,
        files: if has_files { size(&|_| true)? } else { f64::NAN },
        own_files: Some(size(&is_own)?)
            .filter(|size| has_files && *size > 0.0)
            .unwrap_or(f64::NAN),
        there,
        of_server,
    })
}

/// A program of ours, which this process is from now on.
pub(crate) fn part(_: &Amounts, name: &str) -> Result<Vec<f64>> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let folder = variable(FOLDER)?;
    let folder = Path::new(&folder);
    if name == "sync" {
        let mut options = SyncOptions::default();
        options.options.insert("base_url".into(), json!(variable(SERVER)?));
        options.options.insert("api_key".into(), json!(KEY));
        options.notices = Some(Notices::new(|_, _| {}));
        let logs = find_logs(folder);
        ensure!(!logs.is_empty(), "there is no log in {}", folder.display());
        for log in logs {
            sync(&log, &options, |_, _| {})?;
        }
        return Ok(Vec::new());
    }
    let rows = variable(ROWS)?.parse().context("the number of rows")?;
    let logger = open(folder, &[name])?;
    log_rows(&logger, rows);
    let report = logger.finish();
    // An offline run is on disk, which is not delivered to its server.
    let has_all = report.sinks.values().all(|books| books.dropped.is_empty());
    ensure!(has_all, "not everything is there: {report:?}");
    Ok(Vec::new())
}

fn rows_of(amounts: &Amounts, program: Program) -> u64 {
    match program {
        // Python's client waits for an answer to each row.
        Ours("mlflow") | Python("mlflow" | "mlflow, asynchronous") => amounts.slow_rows,
        _ => amounts.rows,
    }
}

/// The version of a package of the `python3` of the path.
fn version_of(package: &str) -> Result<String> {
    let folder = tempfile::tempdir().context("make a folder for Python")?;
    let script = format!("import {package}; print({package}.__version__)");
    let output = Command::new("python3")
        .args(["-c", &script])
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .output()
        .context("start python3")?;
    let trouble = String::from_utf8_lossy(&output.stderr);
    let trouble = trouble.trim().lines().last().unwrap_or("it says nothing");
    ensure!(output.status.success(), "{trouble}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folders of the offline runs of the official client.
fn official_runs(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder.join("wandb")).context("read the folder of the official client")?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_run = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("offline-run-")
    };
    let runs: Vec<_> = paths.into_iter().filter(is_run).collect();
    if runs.is_empty() {
        bail!("the official client has left no run");
    }
    Ok(runs)
}

/// MB (1e6 bytes) of the files beneath `folder` whose names count; links are not followed.
fn megabytes(folder: &Path, is_counted: &dyn Fn(&str) -> bool) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            bytes += megabytes(&entry.path(), is_counted)?;
        } else if metadata.is_file() && is_counted(&entry.file_name().to_string_lossy()) {
            bytes += metadata.len() as f64 / 1e6;
        }
    }
    Ok(bytes)
}
