//! The rows of a run: of each step and logger those of the newest attempt.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display, Write as _};
use std::path::Path;

use logcore::escape::EscapingFormatter;
use logcore::files::{LineError, Lines};
use logcore::reserved_names::is_system_metric;
use logcore::{StoredRow, SupersededRows};

use crate::RunError;
use crate::row_reader::RowReader;
use crate::run_file::open_lines;

/// The rows of one rank, in the order of the file; made by
/// [`StoredRun::rows`](crate::StoredRun::rows).
///
/// Lines that are no rows are skipped, and [counted](Self::left_out). The memory holds one row for
/// each logger.
#[derive(Debug)]
pub struct Rows {
    lines: Option<Lines>,
    reader: RowReader,
    newest: NewestAttempts,
    open: OpenRows,
    complete: VecDeque<StoredRow>,
    has_every_value: bool,
    left_out: LeftOutLines,
    /// `true` if a process may be writing the last line.
    is_live: bool,
}

impl Rows {
    /// Opens the rows of a file; no file has no rows.
    pub(crate) fn open(path: Option<&Path>, superseded: &SupersededRows, is_live: bool) -> Result<Self, RunError> {
        let newest = match path {
            Some(path) => NewestAttempts::read(path, superseded)?,
            None => NewestAttempts::default(),
        };
        Ok(Self {
            lines: path.map(open_lines).transpose()?,
            reader: RowReader::default(),
            newest,
            open: OpenRows::default(),
            complete: VecDeque::new(),
            has_every_value: false,
            left_out: LeftOutLines::default(),
            is_live,
        })
    }

    pub(crate) fn with_every_value(mut self) -> Self {
        self.has_every_value = true;
        self
    }

    /// Returns the lines that were left out so far.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::write(folder.path().join("run.json"), r#"{"state":"finished"}"#).unwrap();
    /// let row = "{\"step\":1,\"time\":1.0,\"logger\":\"a\"}\n";
    /// fs::write(folder.path().join("metrics.jsonl"), format!("{row}{{\"step\":2,\"ti\n{row}{{\"st")).unwrap();
    /// let mut rows = StoredRun::open(folder.path())?.rows(0)?;
    /// assert_eq!(rows.by_ref().count(), 1, "both rows are of one step");
    /// let left_out = rows.left_out();
    /// assert_eq!((left_out.count, left_out.is_torn), (1, true));
    /// assert!(left_out.to_string().starts_with("1 line is no row, and is left out: line 2 of "));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    #[must_use]
    pub fn left_out(&self) -> &LeftOutLines {
        &self.left_out
    }

    /// Reads up to the next row that is complete.
    fn read_on(&mut self) -> Result<(), RunError> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        while self.complete.is_empty() {
            let Some(line) = lines.next_line()? else {
                self.left_out.is_torn = lines.is_torn() && !self.is_live;
                self.lines = None;
                self.complete.extend(std::mem::take(&mut self.open).into_rows());
                break;
            };
            let Some(row) = self.reader.read(line) else {
                self.left_out.add(|| lines.location());
                continue;
            };
            if !self.newest.has(row) {
                continue;
            }
            if self.has_every_value || self.open.add(row) {
                self.complete.push_back(row.clone());
            }
        }
        Ok(())
    }
}

impl Iterator for Rows {
    type Item = Result<StoredRow, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.read_on() {
            self.lines = None;
            return Some(Err(error));
        }
        self.complete.pop_front().map(Ok)
    }
}

/// The lines that are left out because they are no rows; returned by [`Rows::left_out`]. A line
/// that a kill has torn, or of which a file system has lost a part, is none. The `Display` is for
/// people.
///
/// ```
/// assert!(logcore_runs::LeftOutLines::default().is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOutLines {
    /// Number of complete lines that are no rows.
    pub count: u64,
    /// Location of the first of them: `line 3 of logs/metrics.jsonl`.
    pub first: Option<String>,
    /// `true` if a file ends in the middle of a line, and no process of the run may be writing the
    /// rest.
    pub is_torn: bool,
}

impl LeftOutLines {
    /// Returns `true` if all lines are rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && !self.is_torn
    }

    /// Counts a line. Calls `location` for the first one only.
    fn add(&mut self, location: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(location);
    }
}

impl Display for LeftOutLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match (self.count, &self.first) {
            (1, Some(first)) => write!(f, "1 line is no row, and is left out: {first}")?,
            (count, Some(first)) => write!(f, "{count} lines are no rows, and are left out; the first is {first}")?,
            _ => {}
        }
        if self.is_torn {
            let separator = if self.count > 0 { "; " } else { "" };
            write!(f, "{separator}the last line is incomplete, and is left out")?;
        }
        Ok(())
    }
}

/// The newest row of each logger, which later rows of the same step complete.
#[derive(Debug, Default)]
pub(crate) struct OpenRows(BTreeMap<String, StoredRow>);

impl OpenRows {
    /// Adds a row. Returns `true` if another one is complete by that, which `row` is then.
    pub(crate) fn add(&mut self, row: &mut StoredRow) -> bool {
        match self.0.get_mut(&row.logger) {
            Some(open) if open.step == row.step && open.attempt == row.attempt => {
                open.add(row.clone());
                false
            }
            Some(open) => {
                std::mem::swap(open, row);
                true
            }
            None => {
                self.0.insert(row.logger.clone(), row.clone());
                false
            }
        }
    }

    #[cfg(feature = "report")]
    pub(crate) fn rows(&self) -> impl Iterator<Item = &StoredRow> {
        self.0.values()
    }

    /// Returns the rows by their times.
    fn into_rows(self) -> Vec<StoredRow> {
        let mut rows: Vec<StoredRow> = self.0.into_values().collect();
        rows.sort_by(|a, b| a.time.total_cmp(&b.time));
        rows
    }
}

/// The newest attempt of each step of each logger.
#[derive(Debug, Default)]
pub(crate) struct NewestAttempts {
    superseded: SupersededRows,
    /// The steps of each logger in the attempts after the first, as ranges that do not overlap.
    later: BTreeMap<(String, u32), StepRanges>,
}

impl NewestAttempts {
    /// Knows what the manifest says of superseded rows.
    #[cfg(feature = "report")]
    pub(crate) fn without_file(superseded: &SupersededRows) -> Self {
        Self {
            superseded: superseded.clone(),
            later: BTreeMap::new(),
        }
    }

    /// Finds the attempts in a file, which is read for that.
    pub(crate) fn read(path: &Path, superseded: &SupersededRows) -> Result<Self, LineError> {
        let mut newest = Self {
            superseded: superseded.clone(),
            later: BTreeMap::new(),
        };
        let mut lines = open_lines(path)?;
        let mut reader = RowReader::default();
        let attempt = memchr::memmem::Finder::new(ATTEMPT);
        while let Some(line) = lines.next_line()? {
            // Rows of the first attempt have the column only at the beginning of a file.
            if attempt.find(line).is_none() {
                continue;
            }
            // Readings between the start of an attempt and its first step stand at the last step of
            // the attempt before, and repeat nothing.
            let is_reading =
                |row: &StoredRow| !row.values.is_empty() && row.values.iter().all(|(name, _)| is_system_metric(name));
            if let Some(row) = reader.read(line)
                && row.attempt > 1
                && !is_reading(row)
            {
                let steps = newest.later.entry((row.logger.clone(), row.attempt)).or_default();
                steps.add(row.step);
            }
        }
        Ok(newest)
    }

    /// Returns `true` if no later attempt has superseded the row, or has the same step.
    pub(crate) fn has(&self, row: &StoredRow) -> bool {
        if self.superseded.contains(row) {
            return false;
        }
        if self.later.is_empty() {
            return true;
        }
        let later = (row.logger.clone(), row.attempt.saturating_add(1))..=(row.logger.clone(), u32::MAX);
        !self.later.range(later).any(|(_, steps)| steps.contains(row.step))
    }
}

/// A set of steps. Steps in a row take the room of one.
#[derive(Debug, Default)]
struct StepRanges(BTreeMap<u64, u64>);

impl StepRanges {
    fn add(&mut self, step: u64) {
        let before = self.0.range_mut(..=step).next_back();
        if let Some((_, last)) = before.filter(|(_, last)| step <= last.saturating_add(1)) {
            *last = step.max(*last);
        } else {
            self.0.insert(step, step);
        }
    }

    fn contains(&self, step: u64) -> bool {
        let before = self.0.range(..=step).next_back();
        before.is_some_and(|(_, last)| step <= *last)
    }
}

/// The key of the attempt in a row.
const ATTEMPT: &[u8] = b"\"attempt\":";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(logger: &str, step: u64, attempt: u32, rest: &str) -> String {
        let attempt = match attempt {
            1 => String::new(),
            attempt => format!(",\"attempt\":{attempt}"),
        };
        format!("{{\"step\":{step},\"time\":{step}.5,\"logger\":\"{logger}\"{rest}{attempt}}}\n")
    }

    fn read(text: &str, superseded: &SupersededRows, has_every_value: bool) -> Vec<StoredRow> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        let mut rows = Rows::open(Some(&path), superseded, false).unwrap();
        rows.has_every_value = has_every_value;
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn a_step_has_its_last_values_or_all_of_them() {
        let text = [
            row("a", 1, 1, ",\"loss\":3"),
            row("b", 9, 1, ",\"loss\":7"),
            row("a", 1, 1, ",\"loss\":2,\"lr\":1"),
            "foreign\n".to_owned(),
            row("a", 2, 1, ",\"loss\":null,\"nonfinite\":\"{\\\"loss\\\":\\\"NaN\\\"}\""),
        ];
        let none = SupersededRows::default();
        let rows = read(&text.concat(), &none, false);
        let shown: Vec<_> = rows.iter().map(|row| (row.logger.as_str(), row.step)).collect();
        assert_eq!(shown, [("a", 1), ("a", 2), ("b", 9)]);
        assert_eq!((rows[0].value("loss"), rows[0].value("lr")), (Some(2.0), Some(1.0)));
        assert!(rows[1].value("loss").unwrap().is_nan());
        assert_eq!(read(&text.concat(), &none, true).len(), 4);
    }

    #[test]
    fn a_later_attempt_wins_with_and_without_a_first_step() {
        let text = [
            row("a", 1, 1, ""),
            row("a", 2, 1, ""),
            row("a", 4, 1, ""),
            row("b", 2, 1, ""),
            row("a", 2, 2, ""),
        ];
        let mut superseded = SupersededRows::default();
        let steps = |rows: Vec<StoredRow>| -> Vec<_> {
            let of_a = rows.into_iter().filter(|row| row.logger == "a");
            of_a.map(|row| (row.step, row.attempt)).collect()
        };
        assert_eq!(
            steps(read(&text.concat(), &superseded, false)),
            [(1, 1), (4, 1), (2, 2)]
        );
        superseded.add(2, "a", 2);
        assert_eq!(steps(read(&text.concat(), &superseded, false)), [(1, 1), (2, 2)]);
        assert_eq!(read(&text.concat(), &superseded, false).len(), 3);
    }

    #[test]
    fn readings_of_a_later_attempt_replace_no_row() {
        let text = [
            row("a", 7, 1, ",\"loss\":3"),
            row("a", 7, 2, ",\"memory/host_gb\":1"),
            row("a", 8, 2, ",\"loss\":2"),
        ];
        let rows = read(&text.concat(), &SupersededRows::default(), false);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.step, row.attempt, row.value("loss")))
            .collect();
        assert_eq!(shown, [(7, 1, Some(3.0)), (7, 2, None), (8, 2, Some(2.0))]);
    }

    proptest! {
        #[test]
        fn ranges_contain_what_was_added(steps in prop::collection::vec(0_u64..40, 0..30)) {
            let mut ranges = StepRanges::default();
            steps.iter().for_each(|step| ranges.add(*step));
            for step in 0..41 {
                prop_assert_eq!(ranges.contains(step), steps.contains(&step));
            }
        }
    }
}
