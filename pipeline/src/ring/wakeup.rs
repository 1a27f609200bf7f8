//! How the writer sleeps, and how callers wake it.
//!
//! The hand-shake needs no fence on the caller's side: a caller moves the tail and then loads the state; the writer stores
//! the state and then loads the tail; all four are sequentially consistent, so that either the caller sees the writer
//! asleep, or the writer sees the frame.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::ring::atomic::{AtomicU32, sequential};

/// The writer is at work.
pub(crate) const AWAKE: u32 = 0;
/// The writer looks again within milliseconds.
pub(crate) const NAPPING: u32 = 1;
/// The writer has to be woken.
pub(crate) const ASLEEP: u32 = 2;
/// Somebody waits for the writer: it looks again before it rests.
pub(crate) const RUNG: u32 = 3;

/// The state of the writer, in memory that all callers share: after a fork, callers in both processes.
pub(crate) struct Bell<'a>(pub(crate) &'a AtomicU32);

impl Bell<'_> {
    /// What the writer is doing.
    pub(crate) fn state(&self) -> u32 {
        sequential();
        self.0.load(Ordering::SeqCst)
    }

    /// Caller: wakes the writer, or has it look again.
    pub(crate) fn ring(&self) {
        sequential();
        if matches!(self.0.swap(RUNG, Ordering::SeqCst), NAPPING | ASLEEP) {
            wake(self.0);
        }
    }

    /// Writer: sleeps until it is woken or the time is over, if nobody has rung since the last time and there is still
    /// `nothing` to do once callers can see that it sleeps.
    pub(crate) fn sleep(&self, state: u32, limit: Option<Duration>, nothing: impl FnOnce() -> bool) {
        let rung = self.0.swap(state, Ordering::SeqCst) == RUNG;
        sequential();
        if !rung && nothing() {
            wait(self.0, state, limit);
        }
        // Who rings before this has put something into the ring before that, which the next look finds.
        self.0.swap(AWAKE, Ordering::SeqCst);
    }
}

/// Sleeps if the word still holds `expected`; may return early.
#[cfg(all(target_os = "linux", not(loom)))]
fn wait(word: &AtomicU32, expected: u32, limit: Option<Duration>) {
    let time = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let time: *const libc::timespec = time.as_ref().map_or(std::ptr::null(), |time| time);
    // SAFETY: the word and the time live for the length of the call, which only reads them. Not "private": the word may lie
    // in memory that another process shares.
    let _ = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, time) };
}

#[cfg(all(target_os = "linux", not(loom)))]
fn wake(word: &AtomicU32) {
    // SAFETY: the address is only a key for the system's table of sleepers.
    let _ = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// A sleeper that nobody wakes sleeps for ever, which the model finds.
#[cfg(loom)]
fn wait(word: &AtomicU32, expected: u32, _: Option<Duration>) {
    while word.load(Ordering::SeqCst) == expected {
        loom::thread::yield_now();
    }
}

/// Where the system has no such call, the writer looks every few milliseconds.
#[cfg(not(any(target_os = "linux", loom)))]
fn wait(_: &AtomicU32, _: u32, limit: Option<Duration>) {
    std::thread::sleep(
        limit
            .unwrap_or(Duration::from_millis(10))
            .min(Duration::from_millis(10)),
    );
}

#[cfg(any(not(target_os = "linux"), loom))]
fn wake(_: &AtomicU32) {}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_sleeps_is_woken() {
        let word = AtomicU32::new(AWAKE);
        thread::scope(|scope| {
            let writer = scope.spawn(|| Bell(&word).sleep(ASLEEP, None, || true));
            while !writer.is_finished() {
                Bell(&word).ring();
                thread::yield_now();
            }
        });
    }

    #[test]
    fn who_rings_is_not_kept_waiting_by_a_rest_that_comes_after() {
        let word = AtomicU32::new(AWAKE);
        Bell(&word).ring();
        Bell(&word).sleep(ASLEEP, None, || true);
        assert_eq!(Bell(&word).state(), AWAKE);
    }

    #[test]
    fn a_nap_ends_by_itself_and_work_is_not_slept_through() {
        let word = AtomicU32::new(AWAKE);
        Bell(&word).sleep(NAPPING, Some(Duration::from_millis(1)), || true);
        Bell(&word).sleep(ASLEEP, None, || false);
    }
}
