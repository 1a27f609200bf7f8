//! Reading a file that grows.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use logcore::files;

/// Bytes that are read at once, and most bytes of the end of a file in which its newest lines are
/// looked for.
const PIECE: usize = 64 << 10;
const MAX_END: u64 = 4 << 20;
/// Longest line in bytes; a longer one is skipped.
const MAX_LINE: usize = 64 << 20;

/// A file of which each line is read once, also if the file is rotated or made anew.
///
/// Links are not followed. A line counts once its end is there.
///
/// ```
/// use logcore_runs::FollowedFile;
/// use std::fs::{self, File};
/// use std::io::Write as _;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("training.log");
/// fs::write(&path, "one\ntw").unwrap();
/// let mut followed = FollowedFile::at_begin_of(&path);
/// let mut lines = Vec::new();
/// followed.read_lines(|_, line| lines.push(String::from_utf8_lossy(line).into_owned()));
/// assert_eq!(lines, ["one"]);
///
/// File::options().append(true).open(&path).unwrap().write_all(b"o\n").unwrap();
/// followed.read_lines(|_, line| lines.push(String::from_utf8_lossy(line).into_owned()));
/// assert_eq!(lines, ["one", "two"]);
/// ```
#[derive(Debug)]
pub struct FollowedFile {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that is not complete, and its place in the file.
    part: Vec<u8>,
    part_begin: u64,
    /// `true` until the end of a line that is too long, or whose beginning was not read.
    skips_line: bool,
    /// `true` if the last reading ended before its time with lines that have come.
    is_behind: bool,
}

impl FollowedFile {
    /// Reads the file from its first line on, as soon as it is there.
    #[must_use]
    pub fn at_begin_of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: files::open_no_follow(path).ok(),
            part: Vec::new(),
            part_begin: 0,
            skips_line: false,
            is_behind: false,
        }
    }

    /// Reads the file from a line at most 4 MiB before its end on.
    #[must_use]
    pub fn at_end_of(path: &Path) -> Self {
        let mut followed = Self::at_begin_of(path);
        followed.skip_ahead();
        followed
    }

    /// Gives each complete line that has come to `use_line`, with its place in the file in bytes.
    /// Returns `true` if the file was made anew, so that places begin at 0 again.
    ///
    /// A file that cannot be read now is read later.
    pub fn read_lines(&mut self, mut use_line: impl FnMut(u64, &[u8])) -> bool {
        self.read_new_lines(None, &mut use_line)
    }

    /// Gives lines to `use_line` as [`read_lines`](Self::read_lines) does, until a moment. The rest
    /// comes with the next reading.
    ///
    /// ```
    /// use logcore_runs::FollowedFile;
    /// use std::time::{Duration, Instant};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("metrics.jsonl");
    /// std::fs::write(&path, "one\n").unwrap();
    /// let mut followed = FollowedFile::at_begin_of(&path);
    /// followed.read_lines_until(Instant::now(), |_, _| unreachable!());
    /// assert!(followed.is_behind());
    /// let mut lines = 0;
    /// followed.read_lines_until(Instant::now() + Duration::from_secs(60), |_, _| lines += 1);
    /// assert_eq!((lines, followed.is_behind()), (1, false));
    /// ```
    pub fn read_lines_until(&mut self, deadline: Instant, mut use_line: impl FnMut(u64, &[u8])) -> bool {
        self.read_new_lines(Some(deadline), &mut use_line)
    }

    /// Returns `true` if the last reading had no time for all that has come.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn read_new_lines(&mut self, deadline: Option<Instant>, use_line: &mut impl FnMut(u64, &[u8])) -> bool {
        self.read_file(deadline, use_line);
        if self.is_behind || !self.is_replaced() {
            return false;
        }
        // The process that rotated the file may have written to it since.
        self.read_file(deadline, use_line);
        if self.is_behind {
            return false;
        }
        *self = Self::at_begin_of(&self.path);
        self.read_file(deadline, use_line);
        true
    }

    /// Returns why the file is not read, if there is something of its name: a link, a pipe, a file
    /// of another user.
    ///
    /// ```
    /// use logcore_runs::FollowedFile;
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("training.log");
    /// assert!(FollowedFile::at_begin_of(&path).obstacle().is_none(), "a file may come");
    /// std::fs::create_dir(&path).unwrap();
    /// assert!(FollowedFile::at_begin_of(&path).obstacle().is_some());
    /// ```
    #[must_use]
    pub fn obstacle(&self) -> Option<io::Error> {
        if self.file.is_some() {
            return None;
        }
        let error = files::open_no_follow(&self.path).err()?;
        (error.kind() != io::ErrorKind::NotFound).then_some(error)
    }

    /// Leaves out all that has come but the last 4 MiB.
    pub fn skip_ahead(&mut self) {
        let Some(file) = &mut self.file else { return };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let begin = length.saturating_sub(MAX_END);
        if begin > self.part_begin + self.part.len() as u64 && file.seek(SeekFrom::Start(begin)).is_ok() {
            self.part.clear();
            self.part_begin = begin;
            // The bytes up to the first line end are a part of a line.
            self.skips_line = true;
        }
    }

    fn read_file(&mut self, deadline: Option<Instant>, use_line: &mut impl FnMut(u64, &[u8])) {
        self.is_behind = false;
        let Some(mut file) = self.file.take() else { return };
        // Bytes that come while the lines are read are read the next time.
        let end = file.metadata().map_or(0, |metadata| metadata.len());
        let mut piece = vec![0; PIECE];
        while self.part_begin + (self.part.len() as u64) < end {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.is_behind = true;
                break;
            }
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => self.take_lines(&piece[..length], use_line),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.file = Some(file);
    }

    /// Takes the lines that end in this piece, and keeps the beginning of the next one.
    fn take_lines(&mut self, mut piece: &[u8], use_line: &mut impl FnMut(u64, &[u8])) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            let length = self.part.len() + line.len() + 1;
            if std::mem::take(&mut self.skips_line) {
                self.part.clear();
            } else if self.part.is_empty() {
                use_line(self.part_begin, line);
            } else {
                self.part.extend_from_slice(line);
                use_line(self.part_begin, &self.part);
                self.part.clear();
            }
            self.part_begin += length as u64;
            piece = rest;
        }
        if self.skips_line || self.part.len() + piece.len() > MAX_LINE {
            self.skips_line = true;
            self.part_begin += (self.part.len() + piece.len()) as u64;
            self.part.clear();
        } else {
            self.part.extend_from_slice(piece);
        }
    }

    /// Returns `true` if another file has the name, or the file has been cut.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        let Ok(there) = fs::symlink_metadata(&self.path) else {
            return false;
        };
        let Some(mut file) = self.file.as_ref() else {
            return true;
        };
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

    fn read(followed: &mut FollowedFile) -> Vec<String> {
        let mut lines = Vec::new();
        followed.read_lines(|_, line| lines.push(String::from_utf8_lossy(line).into_owned()));
        lines
    }

    #[test]
    fn each_line_is_read_once_across_rotations_and_cuts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        let append = |text: &str| {
            let mut file = File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut followed = FollowedFile::at_end_of(&path);
        assert!(read(&mut followed).is_empty(), "there is no file yet");
        append("one\ntw");
        assert_eq!(read(&mut followed), ["one"]);
        append("o\nthree\n");
        fs::rename(&path, folder.path().join("training.log.1")).unwrap();
        append("four\n");
        assert_eq!(read(&mut followed), ["two", "three", "four"]);
        fs::write(&path, "5\n").unwrap();
        assert!(followed.is_replaced());
        assert_eq!(read(&mut followed), ["5"]);
        assert!(read(&mut followed).is_empty());
    }

    #[test]
    fn the_end_of_a_long_file_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        let lines = (0..MAX_END / 10).map(|number| format!("{number:019}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        let lines = read(&mut FollowedFile::at_end_of(&path));
        assert!(lines.len() > 1000 && lines.iter().all(|line| line.len() == 19));
        assert_eq!(lines.last().unwrap().parse::<u64>().unwrap(), MAX_END / 10 - 1);
    }

    #[test]
    fn a_reader_far_behind_goes_on_near_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        fs::write(&path, "0\n").unwrap();
        let mut followed = FollowedFile::at_end_of(&path);
        assert_eq!(read(&mut followed), ["0"]);
        let lines = (1..MAX_END / 5).map(|number| format!("{number:09}\n"));
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(lines.collect::<String>().as_bytes()).unwrap();
        followed.skip_ahead();
        let lines = read(&mut followed);
        assert_eq!(lines.last().unwrap().parse::<u64>().unwrap(), MAX_END / 5 - 1);
        assert!(
            lines.len() as u64 == MAX_END / 10 - 1 || lines.len() as u64 == MAX_END / 10,
            "{}",
            lines.len()
        );
        followed.skip_ahead();
        assert!(read(&mut followed).is_empty());
    }

    #[test]
    fn places_lead_to_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = (0..PIECE / 4)
            .map(|number| "x".repeat(number % 9) + "\n")
            .collect::<String>();
        fs::write(&path, &text).unwrap();
        let mut count = 0;
        FollowedFile::at_begin_of(&path).read_lines(|place, line| {
            let place = usize::try_from(place).unwrap();
            assert_eq!(&text.as_bytes()[place..=place + line.len()], [line, b"\n"].concat());
            assert!(place == 0 || text.as_bytes()[place - 1] == b'\n');
            count += 1;
        });
        assert_eq!(count, PIECE / 4);
    }
}
