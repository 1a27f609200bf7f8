//! The reader of a log.

use std::fmt::{self, Display};
use std::fs::File;
use std::io;
use std::sync::Arc;

use prost::{DecodeError, Message as _};

use super::live_log::LiveLog;
use super::{BLOCK, CHUNK_HEADER, FIRST, FULL, HEADER, LAST, MIDDLE, checksum};
use crate::log_format::proto::LogRecord;

/// Bytes of the longest record. A longer one is damage.
const LONGEST: usize = 1 << 30;

/// Reads the records of a file that may still grow.
pub(crate) struct LogReader {
    file: File,
    /// A part of the file, and the offset of that part.
    buffer: Vec<u8>,
    start: u64,
    /// The offset of the next record.
    position: u64,
    /// The state of a writer in this process, and the number of its last change that was seen.
    live: Option<(Arc<LiveLog>, u64)>,
    /// The offset from which the file has changed since it was read.
    rewound: Option<u64>,
    /// Bytes of the longest record.
    longest: usize,
}

/// The next entry of a log.
#[derive(Debug)]
pub(crate) enum LogEntry {
    Record(LogRecord),
    /// There is no further complete record yet.
    End,
}

/// Cause for which a log cannot be read.
#[derive(Debug)]
pub(crate) enum LogReadError {
    /// The header is not the header of a W&B log.
    NotALog,
    /// The chunk at this offset is damaged.
    Damaged {
        at: u64,
    },
    Io(io::Error),
}

impl LogReader {
    /// Opens a log. A file that is shorter than the header has no record yet.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn open(path: &std::path::Path) -> Result<Self, LogReadError> {
        Self::new(logcore::files::open(path).map_err(LogReadError::Io)?)
    }

    /// Creates a reader of an open file.
    pub(crate) fn new(file: File) -> Result<Self, LogReadError> {
        let mut header = Vec::with_capacity(HEADER.len());
        read_at(&file, 0, HEADER.len(), &mut header).map_err(LogReadError::Io)?;
        if !HEADER.starts_with(&header) {
            return Err(LogReadError::NotALog);
        }
        Ok(Self {
            file,
            buffer: Vec::new(),
            start: 0,
            position: HEADER.len() as u64,
            live: None,
            rewound: None,
            longest: LONGEST,
        })
    }

    /// Takes a longer record than this for damage.
    pub(crate) fn with_longest(self, longest: usize) -> Self {
        Self { longest, ..self }
    }

    /// Creates a reader of a log that is being written in this process. The reader follows the
    /// writer to another file, and notices a cut.
    pub(crate) fn following(live: &Arc<LiveLog>) -> Result<Self, LogReadError> {
        let mut seen = 0;
        let newest = live.changes_since(&mut seen).map(|(file, _)| file);
        let file = newest.map_or_else(|| live.file(), Ok).map_err(LogReadError::Io)?;
        Ok(Self {
            live: Some((Arc::clone(live), seen)),
            ..Self::new(file)?
        })
    }

    /// Returns `true` if the writer of the log is in this process, and may repair the log.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Follows the writer to its newest file, and returns the offset of a cut since the last call.
    /// From there on, the file has changed since it was read.
    pub(crate) fn take_rewound(&mut self) -> Option<u64> {
        self.follow_writer();
        self.rewound.take()
    }

    /// Returns the next record. May be called again after [`LogEntry::End`], but not after an
    /// error.
    pub(crate) fn next(&mut self) -> Result<LogEntry, LogReadError> {
        self.follow_writer();
        let mut read = None;
        let take = |payload: &[u8]| {
            let record = LogRecord::decode(payload)?;
            let num = record.num;
            read = Some(record);
            Ok(num)
        };
        self.read_with(take)?;
        Ok(read.map_or(LogEntry::End, LogEntry::Record))
    }

    /// Gives the bytes of the next record to `take`, which returns the number of the record. A
    /// record that `take` refuses is damage. Returns `false` if there is no further complete record
    /// yet. Does not follow the writer to another file: see
    /// [`take_rewound`](Self::take_rewound).
    pub(crate) fn read_with(
        &mut self,
        take: impl FnOnce(&[u8]) -> Result<i64, DecodeError>,
    ) -> Result<bool, LogReadError> {
        let Some(num) = self.read_record(take)? else {
            return Ok(false);
        };
        if let Some((live, _)) = &self.live {
            live.set_last_read(num);
        }
        Ok(true)
    }

    /// Reopens the file if the writer has replaced or cut it.
    fn follow_writer(&mut self) {
        let Some((live, seen)) = &mut self.live else { return };
        let Some((file, cut)) = live.changes_since(seen) else {
            return;
        };
        self.file = file;
        self.buffer.clear();
        self.start = 0;
        if let Some(cut) = cut
            .map(|cut| cut.max(HEADER.len() as u64))
            .filter(|cut| *cut < self.position)
        {
            self.position = cut;
            self.rewound = Some(self.rewound.map_or(cut, |earlier| earlier.min(cut)));
        }
    }

    /// Reads the record at the current position. Returns what `take` returns for its bytes; `None`
    /// if there is no further complete record yet.
    fn read_record<T>(
        &mut self,
        take: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, LogReadError> {
        let mut at = self.position;
        let mut long = Vec::new();
        loop {
            let room = BLOCK - (at % BLOCK as u64) as usize;
            if room < CHUNK_HEADER {
                at += room as u64;
                continue;
            }
            let Some(header) = self.bytes(at, CHUNK_HEADER)? else {
                return Ok(None);
            };
            let sum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            let is_expected = match kind {
                FULL | FIRST => long.is_empty() && at == self.first_chunk(),
                MIDDLE | LAST => at != self.first_chunk(),
                _ => false,
            };
            if !is_expected || CHUNK_HEADER + length > room || long.len() + length > self.longest {
                return Err(LogReadError::Damaged { at });
            }
            let Some(payload) = self.bytes(at + CHUNK_HEADER as u64, length)? else {
                return Ok(None);
            };
            if checksum(kind, payload) != sum {
                return Err(LogReadError::Damaged { at });
            }
            let next = at + (CHUNK_HEADER + length) as u64;
            let whole = match kind {
                FULL => payload,
                _ => {
                    long.extend_from_slice(payload);
                    if kind != LAST {
                        at = next;
                        continue;
                    }
                    long.as_slice()
                }
            };
            let taken = take(whole).map_err(|_| LogReadError::Damaged { at })?;
            self.position = next;
            return Ok(Some(taken));
        }
    }

    /// Returns the offset behind the last record that was read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the offset of the first chunk of the next record, behind the padding of a block.
    fn first_chunk(&self) -> u64 {
        let room = BLOCK as u64 - self.position % BLOCK as u64;
        if room < CHUNK_HEADER as u64 {
            self.position + room
        } else {
            self.position
        }
    }

    /// Returns bytes of the file, if the file is long enough.
    fn bytes(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, LogReadError> {
        let end = at + length as u64;
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            self.buffer.clear();
            self.start = at;
            read_at(&self.file, at, length.max(BLOCK), &mut self.buffer).map_err(LogReadError::Io)?;
        }
        let from = (at - self.start) as usize;
        Ok(self.buffer.get(from..from + length))
    }
}

/// Appends up to `length` bytes from an offset of the file. The file's own position does not
/// change, because a writer may use the same descriptor.
fn read_at(file: &File, at: u64, length: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let begin = buffer.len();
    buffer.resize(begin + length, 0);
    let mut had = 0;
    while had < length {
        match read_part(file, &mut buffer[begin + had..], at + had as u64) {
            Ok(0) => break,
            Ok(count) => had += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                buffer.truncate(begin);
                return Err(error);
            }
        }
    }
    buffer.truncate(begin + had);
    Ok(())
}

/// Reads at an offset, without moving the position of the file.
#[cfg(unix)]
fn read_part(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(not(unix))]
fn read_part(mut file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.read(buffer)
}

impl Display for LogReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotALog => f.write_str("the file is not a W&B log"),
            Self::Damaged { at } => write!(f, "the log is damaged at byte {at}; the records before can be read"),
            Self::Io(error) => Display::fmt(error, f),
        }
    }
}

impl std::error::Error for LogReadError {}
