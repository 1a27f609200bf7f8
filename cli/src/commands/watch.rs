//! `logcore watch`: waits for the end of a run, or for trouble.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use logcore::{RunState, StoredRow};
use logcore_runs::{FollowedFile, StoredRun};
use serde_json::{Value, json};

use crate::arguments::{WatchArguments, WatchedEvent};
use crate::output::{Outcome, Output};

/// Time between two looks at a run.
const INTERVAL: Duration = Duration::from_millis(250);

/// The event that a watch has seen, with its exit code.
struct Seen {
    event: &'static str,
    code: u8,
    details: Value,
}

/// Waits until something of what the user waits for has happened, and prints one JSON object.
pub(super) fn run(arguments: &WatchArguments, run: &StoredRun, output: &mut Output) -> Result<Outcome> {
    let begun = Instant::now();
    let waits_for = |event: WatchedEvent| arguments.until.contains(&event);
    let mut rows: BTreeMap<u32, FollowedFile> = BTreeMap::new();
    let mut moved = Instant::now();
    let seen = loop {
        let now = StoredRun::open(&run.dir)?;
        let mut not_a_number = None;
        for (rank, path) in now.row_files()? {
            let file = rows.entry(rank).or_insert_with(|| FollowedFile::at_begin_of(&path));
            file.read_lines(|_, line| {
                moved = Instant::now();
                if not_a_number.is_none() {
                    not_a_number = find_nan(line, rank);
                }
            });
        }
        match end_of(now.state) {
            _ if not_a_number.is_some() && waits_for(WatchedEvent::Nan) => {
                let details = not_a_number.unwrap_or_default();
                break Seen {
                    event: "nan",
                    code: 13,
                    details,
                };
            }
            Some((event, code)) if waits_for(WatchedEvent::End) => {
                let details = json!({"exit_code": now.manifest.exit_code});
                break Seen { event, code, details };
            }
            _ => {}
        }
        if waits_for(WatchedEvent::Stall) && now.state == RunState::Running && moved.elapsed() >= arguments.stall_after
        {
            let details = json!({"seconds": moved.elapsed().as_secs_f64()});
            break Seen {
                event: "stall",
                code: 14,
                details,
            };
        }
        if arguments.timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            break Seen {
                event: "timeout",
                code: 15,
                details: json!({}),
            };
        }
        thread::sleep(INTERVAL);
    };
    let mut object = json!({"event": seen.event, "id": run.manifest.id, "dir": run.dir});
    for (name, value) in seen.details.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    output.print_object(&object)?;
    Ok(Outcome::Seen(seen.code))
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

/// Returns the metric of a row that is NaN, if there is one.
fn find_nan(line: &[u8], rank: u32) -> Option<Value> {
    // Few rows have one, and parsing all of them would take long.
    if !line.windows(3).any(|bytes| bytes == b"NaN") {
        return None;
    }
    let row: StoredRow = serde_json::from_slice(line).ok()?;
    let (name, _) = row.values.iter().find(|(_, value)| value.as_f64().is_nan())?;
    Some(json!({"metric": name, "step": row.step, "logger": row.logger, "rank": rank}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_is_named_with_its_step() {
        let row = br#"{"step":7,"time":1.0,"logger":"a","loss":null,"nonfinite":"{\"loss\":\"NaN\"}"}"#;
        let expected = json!({"metric": "loss", "step": 7, "logger": "a", "rank": 3});
        assert_eq!(find_nan(row, 3), Some(expected));
        assert_eq!(find_nan(br#"{"step":7,"time":1.0,"logger":"NaN"}"#, 0), None);
    }
}
