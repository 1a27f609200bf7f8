//! The writer of a log.
//!
//! The file is valid after each write: its first records come with the file itself, and a cut file
//! is continued behind its last complete record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::live_log::LiveLog;
use super::log_file::{LogFile, LogFileState};
use super::reader::{LogEntry, LogReader};
use super::row_record::{RowItem, put_row};
use super::{BLOCK, CHUNK_HEADER, FIRST, FULL, HEADER, LAST, MIDDLE, checksum};
use crate::log_format::proto::{LogRecord, RecordKind};

/// A position of a log behind a complete record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    /// Length of the file in bytes.
    pub(crate) length: u64,
    /// Number of the last record.
    pub(crate) num: i64,
}

/// Records that another program has cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLoss {
    /// The lost records follow this number.
    pub(crate) behind: i64,
    /// The number of the last lost record.
    pub(crate) to: i64,
    /// Number of lost records that were written again.
    pub(crate) rewritten: u64,
}

/// Appends records to a file.
///
/// Appended records wait in memory until [`LogWriter::write_out`], and stay there while the disk is
/// full.
///
/// The writer checks the file before each write. A removed file is created again, a broken
/// descriptor is reopened, and a file that was cut continues behind its last complete record: first
/// with the records that a run needs, then with the new records.
pub(crate) struct LogWriter {
    /// The file, and the checks of its state.
    file: LogFile,
    /// The state for a reader in this process.
    live: Option<Arc<LiveLog>>,
    /// Chunks that are not in the file yet.
    waiting: Vec<u8>,
    /// Bytes of `waiting` that are in the file already.
    written: usize,
    /// The offset of the next chunk in its block.
    block_offset: usize,
    /// The number of the last record.
    num: i64,
    /// The end of the file when nothing was waiting.
    end: LogEnd,
    /// An encoded record, kept to reuse its memory.
    record: Vec<u8>,
    /// Records that are written again after a cut: the run, its config, its definitions. `None` in
    /// a recovery, which has only a part of these records.
    essential: Option<Vec<(i64, RecordKind)>>,
    essential_bytes: usize,
    /// The losses since the last report.
    losses: Vec<LogLoss>,
}

/// Number of first records: header, run, environment, telemetry.
const FIRST_RECORDS: usize = 4;
/// Bytes of the records that are kept to be written again.
const MOST_ESSENTIAL: usize = 4 << 20;

impl LogWriter {
    /// Creates the file with its first records. The file gets its name last, so that a log always
    /// has its first records, even if the process is killed meanwhile.
    ///
    /// # Errors
    ///
    /// If the file exists, or cannot be created.
    pub(crate) fn create(path: &Path, first: impl IntoIterator<Item = RecordKind>) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let unfinished = path.with_file_name(format!(".logcore-{}.tmp", logcore::files::random_suffix()));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&unfinished)?;
        let mut writer = Self {
            file: LogFile::new(unfinished.clone(), file),
            live: None,
            waiting: HEADER.to_vec(),
            written: 0,
            block_offset: HEADER.len(),
            num: 0,
            end: LogEnd { length: 0, num: 0 },
            record: Vec::new(),
            essential: Some(Vec::new()),
            essential_bytes: 0,
            losses: Vec::new(),
        };
        for kind in first {
            writer.append(kind);
        }
        let made = writer.write_out().and_then(|()| fs::rename(&unfinished, path));
        if made.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        made?;
        // A process that recovers the log may have another working folder, or another name for the
        // folder.
        writer.file.set_path(path.canonicalize()?);
        writer.live = writer.file.clone_file().ok().map(|file| Arc::new(LiveLog::new(file)));
        Ok(writer)
    }

    /// Continues a file behind `end`. The file must be open for appending, and is cut at `end`.
    ///
    /// # Errors
    ///
    /// If the file cannot be cut.
    pub(crate) fn continue_at(path: &Path, file: File, end: LogEnd) -> io::Result<Self> {
        file.set_len(end.length)?;
        Ok(Self {
            file: LogFile::new(path.to_owned(), file),
            live: None,
            waiting: Vec::new(),
            written: 0,
            block_offset: (end.length % BLOCK as u64) as usize,
            num: end.num,
            end,
            record: Vec::new(),
            essential: None,
            essential_bytes: 0,
            losses: Vec::new(),
        })
    }

    /// Returns the state that a reader of this process follows.
    pub(crate) fn live(&self) -> Option<Arc<LiveLog>> {
        self.live.clone()
    }

    /// Returns the path of the log.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the records that other programs have cut off since the last call.
    pub(crate) fn take_losses(&mut self) -> Vec<LogLoss> {
        std::mem::take(&mut self.losses)
    }

    /// Adds a record, and returns its number and the record itself, so that the caller can reuse
    /// its memory.
    pub(crate) fn append(&mut self, kind: RecordKind) -> (i64, Option<RecordKind>) {
        // A recovered log may have any number.
        self.num = self.num.saturating_add(1);
        self.keep_if_essential(&kind);
        (self.num, self.encode(self.num, kind))
    }

    /// Adds a row.
    pub(crate) fn append_row<'a>(&mut self, step: u64, items: impl Iterator<Item = &'a RowItem> + Clone) {
        self.num = self.num.saturating_add(1);
        let chunk = self.waiting.len();
        let record = chunk + CHUNK_HEADER;
        self.waiting.extend_from_slice(&[0; CHUNK_HEADER]);
        put_row(self.num, step, items, &mut self.waiting);
        let length = self.waiting.len() - record;
        if CHUNK_HEADER + length > BLOCK - self.block_offset {
            let mut bytes = std::mem::take(&mut self.record);
            bytes.clear();
            bytes.extend_from_slice(&self.waiting[record..]);
            self.waiting.truncate(chunk);
            self.split_into_chunks(&bytes);
            self.record = bytes;
            return;
        }
        // The record is one chunk, and is not copied again.
        let [low, high] = (length as u16).to_le_bytes();
        let header = &mut self.waiting[chunk..record];
        header[4..].copy_from_slice(&[low, high, FULL]);
        let sum = crc32fast::hash(&self.waiting[record - 1..]);
        self.waiting[chunk..chunk + 4].copy_from_slice(&sum.to_le_bytes());
        self.block_offset = (self.block_offset + CHUNK_HEADER + length) % BLOCK;
    }

    /// Returns the number of the last record.
    pub(crate) fn last(&self) -> i64 {
        self.num
    }

    /// Returns the end of the file when nothing was waiting.
    pub(crate) fn end(&self) -> LogEnd {
        self.end
    }

    /// Returns the number of bytes that are not in the file yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// Writes the waiting records to the file.
    ///
    /// # Errors
    ///
    /// If the disk is full or the write fails. The records are kept, and the call may be repeated.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        if self.essential.is_some() {
            let found = self.file.check(self.expected_length())?;
            self.react(found)?;
        }
        while self.written < self.waiting.len() {
            match self.file.handle().write(&self.waiting[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.file.note_write_error(&error);
                    return Err(error);
                }
            }
        }
        self.file.set_beginning(&self.waiting);
        self.end = LogEnd {
            length: self.expected_length(),
            num: self.num,
        };
        self.waiting.clear();
        self.written = 0;
        Ok(())
    }

    /// Writes everything, and waits until the file is on the disk under its name.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.essential.is_some() {
            let found = self.file.check_now(self.expected_length())?;
            self.react(found)?;
        }
        self.write_out()?;
        let synced = self.file.handle().sync_data();
        if let Err(error) = &synced {
            self.file.note_write_error(error);
        }
        synced
    }

    /// Returns the expected length of the file.
    fn expected_length(&self) -> u64 {
        self.end.length + self.written as u64
    }

    /// Adapts the writer to the state of the file.
    fn react(&mut self, found: LogFileState) -> io::Result<()> {
        match found {
            LogFileState::Unchanged => {}
            LogFileState::Replaced => self.notify_reader(None),
            // The missing bytes are still in memory.
            LogFileState::Truncated(there) if there >= self.end.length => {
                self.file.handle().set_len(self.end.length)?;
                self.written = 0;
                self.notify_reader(Some(self.end.length));
            }
            LogFileState::Truncated(_) => self.repair()?,
        }
        Ok(())
    }

    /// Passes the current file to the reader.
    fn notify_reader(&self, cut: Option<u64>) {
        if let (Some(live), Ok(file)) = (&self.live, self.file.clone_file()) {
            live.set_file(file, cut);
        }
    }

    /// Continues a cut file behind its last complete record.
    fn repair(&mut self) -> io::Result<()> {
        let (cut, num) = complete_records(self.file.clone_file()?, self.end.length);
        self.file.handle().set_len(cut)?;
        self.file.forget_after(cut);
        let waiting = payloads(&self.waiting, self.end.length);
        let lost_to = self.end.num;
        self.end = LogEnd {
            length: cut,
            num: lost_to,
        };
        self.waiting.clear();
        self.written = 0;
        self.block_offset = (cut % BLOCK as u64) as usize;
        if cut == 0 {
            self.waiting.extend_from_slice(&HEADER);
            self.block_offset = HEADER.len();
        }
        let read = self.live.as_ref().map_or(0, |live| live.last_read());
        let mut rewritten = 0;
        for (of, kind) in self.essential.clone().unwrap_or_default() {
            // An alert that was read would be sent twice.
            let done = matches!(kind, RecordKind::Alert(_)) && of <= read;
            if of > num && of <= lost_to && !done {
                self.encode(lost_to, kind);
                rewritten += u64::from(of > read.max(FIRST_RECORDS as i64));
            }
        }
        for payload in waiting {
            self.split_into_chunks(&payload);
        }
        self.losses.push(LogLoss {
            behind: num.max(read),
            to: lost_to,
            rewritten,
        });
        self.notify_reader(Some(cut));
        Ok(())
    }

    /// Keeps a record that is written again after a cut.
    fn keep_if_essential(&mut self, kind: &RecordKind) {
        let Some(essential) = &mut self.essential else { return };
        let is_essential = match kind {
            // Summaries that the program has set have one item. Others follow from the rows.
            RecordKind::Summary(items) => items.update.len() == 1,
            RecordKind::History(_)
            | RecordKind::Stats(_)
            | RecordKind::Output(_)
            | RecordKind::OutputLine(_)
            | RecordKind::Preempting(_) => false,
            _ => true,
        };
        let bytes = if is_essential { kind.encoded_len() } else { 0 };
        if is_essential && (essential.len() < FIRST_RECORDS || self.essential_bytes + bytes <= MOST_ESSENTIAL) {
            self.essential_bytes += bytes;
            essential.push((self.num, kind.clone()));
        }
    }

    /// Encodes a record into chunks.
    fn encode(&mut self, num: i64, kind: RecordKind) -> Option<RecordKind> {
        let record = LogRecord { num, kind: Some(kind) };
        self.record.clear();
        // Encoding fails only without room, and a vector grows.
        let _ = record.encode(&mut self.record);
        let bytes = std::mem::take(&mut self.record);
        self.split_into_chunks(&bytes);
        self.record = bytes;
        record.kind
    }

    /// Splits an encoded record into chunks.
    fn split_into_chunks(&mut self, mut rest: &[u8]) {
        let mut first = true;
        loop {
            let room = BLOCK - self.block_offset;
            if room < CHUNK_HEADER {
                self.waiting.resize(self.waiting.len() + room, 0);
                self.block_offset = 0;
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
            self.block_offset = (self.block_offset + CHUNK_HEADER + payload.len()) % BLOCK;
            rest = after;
            first = false;
            if rest.is_empty() {
                return;
            }
        }
    }
}

/// Returns the end of the complete records in the first `length` bytes of a file, and the number of
/// the last record.
fn complete_records(file: File, length: u64) -> (u64, i64) {
    let Ok(mut reader) = LogReader::new(file) else {
        return (0, 0);
    };
    let (mut cut, mut num) = (0, 0);
    while let Ok(LogEntry::Record(record)) = reader.next() {
        if reader.position() > length {
            break;
        }
        (cut, num) = (reader.position(), record.num);
    }
    (cut, num)
}

/// Returns the encoded records in chunks for the offset `at` of the file.
fn payloads(framed: &[u8], at: u64) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let (mut offset, mut rest) = ((at % BLOCK as u64) as usize, framed);
    if at == 0 {
        (offset, rest) = (HEADER.len(), &rest[HEADER.len().min(rest.len())..]);
    }
    while rest.len() >= CHUNK_HEADER {
        let room = BLOCK - offset;
        if room < CHUNK_HEADER {
            (offset, rest) = (0, &rest[room.min(rest.len())..]);
            continue;
        }
        let length = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
        let chunk = &rest[CHUNK_HEADER..CHUNK_HEADER + length];
        match (rest[6], all.last_mut()) {
            (MIDDLE | LAST, Some(begun)) => begun.extend_from_slice(chunk),
            _ => all.push(chunk.to_vec()),
        }
        rest = &rest[CHUNK_HEADER + length..];
        offset = (offset + CHUNK_HEADER + length) % BLOCK;
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::log_format::proto::{AlertRecord, ItemsRecord, OutputLine, RunRecord};

    fn line(text: impl Into<String>) -> RecordKind {
        RecordKind::OutputLine(OutputLine { line: text.into() })
    }

    /// Creates a log with the usual first records.
    fn log(folder: &TempDir) -> LogWriter {
        log_in(folder.path())
    }

    fn log_in(folder: &Path) -> LogWriter {
        let first = [
            RecordKind::Header(Default::default()),
            RecordKind::Run(Box::new(RunRecord {
                run_id: "x".to_owned(),
                notes: "n".repeat(200),
                ..RunRecord::default()
            })),
            RecordKind::Environment(Default::default()),
            RecordKind::Telemetry(Default::default()),
        ];
        LogWriter::create(&folder.join("run-x.wandb"), first).unwrap()
    }

    /// Reads all records of a log, and the console lines among them.
    fn read(path: &Path) -> (Vec<RecordKind>, Vec<String>) {
        let mut reader = LogReader::open(path).unwrap();
        let mut kinds = Vec::new();
        while let LogEntry::Record(record) = reader.next().expect("the log is complete") {
            kinds.extend(record.kind);
        }
        let lines = kinds.iter().filter_map(|kind| match kind {
            RecordKind::OutputLine(output) => Some(output.line.clone()),
            _ => None,
        });
        let lines = lines.collect();
        (kinds, lines)
    }

    fn has_run(kinds: &[RecordKind]) -> bool {
        matches!(kinds, [RecordKind::Header(_), RecordKind::Run(run), ..] if run.run_id == "x")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// Another program cuts the log anywhere, and appends anything.
        #[test]
        fn a_cut_log_keeps_earlier_and_later_records_and_reports_the_loss(
            before in prop::collection::vec(prop_oneof![1_usize..40, 32_700_usize..32_780, 65_000_usize..70_000], 0..8),
            waiting in prop::collection::vec(1_usize..40_000, 0..4),
            after in prop::collection::vec(1_usize..40, 1..4),
            cut in 0.0..=1.0,
            garbage in prop::option::of("[a-z]{1,30}"),
        ) {
            let folder = TempDir::new().unwrap();
            let mut writer = log(&folder);
            let path = writer.path().to_owned();
            let mut reader = LogReader::following(&writer.live().unwrap()).unwrap();
            writer.append(RecordKind::Config(ItemsRecord::default()));
            let mut expected = Vec::new();
            for (at, length) in before.iter().enumerate() {
                expected.push(format!("{at} {}", "x".repeat(*length)));
                writer.append(line(expected[at].clone()));
            }
            writer.write_out().unwrap();
            let whole = fs::metadata(&path).unwrap().len();
            let cut = (whole as f64 * cut) as u64;
            for length in &waiting {
                writer.append(line("w".repeat(*length)));
            }
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
            let garbage = garbage.filter(|garbage| cut == whole || cut + (garbage.len() as u64) < whole);
            if let Some(garbage) = &garbage {
                OpenOptions::new().append(true).open(&path).unwrap().write_all(garbage.as_bytes()).unwrap();
            }
            writer.write_out().unwrap();
            for length in &after {
                writer.append(line("a".repeat(*length)));
            }
            writer.write_out().unwrap();
            let (kinds, lines) = read(&path);
            prop_assert!(has_run(&kinds));
            prop_assert!(kinds.iter().any(|kind| matches!(kind, RecordKind::Config(_))));
            let waited = waiting.iter().map(|length| "w".repeat(*length));
            let later: Vec<_> = waited.chain(after.iter().map(|length| "a".repeat(*length))).collect();
            let kept = lines.len() - later.len();
            prop_assert_eq!(&lines[kept..], &later[..]);
            // Garbage may look like the byte that was cut off.
            prop_assert_eq!(&lines[..kept], &expected[..kept]);
            let losses = writer.take_losses();
            prop_assert!(losses.len() <= 1);
            let lost: i64 = losses.iter().map(|loss| loss.to - loss.behind - loss.rewritten as i64).sum();
            let first_lost = losses.first().map_or(0, |loss| (FIRST_RECORDS as i64 - loss.behind).max(0));
            prop_assert_eq!(lost - first_lost, (before.len() - kept) as i64, "{:?}", losses);
            let mut followed = Vec::new();
            while let Ok(LogEntry::Record(record)) = reader.next() {
                if let Some(RecordKind::OutputLine(output)) = record.kind {
                    followed.push(output.line);
                }
            }
            prop_assert_eq!(followed, lines);
        }
    }

    #[test]
    fn a_log_whose_name_another_file_has_keeps_its_records() {
        let folder = TempDir::new().unwrap();
        let mut writer = log(&folder);
        let path = writer.path().to_owned();
        writer.append(line("one"));
        writer.write_out().unwrap();
        let copy = fs::read(&path).unwrap();
        writer.append(line("two"));
        writer.write_out().unwrap();
        // An older copy of the log itself gives way.
        fs::remove_file(&path).unwrap();
        fs::write(&path, copy).unwrap();
        writer.append(line("three"));
        writer.sync().unwrap();
        assert_eq!(
            (read(&path).1, writer.path()),
            (vec!["one".into(), "two".into(), "three".into()], path.as_path())
        );
        // A file that is no copy of the log stays as it is.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        writer.append(line("four"));
        writer.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(writer.path().file_name().unwrap(), "run-x-1.wandb");
        assert_eq!(read(writer.path()).1.len(), 4);
        assert!(writer.take_losses().is_empty());
    }

    #[test]
    fn a_moved_log_is_created_again_unless_its_folder_was_moved() {
        let folder = TempDir::new().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let mut writer = log_in(&run);
        let path = writer.path().to_owned();
        let lines = |count: usize| {
            ["one", "two", "three", "four"][..count]
                .iter()
                .map(|line| (*line).to_owned())
        };
        writer.append(line("one"));
        writer.write_out().unwrap();
        fs::rename(&path, run.join("moved")).unwrap();
        writer.append(line("two"));
        writer.sync().unwrap();
        assert!(read(&path).1.into_iter().eq(lines(2)));
        // Nothing is lost with an empty file.
        fs::rename(&path, run.join("moved")).unwrap();
        fs::write(&path, "").unwrap();
        writer.append(line("three"));
        writer.sync().unwrap();
        assert!(read(&path).1.into_iter().eq(lines(3)));
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&run, &elsewhere).unwrap();
        writer.append(line("four"));
        writer.sync().unwrap();
        assert!(!run.exists());
        assert!(
            read(&elsewhere.join(path.file_name().unwrap()))
                .1
                .into_iter()
                .eq(lines(4))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_broken_descriptor_is_reopened() {
        for (bad, also_gone) in [("/dev/full", false), ("read-only", false), ("/dev/full", true)] {
            let folder = TempDir::new().unwrap();
            let mut writer = log(&folder);
            let path = writer.path().to_owned();
            let mut reader = LogReader::following(&writer.live().unwrap()).unwrap();
            writer.append(line("one"));
            writer.append(RecordKind::Alert(AlertRecord::default()));
            writer.write_out().unwrap();
            let bad = match bad {
                "read-only" => File::open(&path).unwrap(),
                device => OpenOptions::new().write(true).open(device).unwrap(),
            };
            // As when a server of files forgets us, or somebody closes descriptors that are not
            // theirs.
            *writer.file.handle() = bad;
            if also_gone {
                fs::remove_file(&path).unwrap();
            }
            writer.append(line("two"));
            for _ in 0..2 {
                let _ = writer.write_out();
            }
            assert_eq!(writer.waiting(), 0);
            let (kinds, lines) = read(&path);
            assert!(has_run(&kinds));
            let lost = writer.take_losses();
            match also_gone {
                false => assert_eq!((lines.len(), lost.len()), (2, 0)),
                // Nothing leads to the old content, and what can be written again is.
                true => {
                    assert_eq!((lines, lost.len()), (vec!["two".to_owned()], 1));
                    assert!(
                        kinds.iter().any(|kind| matches!(kind, RecordKind::Alert(_))),
                        "{kinds:?}"
                    );
                }
            }
            let mut last = None;
            while let Ok(LogEntry::Record(record)) = reader.next() {
                last = record.kind;
            }
            assert!(matches!(last, Some(RecordKind::OutputLine(output)) if output.line == "two"));
        }
    }
}
