//! Comparison of a killed process's records with the bytes that it wrote after its last position
//! was saved.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::FilePosition;
use crate::position::FileId;
use crate::rotation::numbered;

/// The bytes after a position, from the file of the position and from the files that took its path
/// since.
///
/// Other processes may append to the same file, so the bytes are compared record by record and
/// never cut.
pub(crate) struct AlreadyWritten {
    bytes: Vec<u8>,
    /// Offsets in `bytes` at which a file begins.
    file_starts: Vec<usize>,
    /// Offset at which the next record may begin.
    at: usize,
    /// The lines of `bytes`, if the file of the position is gone or was emptied. Then the first
    /// records may be gone, too, so the start of the comparison is uncertain.
    uncertain_start: Option<LineHashes>,
}

/// Result of looking for a record among the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RecordMatch<'r> {
    /// The whole record was found.
    Full,
    /// The bytes end with the beginning of the record; these bytes are missing.
    Partial(&'r [u8]),
    /// The record was not written.
    None,
    /// A later record decides: if that one is found, this one was written and removed since; else
    /// it was not written.
    Unknown,
}

/// Maximum number of bytes that are read. Usually they are one batch, or what other processes have
/// written since. Of more, only the newest are compared.
const MOST_BYTES: u64 = 256 << 20;

impl AlreadyWritten {
    /// Reads the bytes after `position`.
    pub(crate) fn read(position: &FilePosition) -> io::Result<Self> {
        let files = files_after(position)?;
        let mut starts_uncertain = files.iter().all(|(_, from)| from.is_none());
        let (mut parts, mut room) = (Vec::new(), MOST_BYTES);
        for (number, from) in files.into_iter().rev() {
            let mut file = match logcore::files::open(&path_of(position, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // A pipe or a device cannot be read back.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
                opened => opened?,
            };
            let from = match from {
                Some(from) if ends_a_line(&mut file, from)? => from,
                // The file was emptied or overwritten, so all of it is new.
                Some(_) => {
                    starts_uncertain = true;
                    0
                }
                None => 0,
            };
            file.seek(SeekFrom::Start(from))?;
            let begins_file = from == 0;
            let mut part = Vec::new();
            file.take(room).read_to_end(&mut part)?;
            room -= part.len() as u64;
            starts_uncertain |= room == 0;
            parts.push((begins_file, part));
        }
        let (mut bytes, mut file_starts) = (Vec::new(), Vec::new());
        for (begins_file, part) in parts.into_iter().rev() {
            file_starts.extend(begins_file.then_some(bytes.len()));
            bytes.extend(part);
        }
        let uncertain_start = (starts_uncertain && !bytes.is_empty()).then(|| LineHashes::new(&bytes));
        Ok(Self {
            bytes,
            file_starts,
            at: 0,
            uncertain_start,
        })
    }

    /// Returns the number of bytes that were not compared yet.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Looks for a record at the beginning of a line. The next call continues after the record.
    /// `first_form` is the form that the record has at the beginning of a file.
    ///
    /// A process writes its records in order: if one is missing, all later ones are missing, too.
    pub(crate) fn match_next<'r>(&mut self, record: &'r [u8], first_form: &'r [u8]) -> RecordMatch<'r> {
        if let Some(lines) = &self.uncertain_start {
            let find = |form: &&[u8]| lines.may_have(form).then(|| self.find(form)).flatten();
            let Some(at) = [record, first_form].iter().find_map(find) else {
                return RecordMatch::Unknown;
            };
            self.uncertain_start = None;
            self.at = at;
        }
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            let forms = match self.file_starts.contains(&self.at) {
                true => [first_form, record],
                false => [record, first_form],
            };
            if let Some(form) = forms.iter().find(|form| rest.starts_with(form)) {
                self.at += form.len();
                return RecordMatch::Full;
            }
            if let Some(missing) = forms.iter().find_map(|form| form.strip_prefix(rest)) {
                self.at = self.bytes.len();
                return RecordMatch::Partial(missing);
            }
            self.at += match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None => rest.len(),
            };
        }
        RecordMatch::None
    }

    /// Ends [`RecordMatch::Unknown`]: a record that is not found was not written.
    pub(crate) fn assume_unwritten(&mut self) {
        self.uncertain_start = None;
    }

    fn find(&self, record: &[u8]) -> Option<usize> {
        let mut at = 0;
        while !self.bytes[at..].starts_with(record) {
            at += self.bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        }
        Some(at)
    }

    /// Returns `true` if the bytes end in the middle of a line.
    pub(crate) fn ends_amid_a_line(&self) -> bool {
        self.bytes.last().is_some_and(|last| *last != b'\n')
    }
}

/// Hashes of the lines of a text: a search through the text is needed only for records whose lines
/// are all among them.
struct LineHashes {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl LineHashes {
    fn new(bytes: &[u8]) -> Self {
        let hasher = RandomState::new();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let hashes = lines.map(|line| hasher.hash_one(line)).collect();
        Self { hasher, hashes }
    }

    fn may_have(&self, record: &[u8]) -> bool {
        let mut lines = record.split_inclusive(|byte| *byte == b'\n');
        lines.all(|line| self.hashes.contains(&self.hasher.hash_one(line)))
    }
}

fn ends_a_line(file: &mut File, at: u64) -> io::Result<bool> {
    let Some(last) = at.checked_sub(1) else { return Ok(true) };
    file.seek(SeekFrom::Start(last))?;
    let mut byte = [0];
    Ok(file.read(&mut byte)? == 1 && byte == *b"\n")
}

fn path_of(position: &FilePosition, number: usize) -> PathBuf {
    match number {
        0 => position.path.clone(),
        number => numbered(&position.path, number),
    }
}

/// Returns the files after a position, oldest first: the number in the name (0 is the path itself),
/// and the offset to start from in the file of the position. If that file is gone, all files count.
fn files_after(position: &FilePosition) -> io::Result<Vec<(usize, Option<u64>)>> {
    let Some(id) = position.file else {
        return Ok(vec![(0, Some(position.end))]);
    };
    let mut number = 0;
    let of_position = loop {
        match fs::metadata(path_of(position, number)) {
            Ok(metadata) if FileId::of(&metadata) == Some(id) => break Some((number, Some(position.end))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            // A process that was killed during a rotation leaves one number free.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path_of(position, number + 1).exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break None,
            Err(error) => return Err(error),
        }
        number += 1;
    };
    let newer = (0..number).rev().map(|number| (number, None));
    Ok(of_position.into_iter().chain(newer).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> AlreadyWritten {
        AlreadyWritten {
            bytes: text.as_bytes().to_vec(),
            file_starts: vec![0],
            at: 0,
            uncertain_start: None,
        }
    }

    #[test]
    fn match_next_skips_the_records_of_other_processes() {
        let mut written = written("other\none\nother\ntwo\n  more\nthr");
        assert_eq!(written.match_next(b"one\n", b"one\n"), RecordMatch::Full);
        assert_eq!(
            written.match_next(b"two\n  more\n", b"two\n  more\n"),
            RecordMatch::Full
        );
        assert!(written.ends_amid_a_line());
        assert_eq!(
            written.match_next(b"three\n", b"three\n"),
            RecordMatch::Partial(b"ee\n")
        );
        assert_eq!(written.match_next(b"four\n", b"four\n"), RecordMatch::None);
    }

    #[test]
    fn match_next_knows_both_forms_of_a_record() {
        let match_in = |text: &str| written(text).match_next(b"one\n", b"one first\n");
        assert_eq!(match_in("one first\n"), RecordMatch::Full);
        assert_eq!(match_in("other\none\n"), RecordMatch::Full);
        assert_eq!(match_in("on"), RecordMatch::Partial(b"e first\n"));
        assert_eq!(match_in("other\non"), RecordMatch::Partial(b"e\n"));
        assert_eq!(match_in("other\n"), RecordMatch::None);
    }

    proptest! {
        /// The bytes that were written plus the rest that is appended are all records, each once.
        #[test]
        fn a_file_that_was_cut_anywhere_is_completed(
            records in prop::collection::vec("[ab]{0,3}(\n [ab]{0,2})?", 0..12),
            cut in 0.0..1.0,
        ) {
            let records: Vec<String> = records.into_iter().map(|record| record + "\n").collect();
            let whole = records.concat();
            let cut = (whole.len() as f64 * cut) as usize;
            let mut text = whole[..cut].to_owned();
            let mut written = Some(written(&text));
            for record in &records {
                match written.as_mut().map_or(RecordMatch::None, |written| written.match_next(record.as_bytes(), record.as_bytes())) {
                    RecordMatch::Full => continue,
                    RecordMatch::Partial(missing) => text.push_str(std::str::from_utf8(missing).unwrap()),
                    RecordMatch::None | RecordMatch::Unknown => text.push_str(record),
                }
                written = None;
            }
            prop_assert_eq!(text, whole);
        }
    }
}
