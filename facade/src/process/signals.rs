//! Signals: one that ends the process finishes the loggers first; one that stops it gets a clean
//! terminal.

use logcore_pipeline::{Signal, SignalWork, handle_signals, print_notice};

use crate::logger::terminal;

/// Handles signals from now on. `before_end` runs before a signal ends the process.
pub(crate) fn handle(before_end: fn(Signal)) {
    let work = SignalWork {
        before_end,
        around_stop: |stop| terminal::suspend(stop),
    };
    if let Err(error) = handle_signals(work) {
        print_notice(
            "signals",
            &format!("signals end the process without a last word: {error}"),
        );
    }
}
