//! The rows of a run, read while they are written.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use logcore::StoredRow;
use logcore::files::{Folder, identity};
use logcore_delivery::LineMark;

/// The file of the rows.
pub(crate) const ROWS: &str = "metrics.jsonl";
/// Most bytes of a line. Other readers skip longer ones, too.
const LONGEST_LINE: u64 = 64 << 20;

/// A row with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpooledRow {
    pub(crate) row: StoredRow,
    /// The place of the line in bytes, its end included.
    pub(crate) line: Range<u64>,
}

/// Follows the rows in the folder of a run.
#[derive(Debug, Default)]
pub(crate) struct RowSpool {
    file: Option<SpoolFile>,
    is_replaced: bool,
}

#[derive(Debug)]
struct SpoolFile {
    reader: BufReader<File>,
    /// The beginning of the line that is read.
    line_start: u64,
    /// The bytes of this line so far.
    line: Vec<u8>,
    /// `true` in a line that is too long.
    is_skipping: bool,
}

impl RowSpool {
    /// Returns the next complete row; `None` if there is none yet. Lines that are no rows are
    /// skipped.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(crate) fn next_row(&mut self, folder: &Folder, mark: &LineMark) -> io::Result<Option<SpooledRow>> {
        loop {
            if self.file.is_none() && !self.open(folder, mark)? {
                return Ok(None);
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            match file.next_line()? {
                Some(line) => {
                    let row = serde_json::from_slice(&file.line).ok();
                    file.line.clear();
                    if let Some(row) = row {
                        return Ok(Some(SpooledRow { row, line }));
                    }
                }
                None if self.has_changed(folder)? => (self.file, self.is_replaced) = (None, true),
                None => return Ok(None),
            }
        }
    }

    /// Returns `true` if the file was replaced, or cut, since its first row was read.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced
    }

    /// Returns the mark behind a row that was read. `None` if the file was replaced since.
    pub(crate) fn mark_behind(&self, line: Range<u64>) -> Option<LineMark> {
        let file = self.file.as_ref()?;
        LineMark::behind_line(file.reader.get_ref(), line).ok()
    }

    /// Opens the file behind the mark, or at its beginning if it is another file.
    fn open(&mut self, folder: &Folder, mark: &LineMark) -> io::Result<bool> {
        let mut file = match folder.open_file(Path::new(ROWS)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let line_start = mark.find_in(&file)?.unwrap_or(0);
        file.seek(SeekFrom::Start(line_start))?;
        self.file = Some(SpoolFile {
            reader: BufReader::with_capacity(64 << 10, file),
            line_start,
            line: Vec::new(),
            is_skipping: false,
        });
        Ok(true)
    }

    /// Returns `true` if the file of the rows is another one now, or was cut.
    fn has_changed(&self, folder: &Folder) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        let own = file.reader.get_ref().metadata()?;
        let now = match folder.open_file(Path::new(ROWS)) {
            Ok(now) => now.metadata()?,
            // The writer makes it again, when it has a row.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(identity(&own) != identity(&now) || own.len() < file.line_start + file.line.len() as u64)
    }
}

impl SpoolFile {
    /// Reads up to the end of a line into `line`, and returns its place. `None` at the end of the
    /// file: the rest of the line is read by a later call.
    fn next_line(&mut self) -> io::Result<Option<Range<u64>>> {
        loop {
            let room = LONGEST_LINE.saturating_sub(self.line.len() as u64).max(1);
            let count = self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)? as u64;
            if self.line.last() == Some(&b'\n') {
                let line = self.line_start..self.line_start + self.line.len() as u64;
                self.line_start = line.end;
                if std::mem::take(&mut self.is_skipping) {
                    self.line.clear();
                    continue;
                }
                return Ok(Some(line));
            }
            if count == 0 {
                return Ok(None);
            }
            if self.line.len() as u64 >= LONGEST_LINE {
                self.line_start += self.line.len() as u64;
                self.line.clear();
                self.is_skipping = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn line(step: u64) -> String {
        format!("{{\"step\":{step},\"time\":1.5,\"logger\":\"a\",\"loss\":0.5}}\n")
    }

    fn append(dir: &TempDir, text: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.path().join(ROWS))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn steps(spool: &mut RowSpool, folder: &Folder) -> Vec<u64> {
        let rows = std::iter::from_fn(|| spool.next_row(folder, &LineMark::default()).unwrap());
        rows.map(|row| row.row.step).collect()
    }

    #[test]
    fn a_file_that_grows_is_followed_and_a_torn_end_waited_for() {
        let (dir, folder) = folder();
        let mut spool = RowSpool::default();
        assert!(steps(&mut spool, &folder).is_empty());
        append(&dir, &format!("{}no row\n{}", line(1), &line(2)[..9]));
        assert_eq!(steps(&mut spool, &folder), [1]);
        append(&dir, &line(2)[9..]);
        append(&dir, &line(3));
        assert_eq!(steps(&mut spool, &folder), [2, 3]);
    }

    #[test]
    fn a_file_that_was_cut_or_replaced_is_read_from_its_beginning() {
        let (dir, folder) = folder();
        let mut spool = RowSpool::default();
        append(&dir, &(line(1) + &line(2)));
        assert_eq!(steps(&mut spool, &folder), [1, 2]);
        fs::write(dir.path().join(ROWS), line(3)).unwrap();
        assert_eq!(steps(&mut spool, &folder), [3]);
        fs::rename(dir.path().join(ROWS), dir.path().join("moved")).unwrap();
        assert!(steps(&mut spool, &folder).is_empty());
        append(&dir, &(line(4) + &line(5)));
        assert_eq!(steps(&mut spool, &folder), [4, 5]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let (dir, folder) = folder();
        fs::write(dir.path().join("mine"), line(1)).unwrap();
        std::os::unix::fs::symlink(dir.path().join("mine"), dir.path().join(ROWS)).unwrap();
        RowSpool::default().next_row(&folder, &LineMark::default()).unwrap_err();
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let (dir, folder) = folder();
        append(&dir, &"x".repeat(LONGEST_LINE as usize + 9));
        let mut spool = RowSpool::default();
        assert!(steps(&mut spool, &folder).is_empty());
        append(&dir, &format!("xx\n{}", line(1)));
        assert_eq!(steps(&mut spool, &folder), [1]);
    }

    proptest! {
        /// However a file grows, its rows are read once, and from each mark the rest.
        #[test]
        fn rows_are_read_once_in_any_pieces(
            pieces in prop::collection::vec(1..80_usize, 1..20), marked in 0..12_usize,
        ) {
            let (dir, folder) = folder();
            let text: String = (0..12).map(line).collect();
            let (mut spool, mut read, mut mark, mut rest) = (RowSpool::default(), Vec::new(), LineMark::default(), &*text);
            let mut pieces = pieces.into_iter().cycle();
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(pieces.next().unwrap().min(rest.len()));
                append(&dir, piece);
                rest = later;
                while let Some(row) = spool.next_row(&folder, &LineMark::default()).unwrap() {
                    if read.len() == marked {
                        mark = spool.mark_behind(row.line.clone()).unwrap();
                    }
                    read.push(row.row.step);
                }
            }
            prop_assert_eq!(read, (0..12).collect::<Vec<_>>());
            let mut later = RowSpool::default();
            let first = later.next_row(&folder, &mark).unwrap().map(|row| row.row.step);
            prop_assert_eq!(first, (marked < 11).then_some(marked as u64 + 1));
        }
    }
}
