use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{BLOCK, CHUNK_HEADER, FIRST, FULL, HEADER, LAST, MIDDLE, checksum};
use crate::proto::{Kind, Record};

/// The end of a file that holds whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Of the file, in bytes.
    pub(crate) length: u64,
    /// The number of its last record.
    pub(crate) num: i64,
}

/// Appends records to a file.
///
/// What is appended waits in memory until [`LogWriter::write_out`]; what a full disk refuses stays there and is written
/// when there is room again, exactly where it was to stand.
pub(crate) struct LogWriter {
    file: File,
    /// Framed bytes that are not in the file yet.
    waiting: Vec<u8>,
    /// How much of `waiting` is in the file already.
    written: usize,
    /// Where the next chunk will stand in its block.
    place: usize,
    /// Of the last record.
    num: i64,
    /// Where the file ended when nothing waited.
    end: End,
    /// One record; kept for its memory.
    record: Vec<u8>,
}

impl LogWriter {
    /// Makes the file, with its first records. It has its name only when they are in it, so that whoever finds it finds them,
    /// also if the process is killed meanwhile.
    ///
    /// # Errors
    ///
    /// If it is there already, or cannot be made.
    pub(crate) fn create(path: &Path, first: impl IntoIterator<Item = Kind>) -> io::Result<Self> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let unfinished = path.with_extension("wandb.new");
        let file = OpenOptions::new().append(true).create_new(true).open(&unfinished)?;
        // Whoever would deliver it can see that it is still being written. Where there are no locks, nobody can.
        let _ = file.try_lock();
        let mut writer = Self {
            file,
            waiting: HEADER.to_vec(),
            written: 0,
            place: HEADER.len(),
            num: 0,
            end: End { length: 0, num: 0 },
            record: Vec::new(),
        };
        for kind in first {
            writer.append(kind);
        }
        let made = writer.write_out().and_then(|()| fs::rename(&unfinished, path));
        if made.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        made.map(|()| writer)
    }

    /// Goes on behind the records of a file, which is open for appending; what stands behind them is cut off.
    ///
    /// # Errors
    ///
    /// If it cannot be cut.
    pub(crate) fn go_on(file: File, end: End) -> io::Result<Self> {
        file.set_len(end.length)?;
        Ok(Self {
            file,
            waiting: Vec::new(),
            written: 0,
            place: (end.length % BLOCK as u64) as usize,
            num: end.num,
            end,
            record: Vec::new(),
        })
    }

    /// Adds a record and returns its number. It is given back, for its memory.
    pub(crate) fn append(&mut self, kind: Kind) -> (i64, Option<Kind>) {
        // A log of others may have any number.
        self.num = self.num.saturating_add(1);
        let record = Record {
            num: self.num,
            kind: Some(kind),
        };
        self.record.clear();
        // Encoding fails only for want of room, and a vector makes room.
        let _ = record.encode(&mut self.record);
        let bytes = std::mem::take(&mut self.record);
        self.frame(&bytes);
        self.record = bytes;
        (self.num, record.kind)
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> i64 {
        self.num
    }

    /// Where the file ended when nothing waited.
    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// Bytes that are not in the file yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// Writes to the file what waits.
    ///
    /// # Errors
    ///
    /// If the disk refuses it; it is kept and can be tried again.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        while self.written < self.waiting.len() {
            match self.file.write(&self.waiting[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.end = End {
            length: self.end.length + self.waiting.len() as u64,
            num: self.num,
        };
        self.waiting.clear();
        self.written = 0;
        Ok(())
    }

    /// Makes the file anew if it has no name any more: as long as it is open, all that was in it is there.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or the system does not lead to what is open.
    #[cfg(unix)]
    pub(crate) fn restore(&mut self, path: &Path) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::MetadataExt as _;

        // Some file systems count no names at all.
        if self.file.metadata()?.nlink() > 0 || path.exists() {
            return Ok(());
        }
        let mut content = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let unfinished = path.with_extension("wandb.new");
        let mut file = OpenOptions::new().append(true).create_new(true).open(&unfinished)?;
        let _ = file.try_lock();
        let made = io::copy(&mut content, &mut file).and_then(|_| fs::rename(&unfinished, path));
        if made.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        made.map(|()| self.file = file)
    }

    #[cfg(not(unix))]
    pub(crate) fn restore(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Has the operating system put all of it on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync_data()
    }

    fn frame(&mut self, mut rest: &[u8]) {
        let mut first = true;
        loop {
            let room = BLOCK - self.place;
            if room < CHUNK_HEADER {
                self.waiting.resize(self.waiting.len() + room, 0);
                self.place = 0;
                continue;
            }
            let (payload, after) = rest.split_at(rest.len().min(room - CHUNK_HEADER));
            let kind = match (first, after.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            self.waiting.extend_from_slice(&checksum(kind, payload).to_le_bytes());
            // A payload is shorter than a block, which is less than 2^16.
            self.waiting.extend_from_slice(&(payload.len() as u16).to_le_bytes());
            self.waiting.push(kind);
            self.waiting.extend_from_slice(payload);
            self.place = (self.place + CHUNK_HEADER + payload.len()) % BLOCK;
            rest = after;
            first = false;
            if rest.is_empty() {
                return;
            }
        }
    }
}
