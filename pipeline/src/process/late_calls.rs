//! Calls to loggers that have ended: nothing delivers them anymore, so they are counted and
//! reported.

use std::sync::atomic::{AtomicU64, Ordering};

use logcore::PerProcess;

use super::notice::{post_notice, print_notice};

static LATE_CALLS: PerProcess<AtomicU64> = PerProcess::new(|_| AtomicU64::new(0));

/// Counts a call to a logger that has ended. The first such call of a logger is reported on stderr
/// at once, the number of all of them when the process ends.
///
/// ```
/// // Prints `logcore: logger `trainer` has ended: …` to stderr.
/// logcore_pipeline::count_call_after_end("trainer");
/// ```
pub fn count_call_after_end(logger: &str) {
    LATE_CALLS.get().fetch_add(1, Ordering::Relaxed);
    post_notice(
        &format!("late {logger}"),
        &format!("logger `{logger}` has ended: further calls are dropped, and counted until the process ends"),
    );
}

/// Reports the number of calls since the last report.
pub(crate) fn report_late_calls() {
    let count = LATE_CALLS.get().swap(0, Ordering::Relaxed);
    if count > 0 {
        let (calls, were) = if count == 1 { ("call", "was") } else { ("calls", "were") };
        let text = format!("{count} {calls} came after the end of their logger and {were} dropped");
        print_notice(&text, &text);
    }
}
