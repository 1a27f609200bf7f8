//! The one who writes to a file.

use std::collections::VecDeque;
use std::fs::{self, TryLockError};
use std::io;
use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::civil::Date;
use logcore::{SinkBooks, SinkError};

use crate::already_written::{AlreadyWritten, RecordMatch};
use crate::file_id::FileId;
use crate::output::{FileKind, FileOutput, FileState, OpenedFile, ends_amid_a_line, ends_with, is_closed};
use crate::{FilePosition, Rotation};

/// So much is written without waiting for `deliver`.
const WRITE_BYTES: usize = 64 << 10;
/// So much is kept while nothing can be written.
const KEPT_BYTES: usize = 16 << 20;
/// After a failure, writing is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether the path still is our file.
const LOOK: Duration = Duration::from_millis(100);
/// After a rotation failed, the next is tried after this.
const ROTATION_RETRY: Duration = Duration::from_secs(60);
/// The same if somebody else was at it.
const ROTATION_BUSY: Duration = Duration::from_secs(1);
/// A file into which others write as well is filled by this part of its room at a time, so that all of them together do not
/// pass its limit unseen.
const SHARE: u64 = 8;
/// So long others are expected to go on that were seen.
const OTHERS: Duration = Duration::from_secs(10);
/// So long a pipe or a device that takes nothing is waited for amid the run: whoever reads it may be slow.
const STANDSTILL: Duration = Duration::from_millis(100);
/// The same if somebody waits for what is written.
const LAST_STANDSTILL: Duration = Duration::from_secs(2);
/// How long it sleeps in between.
const NAP: Duration = Duration::from_millis(1);
/// So often in a row what was written may have gone into a file that somebody has deleted meanwhile.
const DELETED: usize = 3;

pub(crate) struct FileWriter {
    path: PathBuf,
    rotation: Rotation,
    output: Box<dyn FileOutput>,
    kind: FileKind,
    identity: Option<FileId>,
    /// Bytes in the file.
    size: u64,
    /// When others were last seen to write into it as well. At the beginning they may.
    others_at: Instant,
    /// Writing has failed, so that the path is opened again.
    broken: bool,
    /// Where our newest record ends in it.
    end: u64,
    /// What a killed process has written, until a record comes that it has not.
    found: Option<AlreadyWritten>,
    /// Records of which only those that come later tell whether it has written them.
    held: Vec<HeldRecord>,
    held_bytes: usize,
    /// The day that the file belongs to, if days matter.
    day: Option<Date>,
    /// Records that are not all written, oldest first, one after the other in `bytes`.
    records: VecDeque<QueuedRecord>,
    bytes: Vec<u8>,
    /// Where the oldest of them begins in `bytes`.
    start: usize,
    /// How much of `bytes` is in the file.
    written: usize,
    accounts: Vec<HandleAccount>,
    failure: Option<WriteFailure>,
    looked_at: Instant,
    no_rotation_until: Option<Instant>,
}

/// Why the last write failed.
struct WriteFailure {
    at: Instant,
    reason: String,
    /// Whoever delivers has had the error.
    told: bool,
    /// Nothing is wrong but that nobody reads.
    stalled: bool,
}

struct HandleAccount {
    books: SinkBooks,
    /// Its records are those of a killed process; the other handles may be of live loggers.
    recovers: bool,
}

struct HeldRecord {
    record: Box<[u8]>,
    handle: usize,
    weight: u64,
}

struct QueuedRecord {
    /// Where it ends in `bytes`.
    end: usize,
    /// Whose it is; `None` if that one has given it up after a part was written.
    handle: Option<usize>,
    weight: u64,
    /// It is the rest of a line that a killed process has begun, so it goes into the same file, whatever its size.
    rest: bool,
}

impl FileWriter {
    pub(crate) fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let opened = OpenedFile::new(&path, &rotation)?;
        let mut writer = Self::over(path, rotation, opened);
        if writer.size > 0 && ends_amid_a_line(&writer.path) {
            // The writer of the last line was cut off.
            writer.push(b"\n", None, 0, true);
        }
        Ok(writer)
    }

    /// Goes on from where a killed process stood: records that it has written are not written again.
    pub(crate) fn recover(place: &FilePosition) -> io::Result<Self> {
        let found = AlreadyWritten::behind(place)?;
        let opened = OpenedFile::new(&place.path, &place.rotation)?;
        let mut writer = Self::over(place.path.clone(), place.rotation, opened);
        writer.found = Some(found);
        Ok(writer)
    }

    /// The same for one more sink of the same file, whose mark may be older.
    pub(crate) fn recover_also(&mut self, place: &FilePosition) -> io::Result<()> {
        let found = AlreadyWritten::behind(place)?;
        if self
            .found
            .as_ref()
            .is_none_or(|known| found.remaining() < known.remaining())
        {
            self.found = Some(found);
        }
        Ok(())
    }

    /// Where it stands, and whether all that it was given is in the file.
    pub(crate) fn position(&self) -> (FilePosition, bool) {
        let place = FilePosition {
            path: self.path.clone(),
            rotation: self.rotation,
            file: self.identity,
            end: self.end,
        };
        (place, self.records.is_empty())
    }

    fn over(path: PathBuf, rotation: Rotation, opened: OpenedFile) -> Self {
        Self {
            path,
            rotation,
            output: opened.output,
            kind: opened.kind,
            identity: opened.identity,
            size: opened.size,
            others_at: Instant::now(),
            broken: false,
            end: opened.size,
            found: None,
            held: Vec::new(),
            held_bytes: 0,
            day: opened.day,
            records: VecDeque::new(),
            bytes: Vec::new(),
            start: 0,
            written: 0,
            accounts: Vec::new(),
            failure: None,
            looked_at: Instant::now(),
            no_rotation_until: None,
        }
    }

    pub(crate) fn set_rotation(&mut self, rotation: Rotation) {
        if self.day.is_none() {
            self.day = rotation.day(SystemTime::now());
        }
        self.rotation = rotation;
    }

    /// A handle; what comes through one that `recovers` is looked for in the file before it is written.
    pub(crate) fn add_handle(&mut self, recovers: bool) -> usize {
        self.accounts.push(HandleAccount {
            books: SinkBooks::default(),
            recovers,
        });
        self.accounts.len() - 1
    }

    pub(crate) fn books(&self, handle: usize) -> SinkBooks {
        self.accounts
            .get(handle)
            .map(|account| account.books.clone())
            .unwrap_or_default()
    }

    pub(crate) fn append(&mut self, handle: usize, record: &[u8], weight: u64) {
        self.accounts[handle].books.accepted += weight;
        self.append_unwritten(handle, record, weight);
    }

    /// Appends what of a record a killed process has not written.
    fn append_unwritten(&mut self, handle: usize, record: &[u8], weight: u64) {
        let Some(found) = self.found.as_mut().filter(|_| self.accounts[handle].recovers) else {
            return self.append_new(handle, record, weight);
        };
        match found.take(record) {
            RecordMatch::Full => {
                // Those before it were written, too, and taken away since.
                for held in self.held.drain(..) {
                    self.accounts[held.handle].books.delivered += held.weight;
                }
                self.accounts[handle].books.delivered += weight;
            }
            RecordMatch::Unknown => self.hold(handle, record, weight),
            RecordMatch::Partial(begun) => {
                self.found = None;
                self.push(&record[begun..], Some(handle), weight, true);
            }
            RecordMatch::None => {
                let stump = found.ends_in_a_line();
                self.found = None;
                if stump {
                    self.push(b"\n", None, 0, true);
                }
                self.append_new(handle, record, weight);
            }
        }
    }

    fn append_new(&mut self, handle: usize, record: &[u8], weight: u64) {
        if self.failure.is_some() && self.bytes.len() - self.written + record.len() > KEPT_BYTES {
            let reason = match self.kind {
                FileKind::Stream => "nobody reads",
                _ => "disk in trouble",
            };
            self.accounts[handle].books.drop_for(reason, weight);
            return;
        }
        self.push(record, Some(handle), weight, false);
        if self.failure.is_none() && self.bytes.len() - self.written >= WRITE_BYTES {
            // The next `deliver` tries again, and tells.
            let _ = self.write_out(STANDSTILL);
        }
    }

    fn hold(&mut self, handle: usize, record: &[u8], weight: u64) {
        self.held_bytes += record.len();
        let record = record.into();
        self.held.push(HeldRecord { record, handle, weight });
        if self.held_bytes > KEPT_BYTES {
            self.write_held();
        }
    }

    /// Takes the records that are held for unwritten: none that comes later was found.
    pub(crate) fn write_held(&mut self) {
        if let Some(found) = &mut self.found {
            found.close_gap();
        }
        for held in std::mem::take(&mut self.held) {
            self.append_unwritten(held.handle, &held.record, held.weight);
        }
    }

    pub(crate) fn deliver(&mut self, at_once: bool) -> Result<(), SinkError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let patience = match &self.failure {
            _ if at_once => LAST_STANDSTILL,
            // A reader that reads again is not kept waiting.
            Some(failure) if failure.stalled => Duration::ZERO,
            _ => STANDSTILL,
        };
        if let Some(failure) = &self.failure
            && failure.told
            && !at_once
            && !failure.stalled
            && failure.at.elapsed() < RETRY
        {
            return Err(
                SinkError::new(format!("{} bytes wait for {}", self.waiting(), self.path.display()))
                    .with_reason(failure.reason.clone()),
            );
        }
        self.write_out(patience).map_err(|error| {
            let waiting = self.waiting();
            let what = format!(
                "append to {} ({waiting} bytes are kept and written when it works again)",
                self.path.display()
            );
            let stalled = error.kind() == io::ErrorKind::WouldBlock;
            let mut error = SinkError::from(error).doing(what);
            if stalled {
                error = error.with_reason("nobody reads");
            }
            if let Some(failure) = &mut self.failure {
                error.reason().clone_into(&mut failure.reason);
                failure.told = true;
            }
            error
        })
    }

    /// Forgets the records of a handle that are still here.
    pub(crate) fn give_up(&mut self, handle: usize, reason: &str) {
        let old = std::mem::take(&mut self.bytes);
        let mut from = self.start;
        let begun = self.written - self.start;
        for (i, mut entry) in std::mem::take(&mut self.records).into_iter().enumerate() {
            let record = from..entry.end;
            from = entry.end;
            if entry.handle == Some(handle) {
                self.accounts[handle].books.drop_for(reason, entry.weight);
                // A record of which a part is written has to be completed, or the next would stick to the stump.
                if i > 0 || begun == 0 {
                    continue;
                }
                entry.handle = None;
            }
            self.bytes.extend_from_slice(&old[record]);
            entry.end = self.bytes.len();
            self.records.push_back(entry);
        }
        (self.start, self.written) = (0, begun);
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn push(&mut self, record: &[u8], handle: Option<usize>, weight: u64, rest: bool) {
        self.bytes.extend_from_slice(record);
        let entry = QueuedRecord {
            end: self.bytes.len(),
            handle,
            weight,
            rest,
        };
        self.records.push_back(entry);
    }

    /// Writes all there is. An output that takes nothing for so long is left for later.
    fn write_out(&mut self, patience: Duration) -> io::Result<()> {
        let result = self.try_write_out(patience);
        self.failure = result.as_ref().err().map(|error| WriteFailure {
            at: Instant::now(),
            reason: String::new(),
            told: false,
            stalled: error.kind() == io::ErrorKind::WouldBlock,
        });
        result
    }

    fn try_write_out(&mut self, patience: Duration) -> io::Result<()> {
        let mut deleted = 0;
        while !self.records.is_empty() {
            self.stand_at_path()?;
            self.rotate_if_due();
            let portion = self.portion();
            let written = self.write_until(portion, patience);
            // Nobody can have read what went into a file without a name.
            if deleted < DELETED && self.output.standing().is_ok_and(|standing| self.is_deleted(standing)) {
                deleted += 1;
                self.written = self.start;
            }
            self.settle();
            written?;
            self.end = self.output.position().unwrap_or(self.size);
            if self.records.is_empty() {
                self.bytes.clear();
                self.bytes.shrink_to(KEPT_BYTES / 16);
                (self.start, self.written) = (0, 0);
            }
        }
        Ok(())
    }

    fn write_until(&mut self, portion: usize, patience: Duration) -> io::Result<()> {
        let mut since = Instant::now();
        while self.written < portion {
            match self.output.write(&self.bytes[self.written..portion]) {
                Ok(count) if count > 0 => {
                    self.size += count as u64;
                    self.written += count;
                    since = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if since.elapsed() >= patience {
                        return Err(error);
                    }
                    thread::sleep(NAP);
                }
                failed => {
                    self.broken = true;
                    return failed.and(Err(io::ErrorKind::WriteZero.into()));
                }
            }
        }
        Ok(())
    }

    /// Closes the account of the records that are wholly written.
    fn settle(&mut self) {
        while let Some(entry) = self.records.front()
            && entry.end <= self.written
        {
            if let Some(handle) = entry.handle {
                self.accounts[handle].books.delivered += entry.weight;
            }
            self.start = entry.end;
            self.records.pop_front();
        }
    }

    /// How far may be written before the file has to be rotated: to the end of a record.
    fn portion(&self) -> usize {
        let all = self.bytes.len();
        let Some(max) = self.rotation.max_bytes.filter(|_| self.kind == FileKind::Regular) else {
            return all;
        };
        let room = match self.may_rotate() {
            true if self.others_at.elapsed() >= OTHERS => max.saturating_sub(self.size),
            true => max.saturating_sub(self.size) / SHARE,
            // By the next portion somebody else may have rotated it.
            false => max / SHARE / SHARE,
        };
        let fits = |entry: &&QueuedRecord| (entry.end - self.written) as u64 <= room;
        let fitting = self.records.iter().take_while(fits).last();
        fitting.or(self.records.front()).map_or(all, |entry| entry.end)
    }

    fn may_rotate(&self) -> bool {
        self.kind == FileKind::Regular && self.no_rotation_until.is_none_or(|until| Instant::now() >= until)
    }

    fn rotate_if_due(&mut self) {
        let today = self.rotation.day(SystemTime::now());
        if self.size == 0 {
            self.day = today;
        }
        let first = self.records.front().map_or(0, |entry| entry.end - self.start) as u64;
        let too_large = self.rotation.max_bytes.is_some_and(|max| self.size + first > max);
        let new_day = today.is_some() && self.day != today;
        let in_a_record = self.written > self.start || self.records.front().is_some_and(|entry| entry.rest);
        if self.size == 0 || in_a_record || !(too_large || new_day) || !self.may_rotate() {
            return;
        }
        // What cannot be rotated goes on in the old file: a large file is better than a lost line.
        let pause = match self.output.lock() {
            Ok(()) => self.rotate().err().map(|_| ROTATION_RETRY),
            Err(TryLockError::WouldBlock) => Some(ROTATION_BUSY),
            // The file system has no locks.
            Err(TryLockError::Error(_)) => Some(ROTATION_RETRY),
        };
        self.output.unlock();
        self.no_rotation_until = pause.map(|pause| Instant::now() + pause);
    }

    /// Rotates the file, of which nobody else does that now; or goes on in the new one, if somebody has done it before.
    fn rotate(&mut self) -> io::Result<()> {
        if identity_of(fs::symlink_metadata(&self.path)) != self.identity {
            return self.reopen();
        }
        self.rotation.put_aside(&self.path)?;
        let reopened = self.reopen();
        match reopened {
            Ok(()) => self.rotation.drop_aside(&self.path),
            Err(_) => self.rotation.put_back(&self.path),
        }
        reopened
    }

    /// Goes back to the path, if someone has moved or deleted the file, or it takes nothing more.
    fn stand_at_path(&mut self) -> io::Result<()> {
        let standing = self.output.standing();
        let is_ours = |standing: &&FileState| standing.identity == self.identity;
        let ours = standing.as_ref().ok().filter(is_ours);
        let usable = ours.is_some_and(|standing| !self.is_deleted(*standing));
        if let Some(standing) = ours.filter(|_| self.kind != FileKind::Stream) {
            if standing.length > self.size {
                self.others_at = Instant::now();
            }
            self.size = standing.length;
        }
        // Others may rotate it at any time, and delete what they have put aside.
        let look = self.rotates() || self.failure.is_some() || self.looked_at.elapsed() >= LOOK;
        if usable && !self.broken && !look {
            return Ok(());
        }
        self.looked_at = Instant::now();
        if usable && !self.broken && identity_of(fs::metadata(&self.path)) == self.identity {
            return Ok(());
        }
        let is_foreign = match &standing {
            Ok(_) => ours.is_none(),
            Err(error) => is_closed(error),
        };
        if is_foreign {
            // Its number is free, or somebody else's by now; closing it would close theirs.
            mem::forget(mem::replace(&mut self.output, Box::new(ClosedOutput)));
        }
        match self.reopen() {
            // A file that was moved is not lost.
            Err(_) if usable => Ok(()),
            reopened => reopened,
        }
    }

    /// Whether no name leads to the file any more. Some file systems count no names at all.
    fn is_deleted(&self, standing: FileState) -> bool {
        standing.deleted && identity_of(fs::metadata(&self.path)) != self.identity
    }

    fn rotates(&self) -> bool {
        self.kind == FileKind::Regular && (self.rotation.max_bytes.is_some() || self.rotation.daily)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut opened = OpenedFile::new(&self.path, &self.rotation).or_else(|error| {
            let folder = self.path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound);
            fs::create_dir_all(folder.ok_or(error)?)?;
            OpenedFile::new(&self.path, &self.rotation)
        })?;
        let begun = &self.bytes[self.start..self.written];
        let same = opened.identity == self.identity && opened.kind != FileKind::Stream;
        if begun.is_empty() || !(same && ends_with(&self.path, begun)) {
            // A record that was begun in another file is whole in this one.
            self.written = self.start;
            // The last line there may be the beginning of the next record, as a killed process has left it.
            let is_begun = self.found.is_some() || self.records.front().is_some_and(|entry| entry.rest);
            if same && !is_begun && ends_amid_a_line(&self.path) {
                opened.output.write_all(b"\n")?;
                opened.size += 1;
            }
        }
        if !same {
            self.no_rotation_until = None;
        }
        self.output.unlock();
        self.output = opened.output;
        self.kind = opened.kind;
        self.identity = opened.identity;
        self.size = opened.size;
        self.end = opened.size;
        self.day = opened.day;
        self.broken = false;
        Ok(())
    }
}

fn identity_of(metadata: io::Result<fs::Metadata>) -> Option<FileId> {
    FileId::of(&metadata.ok()?)
}

/// In place of what somebody else has closed.
struct ClosedOutput;

impl io::Write for ClosedOutput {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileOutput for ClosedOutput {
    fn standing(&self) -> io::Result<FileState> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn position(&mut self) -> Option<u64> {
        None
    }

    fn lock(&self) -> Result<(), TryLockError> {
        Err(TryLockError::WouldBlock)
    }

    fn unlock(&self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Writes into memory, as a script says.
    struct ScriptedOutput {
        script: Arc<Mutex<OutputScript>>,
    }

    #[derive(Default)]
    struct OutputScript {
        text: Vec<u8>,
        /// What each write does: takes that many bytes, or fails.
        acts: VecDeque<Result<usize, io::ErrorKind>>,
    }

    impl Write for ScriptedOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut script = self.script.lock().unwrap();
            let count = match script.acts.pop_front() {
                Some(act) => act?.min(bytes.len()),
                None => bytes.len(),
            };
            script.text.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl FileOutput for ScriptedOutput {
        fn standing(&self) -> io::Result<FileState> {
            Ok(FileState {
                identity: identity_of(fs::metadata(std::env::temp_dir())),
                length: self.script.lock().unwrap().text.len() as u64,
                deleted: false,
            })
        }

        fn position(&mut self) -> Option<u64> {
            None
        }

        fn lock(&self) -> Result<(), TryLockError> {
            Ok(())
        }

        fn unlock(&self) {}
    }

    fn scripted(rotation: Rotation) -> (FileWriter, Arc<Mutex<OutputScript>>) {
        let script = Arc::<Mutex<OutputScript>>::default();
        let output = Box::new(ScriptedOutput {
            script: Arc::clone(&script),
        });
        let opened = OpenedFile {
            output,
            kind: FileKind::Regular,
            identity: identity_of(fs::metadata(std::env::temp_dir())),
            size: 0,
            day: None,
        };
        // The path is there and has the identity of the output, so the writer stays with it.
        (FileWriter::over(std::env::temp_dir(), rotation, opened), script)
    }

    #[test]
    fn a_full_disk_keeps_the_rest_of_a_record_for_later() {
        let (mut writer, script) = scripted(Rotation::default());
        let handle = writer.add_handle(false);
        script.lock().unwrap().acts = [Ok(3), Err(io::ErrorKind::StorageFull)].into();
        writer.append(handle, b"one\n", 1);
        writer.append(handle, b"two\n", 1);
        let error = writer.deliver(false).unwrap_err();
        assert_eq!(error.reason(), "disk full");
        let waiting = writer.deliver(false).unwrap_err();
        assert_eq!(waiting.reason(), "disk full", "the same trouble, which is said once");
        assert!(waiting.to_string().contains("5 bytes wait"), "{waiting}");
        assert_eq!(writer.books(handle).delivered, 0);
        writer.deliver(true).unwrap();
        assert_eq!(script.lock().unwrap().text, b"one\ntwo\n");
        assert_eq!(writer.books(handle).delivered, 2);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_beyond_is_counted() {
        let (mut writer, script) = scripted(Rotation::default());
        let handle = writer.add_handle(false);
        script.lock().unwrap().acts = [Err(io::ErrorKind::StorageFull)].into();
        let record = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            writer.append(handle, &record, 1);
        }
        let books = writer.books(handle);
        assert_eq!(books.dropped["disk in trouble"], 24);
        writer.deliver(true).unwrap();
        assert!(writer.books(handle).is_balanced());
    }

    #[test]
    fn who_gives_up_leaves_no_torn_record_and_nothing_of_others() {
        let (mut writer, script) = scripted(Rotation::default());
        let (mine, other) = (writer.add_handle(false), writer.add_handle(false));
        script.lock().unwrap().acts = [Ok(2), Err(io::ErrorKind::StorageFull)].into();
        for (handle, text) in [(mine, "mine 1\n"), (other, "other\n"), (mine, "mine 2\n")] {
            writer.append(handle, text.as_bytes(), 1);
        }
        writer.deliver(true).unwrap_err();
        writer.give_up(mine, "disk full");
        assert_eq!(writer.books(mine).dropped["disk full"], 2);
        writer.deliver(true).unwrap();
        assert_eq!(script.lock().unwrap().text, b"mine 1\nother\n");
        assert!(writer.books(other).is_balanced() && writer.books(mine).is_balanced());
    }

    proptest! {
        #[test]
        fn whatever_writes_do_each_record_is_there_once_and_whole(
            acts in prop::collection::vec(prop_oneof![
                (1_usize..9).prop_map(Ok),
                Just(Err(io::ErrorKind::Interrupted)),
                Just(Err(io::ErrorKind::StorageFull)),
                Just(Err(io::ErrorKind::QuotaExceeded)),
            ], 0..40),
            count in 1_usize..20,
        ) {
            let (mut writer, script) = scripted(Rotation::default());
            let handle = writer.add_handle(false);
            script.lock().unwrap().acts = acts.into();
            let mut expected = String::new();
            for i in 0..count {
                let record = format!("record {i}\n");
                writer.append(handle, record.as_bytes(), 1);
                expected += &record;
                let _ = writer.deliver(true);
            }
            while writer.deliver(true).is_err() {}
            prop_assert_eq!(String::from_utf8(script.lock().unwrap().text.clone()).unwrap(), expected);
            prop_assert_eq!(writer.books(handle).delivered, count as u64);
        }
    }
}
