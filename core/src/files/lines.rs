//! The complete lines of a file and its rotated parts.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Longest line in bytes. A message has at most 16 MiB, and escaping makes it at most four times as
/// long.
const MAX_LINE: u64 = 64 << 20;

/// The complete lines of a file and its rotated parts, oldest part first.
///
/// An incomplete last line is skipped: a process is still writing it, or was killed.
///
/// ```
/// use logcore::files::Lines;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("metrics.jsonl");
/// std::fs::write(folder.path().join("metrics.jsonl.1"), "one\n").unwrap();
/// std::fs::write(&path, "two\nthr").unwrap();
///
/// let mut lines = Lines::open(&path).unwrap();
/// assert_eq!(lines.next_line().unwrap(), Some(&b"one"[..]));
/// assert_eq!(lines.next_line().unwrap(), Some(&b"two"[..]));
/// assert_eq!(lines.next_line().unwrap(), None);
/// assert!(lines.is_torn());
/// ```
#[derive(Debug)]
pub struct Lines {
    /// The parts that are not read yet; the next one is last.
    parts: Vec<FilePart>,
    is_torn: bool,
    line: Vec<u8>,
}

/// An open file: a rotated part, or the newest.
#[derive(Debug)]
struct FilePart {
    path: PathBuf,
    reader: io::Take<BufReader<File>>,
    /// Number of lines read.
    lines: u64,
}

/// A place in [`Lines`], and why it cannot be read.
#[derive(Debug)]
pub struct LineError {
    /// Path of the file or part.
    pub path: PathBuf,
    /// Number of the line, from 1; 0 if the file cannot be opened.
    pub line: u64,
    /// Error of the system; [`io::ErrorKind::FileTooLarge`] for a line of more than 64 MiB, which
    /// no record or row is.
    pub error: io::Error,
}

impl Lines {
    /// Opens a file and its rotated parts, up to their present length. A file that does not exist
    /// has no lines.
    ///
    /// # Errors
    ///
    /// If a part exists and cannot be opened.
    pub fn open(path: &Path) -> Result<Self, LineError> {
        Self::open_with(path, super::open)
    }

    /// Opens a file and its rotated parts as [`open`](Self::open) does, each with `open_part`.
    ///
    /// ```
    /// use logcore::files::{Lines, open_no_follow};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("metrics.jsonl");
    /// std::fs::create_dir(&path).unwrap();
    /// assert_eq!(Lines::open_with(&path, open_no_follow).unwrap_err().path, path);
    /// ```
    ///
    /// # Errors
    ///
    /// If a part exists and cannot be opened.
    pub fn open_with(path: &Path, open_part: impl Fn(&Path) -> io::Result<File>) -> Result<Self, LineError> {
        let open = |path: &Path| {
            let file = open_part(path)?;
            let metadata = file.metadata()?;
            Ok::<_, io::Error>((file, metadata))
        };
        let mut parts: Vec<FilePart> = Vec::new();
        let mut seen = Vec::new();
        let mut number = 0;
        // The newest part first: a part that is renamed meanwhile is met twice and never missed.
        loop {
            let part = numbered(path, number);
            match open(&part) {
                Ok((file, metadata)) => {
                    // Without an identity, a file that is rotated meanwhile may be read twice.
                    let identity = super::identity(&metadata);
                    if identity.is_none() || !seen.contains(&identity) {
                        seen.push(identity);
                        parts.push(FilePart {
                            path: part,
                            reader: BufReader::new(file).take(metadata.len()),
                            lines: 0,
                        });
                    }
                }
                // A process that is killed while it rotates leaves one number unused.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if number > 0 && !numbered(path, number + 1).exists() {
                        break;
                    }
                }
                Err(error) => {
                    return Err(LineError {
                        path: part,
                        line: 0,
                        error,
                    });
                }
            }
            number += 1;
        }
        Ok(Self {
            parts,
            is_torn: false,
            line: Vec::new(),
        })
    }

    /// Returns the next line, without its line end.
    ///
    /// # Errors
    ///
    /// If a part cannot be read, or a line is too long.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineError> {
        while let Some(part) = self.parts.last_mut() {
            self.line.clear();
            part.lines += 1;
            let read = part.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line);
            read.map_err(|error| part.error(error))?;
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                return Ok(Some(&self.line));
            }
            if self.line.len() as u64 == MAX_LINE {
                return Err(self.too_long());
            }
            self.is_torn |= !self.line.is_empty();
            self.parts.pop();
        }
        Ok(None)
    }

    /// Returns `true` once a part has ended with an incomplete line.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Returns the error for the last line, which makes a record too long.
    #[must_use]
    pub fn too_long(&self) -> LineError {
        let error = io::ErrorKind::FileTooLarge.into();
        match self.parts.last() {
            Some(part) => part.error(error),
            None => LineError {
                path: PathBuf::new(),
                line: 0,
                error,
            },
        }
    }

    /// Returns the location of the last line: `line 3 of logs/training.log`.
    #[must_use]
    pub fn location(&self) -> String {
        match self.parts.last() {
            Some(part) => format!("line {} of {}", part.lines, part.path.display()),
            None => String::new(),
        }
    }
}

impl FilePart {
    fn error(&self, error: io::Error) -> LineError {
        LineError {
            path: self.path.clone(),
            line: self.lines,
            error,
        }
    }
}

impl Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        write!(f, ": {}", self.error)
    }
}

/// Returns the path of a rotated part; number 0 is the file itself.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_begin_with_the_oldest_part_and_skip_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        fs::write(&path, "five\nsi").unwrap();
        // A kill in the middle of a rotation leaves such a gap.
        fs::write(numbered(&path, 2), "three\nfour\n").unwrap();
        fs::write(numbered(&path, 3), "one\ntwo\n").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            read.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(read, ["one", "two", "three", "four", "five"]);
        assert!(lines.is_torn());
    }
}
