//! Locks that ignore poisoning, shared by the crates of this workspace.
//!
//! A mutex is poisoned when a thread panics while holding the lock. Every critical section of this
//! workspace leaves its data consistent between any two statements. So the data stays usable after
//! a panic, and logging can continue.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Locks `mutex`, even if a thread panicked while holding the lock.
///
/// ```
/// use std::sync::Mutex;
///
/// let count = Mutex::new(1);
/// *logcore::sync::lock(&count) += 1;
/// assert_eq!(*logcore::sync::lock(&count), 2);
/// ```
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `condvar` until a notification, or spuriously.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `condvar` until a notification, until `timeout` has passed, or spuriously.
pub fn wait_timeout<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
    condvar
        .wait_timeout(guard, timeout)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}
