//! A peer at work on a file in a folder of its own.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hot_paths::Line;
use log::LevelFilter;
use tempfile::TempDir;

use crate::peers::{FILE, Peer, PeerEntry};

/// Time after which a line that is not in the file counts as lost. Longer than any peer's own flush
/// interval.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Session {
    peer: Box<dyn Peer>,
    folder: TempDir,
    writes: bool,
    marks: u64,
}

impl Session {
    pub(crate) fn open(entry: &PeerEntry) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for a peer's file")?;
        // A peer that is not the global logger does not set this; one that is sets it again.
        log::set_max_level(LevelFilter::Info);
        let peer = (entry.open)(folder.path()).with_context(|| format!("open {}", entry.name))?;
        Ok(Self {
            peer,
            folder,
            writes: entry.writes,
            marks: 0,
        })
    }

    pub(crate) fn peer(&self) -> &dyn Peer {
        &*self.peer
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// Logs the lines of `steps`, and waits until they are in the file.
    pub(crate) fn warm_up(&mut self, steps: u64) {
        self.peer
            .enter(&mut || (0..steps).for_each(|step| self.peer.log_line(&Line::at(step))));
        self.settle();
    }

    /// Logs one more line and returns when this line, and so every earlier one, is in the file.
    /// This is a checked flush: the flush of some peers returns before the lines are in the file.
    pub(crate) fn settle(&mut self) {
        if !self.writes {
            return;
        }
        let step = u64::MAX - self.marks;
        self.marks += 1;
        self.peer
            .enter(&mut || self.peer.log_line(&Line { step, ..Line::at(0) }));
        self.peer.flush();
        let wanted = format!("step {step} ");
        let started = Instant::now();
        while !self.tail().contains(&wanted) && started.elapsed() < LINE_TIMEOUT {
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Ends the peer and returns how many of the `logged` lines (besides those of `settle`) are not
    /// in the file. A negative number counts the lines that are there twice.
    pub(crate) fn close(self, logged: u64) -> Result<i64> {
        let path = self.path();
        drop(self.peer);
        if !self.writes {
            return Ok(0);
        }
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let whole = |line: &&[u8]| line.ends_with(b" samples/s") && line.windows(5).any(|part| part == b"step ");
        let written = content.split(|&byte| byte == b'\n').filter(whole).count();
        Ok((logged + self.marks) as i64 - written as i64)
    }

    fn tail(&self) -> String {
        let read = || {
            let mut file = File::open(self.path())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(512)))?;
            let mut bytes = Vec::with_capacity(512);
            file.read_to_end(&mut bytes)?;
            std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        // A file that is not there yet has no tail.
        read().unwrap_or_default()
    }
}
