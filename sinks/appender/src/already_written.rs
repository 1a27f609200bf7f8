//! What a killed process has written behind its last mark.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::FilePosition;
use crate::file_id::FileId;
use crate::rotation::numbered;

/// The bytes behind a place, in the file that it names and in those that have taken its path since.
///
/// Others may append to the same file, so what is found is compared record by record, and never cut.
pub(crate) struct AlreadyWritten {
    bytes: Vec<u8>,
    /// Where the next record may begin.
    at: usize,
    /// The lines that there are, if the file of the place is gone, or was emptied: the first records may be gone with it.
    gap: Option<LineHashes>,
}

/// What there is of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RecordMatch {
    Full,
    /// The last bytes of the file are so many of its first.
    Partial(usize),
    None,
    /// If a later one is found, it has been written and was taken away since; if none is, it has not.
    Unknown,
}

/// What lies behind a mark is a batch, or what others have written since; of more than this only the newest is looked at.
const MOST_BYTES: u64 = 256 << 20;

impl AlreadyWritten {
    /// Reads what lies behind `place`.
    pub(crate) fn behind(place: &FilePosition) -> io::Result<Self> {
        let files = files_behind(place)?;
        let mut has_gap = files.iter().all(|(_, from)| from.is_none());
        let (mut parts, mut room) = (Vec::new(), MOST_BYTES);
        for (number, from) in files.into_iter().rev() {
            let mut file = match logcore_files::open(&path_of(place, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Lines that went into a pipe or a device are not there to be found.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
                opened => opened?,
            };
            let from = match from {
                Some(from) if ends_a_line(&mut file, from)? => from,
                // Someone has emptied it, or put other bytes there; all of it is new.
                Some(_) => {
                    has_gap = true;
                    0
                }
                None => 0,
            };
            file.seek(SeekFrom::Start(from))?;
            let mut part = Vec::new();
            file.take(room).read_to_end(&mut part)?;
            room -= part.len() as u64;
            has_gap |= room == 0;
            parts.push(part);
        }
        parts.reverse();
        let bytes = parts.concat();
        let gap = (has_gap && !bytes.is_empty()).then(|| LineHashes::of(&bytes));
        Ok(Self { bytes, at: 0, gap })
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Looks for a record at the beginning of a line; the next is looked for behind it.
    ///
    /// A process writes its records in order, so once one is not there, none of those after it is.
    pub(crate) fn take(&mut self, record: &[u8]) -> RecordMatch {
        if let Some(lines) = &self.gap {
            let whole = lines.may_have(record).then(|| self.find(record)).flatten();
            let Some(at) = whole else { return RecordMatch::Unknown };
            self.gap = None;
            self.at = at;
        }
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(record) {
                self.at += record.len();
                return RecordMatch::Full;
            }
            if record.starts_with(rest) {
                let begun = rest.len();
                self.at = self.bytes.len();
                return RecordMatch::Partial(begun);
            }
            self.at += match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None => rest.len(),
            };
        }
        RecordMatch::None
    }

    /// What is not there from now on has not been written.
    pub(crate) fn close_gap(&mut self) {
        self.gap = None;
    }

    fn find(&self, record: &[u8]) -> Option<usize> {
        let mut at = 0;
        while !self.bytes[at..].starts_with(record) {
            at += self.bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        }
        Some(at)
    }

    /// Whether the file ends in the middle of a line.
    pub(crate) fn ends_in_a_line(&self) -> bool {
        self.bytes.last().is_some_and(|last| *last != b'\n')
    }
}

/// The lines of a text, by what is left of them in a hash: who looks for many records looks only for those that may be there.
struct LineHashes {
    hasher: RandomState,
    known: HashSet<u64>,
}

impl LineHashes {
    fn of(bytes: &[u8]) -> Self {
        let hasher = RandomState::new();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let known = lines.map(|line| hasher.hash_one(line)).collect();
        Self { hasher, known }
    }

    fn may_have(&self, record: &[u8]) -> bool {
        let mut lines = record.split_inclusive(|byte| *byte == b'\n');
        lines.all(|line| self.known.contains(&self.hasher.hash_one(line)))
    }
}

fn ends_a_line(file: &mut File, at: u64) -> io::Result<bool> {
    let Some(last) = at.checked_sub(1) else { return Ok(true) };
    file.seek(SeekFrom::Start(last))?;
    let mut byte = [0];
    Ok(file.read(&mut byte)? == 1 && byte == *b"\n")
}

fn path_of(place: &FilePosition, number: usize) -> PathBuf {
    match number {
        0 => place.path.clone(),
        number => numbered(&place.path, number),
    }
}

/// The files behind a place, oldest first, by the number in their names (0 is the path itself), and where to begin in the one
/// that the place is in. If that one is gone, all are behind it.
fn files_behind(place: &FilePosition) -> io::Result<Vec<(usize, Option<u64>)>> {
    let Some(identity) = place.file else {
        return Ok(vec![(0, Some(place.end))]);
    };
    let mut number = 0;
    let of_place = loop {
        match fs::metadata(path_of(place, number)) {
            Ok(metadata) if FileId::of(&metadata) == Some(identity) => break Some((number, Some(place.end))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            // A process that was killed while it rotated leaves one number free.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path_of(place, number + 1).exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break None,
            Err(error) => return Err(error),
        }
        number += 1;
    };
    let newer = (0..number).rev().map(|number| (number, None));
    Ok(of_place.into_iter().chain(newer).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> AlreadyWritten {
        AlreadyWritten {
            bytes: text.as_bytes().to_vec(),
            at: 0,
            gap: None,
        }
    }

    #[test]
    fn records_are_found_between_those_of_others() {
        let mut found = found("other\none\nother\ntwo\n  more\nthr");
        assert_eq!(found.take(b"one\n"), RecordMatch::Full);
        assert_eq!(found.take(b"two\n  more\n"), RecordMatch::Full);
        assert!(found.ends_in_a_line());
        assert_eq!(found.take(b"three\n"), RecordMatch::Partial(3));
        assert_eq!(found.take(b"four\n"), RecordMatch::None);
    }

    proptest! {
        /// However the file was cut, what is found and what is then appended are all records, each once.
        #[test]
        fn a_cut_anywhere_is_completed(
            records in prop::collection::vec("[ab]{0,3}(\n [ab]{0,2})?", 0..12),
            cut in 0.0..1.0,
        ) {
            let records: Vec<String> = records.into_iter().map(|record| record + "\n").collect();
            let whole = records.concat();
            let cut = (whole.len() as f64 * cut) as usize;
            let mut text = whole[..cut].to_owned();
            let mut found = Some(found(&text));
            for record in &records {
                match found.as_mut().map_or(RecordMatch::None, |found| found.take(record.as_bytes())) {
                    RecordMatch::Full => continue,
                    RecordMatch::Partial(begun) => text.push_str(&record[begun..]),
                    RecordMatch::None | RecordMatch::Unknown => text.push_str(record),
                }
                found = None;
            }
            prop_assert_eq!(text, whole);
        }
    }
}
