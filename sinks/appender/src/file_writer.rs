//! The single writer of a log file: queueing, writing, rotation, and recovery from failures.

use std::fs::{self, TryLockError};
use std::io;
use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use logcore::{SinkBooks, SinkError, SinkErrorKind};

use crate::already_written::{AlreadyWritten, RecordMatch};
use crate::output::{FileKind, FileOutput, FileStatus, OpenedFile, ends_amid_a_line, ends_with, is_closed};
use crate::position::FileId;
use crate::record_queue::{LinePart, RecordQueue};
use crate::{FilePosition, FirstForm, Rotation};

/// Queued bytes at which `append` writes without waiting for `deliver`. Measured with four threads:
/// 64 KiB cost the kernel 2 % of a line more, and 256 KiB leave the cache of a core.
const WRITE_BYTES: usize = 128 << 10;
/// Bytes that are kept in memory while the file cannot be written.
const KEPT_BYTES: usize = 16 << 20;
/// Minimum time between a failed write and the next attempt of `deliver`.
const RETRY: Duration = Duration::from_secs(1);
/// Maximum age of the check that the path still leads to our file.
const PATH_CHECK: Duration = Duration::from_millis(100);
/// Minimum time between a failed rotation and the next attempt.
const ROTATION_RETRY: Duration = Duration::from_secs(60);
/// The same if another process holds the lock for rotating.
const ROTATION_BUSY: Duration = Duration::from_secs(1);
/// A write fills at most an eighth of the remaining room if other processes append to the file, so
/// that all processes together do not exceed the size limit unnoticed.
const SHARED_FILE_DIVISOR: u64 = 8;
/// Time for which other processes are expected to continue after they were last seen to write.
const OTHER_WRITERS_WINDOW: Duration = Duration::from_secs(10);
/// Time that a full pipe or device is waited for during the run: its reader may be slow.
const STALL_TIMEOUT: Duration = Duration::from_millis(100);
/// The same in `deliver_now` and `finish`, whose callers wait for the bytes.
const FINAL_STALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Sleep between two attempts to write to a full pipe or device.
const STALL_POLL: Duration = Duration::from_millis(1);
/// Maximum number of times in a row that a batch is written again because its file was deleted
/// meanwhile.
const MAX_REWRITES: usize = 3;

/// The single writer of one file. The handles of [`Appender`](crate::Appender) share it behind a
/// lock.
///
/// ```text
/// append ──▶ recovery: written by the killed process? ──no──▶ queue ──▶ file ──▶ account of the handle
///                 └─ yes: counted as delivered
/// ```
///
/// Before each write the path is checked: a file that was moved, deleted or rotated by another
/// process is opened again.
pub(crate) struct FileWriter {
    path: PathBuf,
    rotation: Rotation,
    file: OpenedFile,
    /// Offset in the file behind our newest record.
    end: u64,
    queue: RecordQueue,
    accounts: Vec<HandleAccount>,
    failure: Option<WriteFailure>,
    /// `true` after a failed write: the path is opened again before the next one.
    broken: bool,
    recovery: Recovery,
    path_checked_at: Instant,
    /// When other processes were last seen to write to the file. A new writer assumes that there
    /// are some.
    others_seen_at: Instant,
    no_rotation_until: Option<Instant>,
}

/// The cause of the last failed write.
struct WriteFailure {
    at: Instant,
    /// Kind and reason of the error, once it was returned from `deliver`.
    reported: Option<(SinkErrorKind, String)>,
    /// The file is a pipe or a device that is full; nothing else is wrong.
    stalled: bool,
}

struct HandleAccount {
    books: SinkBooks,
    source: RecordSource,
    first_form: Option<FirstForm>,
}

/// Origin of the records of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordSource {
    /// A running logger: every record is new.
    Live,
    /// A recovery: records that the killed process has written already are skipped.
    Recovery,
}

/// The comparison with what a killed process has written.
#[derive(Default)]
struct Recovery {
    /// `None` as soon as a record comes that the killed process has not written.
    already_written: Option<AlreadyWritten>,
    /// Records about which only a later record decides.
    held: Vec<HeldRecord>,
    held_bytes: usize,
}

struct HeldRecord {
    record: Box<[u8]>,
    handle: usize,
    weight: u64,
}

impl FileWriter {
    pub(crate) fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let file = OpenedFile::new(&path, &rotation)?;
        let mut writer = Self::new(path, rotation, file);
        if writer.file.size > 0 && ends_amid_a_line(&writer.path) {
            // The last line was cut off, by a full disk or by a kill.
            writer.queue.push(b"\n", None, 0, LinePart::Remainder);
        }
        Ok(writer)
    }

    /// Continues at the position of a killed process: records that it has written are not written
    /// again.
    pub(crate) fn recover(position: &FilePosition) -> io::Result<Self> {
        let already_written = AlreadyWritten::read(position)?;
        let file = OpenedFile::new(&position.path, &position.rotation)?;
        let mut writer = Self::new(position.path.clone(), position.rotation, file);
        writer.recovery.already_written = Some(already_written);
        Ok(writer)
    }

    /// Adds the position of another sink of the same killed process. The older of the two positions
    /// counts.
    pub(crate) fn recover_also(&mut self, position: &FilePosition) -> io::Result<()> {
        let candidate = AlreadyWritten::read(position)?;
        let current = &mut self.recovery.already_written;
        if current
            .as_ref()
            .is_none_or(|current| candidate.remaining() < current.remaining())
        {
            *current = Some(candidate);
        }
        Ok(())
    }

    /// Returns the position, and `true` if all records are in the file.
    pub(crate) fn position(&self) -> (FilePosition, bool) {
        let position = FilePosition {
            path: self.path.clone(),
            rotation: self.rotation,
            file: self.file.id,
            end: self.end,
        };
        (position, self.queue.is_empty())
    }

    fn new(path: PathBuf, rotation: Rotation, file: OpenedFile) -> Self {
        let now = Instant::now();
        Self {
            path,
            rotation,
            end: file.size,
            file,
            queue: RecordQueue::default(),
            accounts: Vec::new(),
            failure: None,
            broken: false,
            recovery: Recovery::default(),
            path_checked_at: now,
            others_seen_at: now,
            no_rotation_until: None,
        }
    }

    pub(crate) fn set_rotation(&mut self, rotation: Rotation) {
        if self.file.day.is_none() {
            self.file.day = rotation.day(SystemTime::now());
        }
        self.rotation = rotation;
    }

    /// Adds a handle; returns its number.
    pub(crate) fn add_handle(&mut self, source: RecordSource) -> usize {
        self.accounts.push(HandleAccount {
            books: SinkBooks::default(),
            source,
            first_form: None,
        });
        self.accounts.len() - 1
    }

    pub(crate) fn set_first_form(&mut self, handle: usize, first_form: FirstForm) {
        self.accounts[handle].first_form = Some(first_form);
    }

    pub(crate) fn books(&self, handle: usize) -> SinkBooks {
        self.accounts
            .get(handle)
            .map(|account| account.books.clone())
            .unwrap_or_default()
    }

    pub(crate) fn append(&mut self, handle: usize, record: &[u8], weight: u64) {
        self.accounts[handle].books.accepted += weight;
        match self.recovery.already_written {
            None => self.append_new(handle, record, weight),
            Some(_) => self.append_unwritten(handle, record, weight),
        }
    }

    /// Appends the part of a record that a killed process has not written.
    fn append_unwritten(&mut self, handle: usize, record: &[u8], weight: u64) {
        let recovers = self.accounts[handle].source == RecordSource::Recovery;
        let Some(written) = self.recovery.already_written.as_mut().filter(|_| recovers) else {
            return self.append_new(handle, record, weight);
        };
        let first_form = self.accounts[handle].first_form.as_ref().map(|form| form(record));
        match written.match_next(record, first_form.as_deref().unwrap_or(record)) {
            RecordMatch::Full => {
                // The held records precede this one, so they were written, too, and removed since.
                for held in self.recovery.held.drain(..) {
                    self.accounts[held.handle].books.delivered += held.weight;
                }
                self.accounts[handle].books.delivered += weight;
            }
            RecordMatch::Unknown => self.hold(handle, record, weight),
            RecordMatch::Partial(missing) => {
                self.recovery.already_written = None;
                self.queue.push(missing, Some(handle), weight, LinePart::Remainder);
            }
            RecordMatch::None => {
                let cut_line = written.ends_amid_a_line();
                self.recovery.already_written = None;
                if cut_line {
                    self.queue.push(b"\n", None, 0, LinePart::Remainder);
                }
                self.append_new(handle, record, weight);
            }
        }
    }

    #[inline]
    fn append_new(&mut self, handle: usize, record: &[u8], weight: u64) {
        if self.failure.is_some() && self.queue.unwritten_len() + record.len() > KEPT_BYTES {
            let reason = match self.file.kind {
                FileKind::Stream => "nobody reads",
                _ => "disk error",
            };
            self.accounts[handle].books.drop_for(reason, weight);
            return;
        }
        self.queue.push(record, Some(handle), weight, LinePart::Whole);
        if self.failure.is_none() && self.queue.unwritten_len() >= WRITE_BYTES {
            // The next `deliver` tries again, and returns the error.
            let _ = self.write_out(STALL_TIMEOUT);
        }
    }

    fn hold(&mut self, handle: usize, record: &[u8], weight: u64) {
        self.recovery.held_bytes += record.len();
        let record = record.into();
        self.recovery.held.push(HeldRecord { record, handle, weight });
        if self.recovery.held_bytes > KEPT_BYTES {
            self.write_held();
        }
    }

    /// Takes the held records for unwritten, because no later record was found in the file.
    pub(crate) fn write_held(&mut self) {
        if let Some(written) = &mut self.recovery.already_written {
            written.assume_unwritten();
        }
        for held in mem::take(&mut self.recovery.held) {
            self.append_unwritten(held.handle, &held.record, held.weight);
        }
    }

    /// Writes the queue. After a failure that was reported, nothing is tried for [`RETRY`].
    pub(crate) fn deliver(&mut self) -> Result<(), SinkError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let Some(failure) = &self.failure else {
            return self.write_and_report(STALL_TIMEOUT);
        };
        // A pipe is polled, so that a reader that reads again gets its lines soon.
        if failure.stalled {
            return self.write_and_report(Duration::ZERO);
        }
        match &failure.reported {
            Some((kind, reason)) if failure.at.elapsed() < RETRY => {
                let (waiting, path) = (self.queue.unwritten_len(), self.path.display());
                let text = format!("{waiting} bytes wait to be written to {path}");
                Err(SinkError::new(text).with_kind(*kind).with_reason(reason.clone()))
            }
            _ => self.write_and_report(STALL_TIMEOUT),
        }
    }

    /// Writes the queue at once, even right after a failure.
    pub(crate) fn deliver_now(&mut self) -> Result<(), SinkError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        self.write_and_report(FINAL_STALL_TIMEOUT)
    }

    fn write_and_report(&mut self, stall_timeout: Duration) -> Result<(), SinkError> {
        self.write_out(stall_timeout).map_err(|error| {
            let (waiting, path) = (self.queue.unwritten_len(), self.path.display());
            let action = format!("append to {path} ({waiting} bytes wait in memory for the next attempt)");
            let stalled = error.kind() == io::ErrorKind::WouldBlock;
            let mut error = SinkError::from(error).doing(action);
            if stalled {
                error = error.with_reason("nobody reads");
            }
            if let Some(failure) = &mut self.failure {
                failure.reported = Some((error.kind(), error.reason().to_owned()));
            }
            error
        })
    }

    /// Abandons the queued records of a handle, and counts them as dropped.
    pub(crate) fn give_up(&mut self, handle: usize, reason: &str) {
        let weight = self.queue.abandon(handle);
        self.accounts[handle].books.drop_for(reason, weight);
    }

    /// Writes the whole queue. A pipe or device that accepts nothing for `stall_timeout` is an
    /// error.
    fn write_out(&mut self, stall_timeout: Duration) -> io::Result<()> {
        let result = self.try_write_out(stall_timeout);
        self.failure = result.as_ref().err().map(|error| WriteFailure {
            at: Instant::now(),
            reported: None,
            stalled: error.kind() == io::ErrorKind::WouldBlock,
        });
        result
    }

    fn try_write_out(&mut self, stall_timeout: Duration) -> io::Result<()> {
        let mut deleted = 0;
        while !self.queue.is_empty() {
            self.reopen_if_replaced()?;
            self.rotate_if_due();
            self.give_first_form();
            let end = self.queue.end_within(self.room());
            let written = self.write_until(end, stall_timeout);
            // Nobody can have read bytes that went into a file without a name.
            if deleted < MAX_REWRITES && self.file.output.status().is_ok_and(|state| self.is_deleted(state)) {
                deleted += 1;
                self.queue.rewind();
            }
            self.queue.remove_written(|record| {
                if let Some(handle) = record.handle {
                    self.accounts[handle].books.delivered += record.weight;
                }
            });
            written?;
            self.end = self.file.output.position().unwrap_or(self.file.size);
            self.queue.shrink(KEPT_BYTES / 16);
        }
        Ok(())
    }

    fn write_until(&mut self, end: usize, stall_timeout: Duration) -> io::Result<()> {
        let mut last_progress = Instant::now();
        while !self.queue.unwritten(end).is_empty() {
            match self.file.output.write(self.queue.unwritten(end)) {
                Ok(count) if count > 0 => {
                    self.file.size += count as u64;
                    self.queue.mark_written(count);
                    last_progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if last_progress.elapsed() >= stall_timeout {
                        return Err(error);
                    }
                    thread::sleep(STALL_POLL);
                }
                failed => {
                    self.broken = true;
                    return failed.and(Err(io::ErrorKind::WriteZero.into()));
                }
            }
        }
        Ok(())
    }

    /// Returns the number of bytes that may be written before the next check for a rotation; `None`
    /// without a limit.
    fn room(&self) -> Option<u64> {
        let max = self
            .rotation
            .max_bytes
            .filter(|_| self.file.kind == FileKind::Regular)?;
        Some(match self.may_rotate() {
            true if self.others_seen_at.elapsed() >= OTHER_WRITERS_WINDOW => max.saturating_sub(self.file.size),
            true => max.saturating_sub(self.file.size) / SHARED_FILE_DIVISOR,
            // Another process may have rotated the file before the next batch.
            false => max / SHARED_FILE_DIVISOR / SHARED_FILE_DIVISOR,
        })
    }

    fn may_rotate(&self) -> bool {
        self.file.kind == FileKind::Regular && self.no_rotation_until.is_none_or(|until| Instant::now() >= until)
    }

    fn rotate_if_due(&mut self) {
        let today = self.rotation.day(SystemTime::now());
        if self.file.size == 0 {
            self.file.day = today;
        }
        let first = self.queue.first().len() as u64;
        let too_large = self.rotation.max_bytes.is_some_and(|max| self.file.size + first > max);
        let new_day = today.is_some() && self.file.day != today;
        if self.file.size == 0 || self.is_amid_a_record() || !(too_large || new_day) || !self.may_rotate() {
            return;
        }
        // If rotating fails, writing continues in the old file: a large file is better than a lost
        // line.
        let pause = match self.file.output.lock() {
            Ok(()) => self.rotate().err().map(|_| ROTATION_RETRY),
            Err(TryLockError::WouldBlock) => Some(ROTATION_BUSY),
            // The file system has no locks.
            Err(TryLockError::Error(_)) => Some(ROTATION_RETRY),
        };
        self.file.output.unlock();
        self.no_rotation_until = pause.map(|pause| Instant::now() + pause);
    }

    /// Gives the oldest record its first form, if it begins the file.
    fn give_first_form(&mut self) {
        if self.file.size > 0 || self.is_amid_a_record() {
            return;
        }
        let account = self.queue.first_handle().map(|handle| &self.accounts[handle]);
        if let Some(first_form) = account.and_then(|account| account.first_form.as_ref()) {
            let record = first_form(self.queue.first());
            self.queue.replace_first(&record);
        }
    }

    /// Returns `true` if the oldest record continues a line of the file.
    fn is_amid_a_record(&self) -> bool {
        !self.queue.partial().is_empty() || self.queue.first_completes_a_line()
    }

    /// Rotates the file. The lock excludes other processes; if one of them has rotated already, its
    /// new file is opened.
    fn rotate(&mut self) -> io::Result<()> {
        if id_of(fs::symlink_metadata(&self.path)) != self.file.id {
            return self.reopen();
        }
        self.rotation.rename_old(&self.path)?;
        let reopened = self.reopen();
        match reopened {
            Ok(()) => self.rotation.delete_old(&self.path),
            Err(_) => self.rotation.undo_rename(&self.path),
        }
        reopened
    }

    /// Opens the path again if the file was moved or deleted, or if the last write failed.
    fn reopen_if_replaced(&mut self) -> io::Result<()> {
        let state = self.file.output.status();
        let is_ours = |state: &&FileStatus| state.id == self.file.id;
        let ours = state.as_ref().ok().filter(is_ours);
        let usable = ours.is_some_and(|state| !self.is_deleted(*state));
        if let Some(state) = ours.filter(|_| self.file.kind != FileKind::Stream) {
            if state.length > self.file.size {
                self.others_seen_at = Instant::now();
            }
            self.file.size = state.length;
        }
        // Other processes may rotate the file at any time, and delete a rotated one.
        let check_path = self.rotates() || self.failure.is_some() || self.path_checked_at.elapsed() >= PATH_CHECK;
        if usable && !self.broken && !check_path {
            return Ok(());
        }
        self.path_checked_at = Instant::now();
        if usable && !self.broken && id_of(fs::metadata(&self.path)) == self.file.id {
            return Ok(());
        }
        let is_foreign = match &state {
            Ok(_) => ours.is_none(),
            Err(error) => is_closed(error),
        };
        if is_foreign {
            // The descriptor's number is free or belongs to somebody else now. Closing it would
            // close their file.
            mem::forget(mem::replace(&mut self.file.output, Box::new(ClosedOutput)));
        }
        match self.reopen() {
            // A file that was moved still accepts records, so none is lost.
            Err(_) if usable => Ok(()),
            reopened => reopened,
        }
    }

    /// Returns `true` if no name leads to the file any more. Some file systems count no names at
    /// all, so the path decides.
    fn is_deleted(&self, state: FileStatus) -> bool {
        state.deleted && id_of(fs::metadata(&self.path)) != self.file.id
    }

    fn rotates(&self) -> bool {
        self.file.kind == FileKind::Regular && (self.rotation.max_bytes.is_some() || self.rotation.daily)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut opened = OpenedFile::new(&self.path, &self.rotation).or_else(|error| {
            let folder = self.path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound);
            fs::create_dir_all(folder.ok_or(error)?)?;
            OpenedFile::new(&self.path, &self.rotation)
        })?;
        let partial = self.queue.partial();
        let same = opened.id == self.file.id && opened.kind != FileKind::Stream;
        if partial.is_empty() || !(same && ends_with(&self.path, partial)) {
            // A record whose beginning went into another file is written whole into this one.
            self.queue.rewind();
            // The last line may be the beginning of the next record, written by a killed process.
            let is_next = self.recovery.already_written.is_some() || self.queue.first_completes_a_line();
            if same && !is_next && ends_amid_a_line(&self.path) {
                opened.output.write_all(b"\n")?;
                opened.size += 1;
            }
        }
        if !same {
            self.no_rotation_until = None;
        }
        self.file.output.unlock();
        self.end = opened.size;
        self.file = opened;
        self.broken = false;
        Ok(())
    }
}

fn id_of(metadata: io::Result<fs::Metadata>) -> Option<FileId> {
    FileId::of(&metadata.ok()?)
}

/// Replacement for an output whose descriptor was closed by another part of the program.
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
    fn status(&self) -> io::Result<FileStatus> {
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
    use std::collections::VecDeque;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// Writes into memory, as a script prescribes.
    struct ScriptedOutput {
        script: Arc<Mutex<OutputScript>>,
    }

    #[derive(Default)]
    struct OutputScript {
        text: Vec<u8>,
        /// Result of each write: the number of bytes that are accepted, or an error.
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
        fn status(&self) -> io::Result<FileStatus> {
            Ok(FileStatus {
                id: id_of(fs::metadata(std::env::temp_dir())),
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

    fn scripted() -> (FileWriter, Arc<Mutex<OutputScript>>) {
        let script = Arc::<Mutex<OutputScript>>::default();
        let output = Box::new(ScriptedOutput {
            script: Arc::clone(&script),
        });
        let file = OpenedFile {
            output,
            kind: FileKind::Regular,
            id: id_of(fs::metadata(std::env::temp_dir())),
            size: 0,
            day: None,
        };
        // The path exists and has the identity of the output, so the writer never opens it again.
        (FileWriter::new(std::env::temp_dir(), Rotation::default(), file), script)
    }

    #[test]
    fn a_full_disk_keeps_the_rest_of_a_record_for_later() {
        let (mut writer, script) = scripted();
        let handle = writer.add_handle(RecordSource::Live);
        script.lock().unwrap().acts = [Ok(3), Err(io::ErrorKind::StorageFull)].into();
        writer.append(handle, b"one\n", 1);
        writer.append(handle, b"two\n", 1);
        let error = writer.deliver().unwrap_err();
        assert_eq!(error.reason(), "disk full");
        let waiting = writer.deliver().unwrap_err();
        assert!(waiting.kind().is_disk_full(), "the same kind until the next attempt");
        assert!(waiting.to_string().contains("5 bytes wait"), "{waiting}");
        assert_eq!(writer.books(handle).delivered, 0);
        writer.deliver_now().unwrap();
        assert_eq!(script.lock().unwrap().text, b"one\ntwo\n");
        assert_eq!(writer.books(handle).delivered, 2);
    }

    #[test]
    fn the_queue_of_a_failing_file_is_bounded_and_counts_what_it_drops() {
        let (mut writer, script) = scripted();
        let handle = writer.add_handle(RecordSource::Live);
        script.lock().unwrap().acts = [Err(io::ErrorKind::StorageFull)].into();
        let record = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            writer.append(handle, &record, 1);
        }
        let books = writer.books(handle);
        assert_eq!(books.dropped["disk error"], 24);
        writer.deliver_now().unwrap();
        assert!(writer.books(handle).balanced());
    }

    #[test]
    fn give_up_leaves_no_torn_record_and_keeps_the_records_of_other_handles() {
        let (mut writer, script) = scripted();
        let (mine, other) = (
            writer.add_handle(RecordSource::Live),
            writer.add_handle(RecordSource::Live),
        );
        script.lock().unwrap().acts = [Ok(2), Err(io::ErrorKind::StorageFull)].into();
        for (handle, text) in [(mine, "mine 1\n"), (other, "other\n"), (mine, "mine 2\n")] {
            writer.append(handle, text.as_bytes(), 1);
        }
        writer.deliver_now().unwrap_err();
        writer.give_up(mine, "disk full");
        assert_eq!(writer.books(mine).dropped["disk full"], 2);
        writer.deliver_now().unwrap();
        assert_eq!(script.lock().unwrap().text, b"mine 1\nother\n");
        assert!(writer.books(other).balanced() && writer.books(mine).balanced());
    }

    proptest! {
        #[test]
        fn each_record_is_written_once_and_whole_whatever_write_returns(
            acts in prop::collection::vec(prop_oneof![
                (1_usize..9).prop_map(Ok),
                Just(Err(io::ErrorKind::Interrupted)),
                Just(Err(io::ErrorKind::StorageFull)),
                Just(Err(io::ErrorKind::QuotaExceeded)),
            ], 0..40),
            count in 1_usize..20,
        ) {
            let (mut writer, script) = scripted();
            let handle = writer.add_handle(RecordSource::Live);
            script.lock().unwrap().acts = acts.into();
            let mut expected = String::new();
            for i in 0..count {
                let record = format!("record {i}\n");
                writer.append(handle, record.as_bytes(), 1);
                expected += &record;
                let _ = writer.deliver_now();
            }
            while writer.deliver_now().is_err() {}
            prop_assert_eq!(String::from_utf8(script.lock().unwrap().text.clone()).unwrap(), expected);
            prop_assert_eq!(writer.books(handle).delivered, count as u64);
        }
    }
}
