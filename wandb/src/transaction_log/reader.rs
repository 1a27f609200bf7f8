use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use prost::Message as _;

use super::{BLOCK, CHUNK_HEADER, FIRST, FULL, HEADER, LAST, MIDDLE, checksum};
use crate::proto::Record;

/// No record of ours is longer; a longer one in a foreign file is damage.
const LONGEST: usize = 1 << 30;

/// Reads the records of a file, which may still be growing.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: File,
    /// A part of the file, and where in the file it begins.
    buffer: Vec<u8>,
    start: u64,
    /// Where the next record begins.
    position: u64,
}

/// What comes next in a log.
#[derive(Debug)]
pub(crate) enum Entry {
    Record(Record),
    /// There is no further whole record, at least not yet.
    End,
}

/// Why a log cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It does not begin as such a file does.
    Foreign,
    /// A chunk at this byte is not what was written.
    Damaged {
        at: u64,
    },
    Io(io::Error),
}

impl LogReader {
    /// Opens a log; one that is shorter than its header has no record yet.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        Self::of(File::open(path).map_err(ReadError::Io)?)
    }

    /// The same of a file that is open at its beginning.
    pub(crate) fn of(mut file: File) -> Result<Self, ReadError> {
        let mut header = Vec::with_capacity(HEADER.len());
        file.by_ref()
            .take(HEADER.len() as u64)
            .read_to_end(&mut header)
            .map_err(ReadError::Io)?;
        if !HEADER.starts_with(&header) {
            return Err(ReadError::Foreign);
        }
        Ok(Self {
            file,
            buffer: Vec::new(),
            start: 0,
            position: HEADER.len() as u64,
        })
    }

    /// The next record. After [`Entry::End`] it may be asked again; after an error, no more.
    pub(crate) fn next(&mut self) -> Result<Entry, ReadError> {
        let mut at = self.position;
        let mut long = Vec::new();
        loop {
            let room = BLOCK - (at % BLOCK as u64) as usize;
            if room < CHUNK_HEADER {
                at += room as u64;
                continue;
            }
            let Some(header) = self.bytes(at, CHUNK_HEADER)? else {
                return Ok(Entry::End);
            };
            let sum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            let in_place = match kind {
                FULL | FIRST => long.is_empty() && at == self.first_chunk(),
                MIDDLE | LAST => at != self.first_chunk(),
                _ => false,
            };
            if !in_place || CHUNK_HEADER + length > room || long.len() + length > LONGEST {
                return Err(ReadError::Damaged { at });
            }
            let Some(payload) = self.bytes(at + CHUNK_HEADER as u64, length)? else {
                return Ok(Entry::End);
            };
            if checksum(kind, payload) != sum {
                return Err(ReadError::Damaged { at });
            }
            let whole = match kind {
                FULL => Some(Record::decode(payload)),
                _ => {
                    long.extend_from_slice(payload);
                    (kind == LAST).then(|| Record::decode(long.as_slice()))
                }
            };
            let next = at + (CHUNK_HEADER + length) as u64;
            if let Some(record) = whole {
                let record = record.map_err(|_| ReadError::Damaged { at })?;
                self.position = next;
                return Ok(Entry::Record(record));
            }
            at = next;
        }
    }

    /// How many bytes of the file were read as whole records.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Where the next record's first chunk stands, past the filling of a block.
    fn first_chunk(&self) -> u64 {
        let room = BLOCK as u64 - self.position % BLOCK as u64;
        if room < CHUNK_HEADER as u64 {
            self.position + room
        } else {
            self.position
        }
    }

    /// These bytes of the file, if it is that long already.
    fn bytes(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, ReadError> {
        let end = at + length as u64;
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            self.file.seek(SeekFrom::Start(at)).map_err(ReadError::Io)?;
            self.buffer.clear();
            self.start = at;
            let ask = length.max(BLOCK) as u64;
            self.file
                .by_ref()
                .take(ask)
                .read_to_end(&mut self.buffer)
                .map_err(ReadError::Io)?;
        }
        let from = (at - self.start) as usize;
        Ok(self.buffer.get(from..from + length))
    }
}

impl Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it does not begin as a W&B log does"),
            Self::Damaged { at } => write!(f, "it is damaged at byte {at}; what stands before can be read"),
            Self::Io(error) => Display::fmt(error, f),
        }
    }
}

impl std::error::Error for ReadError {}
