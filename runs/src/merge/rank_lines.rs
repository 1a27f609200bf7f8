//! The lines of one rank's file, its rotated parts first.

use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::MergeError;

/// A message is at most 16 MiB, and an escaped character at most four times as long.
const LONGEST: u64 = 64 << 20;

/// Whole lines; what has no line end is being written at this moment, or was cut.
pub(crate) struct RankLines {
    /// The next one last.
    parts: Vec<FilePart>,
    pub(crate) torn: bool,
    line: Vec<u8>,
}

struct FilePart {
    path: PathBuf,
    reader: io::Take<BufReader<File>>,
    /// How many lines were read.
    number: u64,
}

impl RankLines {
    /// Opens a file and its rotated parts, as far as they go at this moment.
    pub(crate) fn open(path: &Path) -> Result<Self, MergeError> {
        let mut parts: Vec<FilePart> = Vec::new();
        let mut seen = Vec::new();
        let mut number = 0;
        // From the newest on: what is renamed meanwhile is met again, and not missed.
        loop {
            let part = numbered(path, number);
            match open(&part) {
                Ok((file, metadata)) => {
                    let identity = identity(&metadata);
                    if identity.is_none() || !seen.contains(&identity) {
                        seen.push(identity);
                        parts.push(FilePart {
                            path: part,
                            reader: BufReader::new(file).take(metadata.len()),
                            number: 0,
                        });
                    }
                }
                // A process that was killed while it rotated leaves one number free.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if number > 0 && !numbered(path, number + 1).exists() {
                        break;
                    }
                }
                Err(error) => {
                    return Err(MergeError::Unreadable {
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
            torn: false,
            line: Vec::new(),
        })
    }

    /// The next line, without its end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, MergeError> {
        while let Some(part) = self.parts.last_mut() {
            self.line.clear();
            let line = part.number + 1;
            part.reader
                .by_ref()
                .take(LONGEST)
                .read_until(b'\n', &mut self.line)
                .map_err(|error| MergeError::Unreadable {
                    path: part.path.clone(),
                    line,
                    error,
                })?;
            part.number = line;
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                return Ok(Some(&self.line));
            }
            if self.line.len() as u64 == LONGEST {
                return Err(self.too_long());
            }
            self.torn |= !self.line.is_empty();
            self.parts.pop();
        }
        Ok(None)
    }

    /// The line that was read last is too long, or belongs to what is.
    pub(crate) fn too_long(&self) -> MergeError {
        let (path, line) = match self.parts.last() {
            Some(part) => (part.path.clone(), part.number),
            None => Default::default(),
        };
        MergeError::TooLong { path, line }
    }

    /// Where the line stands that was read last.
    pub(crate) fn place(&self) -> String {
        match self.parts.last() {
            Some(part) => format!("line {} of {}", part.number, part.path.display()),
            None => String::new(),
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = logcore_files::open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parts_are_read_from_the_oldest_on_and_a_torn_end_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("training.log");
        fs::write(&path, "five\nsi").unwrap();
        // A gap, as a kill in the middle of a rotation leaves it.
        fs::write(numbered(&path, 2), "three\nfour\n").unwrap();
        fs::write(numbered(&path, 3), "one\ntwo\n").unwrap();
        let mut lines = RankLines::open(&path).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(read, ["one", "two", "three", "four", "five"]);
        assert!(lines.torn);
    }
}
