//! The health of a run, as its files tell it: events, incident files, and how far each rank is.

use std::time::SystemTime;

use console::Color;
use logcore::{AlertLevel, epoch_seconds};
use logcore_health::INCIDENTS_FOLDER;
use logcore_health::event::{Event, Events};
use logcore_health::slot::RankState;
use logcore_runs::StoredRun;
use serde_json::{Value, json};

use super::{files_json, print_table};
use crate::columns::{format_bytes, local_time, short_duration, short_number};
use crate::output::Output;
use crate::table::{Cell, Column, Table};

/// Newest events, and last incident files, that are printed. JSON has all.
const MOST_LINES: usize = 20;
/// Most ranks that are printed: of more, those that are furthest behind.
const MOST_RANKS: usize = 32;

/// The health of one run.
pub(super) struct RunHealth {
    read: Events,
    incidents: Vec<(String, u64)>,
    ranks: Vec<RankState>,
}

impl RunHealth {
    /// Reads the health of a run, and reports what cannot be read.
    pub(super) fn read(run: &StoredRun, output: &mut Output) -> Self {
        let read = run.events();
        let dir = run.dir.to_string_lossy();
        for (path, error) in &read.problems {
            let path = run.dir.join(path);
            let text = format!("cannot read the events in {}: {error}", path.display());
            output.problem(Some(&path.to_string_lossy()), &text);
        }
        if read.bad_lines > 0 {
            let lines = if read.bad_lines == 1 { "line is" } else { "lines are" };
            let text = format!("{} {lines} left out of the events of {dir}: no event", read.bad_lines);
            output.problem(Some(&dir), &text);
        }
        if read.is_cut {
            output.problem(
                Some(&dir),
                &format!("the events of {dir} are more than is read: later ones are left out"),
            );
        }
        let incidents = run.incidents().unwrap_or_else(|error| {
            output.problem(Some(&dir), &error.to_string());
            Vec::new()
        });
        Self {
            read,
            incidents,
            ranks: run.ranks(),
        }
    }

    /// Prints a table of each part that is there.
    pub(super) fn print(&self, output: &mut Output) {
        print_events(&self.read.events, output);
        print_incidents(&self.incidents, output);
        print_ranks(&self.ranks, output);
    }

    /// Returns the members of the run in JSON output.
    pub(super) fn members(&self) -> [(&'static str, Value); 3] {
        [
            ("events", json!(self.read.events)),
            ("incidents", files_json(&self.incidents)),
            ("ranks", self.ranks.iter().map(rank_json).collect()),
        ]
    }
}

fn print_events(events: &[Event], output: &mut Output) {
    let earlier = events.len().saturating_sub(MOST_LINES);
    let mut table = Table::new(vec![
        Column::left("event"),
        Column::left("level").optional(),
        Column::right("step"),
        Column::right("rank").optional(),
        Column::left(""),
    ]);
    for event in &events[earlier..] {
        let color = level_color(event.level);
        table.row([
            local_time(event.time).into(),
            Cell::colored(event.level.name(), color),
            event.step.map(|step| step.to_string()).unwrap_or_default().into(),
            event.rank.to_string().into(),
            Cell::colored(&*event.text, color),
        ]);
    }
    print_part(&table, events.len(), output);
    print_rest(earlier, "earlier", "event", "events", output);
}

fn print_incidents(incidents: &[(String, u64)], output: &mut Output) {
    let others = incidents.len().saturating_sub(MOST_LINES);
    let mut table = Table::new(vec![Column::left("incident"), Column::right("")]);
    for (name, bytes) in &incidents[others..] {
        table.row([format!("{INCIDENTS_FOLDER}/{name}").into(), format_bytes(*bytes).into()]);
    }
    print_part(&table, incidents.len(), output);
    print_rest(others, "more", "incident", "incidents", output);
}

fn print_ranks(ranks: &[RankState], output: &mut Output) {
    let mut shown: Vec<&RankState> = ranks.iter().collect();
    if shown.len() > MOST_RANKS {
        shown.sort_by_key(|state| state.step);
        shown.truncate(MOST_RANKS);
        shown.sort_by_key(|state| state.rank);
    }
    let mut table = Table::new(vec![
        Column::right("rank"),
        Column::right("step"),
        Column::right("step time"),
        Column::right("data"),
        Column::left("phase"),
        Column::right("age"),
    ]);
    let now = SystemTime::now();
    for state in shown {
        let seconds = step_seconds(state);
        let age = now.duration_since(state.time).unwrap_or_default();
        table.row([
            state.rank.to_string().into(),
            state.step.map(|step| step.to_string()).unwrap_or_default().into(),
            seconds
                .map(|seconds| format!("{}s", short_number(seconds)))
                .unwrap_or_default()
                .into(),
            data_share(state)
                .map(|share| format!("{:.0}%", share * 100.0))
                .unwrap_or_default()
                .into(),
            state.phase.name().into(),
            short_duration(age.as_secs_f64()).into(),
        ]);
    }
    print_part(&table, ranks.len(), output);
    let others = ranks.len().saturating_sub(MOST_RANKS);
    print_rest(others, "more", "rank that is ahead", "ranks that are ahead", output);
}

/// Prints a table behind an empty line, unless there is nothing in it.
fn print_part(table: &Table, rows: usize, output: &mut Output) {
    if rows > 0 {
        output.line("");
        print_table(table, output);
    }
}

fn print_rest(count: usize, kind: &str, noun: &str, nouns: &str, output: &mut Output) {
    match count {
        0 => {}
        1 => output.line(format!("1 {kind} {noun}: --json has all")),
        _ => output.line(format!("{count} {kind} {nouns}: --json has all")),
    }
}

fn level_color(level: AlertLevel) -> Option<Color> {
    match level {
        AlertLevel::Warn => Some(Color::Yellow),
        AlertLevel::Error => Some(Color::Red),
        _ => None,
    }
}

/// Returns the usual seconds of a step, if the rank knows them.
fn step_seconds(state: &RankState) -> Option<f64> {
    Some(f64::from(state.step_seconds)).filter(|seconds| *seconds > 0.0)
}

/// Returns the share of a step that waits for data, which is known once the time of a step is.
fn data_share(state: &RankState) -> Option<f32> {
    step_seconds(state).map(|_| state.data_share)
}

fn rank_json(state: &RankState) -> Value {
    json!({
        "rank": state.rank,
        "attempt": state.attempt,
        "pid": state.pid,
        "step": state.step,
        "step_seconds": step_seconds(state),
        "data_share": data_share(state),
        "steps_per_sec": Some(state.pace).filter(|pace| *pace > 0.0),
        "phase": state.phase.name(),
        "time": epoch_seconds(state.time),
        "moved": epoch_seconds(state.moved),
    })
}
