//! `logcore snap`: the last calls in the ring of a process, which may hang, be stopped or be dead.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use facade::{RingCall, RingContent, RingSnapshot, read_live_ring, rings_in, rings_of_process};
use logcore::escape::to_one_line;
use logcore::{FileRank, ProgressEvent, ProgressKind, epoch_seconds};
use logcore_runs::{find_run, list_runs};
use serde_json::{Value, json};

use crate::arguments::SnapArguments;
use crate::columns::{local_time_millis, short_number, short_value};
use crate::output::{Outcome, Output};

pub(super) fn run(arguments: &SnapArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let paths = find_rings(&arguments.process_or_run, log_dir)?;
    let mut outcome = Outcome::Done;
    let mut rings = Vec::new();
    for path in paths {
        match read_live_ring(&path, arguments.lines) {
            Ok(snapshot) => {
                print_snapshot(&snapshot, output);
                rings.push(ring_json(&snapshot));
            }
            Err(error) => {
                outcome = Outcome::DoneInPart;
                let path = path.to_string_lossy();
                output.problem(Some(&path), &format!("cannot read the ring {path}: {error}"));
            }
        }
    }
    output.member("rings", rings.into());
    Ok(outcome)
}

/// Returns the paths of the rings of a process, a run, or a ring itself.
fn find_rings(process_or_run: &str, log_dir: &Path) -> Result<Vec<PathBuf>> {
    let path = Path::new(process_or_run);
    if path.symlink_metadata().is_ok() && !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if let Ok(pid) = process_or_run.parse() {
        let rings = rings_of_process(pid);
        if let Some(rings) = rings.as_ref().ok().filter(|rings| !rings.is_empty()) {
            return Ok(rings.clone());
        }
        // A killed process has closed its files.
        let left = find_rings_left(log_dir, pid);
        if !left.is_empty() {
            return Ok(left);
        }
        match rings {
            Ok(_) => bail!(
                "cannot find a ring of the process {pid}: it is no program of logcore, its loggers have ended, or \
                 their ring is memory. Name another process, or a run"
            ),
            // The name of a run may be a number, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => bail!(
                "cannot look into the process {pid}: {error}. Run the command as the user of the process, or name the \
                 run"
            ),
        }
    }
    let run = find_run(log_dir, process_or_run)?;
    let rings = rings_in(&run.dir)?;
    ensure!(
        !rings.is_empty(),
        "cannot find a ring in {}: the run has ended, or its ring is memory. Its files have all lines, then; \
         `logcore tail` prints them",
        run.dir.display()
    );
    Ok(rings)
}

/// Returns the paths of the rings that a process has left in the folders of its runs.
fn find_rings_left(log_dir: &Path, pid: u32) -> Vec<PathBuf> {
    let begin = format!(".logcore-{pid}-");
    let runs = list_runs(log_dir).map(|list| list.runs).unwrap_or_default();
    let rings = runs.iter().flat_map(|run| rings_in(&run.dir).unwrap_or_default());
    let is_left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&begin))
    };
    rings.filter(is_left).collect()
}

fn print_snapshot(snapshot: &RingSnapshot, output: &mut Output) {
    let path = snapshot.path.to_string_lossy();
    let rank = rank_of(&snapshot.path).map_or(String::new(), |rank| format!(", rank {rank}"));
    output.line(format!("process {}{rank}: {}", snapshot.pid, to_one_line(&path)));
    let mut was_written = true;
    for call in &snapshot.calls {
        if was_written && !call.is_written {
            output.line(format!(
                "--- the writer has not noted the {} calls from here on as written ---",
                snapshot.unwritten
            ));
        }
        was_written = call.is_written;
        output.line(text_of(call));
    }
    for (count, cause) in [
        (snapshot.overwritten, "older ones were overwritten while they were read"),
        (snapshot.unfinished, "calls had begun and were not complete"),
        (
            snapshot.unreadable,
            "calls cannot be read: only a part of each is in the ring",
        ),
    ] {
        if count > 0 {
            output.line(format!("--- {count} {cause} ---"));
        }
    }
}

/// Returns the line of a call: time, level or kind, logger, message.
fn text_of(call: &RingCall) -> String {
    let (kind, text) = match &call.content {
        RingContent::Record {
            level,
            target,
            message,
            fields,
        } => {
            let mut text = String::new();
            if let Some(target) = target.as_ref().filter(|target| call.logger.as_ref() != Some(target)) {
                text = format!("{target}: ");
            }
            text.push_str(message);
            for (name, value) in fields {
                text.push_str(&format!(" | {name}={}", exact_value(value)));
            }
            (level.as_str(), text)
        }
        RingContent::Metrics { step, values } => {
            let values = values
                .iter()
                .map(|(name, value)| format!(" {name}={}", exact_value(&json!(value))));
            ("metrics", format!("step={step}{}", values.collect::<String>()))
        }
        RingContent::Progress { description, event } => ("progress", progress_text(description, event)),
        RingContent::Config(json) => ("config", json.clone()),
        RingContent::Alert(json) => ("alert", alert_text(json)),
        RingContent::Media(json) => ("media", media_text(json)),
        RingContent::Message { sink, bytes } => ("message", format!("{bytes} bytes for the sink {sink}")),
        // A later version may know more.
        _ => ("unknown", String::new()),
    };
    let time = local_time_millis(call.time);
    let logger = call.logger.as_deref().unwrap_or("?");
    to_one_line(&format!("{time} | {kind:<8} | {logger} | {text}")).into_owned()
}

fn progress_text(description: &str, event: &ProgressEvent<'_>) -> String {
    let mut text = format!("{description} {}", event.position);
    if let Some(total) = event.total {
        text.push_str(&format!("/{total}"));
    }
    if let Some(rate) = event.rate {
        text.push_str(&format!(", {} it/s", short_number(rate)));
    }
    match event.kind {
        ProgressKind::Started => text.push_str(", started"),
        ProgressKind::Finished => text.push_str(", finished"),
        _ => {}
    }
    text
}

fn alert_text(json: &str) -> String {
    let alert = parsed(json);
    let of = |name: &str| short_value(&alert[name]);
    format!("{} {}: {}", of("level"), of("title"), of("text"))
}

fn media_text(json: &str) -> String {
    let media = parsed(json);
    let of = |name: &str| short_value(&media[name]);
    format!("step={} {} {}", of("step"), of("kind"), of("key"))
}

/// Returns a value with all of its digits.
fn exact_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

fn rank_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    FileRank::parse(name).map(|(_, rank)| rank)
}

fn ring_json(snapshot: &RingSnapshot) -> Value {
    json!({
        "path": snapshot.path.to_string_lossy(),
        "pid": snapshot.pid,
        "rank": rank_of(&snapshot.path),
        "unwritten": snapshot.unwritten,
        "overwritten": snapshot.overwritten,
        "unfinished": snapshot.unfinished,
        "unreadable": snapshot.unreadable,
        "calls": snapshot.calls.iter().map(call_json).collect::<Vec<_>>(),
    })
}

fn call_json(call: &RingCall) -> Value {
    let (kind, members) = match &call.content {
        RingContent::Record {
            level,
            target,
            message,
            fields,
        } => (
            "record",
            json!({
                "level": level.as_str(),
                "target": target,
                "message": message,
                "fields": fields.iter().cloned().collect::<serde_json::Map<_, _>>(),
            }),
        ),
        RingContent::Metrics { step, values } => {
            let values = values.iter().map(|(name, value)| (name.clone(), json!(value)));
            (
                "metrics",
                json!({"step": step, "values": values.collect::<serde_json::Map<_, _>>()}),
            )
        }
        RingContent::Progress { description, event } => (
            "progress",
            json!({
                "description": description,
                "position": event.position,
                "total": event.total,
                "samples": event.samples,
                "rate": event.rate,
                "samples_per_sec": event.samples_per_sec,
                "eta": event.eta.map(|eta| eta.as_secs_f64()),
                "elapsed": event.elapsed.as_secs_f64(),
                "change": match event.kind {
                    ProgressKind::Started => "started",
                    ProgressKind::Finished => "finished",
                    _ => "advanced",
                },
            }),
        ),
        RingContent::Config(json) => ("config", json!({"config": parsed(json)})),
        RingContent::Alert(json) => ("alert", json!({"alert": parsed(json)})),
        RingContent::Media(json) => ("media", json!({"media": parsed(json)})),
        RingContent::Message { sink, bytes } => ("message", json!({"sink": sink, "bytes": bytes})),
        _ => ("unknown", json!({})),
    };
    let mut object = json!({
        "time": epoch_seconds(call.time),
        "kind": kind,
        "logger": call.logger,
        "is_written": call.is_written,
    });
    for (name, value) in members.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    object
}
