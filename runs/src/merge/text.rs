//! The text: all lines by time, and what several ranks say once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use jiff::civil::DateTime;

use crate::MergeError;
use crate::merge::local_clock::{LineTime, LocalClock};
use crate::merge::output::MergedOutput;
use crate::merge::rank_files::mark;
use crate::merge::rank_lines::RankLines;
use crate::merge::tally::MergeTally;

/// Equal lines of several ranks within so many milliseconds are one.
const WINDOW: i64 = 10_000;
/// More lines of a window than this, or more bytes, are not kept: the oldest are then written before their time.
const MOST_LINES: usize = 65_536;
const MOST_BYTES: usize = 64 << 20;
/// More is no message of ours.
const LONGEST: usize = 64 << 20;

/// Merges the files of the ranks into `output`.
pub(crate) fn merge(files: &BTreeMap<u32, PathBuf>, output: &mut MergedOutput) -> Result<MergeTally, MergeError> {
    let mut tally = MergeTally::default();
    let mut clock = LocalClock::new();
    let mut sources = Vec::new();
    for (rank, path) in files {
        sources.push(TextSource::open(*rank, path.clone(), &mut clock, &mut tally)?);
    }
    let mut next = heads(&mut sources, &clock);
    let mut folds = FoldWindow::default();
    while let Some(Reverse((time, at))) = next.pop() {
        let source = &mut sources[at];
        let Some(record) = source.head.take() else { continue };
        let rank = source.rank;
        if source.advance(&mut clock)? {
            // The other heads may be of another time than it seemed.
            next = heads(&mut sources, &clock);
        } else if let Some(time) = source.time(&clock) {
            next.push(Reverse((time, at)));
        }
        tally.read += 1;
        while let Some(fold) = folds.pop_if(|oldest| oldest + WINDOW < time) {
            tally.written += 1;
            output.write(fold.text().as_bytes())?;
        }
        folds.add(rank, time, record);
    }
    while let Some(fold) = folds.pop_if(|_| true) {
        tally.written += 1;
        output.write(fold.text().as_bytes())?;
    }
    tally.note_torn(sources.iter().map(|source| (source.rank, source.lines.torn)));
    Ok(tally)
}

/// The head of each source; of equal times the lowest rank goes first.
fn heads(sources: &mut [TextSource], clock: &LocalClock) -> BinaryHeap<Reverse<(i64, usize)>> {
    let times = sources.iter_mut().enumerate();
    times
        .filter_map(|(at, source)| Some(Reverse((source.time(clock)?, at))))
        .collect()
}

/// A record of one rank, with the lines that belong to it.
#[derive(Debug, PartialEq)]
struct TextRecord {
    local: DateTime,
    /// The time as it was written.
    stamp: String,
    /// What stands behind the time, up to the message: level and logger.
    head: String,
    message: String,
}

impl TextRecord {
    /// `2026-11-23 14:48:15.123 | INFO  | my_module | message`; `None` if the line is anything else.
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

const SEPARATOR: &str = " | ";

/// The records of one rank.
struct TextSource {
    rank: u32,
    lines: RankLines,
    /// The next record, whole.
    head: Option<TextRecord>,
    /// The first line of the record after it.
    begun: Option<TextRecord>,
    /// When the record before the head was said, in milliseconds. In one file times never decrease.
    before: Option<LineTime>,
    /// The same of the head, once it was asked for.
    time: Option<LineTime>,
}

impl TextSource {
    fn open(rank: u32, path: PathBuf, clock: &mut LocalClock, tally: &mut MergeTally) -> Result<Self, MergeError> {
        let mut source = Self {
            rank,
            lines: RankLines::open(&path)?,
            head: None,
            begun: None,
            before: None,
            time: None,
        };
        // What stands before the first record belongs to none.
        while let Some(line) = source.lines.next()? {
            source.begun = TextRecord::parse(&String::from_utf8_lossy(line));
            if source.begun.is_some() {
                break;
            }
            tally.leave_out(|| source.lines.place());
        }
        source.advance(clock)?;
        Ok(source)
    }

    /// When the head was said.
    fn time(&mut self, clock: &LocalClock) -> Option<i64> {
        let mut said = clock.time(self.head.as_ref()?.local, self.before);
        said.time = self.before.map_or(said.time, |before| said.time.max(before.time));
        self.time = Some(said);
        Some(said.time)
    }

    /// Reads the next head; returns whether it has changed what the clock says.
    fn advance(&mut self, clock: &mut LocalClock) -> Result<bool, MergeError> {
        self.before = self.time.take().or(self.before);
        let Some(mut head) = self.begun.take() else {
            return Ok(false);
        };
        while let Some(line) = self.lines.next()? {
            let line = String::from_utf8_lossy(line);
            self.begun = TextRecord::parse(&line);
            if self.begun.is_some() {
                break;
            }
            if head.message.len() + line.len() > LONGEST {
                return Err(self.lines.too_long());
            }
            head.message.push('\n');
            head.message.push_str(&line);
        }
        let learned = self
            .begun
            .as_ref()
            .is_some_and(|begun| clock.learn(head.local, begun.local));
        self.head = Some(head);
        Ok(learned)
    }
}

/// A line, and who has said it.
struct FoldedLine {
    time: i64,
    stamp: String,
    said: Rc<LineText>,
    ranks: BTreeSet<u32>,
}

/// What has to be equal.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LineText {
    head: String,
    message: String,
}

impl FoldedLine {
    fn text(&self) -> String {
        let LineText { head, message } = &*self.said;
        format!("{}{head}{} {message}\n", self.stamp, mark(&self.ranks))
    }

    fn bytes(&self) -> usize {
        self.stamp.len() + self.said.head.len() + self.said.message.len()
    }
}

/// The folds of the window, the oldest first.
#[derive(Default)]
struct FoldWindow {
    open: VecDeque<FoldedLine>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
    by_text: HashMap<Rc<LineText>, SameTextFolds>,
}

/// The folds of one text.
#[derive(Default)]
struct SameTextFolds {
    /// Their numbers, in order.
    folds: VecDeque<u64>,
    /// Which of them each rank has joined last: what it says again is another line.
    joined: HashMap<u32, u64>,
}

impl FoldWindow {
    fn add(&mut self, rank: u32, time: i64, record: TextRecord) {
        let said = Rc::new(LineText {
            head: record.head,
            message: record.message,
        });
        let same = self.by_text.entry(Rc::clone(&said)).or_default();
        let after = same.joined.get(&rank).map_or(0, |last| last + 1);
        let candidate = same.folds.partition_point(|fold| *fold < after);
        if let Some(number) = same.folds.get(candidate) {
            same.joined.insert(rank, *number);
            self.open[(number - self.first) as usize].ranks.insert(rank);
            return;
        }
        let number = self.first + self.open.len() as u64;
        same.folds.push_back(number);
        same.joined.insert(rank, number);
        let fold = FoldedLine {
            time,
            stamp: record.stamp,
            said,
            ranks: [rank].into(),
        };
        self.bytes += fold.bytes();
        self.open.push_back(fold);
    }

    /// The oldest, if its time is over, or there is no room.
    fn pop_if(&mut self, over: impl Fn(i64) -> bool) -> Option<FoldedLine> {
        let crowded = self.open.len() >= MOST_LINES || self.bytes > MOST_BYTES;
        if !crowded && !over(self.open.front()?.time) {
            return None;
        }
        let fold = self.open.pop_front()?;
        self.first += 1;
        self.bytes -= fold.bytes();
        if let Some(same) = self.by_text.get_mut(&fold.said) {
            same.folds.pop_front();
            if same.folds.is_empty() {
                self.by_text.remove(&fold.said);
            }
        }
        Some(fold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_lines_are_records() {
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
