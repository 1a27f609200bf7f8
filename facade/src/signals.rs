//! A signal that ends the process finishes the loggers first; one that stops it gets a clean terminal.

use logcore_pipeline::{Signal, SignalWork, handle_signals, print_notice};

use crate::manager::LogManager;
use crate::screen;

/// Handles signals from now on.
pub(crate) fn handle() {
    let work = SignalWork {
        before_end: |signal: Signal| LogManager::get_instance().interrupted(signal),
        around_stop: |stop| screen::suspend(stop),
    };
    if let Err(error) = handle_signals(work) {
        print_notice(
            "signals",
            &format!("signals end the process without a last word: {error}"),
        );
    }
}
