//! What a killed process has written behind its last mark.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Rotation;
use crate::owner::Identity;
use crate::rotation::numbered;

/// Where an [`Appender`](crate::Appender) stands: enough for another process to go on from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub(crate) path: std::path::PathBuf,
    pub(crate) rotation: Rotation,
    pub(crate) file: Option<Identity>,
    /// Where our newest record ends in that file.
    pub(crate) end: u64,
}

impl Place {
    /// The end of a file that nobody has opened yet, and which may not be there.
    pub fn end_of(path: &Path) -> Self {
        let there = std::fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            rotation: Rotation::default(),
            file: there.as_ref().and_then(Identity::of),
            end: there.map_or(0, |metadata| metadata.len()),
        }
    }
}

/// The bytes behind a place, in the file that it names and in those that have taken its path since.
///
/// Others may append to the same file, so what is found is compared record by record, and never cut.
pub(crate) struct Found {
    bytes: Vec<u8>,
    /// Where the next record may begin.
    at: usize,
}

/// What there is of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Whole,
    /// The last bytes of the file are so many of its first.
    Begun(usize),
    Nothing,
}

/// What lies behind a mark is a batch, or what others have written since; of more than this the rest is not looked at.
const MOST_BYTES: u64 = 256 << 20;

impl Found {
    /// Reads what lies behind `place`.
    pub(crate) fn behind(place: &Place) -> io::Result<Self> {
        let mut bytes = Vec::new();
        for (number, from) in files_behind(place)? {
            let path = match number {
                0 => place.path.clone(),
                number => numbered(&place.path, number),
            };
            let mut file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            // A file that has become shorter was emptied by someone; all of it is new.
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(if from <= length { from } else { 0 }))?;
            file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        }
        Ok(Self { bytes, at: 0 })
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Looks for a record at the beginning of a line; the next is looked for behind it.
    ///
    /// A process writes its records in order, so once one is not there, none of those after it is.
    pub(crate) fn take(&mut self, record: &[u8]) -> Written {
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(record) {
                self.at += record.len();
                return Written::Whole;
            }
            if record.starts_with(rest) {
                let begun = rest.len();
                self.at = self.bytes.len();
                return Written::Begun(begun);
            }
            self.at += match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None => rest.len(),
            };
        }
        Written::Nothing
    }

    /// Whether the file ends in the middle of a line.
    pub(crate) fn ends_in_a_line(&self) -> bool {
        self.bytes.last().is_some_and(|last| *last != b'\n')
    }
}

/// The files behind a place, oldest first, by the number in their names (0 is the path itself), and where to begin in each.
fn files_behind(place: &Place) -> io::Result<Vec<(usize, u64)>> {
    let Some(identity) = place.file else {
        return Ok(vec![(0, place.end)]);
    };
    let mut number = 0;
    loop {
        let path: &Path = &match number {
            0 => place.path.clone(),
            number => numbered(&place.path, number),
        };
        match std::fs::metadata(path) {
            Ok(metadata) if Identity::of(&metadata) == Some(identity) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            // A process that was killed while it rotated leaves one number free.
            Err(error) if error.kind() == io::ErrorKind::NotFound && numbered(&place.path, number + 1).exists() => {}
            // It is gone, so whatever took its path came after it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![(0, 0)]),
            Err(error) => return Err(error),
        }
        number += 1;
    }
    let newer = (0..number).rev().map(|number| (number, 0));
    Ok(std::iter::once((number, place.end)).chain(newer).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Found {
        Found {
            bytes: text.as_bytes().to_vec(),
            at: 0,
        }
    }

    #[test]
    fn records_are_found_between_those_of_others() {
        let mut found = found("other\none\nother\ntwo\n  more\nthr");
        assert_eq!(found.take(b"one\n"), Written::Whole);
        assert_eq!(found.take(b"two\n  more\n"), Written::Whole);
        assert!(found.ends_in_a_line());
        assert_eq!(found.take(b"three\n"), Written::Begun(3));
        assert_eq!(found.take(b"four\n"), Written::Nothing);
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
                match found.as_mut().map_or(Written::Nothing, |found| found.take(record.as_bytes())) {
                    Written::Whole => continue,
                    Written::Begun(begun) => text.push_str(&record[begun..]),
                    Written::Nothing => text.push_str(record),
                }
                found = None;
            }
            prop_assert_eq!(text, whole);
        }
    }
}
