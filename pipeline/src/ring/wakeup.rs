//! Puts the writer to sleep, and wakes it.
//!
//! The handshake needs no fence on the side of the caller. A caller moves the tail and then loads
//! the state. The writer stores the state and then loads the tail. All four accesses are
//! sequentially consistent, so either the caller sees the writer asleep, or the writer sees the
//! frame.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{AtomicU32, sequential};
#[cfg(all(target_os = "linux", not(loom)))]
use crate::process::sys::calls::{futex_wait as wait, futex_wake as wake};

/// The writer works.
pub(crate) const AWAKE: u32 = 0;
/// The writer looks again within milliseconds.
pub(crate) const NAPPING: u32 = 1;
/// The writer sleeps until a caller wakes it.
pub(crate) const ASLEEP: u32 = 2;
/// A caller has woken the writer, which looks once more before it sleeps.
pub(crate) const WOKEN: u32 = 3;

/// The state of the writer, in memory that all callers share: after a fork, the callers of both
/// processes.
pub(crate) struct Wakeup<'a>(pub(super) &'a AtomicU32);

impl Wakeup<'_> {
    /// Returns what the writer is doing.
    pub(crate) fn state(&self) -> u32 {
        sequential();
        self.0.load(Ordering::SeqCst)
    }

    /// For callers: wakes the writer, or makes it look once more.
    pub(crate) fn wake(&self) {
        sequential();
        if matches!(self.0.swap(WOKEN, Ordering::SeqCst), NAPPING | ASLEEP) {
            wake(self.0);
        }
    }

    /// For the writer: sleeps until a caller wakes it or `limit` has passed.
    ///
    /// Returns at once if a caller has called [`wake`](Self::wake) since the last sleep, or if
    /// `is_idle` returns `false` when callers can already see that the writer sleeps.
    pub(crate) fn sleep(&self, state: u32, limit: Option<Duration>, is_idle: impl FnOnce() -> bool) {
        let was_woken = self.0.swap(state, Ordering::SeqCst) == WOKEN;
        sequential();
        if !was_woken && is_idle() {
            wait(self.0, state, limit);
        }
        // A caller that wakes the writer before this line has pushed a frame before, which the next
        // look finds.
        self.0.swap(AWAKE, Ordering::SeqCst);
    }
}

/// Sleeps forever if nobody wakes it, which the model checker reports.
#[cfg(loom)]
fn wait(word: &AtomicU32, expected: u32, _: Option<Duration>) {
    while word.load(Ordering::SeqCst) == expected {
        loom::thread::yield_now();
    }
}

/// Without such a system call, the writer looks every few milliseconds.
#[cfg(not(any(target_os = "linux", loom)))]
fn wait(_: &AtomicU32, _: u32, limit: Option<Duration>) {
    const LONGEST: Duration = Duration::from_millis(10);
    std::thread::sleep(limit.unwrap_or(LONGEST).min(LONGEST));
}

#[cfg(any(not(target_os = "linux"), loom))]
fn wake(_: &AtomicU32) {}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_sleeping_writer_is_woken() {
        let word = AtomicU32::new(AWAKE);
        thread::scope(|scope| {
            let writer = scope.spawn(|| Wakeup(&word).sleep(ASLEEP, None, || true));
            while !writer.is_finished() {
                Wakeup(&word).wake();
                thread::yield_now();
            }
        });
    }

    #[test]
    fn a_wakeup_before_the_sleep_prevents_it() {
        let word = AtomicU32::new(AWAKE);
        Wakeup(&word).wake();
        Wakeup(&word).sleep(ASLEEP, None, || true);
        assert_eq!(Wakeup(&word).state(), AWAKE);
    }

    #[test]
    fn a_nap_ends_by_itself_and_a_busy_writer_does_not_sleep() {
        let word = AtomicU32::new(AWAKE);
        Wakeup(&word).sleep(NAPPING, Some(Duration::from_millis(1)), || true);
        Wakeup(&word).sleep(ASLEEP, None, || false);
    }
}
