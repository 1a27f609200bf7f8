//! A mark in a file of lines, which another process finds again.

use std::fs::File;
use std::io;
use std::ops::Range;

use logcore::files::identity;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The end of the last line of a file that a server has acknowledged, and the identity of the file.
///
/// A delivery saves the mark of each file of its spool, with
/// [`save_position`](crate::save_position). The next delivery goes on behind the mark, if the file
/// is still the same one: it has the same device and inode, and the acknowledged line is where it
/// was, byte for byte. Another file, such as one that was emptied, replaced or copied, starts at
/// its beginning. So a line may be sent twice, and none is left out.
///
/// In JSON, a mark is an object with `device`, `inode` (both 0 where the system has neither),
/// `offset` and `line_bytes` in bytes, and `line_sha256` (FIPS 180-4) in lower-case hexadecimal
/// digits. The line includes its end, `\n`.
///
/// ```
/// use std::fs::{self, File};
///
/// use logcore_delivery::LineMark;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("metrics.jsonl");
/// fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n").unwrap();
///
/// // The server has the first two lines; the second one is in the bytes 11 to 22.
/// let mark = LineMark::behind_line(&File::open(&path).unwrap(), 11..22).unwrap();
/// let mark: LineMark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
/// assert_eq!(mark.offset(), 22);
/// assert_eq!(mark.find_in(&File::open(&path).unwrap()).unwrap(), Some(22));
///
/// fs::write(&path, "{\"step\":1}\n{\"step\":9}\n{\"step\":3}\n").unwrap();
/// assert_eq!(mark.find_in(&File::open(&path).unwrap()).unwrap(), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineMark {
    device: u64,
    inode: u64,
    offset: u64,
    line_bytes: u64,
    line_sha256: String,
}

impl LineMark {
    /// Creates the mark behind a line of a file. `line` is the place of the line in bytes, its end
    /// included.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if there is no complete line at this place, and errors of
    /// the file.
    pub fn behind_line(file: &File, line: Range<u64>) -> io::Result<Self> {
        let (device, inode) = identity(&file.metadata()?).unwrap_or_default();
        let line_sha256 = hash_line(file, line.clone())?.ok_or_else(|| {
            let text = format!("no line of the file is in the bytes {} to {}", line.start, line.end);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        Ok(Self {
            device,
            inode,
            offset: line.end,
            line_bytes: line.end - line.start,
            line_sha256,
        })
    }

    /// Returns the end of the acknowledged lines in bytes: 0 for the default mark, which is before
    /// the first line of any file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Looks for the mark in a file, and returns the offset in bytes at which a delivery goes on;
    /// `None` in another file, whose delivery starts at 0.
    ///
    /// # Errors
    ///
    /// Errors of the file.
    pub fn find_in(&self, file: &File) -> io::Result<Option<u64>> {
        if self.offset == 0 {
            return Ok(Some(0));
        }
        let Some(start) = self.offset.checked_sub(self.line_bytes) else {
            return Ok(None);
        };
        if identity(&file.metadata()?).unwrap_or_default() != (self.device, self.inode) {
            return Ok(None);
        }
        let hash = match hash_line(file, start..self.offset) {
            // The file was cut in this moment.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            hash => hash?,
        };
        Ok((hash.as_ref() == Some(&self.line_sha256)).then_some(self.offset))
    }
}

/// Returns the hash of a line, or `None` if these bytes are not one complete line.
fn hash_line(file: &File, line: Range<u64>) -> io::Result<Option<String>> {
    if line.is_empty() || line.end > file.metadata()?.len() {
        return Ok(None);
    }
    let mut buffer = vec![0; PART];
    if line.start > 0 {
        read_exact_at(file, &mut buffer[..1], line.start - 1)?;
        if buffer[0] != b'\n' {
            return Ok(None);
        }
    }
    let mut hash = Sha256::new();
    let mut at = line.start;
    while at < line.end {
        let count = usize::try_from(line.end - at).unwrap_or(PART).min(PART);
        let part = &mut buffer[..count];
        read_exact_at(file, part, at)?;
        at += count as u64;
        let line_end = part.iter().position(|byte| *byte == b'\n');
        let expected = (at == line.end).then_some(count - 1);
        if line_end != expected {
            return Ok(None);
        }
        hash.update(part);
    }
    let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(digits))
}

/// Bytes that are read at once.
const PART: usize = 64 << 10;

/// Fills a buffer from a place in a file. The cursor of the file, which a reader of lines may use,
/// stays where it is.
#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let before = file.stream_position()?;
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer));
    file.seek(SeekFrom::Start(before))?;
    read
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn file(content: &[u8]) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn find(mark: &LineMark, path: &Path) -> Option<u64> {
        mark.find_in(&File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_file_that_grows_keeps_its_mark_and_its_cursor() {
        let (_folder, path) = file(b"one\ntwo\n");
        let mut reader = BufReader::with_capacity(4, File::open(&path).unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let mark = LineMark::behind_line(reader.get_ref(), 0..4).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"three\n")
            .unwrap();
        assert_eq!(mark.find_in(reader.get_ref()).unwrap(), Some(4));
        let rest: Vec<_> = reader.lines().map(Result::unwrap).collect();
        assert_eq!(rest, ["two", "three"]);
    }

    #[test]
    fn the_default_mark_is_before_the_first_line() {
        let (_folder, path) = file(b"");
        assert_eq!(find(&LineMark::default(), &path), Some(0));
    }

    #[test]
    fn a_file_that_was_emptied_cut_or_changed_starts_again() {
        let (_folder, path) = file(b"one\ntwo\nthree\n");
        let mark = LineMark::behind_line(&File::open(&path).unwrap(), 4..8).unwrap();
        assert_eq!(find(&mark, &path), Some(8));
        for changed in [
            "",
            "one\n",
            "one\ntwo",
            "one\ntwX\nthree\n",
            "oneXtwo\nthree\n",
            "\n\n\n\n\n\n\n\n",
        ] {
            fs::write(&path, changed).unwrap();
            assert_eq!(find(&mark, &path), None, "{changed:?}");
        }
    }

    /// A copy has the same lines, and another delivery may have sent it elsewhere.
    #[cfg(unix)]
    #[test]
    fn a_copy_starts_again() {
        let (folder, path) = file(b"one\ntwo\n");
        let mark = LineMark::behind_line(&File::open(&path).unwrap(), 0..4).unwrap();
        let copy = folder.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        assert_eq!(find(&mark, &copy), None);
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert_eq!(find(&mark, &folder.path().join("moved")), Some(4));
    }

    #[test]
    fn a_line_longer_than_a_part_is_marked() {
        let mut long = vec![b'x'; 3 * PART];
        long.push(b'\n');
        let (_folder, path) = file(&long);
        let whole = LineMark::behind_line(&File::open(&path).unwrap(), 0..long.len() as u64).unwrap();
        assert_eq!(find(&whole, &path), Some(long.len() as u64));
    }

    proptest! {
        /// Only complete lines of the file have a mark, and each mark is found again.
        #[test]
        fn marks_are_behind_complete_lines(
            content in "[a\n]{0,12}", start in 0..14_u64, length in 0..14_u64,
        ) {
            let (_folder, path) = file(content.as_bytes());
            let line = start..start + length;
            let is_line = content
                .split_inclusive('\n')
                .scan(0, |at, text| {
                    *at += text.len() as u64;
                    Some((*at - text.len() as u64..*at, text))
                })
                .any(|(place, text)| place == line && text.ends_with('\n'));
            let mark = LineMark::behind_line(&File::open(&path).unwrap(), line.clone());
            prop_assert_eq!(mark.is_ok(), is_line);
            if let Ok(mark) = mark {
                prop_assert_eq!(find(&mark, &path), Some(line.end));
            }
        }

        /// Anybody may have written the mark.
        #[test]
        fn a_mark_with_any_numbers_is_read(
            offset in prop_oneof![0..20_u64, any::<u64>()], line_bytes in prop_oneof![0..20_u64, any::<u64>()],
        ) {
            let (_folder, path) = file(b"one\ntwo\n");
            let (device, inode) = identity(&fs::metadata(&path).unwrap()).unwrap_or_default();
            let mark = LineMark { device, inode, offset, line_bytes, line_sha256: String::new() };
            prop_assert_eq!(find(&mark, &path), (offset == 0).then_some(0));
        }
    }
}
