use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::live_log::LiveLog;
use super::log_file::{FileState, LogFile};
use super::reader::{LogEntry, LogReader};
use super::{BLOCK, CHUNK_HEADER, FIRST, FULL, HEADER, LAST, MIDDLE, checksum};
use crate::log_format::proto::{LogRecord, RecordKind};

/// The end of a file that holds whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    /// Of the file, in bytes.
    pub(crate) length: u64,
    /// The number of its last record.
    pub(crate) num: i64,
}

/// Records that somebody has cut off the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLoss {
    /// Those behind this number, and behind the newest that the reader had read, are gone.
    pub(crate) behind: i64,
    /// Up to this number.
    pub(crate) to: i64,
    /// So many of them were written again.
    pub(crate) again: u64,
}

/// Appends records to a file.
///
/// What is appended waits in memory until [`LogWriter::write_out`]; what a full disk refuses stays there and is written
/// when there is room again, exactly where it was to stand. Before each write it is looked whether the file is as it was left:
/// one that was removed is made anew, a descriptor that is bad is opened again, and behind the last whole record of one that
/// was cut come first the records that a run needs, and then the new ones.
pub(crate) struct LogWriter {
    keeper: LogFile,
    live: Option<Arc<LiveLog>>,
    /// Framed bytes that are not in the file yet.
    waiting: Vec<u8>,
    /// How much of `waiting` is in the file already.
    written: usize,
    /// Where the next chunk will stand in its block.
    place: usize,
    /// Of the last record.
    num: i64,
    /// Where the file ended when nothing waited.
    end: LogEnd,
    /// One record; kept for its memory.
    record: Vec<u8>,
    /// Records without which those that follow mean less: the run, its config, what it defines. `None` in a recovery, which
    /// knows only a part of them.
    lasting: Option<Vec<(i64, RecordKind)>>,
    lasting_bytes: usize,
    losses: Vec<LogLoss>,
}

/// The run itself, where it takes place and what wrote it, behind the header.
const FIRST_RECORDS: usize = 4;
/// More is not kept to be written again.
const MOST_LASTING: usize = 4 << 20;

impl LogWriter {
    /// Makes the file, with its first records. It has its name only when they are in it, so that whoever finds it finds them,
    /// also if the process is killed meanwhile.
    ///
    /// # Errors
    ///
    /// If it is there already, or cannot be made.
    pub(crate) fn create(path: &Path, first: impl IntoIterator<Item = RecordKind>) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let unfinished = path.with_file_name(format!(".logcore-{}.tmp", logcore_files::random_suffix()));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&unfinished)?;
        let mut writer = Self {
            keeper: LogFile::new(unfinished.clone(), file),
            live: None,
            waiting: HEADER.to_vec(),
            written: 0,
            place: HEADER.len(),
            num: 0,
            end: LogEnd { length: 0, num: 0 },
            record: Vec::new(),
            lasting: Some(Vec::new()),
            lasting_bytes: 0,
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
        // A process that goes on with it may stand elsewhere, or find the folder under another name.
        writer.keeper.set_path(path.canonicalize()?);
        writer.live = writer.keeper.clone_file().ok().map(|file| Arc::new(LiveLog::new(file)));
        Ok(writer)
    }

    /// Goes on behind the records of a file, which is open for appending; what stands behind them is cut off.
    ///
    /// # Errors
    ///
    /// If it cannot be cut.
    pub(crate) fn go_on(path: &Path, file: File, end: LogEnd) -> io::Result<Self> {
        file.set_len(end.length)?;
        Ok(Self {
            keeper: LogFile::new(path.to_owned(), file),
            live: None,
            waiting: Vec::new(),
            written: 0,
            place: (end.length % BLOCK as u64) as usize,
            num: end.num,
            end,
            record: Vec::new(),
            lasting: None,
            lasting_bytes: 0,
            losses: Vec::new(),
        })
    }

    /// For a reader in the same process.
    pub(crate) fn live(&self) -> Option<Arc<LiveLog>> {
        self.live.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        self.keeper.path()
    }

    /// The records that others have cut off since the last call of this.
    pub(crate) fn take_losses(&mut self) -> Vec<LogLoss> {
        std::mem::take(&mut self.losses)
    }

    /// Adds a record and returns its number. It is given back, for its memory.
    pub(crate) fn append(&mut self, kind: RecordKind) -> (i64, Option<RecordKind>) {
        // A log of others may have any number.
        self.num = self.num.saturating_add(1);
        self.keep(&kind);
        (self.num, self.put(self.num, kind))
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> i64 {
        self.num
    }

    /// Where the file ended when nothing waited.
    pub(crate) fn end(&self) -> LogEnd {
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
        if self.lasting.is_some() {
            let found = self.keeper.check(self.in_file())?;
            self.settle(found)?;
        }
        while self.written < self.waiting.len() {
            match self.keeper.file().write(&self.waiting[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.keeper.doubt(&error);
                    return Err(error);
                }
            }
        }
        self.keeper.learn_beginning(&self.waiting);
        self.end = LogEnd {
            length: self.in_file(),
            num: self.num,
        };
        self.waiting.clear();
        self.written = 0;
        Ok(())
    }

    /// Has the operating system put all of it on the disk, under its name.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.lasting.is_some() {
            let found = self.keeper.check_now(self.in_file())?;
            self.settle(found)?;
        }
        self.write_out()?;
        let synced = self.keeper.file().sync_data();
        if let Err(error) = &synced {
            self.keeper.doubt(error);
        }
        synced
    }

    /// How long the file is to be.
    fn in_file(&self) -> u64 {
        self.end.length + self.written as u64
    }

    fn settle(&mut self, found: FileState) -> io::Result<()> {
        match found {
            FileState::Same => {}
            FileState::Elsewhere => self.tell_reader(None),
            // A part of what waits is in memory still.
            FileState::Shorter(there) if there >= self.end.length => {
                self.keeper.file().set_len(self.end.length)?;
                self.written = 0;
                self.tell_reader(Some(self.end.length));
            }
            FileState::Shorter(_) => self.mend()?,
        }
        Ok(())
    }

    fn tell_reader(&self, cut: Option<u64>) {
        if let (Some(live), Ok(file)) = (&self.live, self.keeper.clone_file()) {
            live.goes_on_in(file, cut);
        }
    }

    /// Goes on behind the last whole record of a file that somebody has cut.
    fn mend(&mut self) -> io::Result<()> {
        let (cut, num) = whole_records(self.keeper.clone_file()?, self.end.length);
        self.keeper.file().set_len(cut)?;
        self.keeper.forget_behind(cut);
        let waiting = payloads(&self.waiting, self.end.length);
        let lost_to = self.end.num;
        self.end = LogEnd {
            length: cut,
            num: lost_to,
        };
        self.waiting.clear();
        self.written = 0;
        self.place = (cut % BLOCK as u64) as usize;
        if cut == 0 {
            self.waiting.extend_from_slice(&HEADER);
            self.place = HEADER.len();
        }
        let read = self.live.as_ref().map_or(0, |live| live.read());
        let mut again = 0;
        for (of, kind) in self.lasting.clone().unwrap_or_default() {
            // An alert that was read is sent, and would be sent twice.
            let done = matches!(kind, RecordKind::Alert(_)) && of <= read;
            if of > num && of <= lost_to && !done {
                self.put(lost_to, kind);
                again += u64::from(of > read.max(FIRST_RECORDS as i64));
            }
        }
        for payload in waiting {
            self.frame(&payload);
        }
        self.losses.push(LogLoss {
            behind: num.max(read),
            to: lost_to,
            again,
        });
        self.tell_reader(Some(cut));
        Ok(())
    }

    fn keep(&mut self, kind: &RecordKind) {
        let Some(lasting) = &mut self.lasting else { return };
        let lasts = match kind {
            // A value that a program has set comes alone; the others say what the rows say.
            RecordKind::Summary(items) => items.update.len() == 1,
            RecordKind::History(_)
            | RecordKind::Stats(_)
            | RecordKind::Output(_)
            | RecordKind::OutputLine(_)
            | RecordKind::Preempting(_) => false,
            _ => true,
        };
        let bytes = if lasts { kind.encoded_len() } else { 0 };
        if lasts && (lasting.len() < FIRST_RECORDS || self.lasting_bytes + bytes <= MOST_LASTING) {
            self.lasting_bytes += bytes;
            lasting.push((self.num, kind.clone()));
        }
    }

    fn put(&mut self, num: i64, kind: RecordKind) -> Option<RecordKind> {
        let record = LogRecord { num, kind: Some(kind) };
        self.record.clear();
        // Encoding fails only for want of room, and a vector makes room.
        let _ = record.encode(&mut self.record);
        let bytes = std::mem::take(&mut self.record);
        self.frame(&bytes);
        self.record = bytes;
        record.kind
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

/// Where the whole records of a file end, of its first `length` bytes, and the number of the last.
fn whole_records(file: File, length: u64) -> (u64, i64) {
    let Ok(mut reader) = LogReader::of(file) else {
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

/// The records of framed bytes that were to stand at a place of the file.
fn payloads(framed: &[u8], at: u64) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let (mut place, mut rest) = ((at % BLOCK as u64) as usize, framed);
    if at == 0 {
        (place, rest) = (HEADER.len(), &rest[HEADER.len().min(rest.len())..]);
    }
    while rest.len() >= CHUNK_HEADER {
        let room = BLOCK - place;
        if room < CHUNK_HEADER {
            (place, rest) = (0, &rest[room.min(rest.len())..]);
            continue;
        }
        let length = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
        let chunk = &rest[CHUNK_HEADER..CHUNK_HEADER + length];
        match (rest[6], all.last_mut()) {
            (MIDDLE | LAST, Some(begun)) => begun.extend_from_slice(chunk),
            _ => all.push(chunk.to_vec()),
        }
        rest = &rest[CHUNK_HEADER + length..];
        place = (place + CHUNK_HEADER + length) % BLOCK;
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

    /// A log of a run, which begins as every log of ours does.
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

    /// All records of the log, and the lines among them.
    fn read(path: &Path) -> (Vec<RecordKind>, Vec<String>) {
        let mut reader = LogReader::open(path).unwrap();
        let mut kinds = Vec::new();
        while let LogEntry::Record(record) = reader.next().expect("the log is whole") {
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
        /// Wherever others cut it, and whatever they append: what stood before is there, what comes after is there, and what
        /// is gone is told.
        #[test]
        fn a_log_that_is_cut_goes_on(
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
            let later: Vec<_> = waiting.iter().map(|length| "w".repeat(*length)).chain(after.iter().map(|length| "a".repeat(*length))).collect();
            let kept = lines.len() - later.len();
            prop_assert_eq!(&lines[kept..], &later[..]);
            // Garbage may look like the byte that was cut off.
            prop_assert_eq!(&lines[..kept], &expected[..kept]);
            let losses = writer.take_losses();
            prop_assert!(losses.len() <= 1);
            let lost: i64 = losses.iter().map(|loss| loss.to - loss.behind - loss.again as i64).sum();
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
    fn a_log_whose_name_is_taken_keeps_all_that_was_written() {
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
    fn a_log_that_is_moved_is_made_anew_unless_its_folder_goes_with_it() {
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
    fn a_descriptor_that_takes_nothing_is_opened_again() {
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
            // As when a server of files forgets us, or somebody closes descriptors that are not theirs.
            *writer.keeper.file() = bad;
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
