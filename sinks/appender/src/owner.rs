//! The one who writes to a file.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::civil::Date;
use logcore::{SinkBooks, SinkError};
use serde::{Deserialize, Serialize};

use crate::found::{Found, Written};
use crate::{Place, Rotation};

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

/// What the owner writes to: a file, or in tests something that misbehaves.
pub(crate) trait Output: Write + Send {
    /// What tells this file from any other that could take its name.
    fn identity(&self) -> Option<Identity>;

    /// Where the last write has ended, which others that append to the file may have moved on.
    fn position(&mut self) -> Option<u64>;
}

impl Output for File {
    fn identity(&self) -> Option<Identity> {
        Identity::of(&self.metadata().ok()?)
    }

    fn position(&mut self) -> Option<u64> {
        self.stream_position().ok()
    }
}

/// Device and number of a file, where the system has such, and when it was made: numbers are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    number: u64,
    /// Nanoseconds since 1970, where the file system tells.
    made: Option<u64>,
}

impl Identity {
    #[cfg(unix)]
    pub(crate) fn of(metadata: &fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        Some(Self {
            device: metadata.dev(),
            number: metadata.ino(),
            made: made(metadata),
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn of(metadata: &fs::Metadata) -> Option<Self> {
        Some(Self {
            device: 0,
            number: 0,
            made: made(metadata),
        })
    }
}

fn made(metadata: &fs::Metadata) -> Option<u64> {
    let since = metadata.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

pub(crate) struct Owner {
    path: PathBuf,
    rotation: Rotation,
    output: Box<dyn Output>,
    identity: Option<Identity>,
    /// Bytes in the file.
    size: u64,
    /// Where our newest record ends in it.
    end: u64,
    /// What a killed process has written, until a record comes that it has not.
    found: Option<Found>,
    /// Records of which only those that come later tell whether it has written them.
    held: Vec<Held>,
    held_bytes: usize,
    /// The day that the file belongs to, if days matter.
    day: Option<Date>,
    /// Records that are not all written, oldest first, one after the other in `bytes`.
    records: VecDeque<Entry>,
    bytes: Vec<u8>,
    /// Where the oldest of them begins in `bytes`.
    start: usize,
    /// How much of `bytes` is in the file.
    written: usize,
    accounts: Vec<Account>,
    failure: Option<Failure>,
    looked_at: Instant,
    rotation_failed_at: Option<Instant>,
}

/// Why the last write failed.
struct Failure {
    at: Instant,
    reason: String,
    /// Whoever delivers has had the error.
    told: bool,
}

struct Account {
    books: SinkBooks,
    /// Its records are those of a killed process; the other handles may be of live loggers.
    recovers: bool,
}

struct Held {
    record: Box<[u8]>,
    handle: usize,
    weight: u64,
}

struct Entry {
    /// Where it ends in `bytes`.
    end: usize,
    /// Whose it is; `None` if that one has given it up after a part was written.
    handle: Option<usize>,
    weight: u64,
    /// It is the rest of a line that a killed process has begun, so it goes into the same file, whatever its size.
    rest: bool,
}

impl Owner {
    pub(crate) fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let opened = Opened::new(&path, &rotation)?;
        Ok(Self::over(path, rotation, opened))
    }

    /// Goes on from where a killed process stood: records that it has written are not written again.
    pub(crate) fn recover(place: &Place) -> io::Result<Self> {
        let found = Found::behind(place)?;
        let mut opened = Opened::new(&place.path, &place.rotation)?;
        // It may be the beginning of a record that is given next.
        opened.stump = false;
        let mut owner = Self::over(place.path.clone(), place.rotation, opened);
        owner.found = Some(found);
        Ok(owner)
    }

    /// The same for one more sink of the same file, whose mark may be older.
    pub(crate) fn recover_also(&mut self, place: &Place) -> io::Result<()> {
        let found = Found::behind(place)?;
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
    pub(crate) fn place(&self) -> (Place, bool) {
        let place = Place {
            path: self.path.clone(),
            rotation: self.rotation,
            file: self.identity,
            end: self.end,
        };
        (place, self.records.is_empty())
    }

    fn over(path: PathBuf, rotation: Rotation, opened: Opened) -> Self {
        let mut owner = Self {
            path,
            rotation,
            output: opened.output,
            identity: None,
            size: opened.size,
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
            rotation_failed_at: None,
        };
        owner.identity = owner.output.identity();
        if opened.stump {
            owner.push(b"\n", None, 0, true);
        }
        owner
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn set_rotation(&mut self, rotation: Rotation) {
        if self.day.is_none() {
            self.day = rotation.day(SystemTime::now());
        }
        self.rotation = rotation;
    }

    /// A handle; what comes through one that `recovers` is looked for in the file before it is written.
    pub(crate) fn add_handle(&mut self, recovers: bool) -> usize {
        self.accounts.push(Account {
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
            Written::Whole => {
                // Those before it were written, too, and taken away since.
                for held in self.held.drain(..) {
                    self.accounts[held.handle].books.delivered += held.weight;
                }
                self.accounts[handle].books.delivered += weight;
            }
            Written::Perhaps => self.hold(handle, record, weight),
            Written::Begun(begun) => {
                self.found = None;
                self.push(&record[begun..], Some(handle), weight, true);
            }
            Written::Nothing => {
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
            self.accounts[handle].books.drop_for("disk in trouble", weight);
            return;
        }
        self.push(record, Some(handle), weight, false);
        if self.failure.is_none() && self.bytes.len() - self.written >= WRITE_BYTES {
            // The next `deliver` tries again, and tells.
            let _ = self.write_out();
        }
    }

    fn hold(&mut self, handle: usize, record: &[u8], weight: u64) {
        self.held_bytes += record.len();
        let record = record.into();
        self.held.push(Held { record, handle, weight });
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
        if let Some(failure) = &self.failure
            && failure.told
            && !at_once
            && failure.at.elapsed() < RETRY
        {
            return Err(
                SinkError::new(format!("{} bytes wait for {}", self.waiting(), self.path.display()))
                    .with_reason(failure.reason.clone()),
            );
        }
        self.write_out().map_err(|error| {
            let waiting = self.waiting();
            let what = format!(
                "append to {} ({waiting} bytes are kept and written when it works again)",
                self.path.display()
            );
            let error = SinkError::from(error).doing(what);
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
        let entry = Entry {
            end: self.bytes.len(),
            handle,
            weight,
            rest,
        };
        self.records.push_back(entry);
    }

    fn write_out(&mut self) -> io::Result<()> {
        let result = self.try_write_out();
        self.failure = result.is_err().then(|| Failure {
            at: Instant::now(),
            reason: String::new(),
            told: false,
        });
        if let Err(error) = &result
            && is_gone(error)
        {
            // Someone has closed the descriptor under us; the path is as good as ever.
            self.identity = None;
        }
        result
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        self.return_to_path()?;
        while !self.records.is_empty() {
            self.rotate_if_due();
            let portion = self.portion();
            while self.written < portion {
                match self.output.write(&self.bytes[self.written..portion]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        self.size += count as u64;
                        self.written += count;
                        self.settle();
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.end = self.output.position().unwrap_or(self.size);
            if self.records.is_empty() {
                self.bytes.clear();
                self.bytes.shrink_to(KEPT_BYTES / 16);
                (self.start, self.written) = (0, 0);
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
        let Some(max) = self.rotation.max_bytes else { return all };
        let mut end = None;
        for entry in &self.records {
            let size = self.size + (entry.end - self.written) as u64;
            if size > max && end.is_some() {
                break;
            }
            end = Some(entry.end);
            if size > max {
                break;
            }
        }
        end.unwrap_or(all)
    }

    fn rotate_if_due(&mut self) {
        let today = self.rotation.day(SystemTime::now());
        if self.size == 0 {
            self.day = today;
        }
        let first = self.records.front().map_or(0, |entry| entry.end - self.start) as u64;
        let too_large = self.rotation.max_bytes.is_some_and(|max| self.size + first > max);
        let new_day = today.is_some() && self.day != today;
        let not_now = self.rotation_failed_at.is_some_and(|at| at.elapsed() < ROTATION_RETRY);
        let in_a_record = self.written > self.start || self.records.front().is_some_and(|entry| entry.rest);
        if self.size == 0 || in_a_record || not_now || !(too_large || new_day) {
            return;
        }
        // What cannot be rotated goes on in the old file: a large file is better than a lost line.
        let rotated = self.rotation.put_aside(&self.path).and_then(|()| self.reopen());
        self.rotation_failed_at = rotated.is_err().then(Instant::now);
    }

    /// Goes back to the path, if someone has moved or deleted the file.
    fn return_to_path(&mut self) -> io::Result<()> {
        if self.failure.is_none() && self.looked_at.elapsed() < LOOK {
            return Ok(());
        }
        self.looked_at = Instant::now();
        let there = fs::metadata(&self.path)
            .ok()
            .and_then(|metadata| Identity::of(&metadata));
        if there.is_some() && there == self.identity {
            return Ok(());
        }
        self.reopen()?;
        // A record that was begun in the old file is whole in the new one.
        self.written = self.start;
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let opened = Opened::new(&self.path, &self.rotation)?;
        let old = std::mem::replace(&mut self.output, opened.output);
        if self.identity.is_none() {
            // It is closed already, and closing it again would close whatever has its number now.
            std::mem::forget(old);
        }
        self.identity = self.output.identity();
        self.size = opened.size;
        self.end = opened.size;
        self.day = opened.day;
        Ok(())
    }
}

/// Whether what was open is not, or is not for writing any more: a descriptor is only a number, which any part of a program
/// may close, and another may be given again.
fn is_gone(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(9); // EBADF, everywhere
    #[cfg(not(unix))]
    return matches!(error.kind(), io::ErrorKind::InvalidInput);
}

/// A file at the moment of opening.
struct Opened {
    output: Box<dyn Output>,
    size: u64,
    day: Option<Date>,
    /// It ends in the middle of a line: whoever wrote it was cut off.
    stump: bool,
}

impl Opened {
    fn new(path: &Path, rotation: &Rotation) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let metadata = file.metadata()?;
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        let stump = size > 0 && last_byte(path).is_some_and(|last| last != b'\n');
        let day = match size {
            0 => rotation.day(SystemTime::now()),
            _ => metadata.modified().ok().and_then(|time| rotation.day(time)),
        };
        Ok(Self {
            output: Box::new(file),
            size,
            day,
            stump,
        })
    }
}

fn last_byte(path: &Path) -> Option<u8> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::End(-1)).ok()?;
    let mut last = [0];
    file.read_exact(&mut last).ok()?;
    Some(last[0])
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// Writes into memory, as a script says.
    struct Scripted {
        script: Arc<Mutex<Script>>,
    }

    #[derive(Default)]
    struct Script {
        text: Vec<u8>,
        /// What each write does: takes that many bytes, or fails.
        acts: VecDeque<Result<usize, io::ErrorKind>>,
    }

    impl Write for Scripted {
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

    impl Output for Scripted {
        fn identity(&self) -> Option<Identity> {
            Identity::of(&fs::metadata(std::env::temp_dir()).unwrap())
        }

        fn position(&mut self) -> Option<u64> {
            None
        }
    }

    fn scripted(rotation: Rotation) -> (Owner, Arc<Mutex<Script>>) {
        let script = Arc::<Mutex<Script>>::default();
        let output = Box::new(Scripted {
            script: Arc::clone(&script),
        });
        let opened = Opened {
            output,
            size: 0,
            day: None,
            stump: false,
        };
        // The path is there and has the identity of the output, so the owner stays with it.
        (Owner::over(std::env::temp_dir(), rotation, opened), script)
    }

    #[test]
    fn a_full_disk_keeps_the_rest_of_a_record_for_later() {
        let (mut owner, script) = scripted(Rotation::default());
        let handle = owner.add_handle(false);
        script.lock().unwrap().acts = [Ok(3), Err(io::ErrorKind::StorageFull)].into();
        owner.append(handle, b"one\n", 1);
        owner.append(handle, b"two\n", 1);
        let error = owner.deliver(false).unwrap_err();
        assert_eq!(error.reason(), "disk full");
        let waiting = owner.deliver(false).unwrap_err();
        assert_eq!(waiting.reason(), "disk full", "the same trouble, which is said once");
        assert!(waiting.to_string().contains("5 bytes wait"), "{waiting}");
        assert_eq!(owner.books(handle).delivered, 0);
        owner.deliver(true).unwrap();
        assert_eq!(script.lock().unwrap().text, b"one\ntwo\n");
        assert_eq!(owner.books(handle).delivered, 2);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_beyond_is_counted() {
        let (mut owner, script) = scripted(Rotation::default());
        let handle = owner.add_handle(false);
        script.lock().unwrap().acts = [Err(io::ErrorKind::StorageFull)].into();
        let record = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            owner.append(handle, &record, 1);
        }
        let books = owner.books(handle);
        assert_eq!(books.dropped["disk in trouble"], 24);
        owner.deliver(true).unwrap();
        assert!(owner.books(handle).balanced());
    }

    #[test]
    fn who_gives_up_leaves_no_torn_record_and_nothing_of_others() {
        let (mut owner, script) = scripted(Rotation::default());
        let (mine, other) = (owner.add_handle(false), owner.add_handle(false));
        script.lock().unwrap().acts = [Ok(2), Err(io::ErrorKind::StorageFull)].into();
        for (handle, text) in [(mine, "mine 1\n"), (other, "other\n"), (mine, "mine 2\n")] {
            owner.append(handle, text.as_bytes(), 1);
        }
        owner.deliver(true).unwrap_err();
        owner.give_up(mine, "disk full");
        assert_eq!(owner.books(mine).dropped["disk full"], 2);
        owner.deliver(true).unwrap();
        assert_eq!(script.lock().unwrap().text, b"mine 1\nother\n");
        assert!(owner.books(other).balanced() && owner.books(mine).balanced());
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
            let (mut owner, script) = scripted(Rotation::default());
            let handle = owner.add_handle(false);
            script.lock().unwrap().acts = acts.into();
            let mut expected = String::new();
            for i in 0..count {
                let record = format!("record {i}\n");
                owner.append(handle, record.as_bytes(), 1);
                expected += &record;
                let _ = owner.deliver(true);
            }
            while owner.deliver(true).is_err() {}
            prop_assert_eq!(String::from_utf8(script.lock().unwrap().text.clone()).unwrap(), expected);
            prop_assert_eq!(owner.books(handle).delivered, count as u64);
        }
    }
}
