//! The thread that ends the process, for which all other threads have to wait.

use std::cell::Cell;
use std::sync::Mutex;
use std::thread::{self, ThreadId};

use logcore::PerProcess;
use logcore::sync::lock;

/// The thread that responds to a signal which ends the process.
static ENDING_THREAD: PerProcess<Mutex<Option<ThreadId>>> = PerProcess::new(|_| Mutex::default());

thread_local! {
    static RUNS_EXIT_HOOKS: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the calling thread ends the process because of a signal.
pub(crate) fn begin_signal_end() {
    *lock(ENDING_THREAD.get()) = Some(thread::current().id());
}

/// Notes that the calling thread runs the exit hooks of the process.
pub(crate) fn begin_exit_hooks() {
    let _ = RUNS_EXIT_HOOKS.try_with(|runs| runs.set(true));
}

/// Returns at once unless a signal is about to end the process. Then the function never returns,
/// except on the thread that responds to the signal and on a thread that runs exit hooks.
///
/// So nothing cuts the response short, and no call returns whose data may be lost with the process.
pub(crate) fn wait_for_process_end() {
    let ending_thread = *lock(ENDING_THREAD.get());
    let is_exempt =
        |ending: ThreadId| ending == thread::current().id() || RUNS_EXIT_HOOKS.try_with(Cell::get).unwrap_or(false);
    if ending_thread.is_none_or(is_exempt) {
        return;
    }
    loop {
        thread::park();
    }
}
