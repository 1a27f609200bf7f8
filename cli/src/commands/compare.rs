//! `logcore compare`: how runs differ.

use std::collections::BTreeSet;

use anyhow::Result;
use logcore_runs::StoredRun;
use serde_json::{Map, Value, json};

use super::read_entry;
use crate::columns::{RunColumn, short_name, short_value};
use crate::output::{Outcome, Output};
use crate::run_entry::RunEntry;
use crate::table::{Cell, Column, Table};

pub(super) fn run(runs: Vec<StoredRun>, output: &mut Output) -> Result<Outcome> {
    let entries: Vec<RunEntry> = runs.into_iter().map(|run| read_entry(run, false, output)).collect();
    let head = || {
        let runs = entries.iter().map(|entry| Column::right(entry.id()));
        Table::new(std::iter::once(Column::left("")).chain(runs).collect())
    };
    let mut table = head();
    for name in ["name", "state", "duration", "last_step", "steps_per_sec", "goodput"] {
        let column = RunColumn::parse(name)?;
        table.row(
            std::iter::once(Cell::from(name.replace('_', " "))).chain(entries.iter().map(|entry| column.cell(entry))),
        );
    }
    let differing = differing_parameters(&entries);
    for (name, values) in &differing {
        let cells = values.iter().map(|value| short_value(value).into());
        table.row(std::iter::once(Cell::from(short_name(name))).chain(cells));
    }
    for metric in metrics(&entries) {
        for statistic in ["last", "min", "max"] {
            let values: Vec<&Value> = entries
                .iter()
                .map(|entry| &entry.json["summary"][&metric][statistic])
                .collect();
            if values.iter().any(|value| !value.is_null()) {
                let name = format!("{} {statistic}", short_name(&metric));
                let cells = values.into_iter().map(|value| short_value(value).into());
                table.row(std::iter::once(Cell::from(name)).chain(cells));
            }
        }
    }
    for line in table.format(output.width(), output.has_colors()) {
        output.line(line);
    }
    let differing: Map<String, Value> = differing
        .into_iter()
        .map(|(name, values)| (name, json!(values)))
        .collect();
    output.member("differing_config", differing.into());
    output.member("runs", entries.into_iter().map(|entry| entry.json).collect());
    Ok(Outcome::Done)
}

/// Returns the hyper-parameters in which the runs differ, each with its values by run; null where a
/// run has none.
fn differing_parameters(entries: &[RunEntry]) -> Vec<(String, Vec<Value>)> {
    let configs: Vec<Map<String, Value>> = entries.iter().map(|entry| flattened(&entry.json["config"])).collect();
    let names: BTreeSet<&String> = configs.iter().flat_map(Map::keys).collect();
    let with_values = names.into_iter().map(|name| {
        let values = configs
            .iter()
            .map(|config| config.get(name).cloned().unwrap_or_default());
        (name.clone(), values.collect::<Vec<_>>())
    });
    with_values
        .filter(|(_, values)| values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

/// Returns the members of nested tables under names with dots.
fn flattened(value: &Value) -> Map<String, Value> {
    let mut flat = Map::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                let inner = flattened(value).into_iter();
                flat.extend(inner.map(|(inner, value)| (format!("{name}.{inner}"), value)));
            }
            _ => {
                flat.insert(name.clone(), value.clone());
            }
        }
    }
    flat
}

/// Returns the names of all metrics but those of the system.
fn metrics(entries: &[RunEntry]) -> BTreeSet<String> {
    let names = entries
        .iter()
        .flat_map(|entry| entry.json["summary"].as_object().into_iter().flat_map(Map::keys));
    names
        .filter(|name| !logcore::reserved_names::is_system_metric(name))
        .cloned()
        .collect()
}
