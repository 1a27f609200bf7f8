//! Records that arise while a record is being delivered.

use std::cell::Cell;

/// Runs `work` with logging from this thread switched off.
///
/// A sink's own HTTP client logs, too. If those records came back to the sink, each would make another. The
/// writer calls every sink in this way; a sink that has threads of its own wraps their work in it.
///
/// ```
/// assert!(!logcore::is_logging_suppressed());
/// logcore::suppress_logging(|| assert!(logcore::is_logging_suppressed()));
/// assert!(!logcore::is_logging_suppressed());
/// ```
pub fn suppress_logging<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = QUIET.try_with(|quiet| quiet.set(self.0));
        }
    }
    let _restore = Restore(QUIET.try_with(|quiet| quiet.replace(true)).unwrap_or(true));
    work()
}

/// Whether this thread is inside [`suppress_logging`].
#[inline]
pub fn is_logging_suppressed() -> bool {
    // A thread whose locals are gone is ending; nothing may be logged from there that could wait.
    QUIET.try_with(Cell::get).unwrap_or(false)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}
