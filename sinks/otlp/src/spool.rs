//! The spool of the records on disk.
//!
//! The file begins with a mark of eight bytes and a number of eight bytes (little-endian), the
//! position of the byte behind them. Then each record has its length in four bytes (little-endian)
//! and its message of OTLP. Positions count all bytes that were ever in the spool, so they stay
//! what they are when a spool that is sent begins anew in the same file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use logcore::files::{Folder, lock_within};
use logcore_delivery::{load_position, save_position};
use serde::{Deserialize, Serialize};

/// The first bytes of a spool.
const MARK: [u8; 8] = *b"LCOTLP1\n";
/// Bytes before the first record.
const HEAD: u64 = 16;
/// Bytes before each record.
const FRAME: usize = 4;
/// Bytes of a spool that is sent from which on it begins anew.
const LONG: u64 = 1 << 20;
/// A position that no spool reaches.
const MOST: u64 = u64::MAX / 2;
/// Bytes that wait for a disk without room.
const MOST_UNWRITTEN: usize = 8 << 20;

/// A spool, which one process writes and sends.
pub(crate) struct Spool {
    folder: Folder,
    path: PathBuf,
    file: File,
    /// Position of the first byte behind the head.
    base: u64,
    /// Position of the end of the file.
    written: u64,
    /// The records behind that.
    unwritten: Vec<u8>,
    /// The receiver has the records up to this position.
    sent: u64,
    /// Records before this position were sent by a killed process, and are not written again.
    skip_to: u64,
    /// Bytes of the longest spool.
    longest: u64,
}

/// Why a record has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Too much waits for the receiver.
    SpoolFull,
    /// Too much waits for the disk.
    DiskFull,
}

/// Records of a spool, and the position behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SpoolPart {
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) end: u64,
}

/// The state beside the spool.
#[derive(Default, Serialize, Deserialize)]
struct SavedPosition {
    sent: u64,
}

impl Spool {
    /// Opens the spool of a new attempt, whose earlier attempts may have left records.
    pub(crate) fn open(run_dir: &Path, path: &Path, longest: u64) -> io::Result<Self> {
        let folder = Folder::open(run_dir)?;
        if let Some(parent) = path.parent() {
            folder.create_dir_all(parent)?;
        }
        let file = folder.append(path)?;
        let mut spool = Self::of_file(folder, path, file, longest)?;
        let saved = spool.load_sent();
        match spool.read_base()? {
            Some(base) => {
                spool.base = base;
                spool.written = base + spool.whole_records()?;
                spool.file.set_len(HEAD + spool.written - base)?;
                spool.sent = saved.clamp(base, spool.written);
            }
            None => spool.begin_at(saved)?,
        }
        Ok(spool)
    }

    /// Opens a further spool of earlier attempts. `None` if there is none with records that are not
    /// sent, or if another process or sink has the spool.
    pub(crate) fn open_left(run_dir: &Path, path: &Path) -> io::Result<Option<Self>> {
        match Folder::open(run_dir).and_then(|folder| folder.open_file(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => drop(found?),
        }
        match Self::open(run_dir, path, 0) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            opened => Ok(Some(opened?).filter(|spool| spool.sent < spool.written)),
        }
    }

    /// Opens the spool of a killed process, whose calls behind `position` come again.
    pub(crate) fn recover(run_dir: &Path, path: &Path, position: u64, longest: u64) -> io::Result<Self> {
        if position > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let folder = Folder::open(run_dir)?;
        folder.open_file(path)?;
        let file = folder.append(path)?;
        let mut spool = Self::of_file(folder, path, file, longest)?;
        let saved = spool.load_sent();
        match spool.read_base()? {
            Some(base) if position >= base && position - base <= spool.file.metadata()?.len() - HEAD => {
                spool.base = base;
                spool.written = position;
                spool.file.set_len(HEAD + position - base)?;
                // Later records were sent perhaps, and are written again as they were.
                spool.sent = saved.max(base);
            }
            // The spool began anew behind the position, or another program has cut it.
            base => {
                let begin = base.unwrap_or(saved).max(position);
                spool.begin_at(begin)?;
                spool.skip_to = begin;
                spool.written = position;
                spool.sent = saved.max(begin);
            }
        }
        Ok(spool)
    }

    fn of_file(folder: Folder, path: &Path, file: File, longest: u64) -> io::Result<Self> {
        // A file system without locks is no reason to refuse.
        if matches!(lock_within(&file, Duration::ZERO), Ok(false)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(Self {
            folder,
            path: path.to_owned(),
            file,
            base: 0,
            written: 0,
            unwritten: Vec::new(),
            sent: 0,
            skip_to: 0,
            longest,
        })
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: &[u8]) -> Result<(), NoRoom> {
        let bytes = (FRAME + record.len()) as u64;
        if self.end() + bytes <= self.skip_to {
            self.written += bytes;
            return Ok(());
        }
        // Another program has changed the spool, so that no record ends there.
        self.written = self.written.max(self.skip_to);
        if self.end() + bytes > self.sent.saturating_add(self.longest) {
            return Err(NoRoom::SpoolFull);
        }
        if self.unwritten.len() + FRAME + record.len() > MOST_UNWRITTEN && !self.unwritten.is_empty() {
            return Err(NoRoom::DiskFull);
        }
        let length = u32::try_from(record.len()).map_err(|_| NoRoom::SpoolFull)?;
        self.unwritten.extend_from_slice(&length.to_le_bytes());
        self.unwritten.extend_from_slice(record);
        Ok(())
    }

    /// Writes the records that wait for the disk.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        if self.sent == self.written && self.written.saturating_sub(self.base) >= LONG {
            self.begin_at(self.written)?;
        }
        while !self.unwritten.is_empty() {
            match self.file.write(&self.unwritten) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.unwritten.drain(..count);
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the position behind the last record.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.unwritten.len() as u64
    }

    /// Returns the position of the end of the file.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the position up to which the receiver has the records.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Reads records behind what is sent, of `longest` bytes and `most` records at most, and at
    /// least one.
    pub(crate) fn next_part(&mut self, longest: usize, most: usize) -> io::Result<SpoolPart> {
        let mut part = SpoolPart {
            records: Vec::new(),
            end: self.sent,
        };
        let mut bytes = 0;
        while part.end + (FRAME as u64) <= self.written && part.records.len() < most {
            let mut length = [0; FRAME];
            self.read_at(&mut length, part.end)?;
            let length = u32::from_le_bytes(length) as usize;
            let end = part.end + (FRAME + length) as u64;
            if end > self.written || (bytes > 0 && bytes + length > longest) {
                break;
            }
            let mut record = vec![0; length];
            self.read_at(&mut record, part.end + FRAME as u64)?;
            bytes += length;
            part.records.push(record);
            part.end = end;
        }
        Ok(part)
    }

    /// Notes that the receiver has the records up to `position`, and saves that.
    pub(crate) fn set_sent(&mut self, position: u64) -> io::Result<()> {
        self.sent = position;
        save_position(&self.folder, &self.position_path(), &SavedPosition { sent: position })
    }

    /// Empties a spool whose records are sent.
    pub(crate) fn empty(&mut self) -> io::Result<()> {
        self.begin_at(self.written)
    }

    /// Returns the path of the file that has the position: `logs.json` for `logs.spool`.
    fn position_path(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    /// Returns the saved position. A damaged one is no position: then records are sent twice.
    fn load_sent(&self) -> u64 {
        let saved = load_position::<SavedPosition>(&self.folder, &self.position_path());
        saved.ok().flatten().unwrap_or_default().sent.min(MOST)
    }

    /// Empties the file. If the process is killed before the head is written, the saved position is
    /// the base.
    fn begin_at(&mut self, base: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.base, self.written, self.sent) = (base, base, self.sent.max(base));
        self.file.write_all(&[MARK, base.to_le_bytes()].concat())
    }

    /// Reads the head; `None` if there is none.
    fn read_base(&mut self) -> io::Result<Option<u64>> {
        if self.file.metadata()?.len() < HEAD {
            return Ok(None);
        }
        let mut head = [0; HEAD as usize];
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_exact(&mut head)?;
        let base = u64::from_le_bytes([
            head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
        ]);
        // A file of something else has no head, and a base that no position reaches is no base.
        Ok((head[..8] == MARK && base <= MOST).then_some(base))
    }

    /// Returns the bytes of the whole records in the file.
    fn whole_records(&mut self) -> io::Result<u64> {
        let all = self.file.metadata()?.len() - HEAD;
        let mut at = 0;
        while at + (FRAME as u64) <= all {
            let mut length = [0; FRAME];
            self.read_at(&mut length, self.base + at)?;
            let end = at + FRAME as u64 + u64::from(u32::from_le_bytes(length));
            if end > all {
                break;
            }
            at = end;
        }
        Ok(at)
    }

    fn read_at(&mut self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(HEAD + position - self.base))?;
        self.file.read_exact(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const PATH: &str = "otlp/logs.spool";

    fn open(folder: &TempDir) -> Spool {
        Spool::open(folder.path(), Path::new(PATH), 1 << 20).unwrap()
    }

    fn take_all(spool: &mut Spool) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let part = spool.next_part(100, 3).unwrap();
            if part.records.is_empty() {
                return all;
            }
            spool.set_sent(part.end).unwrap();
            all.extend(part.records);
        }
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let folder = TempDir::new().unwrap();
        let records: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; usize::from(n) * 11]).collect();
        let mut spool = open(&folder);
        for record in &records {
            spool.push(record).unwrap();
        }
        assert_eq!(take_all(&mut spool), Vec::<Vec<u8>>::new(), "nothing is written");
        spool.write_out().unwrap();
        assert_eq!(take_all(&mut spool), records);
        drop(spool);
        let mut spool = open(&folder);
        assert_eq!(take_all(&mut spool), Vec::<Vec<u8>>::new(), "all is sent");
        spool.push(b"x").unwrap();
        spool.write_out().unwrap();
        drop(spool);
        assert_eq!(take_all(&mut open(&folder)), [b"x"]);
    }

    #[test]
    fn a_spool_has_one_owner() {
        let folder = TempDir::new().unwrap();
        let first = open(&folder);
        let second = Spool::open(folder.path(), Path::new(PATH), 1 << 20).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        open(&folder);
    }

    #[test]
    fn a_full_spool_takes_nothing_until_it_is_sent() {
        let folder = TempDir::new().unwrap();
        let mut spool = open(&folder);
        let record = vec![1; 300_000];
        for _ in 0..3 {
            spool.push(&record).unwrap();
        }
        assert_eq!(spool.push(&record), Err(NoRoom::SpoolFull));
        spool.write_out().unwrap();
        assert_eq!(take_all(&mut spool).len(), 3);
        spool.push(&record).unwrap();
        spool.write_out().unwrap();
        // The file grows until it is long, and then begins anew.
        for _ in 0..20 {
            take_all(&mut spool);
            spool.push(&record).unwrap();
            spool.write_out().unwrap();
            assert!(fs::metadata(folder.path().join(PATH)).unwrap().len() < 2 << 20);
        }
        assert_eq!(spool.end(), 24 * 300_004);
    }

    #[test]
    fn a_foreign_or_torn_file_harms_nothing() {
        for content in [
            &b"short"[..],
            b"something else that is longer than a head",
            b"LCOTLP1\n\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let folder = TempDir::new().unwrap();
            fs::create_dir(folder.path().join("otlp")).unwrap();
            fs::write(folder.path().join(PATH), content).unwrap();
            let mut spool = open(&folder);
            spool.push(b"x").unwrap();
            spool.write_out().unwrap();
            assert_eq!(take_all(&mut spool), [b"x"]);
        }
        let folder = TempDir::new().unwrap();
        let mut spool = open(&folder);
        spool.push(b"whole").unwrap();
        spool.push(b"torn").unwrap();
        spool.write_out().unwrap();
        drop(spool);
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.path().join(PATH))
            .unwrap();
        file.set_len(HEAD + 9 + 5).unwrap();
        assert_eq!(take_all(&mut open(&folder)), [b"whole"]);
    }

    proptest! {
        /// A process writes records, sends some and is killed; the next one gets the calls behind
        /// the resume point again. Every record is sent, in order, and a sent one not again.
        #[test]
        fn a_recovery_is_exact(
            sizes in prop::collection::vec(0..400_000_usize, 1..12),
            marks in prop::collection::vec((any::<bool>(), any::<bool>()), 12),
        ) {
            let folder = TempDir::new().unwrap();
            let path = Path::new(PATH);
            let records: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
            let mut received = Vec::new();
            let (mut point, mut replayed) = (0, 0);
            {
                let mut spool = Spool::open(folder.path(), path, 1 << 30).unwrap();
                for (number, record) in records.iter().enumerate() {
                    spool.push(record).unwrap();
                    spool.write_out().unwrap();
                    if marks[number].0 {
                        (point, replayed) = (spool.end(), number + 1);
                    }
                    if marks[number].1 {
                        received.extend(take_all(&mut spool));
                    }
                }
            }
            let mut spool = Spool::recover(folder.path(), path, point, 1 << 30).unwrap();
            for record in &records[replayed..] {
                spool.push(record).unwrap();
            }
            spool.write_out().unwrap();
            received.extend(take_all(&mut spool));
            let names = |all: &[Vec<u8>]| all.iter().map(|record| (record.first().copied(), record.len())).collect::<Vec<_>>();
            prop_assert_eq!(names(&received), names(&records));
        }
    }
}
