//! The receipts of a process: it counts each call that has returned in a file, which survives a
//! kill.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The receipt file of one process: whether it had its loggers, then the numbers of lines and
/// values by thread, and the number of steps of the logger that all attempts share.
pub(crate) struct CallReceipts(File);

/// A kind of call that each thread counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum CallKind {
    Lines = 0,
    Values = 1,
}

/// Greatest number of threads of a process.
pub(crate) const THREADS: u64 = 4;
const STEPS: u64 = 1 + 2 * THREADS;
const BYTES: usize = 8 * (STEPS as usize + 1);

impl CallReceipts {
    /// Creates the file, in which no call has returned.
    pub(crate) fn create(path: &Path) -> io::Result<()> {
        std::fs::write(path, [0; BYTES])
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(File::options().write(true).open(path)?))
    }

    /// Records that the process has its logger.
    pub(crate) fn ready(&self) -> io::Result<()> {
        self.write(0, 1)
    }

    /// Records how many calls of a thread have returned.
    pub(crate) fn returned(&self, thread: u64, kind: CallKind, count: u64) -> io::Result<()> {
        self.write(word_index(thread, kind), count)
    }

    /// Records how many steps of the shared logger have returned.
    pub(crate) fn stepped(&self, count: u64) -> io::Result<()> {
        self.write(STEPS, count)
    }

    fn write(&self, index: u64, value: u64) -> io::Result<()> {
        self.0.write_all_at(&value.to_le_bytes(), 8 * index)
    }
}

/// The calls of a process that have returned, read from its receipt file.
#[derive(Debug, Clone)]
pub(crate) struct ReturnedCalls(Vec<u64>);

impl ReturnedCalls {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let (words, _) = bytes.as_chunks();
        Ok(Self(words.iter().map(|word| u64::from_le_bytes(*word)).collect()))
    }

    pub(crate) fn was_ready(&self) -> bool {
        self.0[0] == 1
    }

    pub(crate) fn count(&self, thread: u64, kind: CallKind) -> u64 {
        self.0[word_index(thread, kind) as usize]
    }

    /// Returns the number of steps of the shared logger.
    pub(crate) fn steps(&self) -> u64 {
        self.0[STEPS as usize]
    }

    pub(crate) fn total(&self, kind: CallKind) -> u64 {
        (0..THREADS).map(|thread| self.count(thread, kind)).sum()
    }
}

fn word_index(thread: u64, kind: CallKind) -> u64 {
    1 + 2 * thread + kind as u64
}
