//! The commands, each in a file of its own.

mod compare;
mod doctor;
mod export;
mod import;
mod list;
mod man;
mod merge;
mod plot;
mod prune;
mod repair;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod snap;
mod sync;
mod tail;
mod watch;

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::CommandFactory as _;
use logcore_runs::{LeftOutLines, RunError, RunList, StoredRun, find_run};

use crate::arguments::{Arguments, Command};
use crate::output::{Outcome, Output};
use crate::run_entry::RunEntry;
#[cfg(unix)]
use crate::signals;

/// Where the examples of logcore put their runs.
const USUAL_LOG_DIR: &str = "outputs/logs";

/// Runs the command that the user has given.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Outcome> {
    let log_dir = match &arguments.log_dir {
        Some(log_dir) => log_dir.clone(),
        None if Path::new(USUAL_LOG_DIR).is_dir() => PathBuf::from(USUAL_LOG_DIR),
        None => PathBuf::from("."),
    };
    #[cfg(unix)]
    if arguments.command.has_output() {
        signals::remove_outputs_at_end()?;
    }
    match &arguments.command {
        Command::Ls(list) => list::run(list, &log_dir, output),
        Command::Show { run } => show::run(&find_run(&log_dir, run)?, output),
        Command::Compare { runs } => compare::run(find_all(&log_dir, runs)?, output),
        Command::Plot(plot) => plot::run(plot, &log_dir, output),
        Command::Report(report) => report::run(report, find_all(&log_dir, &report.runs)?, &log_dir, output),
        #[cfg(feature = "serve")]
        Command::Serve(serve) => serve::run(serve, serve.dir.as_deref().unwrap_or(&log_dir), output),
        #[cfg(not(feature = "serve"))]
        Command::Serve(_) => anyhow::bail!(
            "cannot serve: this program was built without the feature `serve`. Install it with that feature"
        ),
        Command::Tail(tail) => tail::run(tail, &find_run(&log_dir, &tail.run)?, output),
        Command::Snap(snap) => snap::run(snap, &log_dir, output),
        Command::Watch(watch) => watch::run(watch, &find_run(&log_dir, &watch.run)?, output),
        Command::Export(export) => export::run(export, &find_run(&log_dir, &export.run)?, output),
        Command::Merge { run, out } => merge::run(&log_dir, run, out.as_deref(), output),
        Command::Repair { trust, folders } => repair::run(*trust, &or_log_dir(folders, &log_dir)?, output),
        Command::Import(import) => import::run(import, &log_dir, output),
        Command::Doctor(doctor) => doctor::run(doctor, &log_dir, output),
        Command::Prune(prune) => prune::run(prune, &log_dir, output),
        Command::Sync(sync) => sync::run(sync, &or_log_dir(&sync.folders, &log_dir)?, output),
        Command::Man(man) => man::run(man, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "logcore", &mut script);
            output.line(String::from_utf8_lossy(&script).trim_end());
            Ok(Outcome::Done)
        }
    }
}

fn find_all(log_dir: &Path, runs: &[String]) -> Result<Vec<StoredRun>> {
    Ok(runs
        .iter()
        .map(|run| find_run(log_dir, run))
        .collect::<Result<_, _>>()?)
}

/// Returns the folders that the user has named, or else that of the runs.
fn or_log_dir(folders: &[PathBuf], log_dir: &Path) -> Result<Vec<PathBuf>> {
    let folders = match folders {
        [] => vec![log_dir.to_owned()],
        _ => folders.to_vec(),
    };
    for folder in &folders {
        ensure!(
            folder.exists(),
            "cannot find the folder {}: {}. Name one that is there",
            folder.display(),
            io::Error::from(io::ErrorKind::NotFound)
        );
    }
    Ok(folders)
}

/// Fails if the data of a command and its JSON object would be mixed in the standard output.
fn check_has_standard_output(path: &Path, output: &Output) -> Result<()> {
    ensure!(
        path != Path::new("-") || !output.has_json(),
        "cannot write the data and the JSON object to the standard output. Name a file with -o, or leave --json out"
    );
    Ok(())
}

/// Reads a run, and reports its files that cannot be read.
fn read_entry(run: StoredRun, has_rows: bool, output: &mut Output) -> RunEntry {
    let entry = RunEntry::read(run, has_rows);
    report_problems(&entry, output);
    report_missed_rows(std::slice::from_ref(&entry), output);
    entry
}

/// Reports the folders whose `run.json` cannot be read.
fn report_list_problems(list: &RunList, output: &mut Output) {
    for problem in &list.problems {
        let path = match problem {
            RunError::Unreadable { path, .. } => Some(path.to_string_lossy()),
            _ => None,
        };
        output.problem(path.as_deref(), &problem.to_string());
    }
}

/// Reports the lines of the rows that an output does not have.
fn report_left_out(left_out: &LeftOutLines, target: &str, output: &mut Output) {
    if !left_out.is_empty() {
        output.problem(Some(target), &format!("rows are missing in {target}: {left_out}"));
    }
}

/// Reports the runs that have no summary because their last rows are too long, or are none.
fn report_missed_rows(entries: &[RunEntry], output: &mut Output) {
    let mut missed = entries.iter().filter(|entry| entry.lacks_last_row);
    let Some(first) = missed.next() else { return };
    let dir = first.run.dir.to_string_lossy();
    let others = match missed.count() {
        0 => String::new(),
        count => format!(", and of {count} more runs"),
    };
    let text = format!("the summary of {dir} is missing{others}: the last row is too long, or is none");
    output.problem(Some(&dir), &text);
}

fn report_problems(entry: &RunEntry, output: &mut Output) {
    let dir = entry.run.dir.to_string_lossy();
    for problem in &entry.problems {
        output.problem(Some(&dir), &problem.to_string());
    }
}
