//! `logcore tail`: the newest lines of a run, and those to come.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use logcore::{RunManifest, RunState, files};
use logcore_runs::StoredRun;
use serde_json::json;

use crate::arguments::TailArguments;
use crate::output::{Outcome, Output};

/// Time between two looks at the files of a run.
const INTERVAL: Duration = Duration::from_millis(250);

/// Most bytes of the end of a file in which its newest lines are looked for, and that are read at
/// once.
const MAX_BYTES: u64 = 4 << 20;

pub(super) fn run(arguments: &TailArguments, run: &StoredRun, output: &mut Output) -> Result<Outcome> {
    let mut followed: BTreeMap<u32, FollowedFile> = BTreeMap::new();
    let mut life = (run.state, run.manifest.attempts.len());
    let mut newest = Vec::new();
    for (rank, path) in run.text_files()? {
        let mut file = FollowedFile::at_end_of(path);
        let lines = file.read_lines();
        newest.extend(lines.into_iter().map(|line| (rank, line)));
        followed.insert(rank, file);
    }
    let mut newest = fold(newest);
    newest.drain(..newest.len().saturating_sub(arguments.lines));
    let mut is_read = print_all(&newest, output)?;
    while is_read && arguments.follow {
        thread::sleep(INTERVAL);
        let mut lines = Vec::new();
        // A rank may begin later.
        for (rank, path) in run.text_files()? {
            let file = followed.entry(rank).or_insert_with(|| FollowedFile::at_begin_of(path));
            lines.extend(file.read_lines().into_iter().map(|line| (rank, line)));
        }
        is_read = print_all(&fold(lines), output)?;
        if let Some(change) = take_change(&run.dir, &mut life) {
            is_read &= output.print(&change, &json!({"event": change}))?;
        }
    }
    Ok(Outcome::Done)
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

/// A file of which each line is read once, also if the file is rotated or made anew.
struct FollowedFile {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that is not complete.
    part: Vec<u8>,
}

impl FollowedFile {
    /// Reads the file from its first line on.
    fn at_begin_of(path: PathBuf) -> Self {
        let file = files::open_no_follow(&path).ok();
        Self {
            path,
            file,
            part: Vec::new(),
        }
    }

    /// Reads the file from a line near its end on.
    fn at_end_of(path: PathBuf) -> Self {
        let mut followed = Self::at_begin_of(path);
        if let Some(file) = &mut followed.file {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let begin = length.saturating_sub(MAX_BYTES);
            if begin > 0 && file.seek(SeekFrom::Start(begin)).is_ok() {
                // What comes up to the first line end is a part of a line.
                let mut bytes = Vec::new();
                let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
                let first = bytes
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(bytes.len(), |at| at + 1);
                followed.part = bytes.split_off(first);
            }
        }
        followed
    }

    /// Returns the complete lines that have come.
    fn read_lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.read_part(&mut lines);
        if self.has_successor() {
            // Whoever rotated the file may have written to it since.
            self.read_part(&mut lines);
            self.file = files::open_no_follow(&self.path).ok();
            self.part.clear();
            self.read_part(&mut lines);
        }
        lines
    }

    fn read_part(&mut self, lines: &mut Vec<String>) {
        if let Some(file) = &mut self.file {
            // A file that cannot be read now may be later.
            let _ = file.take(MAX_BYTES).read_to_end(&mut self.part);
        }
        let Some(end) = self.part.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let rest = self.part.split_off(end + 1);
        let complete = self.part[..end].split(|byte| *byte == b'\n');
        lines.extend(complete.map(|line| String::from_utf8_lossy(line).into_owned()));
        self.part = rest;
    }

    /// Returns `true` if another file has the name, or the file has been cut.
    fn has_successor(&mut self) -> bool {
        let Ok(there) = fs::symlink_metadata(&self.path) else {
            return false;
        };
        let Some(file) = &mut self.file else { return true };
        let (Ok(own), Ok(position)) = (file.metadata(), file.stream_position()) else {
            return true;
        };
        !is_same(&own, &there) || there.len() < position
    }
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    one.created().ok() == other.created().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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

    #[test]
    fn each_line_is_read_once_across_rotations_and_cuts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        let append = |text: &str| {
            let mut file = File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut followed = FollowedFile::at_end_of(path.clone());
        assert!(followed.read_lines().is_empty(), "there is no file yet");
        append("one\ntw");
        assert_eq!(followed.read_lines(), ["one"]);
        append("o\nthree\n");
        fs::rename(&path, folder.path().join("training.log.1")).unwrap();
        append("four\n");
        assert_eq!(followed.read_lines(), ["two", "three", "four"]);
        fs::write(&path, "5\n").unwrap();
        assert_eq!(followed.read_lines(), ["5"]);
        assert!(followed.read_lines().is_empty());
    }

    #[test]
    fn the_end_of_a_long_file_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        let lines = (0..MAX_BYTES / 10).map(|number| format!("{number:019}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        let read = FollowedFile::at_end_of(path).read_lines();
        assert!(read.len() > 1000 && read.iter().all(|line| line.len() == 19));
        assert_eq!(read.last().unwrap().parse::<u64>().unwrap(), MAX_BYTES / 10 - 1);
    }
}
