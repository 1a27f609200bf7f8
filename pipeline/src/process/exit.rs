//! Work at the end of a process that returns from `main` or calls `exit`.

use std::sync::OnceLock;
use std::time::Duration;

use super::ending::{begin_exit_hooks, wait_for_process_end};
use super::late_calls::report_late_calls;
use super::notice::settle_last_notices;
use super::sys;

/// Has `work` called once when the process exits, with the exit code if the system reveals it. Only
/// the first call counts.
///
/// The other threads still run then, so `work` can wait for the writer.
///
/// ```
/// logcore_pipeline::at_exit(|code| {
///     // On Linux with glibc, the exit code of the process.
///     assert!(code.is_none_or(|code| code == 0));
/// });
/// ```
pub fn at_exit(work: fn(Option<i32>)) {
    if EXIT_WORK.set(work).is_ok() {
        sys::call_at_exit(run);
    }
}

/// Has the last notices of the process reported when it unloads its libraries.
///
/// The exit hooks that the program registered before ours run after ours, and may still log.
pub(crate) fn report_at_unload() {
    sys::call_at_unload(report_last);
}

static EXIT_WORK: OnceLock<fn(Option<i32>)> = OnceLock::new();

fn run(code: Option<i32>) {
    if let Some(work) = EXIT_WORK.get() {
        // A signal that ends the process must have its full effect; a thread that exits meanwhile
        // must not cut that short.
        wait_for_process_end();
        begin_exit_hooks();
        work(code);
        report_last();
    }
}

fn report_last() {
    /// A reader of stderr that has not read by then never reads.
    const TIMEOUT: Duration = Duration::from_millis(200);
    report_late_calls();
    settle_last_notices(TIMEOUT);
}
