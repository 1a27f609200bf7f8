//! Calls to loggers that have ended: nobody takes them any more, so they are counted and told.

use std::sync::atomic::{AtomicU64, Ordering};

use logcore::PerProcess;

use crate::process::notice::{notice_soon, print_notice};

static COUNT: PerProcess<AtomicU64> = PerProcess::new(|_| AtomicU64::new(0));

/// Counts a call to a logger that has ended; the first is told at once, the rest when the process ends.
pub fn count_call_after_end(logger: &str) {
    COUNT.get().fetch_add(1, Ordering::Relaxed);
    notice_soon(
        &format!("late {logger}"),
        &format!(
            "logger `{logger}` has ended: what is still said to it is dropped, and counted until the process ends"
        ),
    );
}

/// Tells how many there were since this was told.
pub(crate) fn tell_late() {
    let count = COUNT.get().swap(0, Ordering::Relaxed);
    if count > 0 {
        let (calls, were) = if count == 1 { ("call", "was") } else { ("calls", "were") };
        let text = format!("{count} {calls} came after the end of their logger and {were} dropped");
        print_notice(&text, &text);
    }
}
