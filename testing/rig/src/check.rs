//! Checks the files of a chain: they must hold each call that returned once, in its thread's order,
//! and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use facade::logcore::RunManifest;
use serde_json::Value;

use crate::findings::{ComparedOutput, Findings};
use crate::plan::ProcessPlan;
use crate::receipts::{CallKind, ReturnedCalls};
use crate::resumed;
use crate::scripted_call::as_written;
use crate::sequences::{LineCheck, SequenceCheck, cut};
use crate::{event_files, wandb_log};

/// A process that was killed, and its calls that had returned.
pub(crate) struct KilledProcess {
    pub(crate) life: ProcessPlan,
    pub(crate) returned: ReturnedCalls,
}

/// Checks all files in the log directory of a chain, and in the folders of its runs.
pub(crate) fn check(root: &Path, dead: &[KilledProcess]) -> Result<Findings> {
    let mut findings = Findings::default();
    let folders = log_folders(root)?;
    check_text(&folders, dead, &mut findings)?;
    check_records(&folders, dead, &mut findings)?;
    check_rows(&folders, dead, &mut findings)?;
    check_wandb_runs(&folders, dead, &mut findings)?;
    event_files::check(&folders, dead, &mut findings)?;
    for folder in &folders {
        check_config(folder, &mut findings);
        check_leavings(folder, ".logcore-", &mut findings)?;
    }
    let entries = root.join(".logcore/rings");
    if entries.exists() {
        check_leavings(&entries, "", &mut findings)?;
    }
    Ok(findings)
}

/// Returns the log directory and the folders in it, in which runs may be.
pub(crate) fn log_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.to_owned()];
    for entry in fs::read_dir(root).with_context(|| format!("read {}", root.display()))? {
        let entry = entry?;
        // Not the links to the newest run.
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Checks that no file with this beginning of its name is left.
fn check_leavings(folder: &Path, beginning: &str, findings: &mut Findings) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A process that was killed before its ring had a name leaves no run: a folder that nobody
        // visits, with nothing else than its lock.
        let is_of_no_run = name.ends_with(".tmp") && holds_no_run(folder)?;
        if name.starts_with(beginning) && !is_of_no_run {
            findings.other(format!("{} is left", path.display()));
        }
    }
    Ok(())
}

/// Returns `true` if a folder has only what a process makes before its run begins.
fn holds_no_run(folder: &Path) -> Result<bool> {
    let mut names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    names.try_fold(true, |holds_none, name: Result<_>| {
        let name = name?;
        let name = name.to_string_lossy();
        Ok(holds_none && (name == RunManifest::LOCK || name.ends_with(".tmp")))
    })
}

fn check_text(folders: &[PathBuf], dead: &[KilledProcess], findings: &mut Findings) -> Result<()> {
    let mut lines = LineCheck::new(dead, ComparedOutput::Text, |line| as_written(&line));
    for folder in folders {
        check_text_in(folder, &mut lines, findings)?;
    }
    lines.end(findings);
    Ok(())
}

fn check_text_in(folder: &Path, lines: &mut LineCheck<'_>, findings: &mut Findings) -> Result<()> {
    let mut newest = 0;
    for path in files(folder, "training.log")? {
        let shown = path.file_name().unwrap_or_default().display();
        let bytes = fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        if !text.is_empty() && !text.ends_with('\n') {
            findings.torn(
                ComparedOutput::Text,
                None,
                format_args!("the last line of {shown} has no end"),
            );
        }
        for (at, record) in records(&text).enumerate() {
            let Some((generation, message)) = head(record) else {
                let words = format_args!("record {at} of {shown} is none: {}", cut(record));
                findings.torn(ComparedOutput::Text, None, words);
                continue;
            };
            in_turn(ComparedOutput::Text, &mut newest, generation, findings);
            lines.take(generation, message, findings);
        }
    }
    Ok(())
}

/// Checks that the calls of a process stand behind the calls of earlier processes.
fn in_turn(output: ComparedOutput, newest: &mut u64, generation: u64, findings: &mut Findings) {
    if generation < *newest {
        findings.torn(output, Some(generation), format_args!("g{generation} behind g{newest}"));
    }
    *newest = generation.max(*newest);
}

/// Splits a text file into its records.
fn records(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            end = rest[end..].find('\n').map_or(rest.len(), |at| end + at + 1);
            if !rest[end..].starts_with("    ") {
                break;
            }
        }
        let (record, after) = rest.split_at(end);
        rest = after;
        Some(record.strip_suffix('\n').unwrap_or(record))
    })
}

/// Parses the generation and the message of a record such as
/// `2026-11-23 14:48:15.123 | INFO  | g3 | message`.
fn head(record: &str) -> Option<(u64, &str)> {
    let mut parts = record.splitn(4, " | ");
    let (time, level, name) = (parts.next()?, parts.next()?, parts.next()?);
    let as_time = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b' ',
        13 | 16 => byte == b':',
        19 => byte == b'.',
        _ => byte.is_ascii_digit(),
    };
    let whole = time.len() == 23 && time.bytes().enumerate().all(as_time);
    let generation = name.strip_prefix('g')?.parse().ok()?;
    (whole && matches!(level, "INFO " | "WARN " | "ERROR")).then_some((generation, parts.next()?))
}

fn check_records(folders: &[PathBuf], dead: &[KilledProcess], findings: &mut Findings) -> Result<()> {
    let mut lines = LineCheck::new(dead, ComparedOutput::Records, |line| line);
    for folder in folders {
        let mut newest = 0;
        each_json(folder, ComparedOutput::Records, findings, |record, findings| {
            let generation = generation(record)?;
            in_turn(ComparedOutput::Records, &mut newest, generation, findings);
            lines.take(generation, record["message"].as_str()?, findings);
            Some(())
        })?;
    }
    lines.end(findings);
    Ok(())
}

/// Gives `take` each line of a file of JSON lines. A line that is no JSON or that `take` refuses is
/// torn.
fn each_json(
    folder: &Path,
    output: ComparedOutput,
    findings: &mut Findings,
    mut take: impl FnMut(&Value, &mut Findings) -> Option<()>,
) -> Result<()> {
    for path in files(folder, output.name())? {
        let bytes = fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let value = serde_json::from_str(line).ok().filter(|_| line.ends_with('\n'));
            if value.and_then(|value| take(&value, findings)).is_none() {
                findings.torn(output, None, format_args!("line {at} is none: {}", cut(line)));
            }
        }
    }
    Ok(())
}

fn generation(value: &Value) -> Option<u64> {
    value["logger"].as_str()?.strip_prefix('g')?.parse().ok()
}

fn check_rows(folders: &[PathBuf], dead: &[KilledProcess], findings: &mut Findings) -> Result<()> {
    let mut courses = SequenceCheck::new(dead, CallKind::Values, ComparedOutput::Rows);
    let mut shared = SequenceCheck::of_shared(dead);
    for folder in folders {
        let name = folder.file_name().and_then(|name| name.to_str());
        let mut attempts = RunAttempts {
            is_resumed: dead.iter().any(|one| one.life.run.resumed() == name),
            of: BTreeMap::new(),
        };
        each_json(folder, ComparedOutput::Rows, findings, |row, findings| {
            let generation = match row["logger"] == resumed::SHARED {
                true => take_shared_row(row, &mut shared, findings)?,
                false => {
                    take_row(row, &mut courses, findings)?;
                    generation(row)?
                }
            };
            attempts.take(generation, row["attempt"].as_u64().unwrap_or(1), findings);
            Some(())
        })?;
        if let Some(run) = name.filter(|_| attempts.is_resumed && folder.join(RunManifest::FILE).exists()) {
            resumed::check(folder, run, dead, findings)?;
        }
    }
    courses.end(findings);
    shared.end(findings);
    Ok(())
}

/// The attempts of one run, by the generation of the process.
struct RunAttempts {
    is_resumed: bool,
    of: BTreeMap<u64, u64>,
}

impl RunAttempts {
    /// Checks that each process has an attempt of its own, behind those before it.
    fn take(&mut self, generation: u64, attempt: u64, findings: &mut Findings) {
        let known = *self.of.entry(generation).or_insert(attempt);
        let mut before = self.of.range(..generation);
        let before = before.next_back().map_or(0, |(_, attempt)| *attempt);
        if known != attempt || (self.is_resumed && attempt <= before) {
            let words = format_args!("g{generation} is attempt {attempt} after {before}, and was {known}");
            findings.torn(ComparedOutput::Rows, Some(generation), words);
        }
    }
}

/// Takes a row of the logger that all attempts share. Returns the generation of its process.
fn take_shared_row(row: &Value, courses: &mut SequenceCheck<'_>, findings: &mut Findings) -> Option<u64> {
    let (generation, step) = resumed::parse(row["metrics/shared"].as_u64()?);
    if row["step"].as_u64() != Some(step) {
        return None;
    }
    let first = courses.first_step(generation)?;
    courses.take(generation, 0, step.checked_sub(first)?, findings);
    Some(generation)
}

fn take_row(row: &Value, courses: &mut SequenceCheck<'_>, findings: &mut Findings) -> Option<()> {
    let generation = generation(row)?;
    let step = row["step"].as_u64()?;
    for (name, value) in row.as_object()? {
        if let Some(name) = name.strip_prefix("metrics/") {
            let (thread, number) = value_of(name, value.as_u64()?, step)?;
            courses.take(generation, thread, number, findings);
        } else if !matches!(name.as_str(), "step" | "time" | "logger" | "attempt" | "nonfinite") {
            return None;
        }
    }
    Some(())
}

/// Returns the thread and the number of a value.
pub(crate) fn value_of(name: &str, number: u64, step: u64) -> Option<(u64, u64)> {
    let thread = match (name, number % 2) {
        ("even", 0) | ("odd", 1) if step == number / 2 => 0,
        ("even" | "odd", _) => return None,
        _ => name.strip_prefix('t')?.parse().ok()?,
    };
    Some((thread, number))
}

fn check_wandb_runs(folders: &[PathBuf], dead: &[KilledProcess], findings: &mut Findings) -> Result<()> {
    let mut courses = SequenceCheck::new(dead, CallKind::Values, ComparedOutput::RunRows);
    let mut lines = LineCheck::new(dead, ComparedOutput::RunLines, |line| line);
    let mut ended: BTreeMap<u64, u64> = BTreeMap::new();
    let logs: Vec<_> = folders
        .iter()
        .map(|folder| wandb_log::find(folder))
        .collect::<Result<_>>()?;
    for path in logs.into_iter().flatten() {
        let shown = path.display();
        let bytes = fs::read(&path)?;
        let (run, damage) = wandb_log::read(&bytes);
        if let Some(damage) = damage {
            findings.other(format!("{shown}: {damage}"));
        }
        // A process that was killed before its run had a name had no logger either.
        let Some(generation) = run.name.strip_prefix('g').and_then(|name| name.parse().ok()) else {
            continue;
        };
        for row in &run.rows {
            take_run_row(generation, row, &mut courses, findings);
        }
        for line in &run.lines {
            let line = line.strip_suffix('\n').unwrap_or_default();
            let levels = ["ERROR: ", "WARN: "];
            let message = levels.iter().find_map(|level| line.strip_prefix(level)).unwrap_or(line);
            lines.take(generation, message, findings);
        }
        if let [code] = run.exit_codes[..]
            && ENDED.contains(&code)
        {
            *ended.entry(generation).or_default() += 1;
        } else if !run.exit_codes.is_empty() {
            findings.other(format!("{shown}: it ends with {:?}", run.exit_codes));
        }
    }
    courses.end(findings);
    lines.end(findings);
    for one in dead {
        let count = ended.get(&one.life.generation).copied().unwrap_or_default();
        if count > 1 || (one.returned.was_ready() && count == 0) {
            findings.other(format!("g{} has {count} runs that have ended", one.life.generation));
        }
    }
    Ok(())
}

fn take_run_row(
    generation: u64,
    row: &BTreeMap<String, String>,
    courses: &mut SequenceCheck<'_>,
    findings: &mut Findings,
) {
    let number = |key: &str| row.get(key).and_then(|value| value.parse().ok());
    let step = number("_step").unwrap_or(u64::MAX);
    for name in row.keys().filter_map(|key| key.strip_prefix("metrics/")) {
        let value = number(&format!("metrics/{name}"));
        match value.and_then(|value| value_of(name, value, step)) {
            Some((thread, value)) => courses.take(generation, thread, value, findings),
            None => {
                let words = format_args!("{name} at step {step} was never logged");
                findings.torn(ComparedOutput::RunRows, Some(generation), words);
            }
        }
    }
}

/// Exit codes of runs that were killed, or that a signal left the time to end.
const ENDED: [u64; 4] = [137, 129, 130, 143];

fn check_config(folder: &Path, findings: &mut Findings) {
    if let Ok(bytes) = fs::read(folder.join("config.json"))
        && serde_json::from_slice::<Value>(&bytes).is_err()
    {
        findings.other("config.json is no JSON".to_owned());
    }
}

/// Returns a file and its rotated files, oldest first.
pub(crate) fn files(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let rest = path.file_name().and_then(|file| file.to_str()?.strip_prefix(name));
        match rest.filter(|_| !path.is_symlink()) {
            Some("") => numbered.push((0, path)),
            Some(rest) => {
                let number = rest.strip_prefix('.').and_then(|number| number.parse::<u64>().ok());
                numbered.extend(number.map(|number| (number, path)));
            }
            None => {}
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().rev().map(|(_, path)| path).collect())
}
