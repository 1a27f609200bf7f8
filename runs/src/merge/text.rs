//! Merges texts: sorts the records of all ranks by time, and folds equal ones.
//!
//! The merge reads one record ahead of each rank. A heap selects the earliest of these heads; the
//! next record of its rank takes its place. A record then waits in a window of ten seconds:
//!
//! - An equal record of another rank adds that rank to the waiting one.
//! - An equal record of a rank that has already joined is a record of its own. A rank that logs a
//!   line three times has three records, and other ranks join them in turn.
//! - A record leaves the window ten seconds later, or earlier if the window is full.
//!
//! So the merged file is sorted by the time of the first rank, and the memory does not grow with
//! the files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use jiff::civil::DateTime;
use logcore::files::Lines;

use crate::MergeError;
use crate::merge::local_clock::{LineTime, LocalClock};
use crate::merge::output::MergedOutput;
use crate::merge::rank_files::rank_mark;
use crate::merge::tally::MergeTally;
use crate::run_file::open_lines;

/// Milliseconds within which equal records of several ranks are folded.
const WINDOW: i64 = 10_000;
/// Most records of a window that are kept. With more, the oldest are written before their time.
const MAX_RECORDS: usize = 65_536;
/// Most bytes of a window that are kept.
const MAX_BYTES: usize = 64 << 20;
/// Longest record in bytes.
const MAX_RECORD: usize = 64 << 20;

/// Merges the files of the ranks into `output`.
pub(crate) fn merge(files: &BTreeMap<u32, PathBuf>, output: &mut MergedOutput) -> Result<MergeTally, MergeError> {
    let mut tally = MergeTally::default();
    let mut clock = LocalClock::new();
    let mut sources = Vec::new();
    for (rank, path) in files {
        sources.push(TextSource::open(*rank, path.clone(), &mut clock, &mut tally)?);
    }
    let mut next = heads(&mut sources, &clock);
    let mut window = FoldWindow::default();
    while let Some(Reverse((time, at))) = next.pop() {
        let source = &mut sources[at];
        let Some(record) = source.head.take() else { continue };
        let rank = source.rank;
        if source.advance(&mut clock)? {
            // With what the clock has learned, the other heads may have other times.
            next = heads(&mut sources, &clock);
        } else if let Some(time) = source.time(&clock) {
            next.push(Reverse((time, at)));
        }
        tally.read += 1;
        while let Some(line) = window.pop_if(|oldest| oldest + WINDOW < time) {
            tally.written += 1;
            output.write(line.text().as_bytes())?;
        }
        window.add(rank, time, record);
    }
    while let Some(line) = window.pop_if(|_| true) {
        tally.written += 1;
        output.write(line.text().as_bytes())?;
    }
    tally.add_torn(sources.iter().map(|source| (source.rank, source.lines.is_torn())));
    Ok(tally)
}

/// Returns time and index of each source's head. Of equal times the lowest rank comes first.
fn heads(sources: &mut [TextSource], clock: &LocalClock) -> BinaryHeap<Reverse<(i64, usize)>> {
    let times = sources.iter_mut().enumerate();
    times
        .filter_map(|(at, source)| Some(Reverse((source.time(clock)?, at))))
        .collect()
}

/// A record of one rank, including the further lines of its message.
#[derive(Debug, PartialEq)]
struct TextRecord {
    local: DateTime,
    /// The time as it was written.
    stamp: String,
    /// Level and logger, with their separators.
    head: String,
    message: String,
}

impl TextRecord {
    /// Parses `2026-11-23 14:48:15.123 | INFO  | my_module | message`. Returns `None` for any other
    /// line.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, SEPARATOR);
        let (stamp, level, origin, message) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_level = matches!(level, "ERROR" | "WARN " | "INFO " | "DEBUG" | "TRACE");
        let is_stamp = matches!(stamp.len(), 19 | 23) && stamp.as_bytes()[10] == b' ';
        if !is_level || !is_stamp {
            return None;
        }
        Some(Self {
            local: stamp.parse().ok()?,
            stamp: stamp.to_owned(),
            head: format!("{SEPARATOR}{level}{SEPARATOR}{origin}{SEPARATOR}"),
            message: message.to_owned(),
        })
    }
}

/// Returns `true` for a line with which a record begins.
pub(crate) fn begins_record(line: &str) -> bool {
    TextRecord::parse(line).is_some()
}

/// Separator of the columns of the formatter `plain`.
const SEPARATOR: &str = " | ";

/// The records of one rank.
struct TextSource {
    rank: u32,
    lines: Lines,
    /// The next record, complete.
    head: Option<TextRecord>,
    /// The first line of the record after the head.
    begun: Option<TextRecord>,
    /// Time of the record before the head. The times of one file never decrease.
    before: Option<LineTime>,
    /// Time of the head, once computed.
    time: Option<LineTime>,
}

impl TextSource {
    /// Opens the file of a rank, and reads its first record.
    fn open(rank: u32, path: PathBuf, clock: &mut LocalClock, tally: &mut MergeTally) -> Result<Self, MergeError> {
        let mut source = Self {
            rank,
            lines: open_lines(&path)?,
            head: None,
            begun: None,
            before: None,
            time: None,
        };
        // Lines before the first record belong to no record.
        while let Some(line) = source.lines.next_line()? {
            source.begun = TextRecord::parse(&String::from_utf8_lossy(line));
            if source.begun.is_some() {
                break;
            }
            tally.skip_line(|| source.lines.location());
        }
        source.advance(clock)?;
        Ok(source)
    }

    /// Returns the time of the head in milliseconds.
    fn time(&mut self, clock: &LocalClock) -> Option<i64> {
        let mut time = clock.time(self.head.as_ref()?.local, self.before);
        time.millis = self.before.map_or(time.millis, |before| time.millis.max(before.millis));
        self.time = Some(time);
        Some(time.millis)
    }

    /// Reads the next head. Returns `true` if the clock has learned from it.
    fn advance(&mut self, clock: &mut LocalClock) -> Result<bool, MergeError> {
        self.before = self.time.take().or(self.before);
        let Some(mut head) = self.begun.take() else {
            return Ok(false);
        };
        while let Some(line) = self.lines.next_line()? {
            let line = String::from_utf8_lossy(line);
            self.begun = TextRecord::parse(&line);
            if self.begun.is_some() {
                break;
            }
            if head.message.len() + line.len() > MAX_RECORD {
                return Err(self.lines.too_long().into());
            }
            head.message.push('\n');
            head.message.push_str(&line);
        }
        let has_learned = self
            .begun
            .as_ref()
            .is_some_and(|begun| clock.learn(head.local, begun.local));
        self.head = Some(head);
        Ok(has_learned)
    }
}

/// A merged record, and the ranks that have logged it.
struct FoldedLine {
    time: i64,
    stamp: String,
    text: Rc<LineText>,
    ranks: BTreeSet<u32>,
}

/// The parts of a record that have to be equal to fold it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LineText {
    head: String,
    message: String,
}

impl FoldedLine {
    /// Returns the record with its mark and line end.
    fn text(&self) -> String {
        let LineText { head, message } = &*self.text;
        format!("{}{head}{} {message}\n", self.stamp, rank_mark(&self.ranks))
    }

    /// Returns the bytes that the record occupies in the window.
    fn bytes(&self) -> usize {
        self.stamp.len() + self.text.head.len() + self.text.message.len()
    }
}

/// The records of the window, oldest first.
#[derive(Default)]
struct FoldWindow {
    open: VecDeque<FoldedLine>,
    /// Number of the first open record; records are numbered in order.
    first: u64,
    bytes: usize,
    by_text: HashMap<Rc<LineText>, SameTextFolds>,
}

/// The open records of one text.
#[derive(Default)]
struct SameTextFolds {
    /// Numbers of the records, in order.
    numbers: VecDeque<u64>,
    /// Number of the record that each rank has joined last. A repetition by the same rank is
    /// another record.
    joined: HashMap<u32, u64>,
}

impl FoldWindow {
    /// Adds a rank's record: to an equal one that the rank has not joined, or as a new one.
    fn add(&mut self, rank: u32, time: i64, record: TextRecord) {
        let text = Rc::new(LineText {
            head: record.head,
            message: record.message,
        });
        let same = self.by_text.entry(Rc::clone(&text)).or_default();
        let after = same.joined.get(&rank).map_or(0, |last| last + 1);
        let candidate = same.numbers.partition_point(|number| *number < after);
        if let Some(number) = same.numbers.get(candidate) {
            same.joined.insert(rank, *number);
            self.open[(number - self.first) as usize].ranks.insert(rank);
            return;
        }
        let number = self.first + self.open.len() as u64;
        same.numbers.push_back(number);
        same.joined.insert(rank, number);
        let line = FoldedLine {
            time,
            stamp: record.stamp,
            text,
            ranks: [rank].into(),
        };
        self.bytes += line.bytes();
        self.open.push_back(line);
    }

    /// Removes the oldest record if `is_over` holds for its time, or the window is full.
    fn pop_if(&mut self, is_over: impl Fn(i64) -> bool) -> Option<FoldedLine> {
        let is_full = self.open.len() >= MAX_RECORDS || self.bytes > MAX_BYTES;
        if !is_full && !is_over(self.open.front()?.time) {
            return None;
        }
        let line = self.open.pop_front()?;
        self.first += 1;
        self.bytes -= line.bytes();
        if let Some(same) = self.by_text.get_mut(&line.text) {
            same.numbers.pop_front();
            if same.numbers.is_empty() {
                self.by_text.remove(&line.text);
            }
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_records_only() {
        let record = TextRecord::parse("2026-11-23 14:48:15.123 | INFO  | a.b | x | key=value").unwrap();
        assert_eq!(record.head, " | INFO  | a.b | ");
        assert_eq!(record.message, "x | key=value");
        let second = TextRecord::parse("2026-11-23 14:48:16 | ERROR | a.b | x").unwrap();
        assert!(second.local > record.local);
        for line in [
            "",
            "    more",
            "2026-11-23 14:48:15.123 | LOUD  | a | x",
            "2026-11-23 14:48:15.123 | INFO  | a",
            "2026-13-23 14:48:15.123 | INFO  | a | x",
            "2026-11-23T14:48:15.123 | INFO  | a | x",
            "äääääääää é | INFO  | a | x",
        ] {
            assert_eq!(TextRecord::parse(line), None, "{line}");
        }
    }
}
