//! Suppression of records that arise while a record is being delivered.

use std::cell::Cell;

/// Runs `work` and drops all records that this thread logs meanwhile.
///
/// The HTTP client of a sink logs, too. If its records came back to the sink, each record would
/// cause another. The writer thread calls every sink through this function; a sink with threads of
/// its own wraps the work of those threads.
///
/// ```
/// assert!(!logcore::is_logging_suppressed());
/// logcore::suppress_logging(|| assert!(logcore::is_logging_suppressed()));
/// assert!(!logcore::is_logging_suppressed());
/// ```
pub fn suppress_logging<T>(work: impl FnOnce() -> T) -> T {
    struct RestoreSuppression(bool);
    impl Drop for RestoreSuppression {
        fn drop(&mut self) {
            let _ = SUPPRESSED.try_with(|suppressed| suppressed.set(self.0));
        }
    }
    let before = SUPPRESSED.try_with(|suppressed| suppressed.replace(true));
    let _restore = RestoreSuppression(before.unwrap_or(true));
    work()
}

/// Returns `true` inside [`suppress_logging`].
#[inline]
#[must_use]
pub fn is_logging_suppressed() -> bool {
    // A thread without thread-local variables is ending. Its records are taken: `false`.
    SUPPRESSED.try_with(Cell::get).unwrap_or(false)
}

thread_local! {
    static SUPPRESSED: Cell<bool> = const { Cell::new(false) };
}
