//! The event files of TensorBoard: they must hold each value that was logged, once, at its step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use facade::logcore::MetricValue;
use logcore_tensorboard::{EventContent, EventReader, TagContent};

use crate::check::{KilledProcess, value_of};
use crate::findings::{ComparedOutput, Findings};
use crate::receipts::CallKind;
use crate::sequences::SequenceCheck;

/// The hyper-parameter that names the process of a file.
pub(crate) const GENERATION: &str = "generation";

/// Returns the paths of the event files in the folder of a run.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.join("tensorboard")];
    // Loggers after the first of a run have folders of their own.
    while let Some(folder) = open.pop().filter(|folder| folder.exists()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Checks all event files in these folders.
pub(crate) fn check(folders: &[PathBuf], dead: &[KilledProcess], findings: &mut Findings) -> Result<()> {
    let mut courses = SequenceCheck::new(dead, CallKind::Values, ComparedOutput::Events);
    let mut ended: BTreeMap<u64, u64> = BTreeMap::new();
    for folder in folders {
        for path in find(folder)? {
            check_file(&path, &mut courses, &mut ended, findings)?;
        }
    }
    courses.end(findings);
    for one in dead {
        let count = ended.get(&one.life.generation).copied().unwrap_or_default();
        if count > 1 || (one.returned.was_ready() && count == 0) {
            findings.other(format!("g{} has {count} ends in event files", one.life.generation));
        }
    }
    Ok(())
}

fn check_file(
    path: &Path,
    courses: &mut SequenceCheck<'_>,
    ended: &mut BTreeMap<u64, u64>,
    findings: &mut Findings,
) -> Result<()> {
    let shown = path.display();
    let bytes = fs::read(path)?;
    let mut events = EventReader::new(&*bytes);
    let mut generation = None;
    loop {
        let event = match events.next_event() {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(error) => {
                findings.other(format!("{shown}: {error}"));
                return Ok(());
            }
        };
        let EventContent::Values(values) = event.content else {
            continue;
        };
        for value in values {
            match value.value {
                TagContent::HyperParameters(all) => generation = all.get(GENERATION).and_then(|value| value.as_f64()),
                TagContent::End { .. } => *ended.entry(generation.unwrap_or(-1.0) as u64).or_default() += 1,
                TagContent::Scalar(number) => {
                    let Some(name) = value.tag.strip_prefix("metrics/") else {
                        continue;
                    };
                    let generation = generation.map(|number| number as u64);
                    match generation.and_then(|_| thread_and_number(name, number, event.step)) {
                        Some((thread, number)) => {
                            courses.take(generation.unwrap_or_default(), thread, number, findings);
                        }
                        None => {
                            let words = format_args!("{shown}: {name} at step {} was never logged", event.step);
                            findings.torn(ComparedOutput::Events, generation, words);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    if events.position() < bytes.len() as u64 {
        let words = format_args!("{shown}: its last record has no end");
        findings.torn(ComparedOutput::Events, None, words);
    }
    Ok(())
}

/// Returns the thread and the number of a value. TensorBoard's numbers are exact up to 2^24, which
/// no thread reaches.
fn thread_and_number(name: &str, value: MetricValue, step: i64) -> Option<(u64, u64)> {
    value_of(name, value.as_f64() as u64, u64::try_from(step).ok()?)
}

/// Changes the records with values of metrics in an event file, which stays readable. `None` if
/// there are few of them.
pub(crate) fn rewrite(bytes: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Option<Vec<u8>> {
    let (mut before, mut values, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = u64::from_le_bytes(*rest.first_chunk()?);
        let (record, next) = rest.split_at_checked(usize::try_from(length).ok()? + RECORD_OVERHEAD)?;
        rest = next;
        let is_value = record.windows(METRICS.len()).any(|window| window == METRICS);
        let part = match is_value {
            true => &mut values,
            false if values.is_empty() => &mut before,
            false => &mut behind,
        };
        part.push(record.to_vec());
    }
    if values.len() < 10 {
        return None;
    }
    change(&mut values);
    before.append(&mut values);
    before.append(&mut behind);
    Some(before.concat())
}

/// A tag with this text is a metric.
const METRICS: &[u8] = b"metrics/";
/// Length and checksums around the message of a record.
const RECORD_OVERHEAD: usize = 16;
