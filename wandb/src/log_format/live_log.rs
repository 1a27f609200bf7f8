//! The state that the writer and the reader of one log share in a process.

use std::fs::File;
use std::sync::Mutex;

use logcore::sync::lock;

/// The file of a log that is being written, and the part of it that the reader has to read again.
pub(crate) struct LiveLog(Mutex<LiveLogState>);

/// The state behind the lock.
struct LiveLogState {
    file: File,
    /// Number of changes of the file.
    changes: u64,
    /// The offset from which the file is new to the reader.
    cut: Option<u64>,
    /// The number of the newest record that was read.
    read: i64,
}

impl LiveLog {
    /// Creates the state of a new log.
    pub(super) fn new(file: File) -> Self {
        Self(Mutex::new(LiveLogState {
            file,
            changes: 0,
            cut: None,
            read: 0,
        }))
    }

    /// Writer: continues in another file. Its content is unchanged up to `cut`, or completely.
    pub(super) fn set_file(&self, file: File, cut: Option<u64>) {
        let mut state = lock(&self.0);
        state.file = file;
        state.changes += 1;
        state.cut = match (state.cut, cut) {
            (Some(earlier), Some(cut)) => Some(earlier.min(cut)),
            (earlier, cut) => cut.or(earlier),
        };
    }

    /// Writer: returns the number of the newest record that was read.
    pub(super) fn last_read(&self) -> i64 {
        lock(&self.0).read
    }

    /// Reader: notes that a record was read.
    pub(super) fn set_last_read(&self, num: i64) {
        let mut state = lock(&self.0);
        state.read = state.read.max(num);
    }

    /// Reader: returns the file and the cut if the file has changed since the change `seen`.
    pub(super) fn changes_since(&self, seen: &mut u64) -> Option<(File, Option<u64>)> {
        let mut state = lock(&self.0);
        if state.changes == *seen {
            return None;
        }
        let file = state.file.try_clone().ok()?;
        *seen = state.changes;
        Some((file, state.cut.take()))
    }

    /// Returns the file for a new reader.
    pub(crate) fn file(&self) -> std::io::Result<File> {
        lock(&self.0).file.try_clone()
    }
}
