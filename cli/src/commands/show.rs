//! `logcore show`: one run.

mod health;

use std::fs;

use anyhow::Result;
use logcore_runs::StoredRun;
use serde_json::{Map, Value, json};

use self::health::RunHealth;

use super::read_entry;
use crate::columns::{RunColumn, format_bytes, local_time, short_duration, short_name, short_value, state_color};
use crate::output::{Outcome, Output};
use crate::run_entry::RunEntry;
use crate::table::{Cell, Column, Table};

pub(super) fn run(run: &StoredRun, output: &mut Output) -> Result<Outcome> {
    let mut entry = read_entry(run.clone(), true, output);
    print_head(&entry, output)?;
    print_pairs("config", &entry.json["config"], output);
    print_metrics(&entry.json["summary"], output);
    print_ledger(&entry.json["ledger"], output);
    print_attempts(&entry, output);
    let health = RunHealth::read(run, output);
    health.print(output);
    let files = list_files(&entry);
    print_files(&files, output);
    entry.json["attempts"] = json!(entry.run.manifest.attempts);
    entry.json["facts"] = json!(entry.run.manifest.facts);
    entry.json["files"] = files_json(&files);
    for (name, values) in health.members() {
        entry.json[name] = values;
    }
    output.member("runs", json!([entry.json]));
    Ok(Outcome::Done)
}

/// Prints what is known of the run as a whole.
fn print_head(entry: &RunEntry, output: &mut Output) -> Result<()> {
    let manifest = &entry.run.manifest;
    let facts = &manifest.facts;
    let mut table = Table::new(vec![Column::left("run"), Column::left(entry.id())]);
    for name in [
        "name",
        "state",
        "started",
        "ended",
        "duration",
        "last_step",
        "steps_per_sec",
        "samples_per_sec",
        "mfu",
        "goodput",
        "gpu_energy_kwh",
        "rows",
        "world_size",
        "wandb_url",
        "dir",
    ] {
        let column = RunColumn::parse(name)?;
        if !column.value(entry).is_null() {
            table.row([name.replace('_', " ").into(), column.cell(entry)]);
        }
    }
    let commit = facts.git.as_ref().and_then(|git| git.commit.clone());
    for (name, value) in [
        ("command", facts.argv.join(" ")),
        ("commit", commit.unwrap_or_default()),
        ("host", facts.host.clone()),
        ("gpus", facts.gpus.join(", ")),
    ] {
        if !value.is_empty() {
            table.row([name.into(), value.into()]);
        }
    }
    print_table(&table, output);
    Ok(())
}

/// Prints a table of names and values, unless it is empty.
fn print_pairs(title: &str, values: &Value, output: &mut Output) {
    let Some(values) = values.as_object().filter(|values| !values.is_empty()) else {
        return;
    };
    let mut table = Table::new(vec![Column::left(title), Column::left("")]);
    for (name, value) in values {
        table.row([Cell::from(short_name(name)), short_value(value).into()]);
    }
    output.line("");
    print_table(&table, output);
}

fn print_metrics(summary: &Value, output: &mut Output) {
    let Some(summary) = summary.as_object().filter(|summary| !summary.is_empty()) else {
        return;
    };
    let statistics = ["last", "mean", "min", "max", "count"];
    let has_any = |name: &&str| summary.values().any(|metric| !metric[*name].is_null());
    let statistics: Vec<&str> = statistics.into_iter().filter(has_any).collect();
    let columns = statistics.iter().map(|name| match *name {
        "mean" => Column::right(name_of_mean(summary)),
        name => Column::right(name),
    });
    let mut table = Table::new(std::iter::once(Column::left("metric")).chain(columns).collect());
    for (name, metric) in summary {
        let values = statistics.iter().map(|name| short_value(&metric[*name]).into());
        table.row(std::iter::once(Cell::from(short_name(name))).chain(values));
    }
    output.line("");
    print_table(&table, output);
}

/// Returns the head of the means: those of the newest values alone say so, as in the closing
/// summary.
fn name_of_mean(summary: &Map<String, Value>) -> String {
    let windows = summary.values().map(|metric| metric["mean_of"].as_u64());
    let Some(widest) = windows.clone().flatten().max() else {
        return "mean".to_owned();
    };
    let is_of_all = windows.into_iter().all(|window| window == Some(widest));
    format!("mean of {}{widest}", if is_of_all { "" } else { "≤" })
}

fn print_ledger(ledger: &Value, output: &mut Output) {
    let Some(ledger) = ledger.as_object().filter(|ledger| !ledger.is_empty()) else {
        return;
    };
    let seconds = |value: &Value| value.as_f64().unwrap_or_default();
    let whole: f64 = ledger.values().map(seconds).sum();
    let mut table = Table::new(vec![Column::left("time"), Column::right(""), Column::right("")]);
    for (name, value) in ledger {
        let share = if whole > 0.0 {
            seconds(value) / whole * 100.0
        } else {
            0.0
        };
        table.row([
            name.as_str().into(),
            short_duration(seconds(value)).into(),
            format!("{share:.1}%").into(),
        ]);
    }
    output.line("");
    print_table(&table, output);
}

/// Prints the attempts of a run that has several.
fn print_attempts(entry: &RunEntry, output: &mut Output) {
    let attempts = &entry.run.manifest.attempts;
    if attempts.len() < 2 {
        return;
    }
    let mut table = Table::new(vec![
        Column::right("attempt"),
        Column::left("state"),
        Column::left("started"),
        Column::right("duration"),
        Column::right("from step"),
        Column::right("last step"),
    ]);
    for (number, attempt) in (1..).zip(attempts) {
        let is_newest = number == attempts.len();
        let state = if is_newest { entry.run.state } else { attempt.state }.as_str();
        let duration = attempt.ended.map(|ended| ended - attempt.started);
        let first = attempt.first_step.values().min();
        table.row([
            number.to_string().into(),
            Cell::colored(state, state_color(state)),
            local_time(attempt.started).into(),
            duration
                .filter(|duration| *duration >= 0.0)
                .map(short_duration)
                .unwrap_or_default()
                .into(),
            first.map(u64::to_string).unwrap_or_default().into(),
            attempt
                .last_step
                .map(|step| step.to_string())
                .unwrap_or_default()
                .into(),
        ]);
    }
    output.line("");
    print_table(&table, output);
}

/// Returns the files in the run's folder by name, with their sizes.
fn list_files(entry: &RunEntry) -> Vec<(String, u64)> {
    let entries = fs::read_dir(&entry.run.dir).into_iter().flatten().flatten();
    let mut files: Vec<(String, u64)> = entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((entry.file_name().to_string_lossy().into_owned(), metadata.len()))
        })
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    files.sort();
    files
}

fn files_json(files: &[(String, u64)]) -> Value {
    files
        .iter()
        .map(|(name, bytes)| json!({"name": name, "bytes": bytes}))
        .collect()
}

fn print_files(files: &[(String, u64)], output: &mut Output) {
    let mut table = Table::new(vec![Column::left("file"), Column::right("")]);
    for (name, bytes) in files {
        table.row([name.as_str().into(), format_bytes(*bytes).into()]);
    }
    if !files.is_empty() {
        output.line("");
        print_table(&table, output);
    }
}

fn print_table(table: &Table, output: &mut Output) {
    for line in table.format(output.width(), output.has_colors()) {
        output.line(line);
    }
}
