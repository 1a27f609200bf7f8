//! `logcore watch`: waits for the end of a run, or for trouble.

mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use logcore::{AlertLevel, RunState, StoredRow};
use logcore_health::INCIDENTS_FOLDER;
use logcore_health::event::{Event, HealthKind};
use logcore_health::skew::first_stopped;
use logcore_health::slot::{RankPhase, RankState};
use logcore_runs::{FollowedFile, StoredRun};
use serde_json::{Value, json};

use crate::arguments::{WatchArguments, WatchedEvent};
use crate::output::{Outcome, Output};

/// Time between two looks at a run.
const INTERVAL: Duration = Duration::from_millis(250);

/// Time between two looks at what the ranks say of themselves, each of which asks the server of a
/// network file system once a rank.
const SLOT_INTERVAL: Duration = Duration::from_secs(1);

/// Time for which a run may be away: then somebody has deleted it.
const MOST_AWAY: Duration = Duration::from_secs(10);

/// The event that a watch has seen, with its exit code.
struct Seen {
    event: &'static str,
    code: u8,
    details: Value,
}

/// Waits until something of what the user waits for has happened, and prints one JSON object.
pub(super) fn run(arguments: &WatchArguments, run: &StoredRun, output: &mut Output) -> Result<Outcome> {
    let begun = Instant::now();
    // Of no timeout, and of one beyond the time that the system can count, there is no end.
    let end = arguments.timeout.and_then(|timeout| begun.checked_add(timeout));
    let dir = run.dir.to_string_lossy();
    output.member("id", run.manifest.id.clone().into());
    output.member("dir", dir.clone().into());
    let mut watch = Watch::new();
    let mut away = None;
    let seen = loop {
        match StoredRun::open(&run.dir) {
            Ok(now) => {
                away = None;
                if let Some(seen) = watch.look(&now, arguments, Instant::now() + INTERVAL)? {
                    break seen;
                }
            }
            Err(error) if away.get_or_insert_with(Instant::now).elapsed() >= MOST_AWAY => return Err(error.into()),
            // A folder may be moved away and back, and a network file system hang for a moment.
            Err(_) => {}
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break Seen {
                event: "timeout",
                code: 15,
                details: json!({}),
            };
        }
        if !watch.is_behind() {
            thread::sleep(INTERVAL);
        }
    };
    let mut object = json!({"event": seen.event, "id": run.manifest.id, "dir": dir});
    add_members(&mut object, &seen.details);
    output.print_object(&object)?;
    Ok(Outcome::Seen(seen.code))
}

/// All that is remembered from one look at a run to the next.
struct Watch {
    rows: BTreeMap<u32, FollowedFile>,
    /// Files of events, by rank.
    events: BTreeMap<u32, FollowedFile>,
    /// The newest word of each rank about a stall, as long as the stall is not over.
    stalls: BTreeMap<u32, Event>,
    states: Vec<RankState>,
    slots_read: Option<Instant>,
    /// Time of the last movement.
    moved: Instant,
}

impl Watch {
    fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            events: BTreeMap::new(),
            stalls: BTreeMap::new(),
            states: Vec::new(),
            slots_read: None,
            moved: Instant::now(),
        }
    }

    /// Returns `true` if there are rows that the last look had no time to read.
    fn is_behind(&self) -> bool {
        self.rows.values().any(FollowedFile::is_behind)
    }

    /// Looks at the run until the deadline, and returns what the user waits for, if that has
    /// happened.
    fn look(&mut self, run: &StoredRun, arguments: &WatchArguments, deadline: Instant) -> Result<Option<Seen>> {
        let waits_for = |event: WatchedEvent| arguments.until.contains(&event);
        let not_a_number = self.read_rows(run, deadline)?;
        if waits_for(WatchedEvent::Nan) {
            if let Some(details) = not_a_number {
                return Ok(Some(Seen {
                    event: "nan",
                    code: 13,
                    details,
                }));
            }
            self.check_rows_are_read(run)?;
            // The rows before the end of the run may have one.
            if self.is_behind() {
                return Ok(None);
            }
        }
        if let Some((event, code)) = end_of(run.state).filter(|_| waits_for(WatchedEvent::End)) {
            let mut details = json!({"exit_code": run.manifest.exit_code});
            if run.state == RunState::Killed {
                details["process"] = "dead".into();
            }
            return Ok(Some(Seen { event, code, details }));
        }
        // A process on another machine that gives no sign of life may still be there.
        let is_open = run.manifest.state == RunState::Running && end_of(run.state).is_none();
        let is_dead = run.state == RunState::Killed;
        if !waits_for(WatchedEvent::Stall) || !(is_open || is_dead) {
            return Ok(None);
        }
        self.read_slots(run);
        if is_dead {
            return Ok(Some(Seen {
                event: "stall",
                code: 14,
                details: self.describe_dead(run),
            }));
        }
        self.read_stalls(run, deadline);
        let details = match self.stalls.values().next() {
            Some(stall) => self.describe_told(run, stall),
            None if self.moved.elapsed() >= arguments.stall_after => self.describe_seen(run),
            None => return Ok(None),
        };
        Ok(Some(Seen {
            event: "stall",
            code: 14,
            details,
        }))
    }

    /// Reads the new rows. Returns the first value that is no finite number.
    fn read_rows(&mut self, run: &StoredRun, deadline: Instant) -> Result<Option<Value>> {
        let mut not_a_number = None;
        for (rank, path) in run.row_files()? {
            let file = self
                .rows
                .entry(rank)
                .or_insert_with(|| FollowedFile::at_begin_of(&path));
            file.read_lines_until(deadline, |_, line| {
                self.moved = Instant::now();
                if not_a_number.is_none() {
                    not_a_number = find_nan(line, rank);
                }
            });
        }
        Ok(not_a_number)
    }

    /// Fails if rows are not read: silence would pass for numbers.
    fn check_rows_are_read(&self, run: &StoredRun) -> Result<()> {
        for (rank, rows) in &self.rows {
            if let Some(obstacle) = rows.obstacle() {
                let dir = run.dir.display();
                bail!("cannot watch the rows of rank {rank} in {dir}: {obstacle}. Watch for other events with --until");
            }
        }
        Ok(())
    }

    /// Reads what the ranks say of themselves. The times of other machines are compared with each
    /// other only.
    fn read_slots(&mut self, run: &StoredRun) {
        if self.slots_read.is_some_and(|read| read.elapsed() < SLOT_INTERVAL) {
            return;
        }
        self.slots_read = Some(Instant::now());
        let states = run.processes();
        let movements = |states: &[RankState]| -> BTreeSet<_> {
            states
                .iter()
                .map(|state| (state.rank, state.moved, state.step))
                .collect()
        };
        let has_moved = movements(&states) != movements(&self.states);
        let now = SystemTime::now();
        let is_exempt = |state: &RankState| {
            matches!(state.phase, RankPhase::Eval | RankPhase::Checkpoint | RankPhase::Idle) && state.is_fresh(now)
        };
        if has_moved || states.iter().any(is_exempt) {
            self.moved = Instant::now();
        }
        self.states = states;
    }

    /// Reads what the run's own watchdogs say.
    fn read_stalls(&mut self, run: &StoredRun, deadline: Instant) {
        for (rank, path) in run.event_files().unwrap_or_default() {
            let file = self
                .events
                .entry(rank)
                .or_insert_with(|| FollowedFile::at_begin_of(&path));
            file.read_lines_until(deadline, |_, line| match serde_json::from_slice::<Event>(line) {
                Ok(event) if event.kind == HealthKind::Stall && event.attempt == run.newest_attempt() => {
                    match event.level {
                        AlertLevel::Info => self.stalls.remove(&rank),
                        _ => self.stalls.insert(rank, event),
                    };
                }
                _ => {}
            });
        }
        // A new attempt has nothing to do with the stall of the one before.
        self.stalls.retain(|_, stall| stall.attempt == run.newest_attempt());
    }

    /// Describes a stall that the run itself has told.
    fn describe_told(&self, run: &StoredRun, stall: &Event) -> Value {
        let incident = stall
            .incident
            .as_ref()
            .map(|name| run.dir.join(INCIDENTS_FOLDER).join(name).to_string_lossy().into_owned());
        let mut details = json!({
            "time": stall.time,
            "step": stall.step,
            "text": stall.text,
            "incident": incident,
        });
        add_members(&mut details, &self.examine(run, stall.rank));
        details
    }

    /// Describes a stall that was seen from here.
    fn describe_seen(&self, run: &StoredRun) -> Value {
        let mut details = json!({"seconds": self.moved.elapsed().as_secs_f64()});
        let first = first_stopped(&self.states);
        let rank = first.map_or(run.manifest.rank, |first| first.rank);
        if let Some(step) = self
            .states
            .iter()
            .find(|state| state.rank == rank)
            .and_then(|state| state.step)
        {
            details["step"] = step.into();
        }
        if let Some(first) = first {
            details["first_stopped"] = first.rank.into();
        }
        add_members(&mut details, &self.examine(run, rank));
        details
    }

    /// Describes a run that is killed.
    fn describe_dead(&self, run: &StoredRun) -> Value {
        let rank = run.manifest.rank;
        let saved = run.manifest.attempts.last().and_then(|newest| newest.last_step);
        let told = self.states.iter().find(|state| state.rank == rank);
        let mut details = json!({"rank": rank, "process": "dead"});
        if let Some(step) = saved.max(told.and_then(|state| state.step)) {
            details["step"] = step.into();
        }
        details
    }

    fn examine(&self, run: &StoredRun, rank: u32) -> Value {
        let now = SystemTime::now();
        let mut states = self.states.iter();
        process::examine(run, rank, states.any(|state| state.rank == rank && state.is_fresh(now)))
    }
}

fn add_members(object: &mut Value, members: &Value) {
    for (name, value) in members.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
}

/// Returns the end that a state is, and its exit code.
fn end_of(state: RunState) -> Option<(&'static str, u8)> {
    match state {
        RunState::Finished => Some(("finished", 0)),
        RunState::Failed => Some(("failed", 10)),
        RunState::Killed => Some(("killed", 11)),
        RunState::Interrupted => Some(("interrupted", 12)),
        RunState::Preempted => Some(("preempted", 12)),
        _ => None,
    }
}

/// Returns the metric of a row that is no finite number, if there is one.
fn find_nan(line: &[u8], rank: u32) -> Option<Value> {
    // Few rows have one, and parsing all of them would take long.
    if !line.windows(3).any(|bytes| bytes == b"NaN" || bytes == b"Inf") {
        return None;
    }
    let row: StoredRow = serde_json::from_slice(line).ok()?;
    let mut values = row.values.iter();
    let (name, _) = values.find(|(_, value)| !value.as_f64().is_finite())?;
    Some(json!({"metric": name, "step": row.step, "logger": row.logger, "rank": rank}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_finite_number_is_named_with_its_step() {
        for value in ["NaN", "Infinity", "-Infinity"] {
            let row = r#"{"step":7,"time":1.0,"logger":"a","lr":0.1,"loss":null,"nonfinite":"{\"loss\":\"VALUE\"}"}"#;
            let expected = json!({"metric": "loss", "step": 7, "logger": "a", "rank": 3});
            assert_eq!(find_nan(row.replace("VALUE", value).as_bytes(), 3), Some(expected));
        }
        for logger in ["NaN", "Infinity"] {
            let row = format!("{{\"step\":7,\"time\":1.0,\"logger\":\"{logger}\",\"loss\":0.5}}");
            assert_eq!(find_nan(row.as_bytes(), 0), None);
        }
    }
}
