//! Whether the files of a chain hold what was said: every call that returned once, in its thread's order, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::plan::Life;
use super::receipts::{Returned, THREADS, What};
use super::said::{Said, as_written};
use super::wandb_log;

/// A process that was killed.
pub(crate) struct Dead {
    pub(crate) life: Life,
    pub(crate) returned: Returned,
}

/// What is wrong with the files.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) torn: u64,
    /// Rings that are left, ends that are missing, things said on stderr.
    pub(crate) other: u64,
    /// The first of them, in words.
    pub(crate) words: Vec<String>,
}

/// More of them are only counted.
const MOST_WORDS: usize = 12;

impl Findings {
    pub(crate) fn any(&self) -> bool {
        self.lost + self.doubled + self.torn + self.other > 0
    }

    pub(crate) fn other(&mut self, words: String) {
        self.other += 1;
        self.say(words);
    }

    fn torn(&mut self, words: String) {
        self.torn += 1;
        self.say(words);
    }

    fn say(&mut self, words: String) {
        if self.words.len() < MOST_WORDS {
            self.words.push(words);
        }
    }
}

/// Looks at everything in the log directory of a chain.
pub(crate) fn check(folder: &Path, dead: &[Dead]) -> Result<Findings> {
    let mut findings = Findings::default();
    check_text(folder, dead, &mut findings)?;
    check_rows(folder, dead, &mut findings)?;
    check_runs(folder, dead, &mut findings)?;
    check_config(folder, &mut findings);
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with(".logcore-") {
            findings.other(format!("{} is left", name.display()));
        }
    }
    Ok(findings)
}

/// Where a stream of numbers stands, for each thread of each process.
struct Courses<'a> {
    dead: &'a [Dead],
    what: What,
    file: &'static str,
    next: BTreeMap<(u64, u64), u64>,
}

impl<'a> Courses<'a> {
    fn new(dead: &'a [Dead], what: What, file: &'static str) -> Self {
        Self {
            dead,
            what,
            file,
            next: BTreeMap::new(),
        }
    }

    fn take(&mut self, generation: u64, thread: u64, number: u64, findings: &mut Findings) {
        let file = self.file;
        let next = self.next.entry((generation, thread)).or_default();
        if number < *next {
            findings.doubled += 1;
            findings.say(format!("{file}: g{generation} t{thread} n{number} again, or late"));
            return;
        }
        if number > *next {
            findings.lost += number - *next;
            findings.say(format!(
                "{file}: g{generation} t{thread} n{} to n{number} are not there",
                *next
            ));
        }
        *next = number + 1;
    }

    fn end(&self, findings: &mut Findings) {
        for one in self.dead {
            self.end_of(one, findings);
        }
    }

    fn end_of(&self, dead: &Dead, findings: &mut Findings) {
        let generation = dead.life.generation;
        for thread in 0..THREADS {
            let next = self.next.get(&(generation, thread)).copied().unwrap_or_default();
            let returned = dead.returned.count(thread, self.what);
            let file = self.file;
            if next < returned {
                findings.lost += returned - next;
                findings.say(format!(
                    "{file}: g{generation} t{thread} ends before n{next}, and {returned} calls had returned"
                ));
            }
            // One may be between its return and the receipt, or not returned yet.
            if next > returned + 1 {
                findings.torn(format!(
                    "{file}: g{generation} t{thread} has {next} calls, of which {returned} had returned"
                ));
            }
        }
    }
}

fn check_text(folder: &Path, dead: &[Dead], findings: &mut Findings) -> Result<()> {
    let mut courses = Courses::new(dead, What::Lines, "training.log");
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    let mut newest = 0;
    for path in files(folder, "training.log")? {
        let shown = path.file_name().unwrap_or_default().display();
        let bytes = fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        if !text.is_empty() && !text.ends_with('\n') {
            findings.torn(format!("{shown}: its last line has no end"));
        }
        for (at, record) in records(&text).enumerate() {
            let Some((generation, message)) = head(record) else {
                findings.torn(format!("{shown}: record {at} is none: {}", cut(record)));
                continue;
            };
            if generation < newest {
                findings.torn(format!("{shown}: g{generation} behind g{newest}: {}", cut(record)));
            }
            newest = newest.max(generation);
            if message.starts_with("the run was killed") {
                *ends.entry(generation).or_default() += 1;
                continue;
            }
            let life = dead
                .iter()
                .map(|dead| &dead.life)
                .find(|life| life.generation == generation);
            match life.and_then(|life| said(life, message)) {
                Some((thread, number)) => courses.take(generation, thread, number, findings),
                None => findings.torn(format!("{shown}: record {at} was never said: {}", cut(record))),
            }
        }
    }
    courses.end(findings);
    for one in dead {
        let (generation, ready) = (one.life.generation, one.returned.was_ready());
        let count = ends.get(&generation).copied().unwrap_or_default();
        if count > 1 || (ready && count == 0) {
            findings.other(format!("g{generation} has {count} ends in training.log"));
        }
    }
    Ok(())
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

/// Whose a record is, and its message: `2026-11-23 14:48:15.123 | INFO  | g3 | message`.
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

/// The thread and the number, if the message is what they say.
fn said(life: &Life, message: &str) -> Option<(u64, u64)> {
    let mut words = message.split(' ').skip(1);
    let thread = words.next()?.strip_prefix('t')?.parse().ok()?;
    let number = words.next()?.strip_prefix('n')?.parse().ok()?;
    let line = Said::new(life, thread, number).line(life, thread, number);
    (as_written(&line) == message).then_some((thread, number))
}

fn check_rows(folder: &Path, dead: &[Dead], findings: &mut Findings) -> Result<()> {
    let mut courses = Courses::new(dead, What::Values, "metrics.jsonl");
    for path in files(folder, "metrics.jsonl")? {
        let bytes = fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let row = serde_json::from_str(line).ok().filter(|_| line.ends_with('\n'));
            if row.and_then(|row| take_row(&row, &mut courses, findings)).is_none() {
                findings.torn(format!("metrics.jsonl: line {at} is no row: {}", cut(line)));
            }
        }
    }
    courses.end(findings);
    Ok(())
}

fn take_row(row: &Value, courses: &mut Courses<'_>, findings: &mut Findings) -> Option<()> {
    let generation = row["logger"].as_str()?.strip_prefix('g')?.parse().ok()?;
    let step = row["step"].as_u64()?;
    for (name, value) in row.as_object()? {
        if let Some(name) = name.strip_prefix("metrics/") {
            let (thread, number) = value_of(name, value.as_u64()?, step)?;
            courses.take(generation, thread, number, findings);
        } else if !matches!(name.as_str(), "step" | "time" | "logger") {
            return None;
        }
    }
    Some(())
}

/// Whose a value is.
fn value_of(name: &str, number: u64, step: u64) -> Option<(u64, u64)> {
    let thread = match (name, number % 2) {
        ("even", 0) | ("odd", 1) if step == number / 2 => 0,
        ("even" | "odd", _) => return None,
        _ => name.strip_prefix('t')?.parse().ok()?,
    };
    Some((thread, number))
}

fn check_runs(folder: &Path, dead: &[Dead], findings: &mut Findings) -> Result<()> {
    let mut courses = Courses::new(dead, What::Values, "W&B log");
    let mut ended: BTreeMap<u64, u64> = BTreeMap::new();
    for path in wandb_log::find(folder)? {
        let shown = path.display();
        let bytes = fs::read(&path)?;
        let (run, damage) = wandb_log::read(&bytes);
        if let Some(damage) = damage {
            findings.torn(format!("{shown}: {damage}"));
        }
        // A process that died before its run had a name had no logger either.
        let Some(generation) = run.name.strip_prefix('g').and_then(|name| name.parse().ok()) else {
            continue;
        };
        for row in &run.rows {
            let number = |key: &str| row.get(key).and_then(|value| value.parse().ok());
            let step = number("_step").unwrap_or(u64::MAX);
            for name in row.keys().filter_map(|key| key.strip_prefix("metrics/")) {
                let value = number(&format!("metrics/{name}"));
                match value.and_then(|value| value_of(name, value, step)) {
                    Some((thread, value)) => courses.take(generation, thread, value, findings),
                    None => findings.torn(format!("{shown}: {name} at step {step} was never said")),
                }
            }
        }
        if run.exit_codes == [KILLED] {
            *ended.entry(generation).or_default() += 1;
        } else if !run.exit_codes.is_empty() {
            findings.other(format!("{shown}: it ends with {:?}", run.exit_codes));
        }
    }
    courses.end(findings);
    for one in dead {
        let count = ended.get(&one.life.generation).copied().unwrap_or_default();
        if count > 1 || (one.returned.was_ready() && count == 0) {
            findings.other(format!("g{} has {count} runs that have ended", one.life.generation));
        }
    }
    Ok(())
}

/// How a run has ended that was killed.
const KILLED: u64 = 137;

fn check_config(folder: &Path, findings: &mut Findings) {
    if let Ok(bytes) = fs::read(folder.join("config.json"))
        && serde_json::from_slice::<Value>(&bytes).is_err()
    {
        findings.torn("config.json is no JSON".to_owned());
    }
}

/// A file and those that were put aside, oldest first.
pub(crate) fn files(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let rest = path.file_name().and_then(|file| file.to_str()?.strip_prefix(name));
        match rest {
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

fn cut(text: &str) -> String {
    let shown: String = text.chars().take(160).collect();
    format!("{shown:?} ({} bytes)", text.len())
}
