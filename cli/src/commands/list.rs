//! `logcore ls`: the runs in a folder.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use anyhow::Result;
use logcore_runs::{StoredRun, list_runs};
use serde_json::Value;

use super::{report_list_problems, report_missed_rows, report_problems};
use crate::arguments::ListArguments;
use crate::columns::{self, Condition, RunColumn};
use crate::output::{Outcome, Output};
use crate::run_entry::RunEntry;
use crate::table::{Column, Table};

/// The columns of every run that fit most windows.
const USUAL: [&str; 6] = ["id", "name", "state", "age", "last_step", "steps_per_sec"];

/// Largest number of columns of metrics, and of hyper-parameters, that nobody has asked for.
const MAX_ADDED: usize = 4;

pub(super) fn run(arguments: &ListArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let log_dir = arguments.dir.as_deref().unwrap_or(log_dir);
    let conditions: Vec<Condition> = arguments
        .conditions
        .iter()
        .map(|condition| Condition::parse(condition))
        .collect::<Result<_>>()?;
    let asked: Vec<RunColumn> = arguments
        .columns
        .iter()
        .map(|column| RunColumn::parse(column))
        .collect::<Result<_>>()?;
    let is_sorted_by_rows = arguments.sort.as_deref().is_some_and(|sort| sort.ends_with("rows"));
    let has_rows = output.has_json()
        || is_sorted_by_rows
        || conditions.iter().any(Condition::needs_rows)
        || asked.iter().any(RunColumn::needs_rows);

    let list = list_runs(log_dir)?;
    report_list_problems(&list, output);
    let mut entries = Vec::new();
    for entry in read_all(&list.runs, has_rows) {
        report_problems(&entry, output);
        if conditions.iter().all(|condition| condition.holds(&entry)) {
            entries.push(entry);
        }
    }
    report_missed_rows(&entries, output);
    if let Some(sort) = &arguments.sort {
        columns::sort(&mut entries, sort)?;
    }
    print(&entries, asked, log_dir, output)?;
    output.member("runs", entries.into_iter().map(|entry| entry.json).collect());
    Ok(Outcome::Done)
}

/// Reads runs on several threads: of a thousand runs on a disk that is not cached, most of the time
/// is spent waiting.
pub(super) fn read_all(runs: &[StoredRun], has_rows: bool) -> Vec<RunEntry> {
    let chunk = runs.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let read = |runs: &[StoredRun]| -> Vec<RunEntry> {
            runs.iter().map(|run| RunEntry::read(run.clone(), has_rows)).collect()
        };
        let threads: Vec<_> = runs.chunks(chunk).map(|runs| scope.spawn(move || read(runs))).collect();
        let entries = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        entries.flatten().collect()
    })
}

/// Number of threads that read runs.
const THREADS: usize = 8;

fn print(entries: &[RunEntry], asked: Vec<RunColumn>, log_dir: &Path, output: &mut Output) -> Result<()> {
    if entries.is_empty() {
        output.line(format!(
            "no runs in {}",
            logcore::escape::to_one_line(&log_dir.to_string_lossy())
        ));
        return Ok(());
    }
    let is_asked = !asked.is_empty();
    let shown = if is_asked { asked } else { choose(entries)? };
    let headers = shown.iter().map(|column| {
        let title = title(column, is_asked);
        let header = match column.is_number() {
            true => Column::right(title),
            false => Column::left(title),
        };
        match is_asked || USUAL[..3].contains(&column.name()) {
            true => header,
            false => header.optional(),
        }
    });
    let mut table = Table::new(headers.collect());
    for entry in entries {
        table.row(shown.iter().map(|column| column.cell(entry)));
    }
    for line in table.format(output.width(), output.has_colors()) {
        output.line(line);
    }
    Ok(())
}

/// Returns the head of a column; one that was chosen for the user is short.
fn title(column: &RunColumn, is_asked: bool) -> String {
    let name = column.name();
    match name {
        _ if is_asked => name.to_owned(),
        "last_step" => "steps".to_owned(),
        "steps_per_sec" => "it/s".to_owned(),
        _ => {
            let name = name.strip_prefix("config.").unwrap_or(name);
            let name = name.strip_prefix("summary.").unwrap_or(name);
            name.strip_suffix(".last").unwrap_or(name).to_owned()
        }
    }
}

/// Chooses columns: the usual ones, the metrics that most runs have, and the hyper-parameters in
/// which the runs differ.
fn choose(entries: &[RunEntry]) -> Result<Vec<RunColumn>> {
    let mut metrics: BTreeMap<&str, usize> = BTreeMap::new();
    let mut parameters: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for entry in entries {
        for (name, _) in entry.json["summary"].as_object().into_iter().flatten() {
            if !logcore::reserved_names::is_system_metric(name) {
                *metrics.entry(name).or_default() += 1;
            }
        }
        for (name, value) in entry.json["config"].as_object().into_iter().flatten() {
            parameters.entry(name).or_default().push(value);
        }
    }
    let mut metrics: Vec<_> = metrics.into_iter().collect();
    // Stable, so that equally frequent ones are in the order of their names.
    metrics.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let metrics = metrics.into_iter().map(|(name, _)| format!("summary.{name}.last"));
    let differs = |values: &[&Value]| values.len() < entries.len() || values.windows(2).any(|pair| pair[0] != pair[1]);
    let is_plain = |values: &[&Value]| values.iter().all(|value| !value.is_object() && !value.is_array());
    let parameters = parameters
        .into_iter()
        .filter(|(_, values)| entries.len() > 1 && differs(values) && is_plain(values))
        .map(|(name, _)| format!("config.{name}"));
    USUAL
        .into_iter()
        .map(str::to_owned)
        .chain(metrics.take(MAX_ADDED))
        .chain(parameters.take(MAX_ADDED))
        .map(|name| RunColumn::parse(&name))
        .collect()
}
