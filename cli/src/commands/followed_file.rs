//! Reading a file that grows.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use logcore::files;

/// Most bytes of the end of a file in which its newest lines are looked for, and that are read at
/// once.
const MAX_BYTES: u64 = 4 << 20;

/// A file of which each line is read once, also if the file is rotated or made anew.
pub(super) struct FollowedFile {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that is not complete.
    part: Vec<u8>,
}

impl FollowedFile {
    /// Reads the file from its first line on.
    pub(super) fn at_begin_of(path: PathBuf) -> Self {
        let file = files::open_no_follow(&path).ok();
        Self {
            path,
            file,
            part: Vec::new(),
        }
    }

    /// Reads the file from a line near its end on.
    pub(super) fn at_end_of(path: PathBuf) -> Self {
        let mut followed = Self::at_begin_of(path);
        if let Some(file) = &mut followed.file {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let begin = length.saturating_sub(MAX_BYTES);
            if begin > 0 && file.seek(SeekFrom::Start(begin)).is_ok() {
                // The bytes up to the first line end are a part of a line.
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
    pub(super) fn read_lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.read_part(&mut lines);
        if self.has_successor() {
            // The process that rotated the file may have written to it since.
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
