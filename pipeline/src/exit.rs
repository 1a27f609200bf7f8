//! What runs when the process ends by a return from `main` or by `exit`.

use std::panic::catch_unwind;
use std::sync::OnceLock;

/// Has `work` called once when the process exits. Only the first call counts.
///
/// The other threads are still alive then, so the writer can be waited for.
pub fn at_exit(work: fn()) {
    if WORK.set(work).is_ok() {
        // SAFETY: the function has the C signature, lives for ever and does not unwind. Failure means that the system has
        // no room for one more handler; then an orderly `finish` is all there is.
        let _ = unsafe { libc::atexit(run) };
    }
}

static WORK: OnceLock<fn()> = OnceLock::new();

extern "C" fn run() {
    if let Some(work) = WORK.get() {
        // Unwinding into C would abort the process and change its exit code.
        let _ = catch_unwind(work);
    }
}
