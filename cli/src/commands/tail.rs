//! `logcore tail`: the newest lines of a run, and those to come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use logcore::escape::to_one_line;
use logcore::{RunManifest, RunState};
use logcore_runs::{FollowedFile, StoredRun};
use serde_json::json;

use crate::arguments::TailArguments;
use crate::output::{Outcome, Output};

/// Time between two looks at the files of a run.
const INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn run(arguments: &TailArguments, run: &StoredRun, output: &mut Output) -> Result<Outcome> {
    let mut followed: BTreeMap<u32, FollowedFile> = BTreeMap::new();
    let mut life = (run.state, run.manifest.attempts.len());
    let mut newest = Vec::new();
    let mut outcome = Outcome::Done;
    for (rank, path) in run.text_files()? {
        let mut file = FollowedFile::at_end_of(&path);
        if let Some(obstacle) = file.obstacle() {
            let name = path.to_string_lossy();
            output.problem(Some(&name), &format!("cannot read {}: {obstacle}", to_one_line(&name)));
            outcome = Outcome::DoneInPart;
        }
        newest.extend(read_lines(&mut file, rank));
        followed.insert(rank, file);
    }
    let mut newest = fold(newest);
    newest.drain(..newest.len().saturating_sub(arguments.lines));
    let mut is_read = print_all(&newest, output)?;
    let mut is_away = false;
    while is_read && arguments.follow {
        thread::sleep(INTERVAL);
        let mut lines = Vec::new();
        // A folder may be moved away and back, and a network file system hang for a moment.
        let files = match run.text_files() {
            Ok(files) => files,
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    output.note(&format!("{error}, or wait: `tail` goes on when it is back"));
                }
                continue;
            }
        };
        is_away = false;
        // A rank may begin later.
        for (rank, path) in files {
            let file = followed.entry(rank).or_insert_with(|| FollowedFile::at_begin_of(&path));
            lines.extend(read_lines(file, rank));
        }
        is_read = print_all(&fold(lines), output)?;
        if let Some(change) = take_change(&run.dir, &mut life) {
            is_read &= output.print(&change, &json!({"event": change}))?;
        }
    }
    Ok(outcome)
}

/// Returns the lines that have come to the file of a rank.
fn read_lines(file: &mut FollowedFile, rank: u32) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    file.read_lines(|_, line| lines.push((rank, String::from_utf8_lossy(line).into_owned())));
    lines
}

/// Returns the state that a run has reached, or its new attempt, unless nothing has changed.
fn take_change(dir: &Path, life: &mut (RunState, usize)) -> Option<String> {
    let manifest = RunManifest::read(dir).ok()?;
    let now = (manifest.read_state(dir), manifest.attempts.len());
    let before = std::mem::replace(life, now);
    match now {
        _ if now == before => None,
        (_, attempt) if attempt != before.1 => Some(format!("attempt {attempt} begins")),
        (state, _) => Some(format!("the run is {}", state.as_str())),
    }
}

/// A line, and the ranks that have logged it.
struct FoldedLine {
    text: String,
    ranks: BTreeSet<u32>,
}

/// Sorts lines by the time at their beginnings, and folds those that several ranks have. A line
/// without a time belongs to the one before.
fn fold(lines: Vec<(u32, String)>) -> Vec<FoldedLine> {
    let mut timed: Vec<(String, FoldedLine)> = Vec::new();
    let mut times: BTreeMap<u32, String> = BTreeMap::new();
    for (rank, text) in lines {
        let time = time_of(&text).map(str::to_owned);
        let time = match time {
            Some(time) => {
                times.insert(rank, time.clone());
                time
            }
            None => times.get(&rank).cloned().unwrap_or_default(),
        };
        let ranks = BTreeSet::from([rank]);
        timed.push((time, FoldedLine { text, ranks }));
    }
    timed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut folded: Vec<FoldedLine> = Vec::new();
    for (time, line) in timed {
        let same = folded.iter_mut().rev().take(MAX_RANKS).find(|other| {
            !time.is_empty() && body(&other.text) == body(&line.text) && other.ranks.is_disjoint(&line.ranks)
        });
        match same {
            Some(same) => same.ranks.extend(line.ranks),
            None => folded.push(line),
        }
    }
    folded
}

/// Lines before one in which an equal line of another rank is looked for.
const MAX_RANKS: usize = 64;

/// Returns the date and the time at the beginning of a line.
fn time_of(line: &str) -> Option<&str> {
    let (time, _) = line.split_once(" | ")?;
    let is_time = time.len() >= 19 && time.bytes().take(4).all(|byte| byte.is_ascii_digit());
    is_time.then_some(time)
}

/// Returns a line without its time, which differs between ranks.
fn body(line: &str) -> &str {
    match time_of(line) {
        Some(time) => &line[time.len()..],
        None => line,
    }
}

/// Prints lines; returns `false` if nobody reads any more.
fn print_all(lines: &[FoldedLine], output: &mut Output) -> Result<bool> {
    for line in lines {
        let text = match line.ranks.iter().eq([&0]) {
            true => line.text.clone(),
            false => format!("{} {}", logcore_runs::rank_mark(&line.ranks), line.text),
        };
        if !output.print(&text, &json!({"ranks": line.ranks, "line": line.text}))? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_ranks_are_sorted_and_folded() {
        let line = |second: u32, text: &str| format!("2026-11-29 12:00:{second:02} | INFO  | a | {text}");
        let lines = vec![
            (0, line(1, "start")),
            (0, "    more".to_owned()),
            (0, line(3, "end")),
            (1, line(2, "start")),
            (1, line(2, "odd")),
            (2, line(2, "start")),
        ];
        let shown: Vec<_> = fold(lines)
            .into_iter()
            .map(|line| (line.ranks.into_iter().collect::<Vec<_>>(), body(&line.text).to_owned()))
            .collect();
        let expected = [
            (vec![0, 1, 2], " | INFO  | a | start"),
            (vec![0], "    more"),
            (vec![1], " | INFO  | a | odd"),
            (vec![0], " | INFO  | a | end"),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(ranks, text)| (ranks, text.to_owned()))
            .collect();
        assert_eq!(shown, expected);
    }
}
