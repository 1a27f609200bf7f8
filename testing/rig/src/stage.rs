//! The stage of a chain, for the thread that reads `run.json` meanwhile.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The facts that are known about the process that logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// There is none. Others may recover what it has left.
    Nobody = 0,
    /// It begins or ends.
    Changing = 1,
    /// It lives, and has its run.
    Ready = 2,
}

/// The stage, which one thread sets and another reads.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    number: AtomicU64,
    pid: AtomicU32,
}

const KINDS: u64 = 4;

impl Stage {
    pub(crate) fn set(&self, life: Life) {
        let turn = self.number.load(Ordering::SeqCst) / KINDS + 1;
        self.number.store(turn * KINDS + life as u64, Ordering::SeqCst);
    }

    /// Says that the process lives and has its run.
    pub(crate) fn set_ready(&self, pid: u32) {
        self.pid.store(pid, Ordering::SeqCst);
        self.set(Life::Ready);
    }

    /// Returns the process of the stage `Ready`.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::SeqCst)
    }

    /// Returns the stage as a number, which is a new one after each change, and what it says.
    pub(crate) fn get(&self) -> (u64, Life) {
        let number = self.number.load(Ordering::SeqCst);
        let life = match number % KINDS {
            0 => Life::Nobody,
            2 => Life::Ready,
            _ => Life::Changing,
        };
        (number, life)
    }
}
