//! Which calls of a process have returned: written by it after each, where a kill cannot reach it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The file of one process: whether it had its logger, then for each thread how many lines and values have returned.
pub(crate) struct Receipts(File);

/// What a thread counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    Lines = 0,
    Values = 1,
}

/// As many threads as a process may have.
pub(crate) const THREADS: u64 = 4;
const BYTES: usize = 8 * (1 + 2 * THREADS as usize);

impl Receipts {
    /// Makes the file, with nothing returned.
    pub(crate) fn create(path: &Path) -> io::Result<()> {
        std::fs::write(path, [0; BYTES])
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(File::options().write(true).open(path)?))
    }

    /// The process has its logger.
    pub(crate) fn ready(&self) -> io::Result<()> {
        self.write(0, 1)
    }

    /// So many calls of a thread have returned.
    pub(crate) fn returned(&self, thread: u64, what: What, count: u64) -> io::Result<()> {
        self.write(place(thread, what), count)
    }

    fn write(&self, place: u64, value: u64) -> io::Result<()> {
        self.0.write_all_at(&value.to_le_bytes(), 8 * place)
    }
}

/// What a process has left in its file.
#[derive(Debug, Clone)]
pub(crate) struct Returned(Vec<u64>);

impl Returned {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let (words, _) = bytes.as_chunks();
        Ok(Self(words.iter().map(|word| u64::from_le_bytes(*word)).collect()))
    }

    pub(crate) fn was_ready(&self) -> bool {
        self.0[0] == 1
    }

    pub(crate) fn count(&self, thread: u64, what: What) -> u64 {
        self.0[place(thread, what) as usize]
    }

    pub(crate) fn total(&self, what: What) -> u64 {
        (0..THREADS).map(|thread| self.count(thread, what)).sum()
    }
}

fn place(thread: u64, what: What) -> u64 {
    1 + 2 * thread + what as u64
}
