use std::fmt::{self, Display};
use std::fs::File;
use std::io;
use std::sync::Arc;

use prost::Message as _;

use super::live_log::LiveLog;
use super::{BLOCK, CHUNK_HEADER, FIRST, FULL, HEADER, LAST, MIDDLE, checksum};
use crate::log_format::proto::LogRecord;

/// No record of ours is longer; a longer one in a foreign file is damage.
const LONGEST: usize = 1 << 30;

/// Reads the records of a file, which may still be growing.
pub(crate) struct LogReader {
    file: File,
    /// A part of the file, and where in the file it begins.
    buffer: Vec<u8>,
    start: u64,
    /// Where the next record begins.
    position: u64,
    /// The writer of the log, where that is in this process, and what was seen of it.
    live: Option<(Arc<LiveLog>, u64)>,
    /// From here on the file is another than was read.
    rewound: Option<u64>,
}

/// What comes next in a log.
#[derive(Debug)]
pub(crate) enum LogEntry {
    Record(LogRecord),
    /// There is no further whole record, at least not yet.
    End,
}

/// Why a log cannot be read.
#[derive(Debug)]
pub(crate) enum LogReadError {
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
    #[cfg(any(test, fuzzing))]
    pub(crate) fn open(path: &std::path::Path) -> Result<Self, LogReadError> {
        Self::of(logcore_files::open(path).map_err(LogReadError::Io)?)
    }

    /// The same of a file that is open.
    pub(crate) fn of(file: File) -> Result<Self, LogReadError> {
        let mut header = Vec::with_capacity(HEADER.len());
        read_at(&file, 0, HEADER.len(), &mut header).map_err(LogReadError::Io)?;
        if !HEADER.starts_with(&header) {
            return Err(LogReadError::Foreign);
        }
        Ok(Self {
            file,
            buffer: Vec::new(),
            start: 0,
            position: HEADER.len() as u64,
            live: None,
            rewound: None,
        })
    }

    /// A reader of a log that is being written in this process. It follows the writer to another file, and knows what others
    /// have cut off.
    pub(crate) fn following(live: &Arc<LiveLog>) -> Result<Self, LogReadError> {
        let mut seen = 0;
        let newest = live.since(&mut seen).map(|(file, _)| file);
        let file = newest.map_or_else(|| live.file(), Ok).map_err(LogReadError::Io)?;
        Ok(Self {
            live: Some((Arc::clone(live), seen)),
            ..Self::of(file)?
        })
    }

    /// Whether the writer of the log is in this process, and may mend what is wrong with it.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The place from which the file is another than was read, if somebody has cut it since the last call.
    pub(crate) fn take_rewound(&mut self) -> Option<u64> {
        self.rewound.take()
    }

    /// The next record. After [`LogEntry::End`] it may be asked again; after an error, no more.
    pub(crate) fn next(&mut self) -> Result<LogEntry, LogReadError> {
        self.follow();
        let entry = self.read_on();
        if let (Ok(LogEntry::Record(record)), Some((live, _))) = (&entry, &self.live) {
            live.set_read(record.num);
        }
        entry
    }

    fn follow(&mut self) {
        let Some((live, seen)) = &mut self.live else { return };
        let Some((file, cut)) = live.since(seen) else { return };
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

    fn read_on(&mut self) -> Result<LogEntry, LogReadError> {
        let mut at = self.position;
        let mut long = Vec::new();
        loop {
            let room = BLOCK - (at % BLOCK as u64) as usize;
            if room < CHUNK_HEADER {
                at += room as u64;
                continue;
            }
            let Some(header) = self.bytes(at, CHUNK_HEADER)? else {
                return Ok(LogEntry::End);
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
                return Err(LogReadError::Damaged { at });
            }
            let Some(payload) = self.bytes(at + CHUNK_HEADER as u64, length)? else {
                return Ok(LogEntry::End);
            };
            if checksum(kind, payload) != sum {
                return Err(LogReadError::Damaged { at });
            }
            let whole = match kind {
                FULL => Some(LogRecord::decode(payload)),
                _ => {
                    long.extend_from_slice(payload);
                    (kind == LAST).then(|| LogRecord::decode(long.as_slice()))
                }
            };
            let next = at + (CHUNK_HEADER + length) as u64;
            if let Some(record) = whole {
                let record = record.map_err(|_| LogReadError::Damaged { at })?;
                self.position = next;
                return Ok(LogEntry::Record(record));
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

/// Appends up to `length` bytes from a place of the file. The place where others stand in the file stays as it is: a writer may
/// have the same descriptor.
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
            Self::Foreign => f.write_str("it does not begin as a W&B log does"),
            Self::Damaged { at } => write!(f, "it is damaged at byte {at}; what stands before can be read"),
            Self::Io(error) => Display::fmt(error, f),
        }
    }
}

impl std::error::Error for LogReadError {}
