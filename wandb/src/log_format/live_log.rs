use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state that the writer and the reader of one log share in a process: which file it is, and from where on it is
/// another than the reader has read.
pub(crate) struct LiveLog(Mutex<LiveLogState>);

struct LiveLogState {
    file: File,
    /// Counts what has happened to the file.
    changes: u64,
    /// From this byte on the file is new to the reader.
    cut: Option<u64>,
    /// The number of the newest record that the reader has.
    read: i64,
}

impl LiveLog {
    pub(super) fn new(file: File) -> Self {
        Self(Mutex::new(LiveLogState {
            file,
            changes: 0,
            cut: None,
            read: 0,
        }))
    }

    /// Writer: the log goes on in this file, which is as it was up to `cut`, or wholly.
    pub(super) fn goes_on_in(&self, file: File, cut: Option<u64>) {
        let mut state = self.lock();
        state.file = file;
        state.changes += 1;
        state.cut = match (state.cut, cut) {
            (Some(earlier), Some(cut)) => Some(earlier.min(cut)),
            (earlier, cut) => cut.or(earlier),
        };
    }

    /// Writer: the newest record that was read.
    pub(super) fn read(&self) -> i64 {
        self.lock().read
    }

    /// Reader: this record was read.
    pub(super) fn set_read(&self, num: i64) {
        let mut state = self.lock();
        state.read = state.read.max(num);
    }

    /// Reader: what has happened since the change of this number, if anything has.
    pub(super) fn since(&self, seen: &mut u64) -> Option<(File, Option<u64>)> {
        let mut state = self.lock();
        if state.changes == *seen {
            return None;
        }
        let file = state.file.try_clone().ok()?;
        *seen = state.changes;
        Some((file, state.cut.take()))
    }

    /// The file, for a reader that begins.
    pub(crate) fn file(&self) -> std::io::Result<File> {
        self.lock().file.try_clone()
    }

    fn lock(&self) -> MutexGuard<'_, LiveLogState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
