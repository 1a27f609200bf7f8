//! What runs when the process ends by a return from `main` or by `exit`.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::late_calls::tell_late;
use crate::process::notice::settle_notices;
use crate::process::signals::wait_for_the_end;

/// Has `work` called once when the process exits, with its exit code where the system tells it. Only the first call
/// counts.
///
/// The other threads are still alive then, so the writer can be waited for.
pub fn at_exit(work: fn(Option<i32>)) {
    if WORK.set(work).is_ok() {
        register();
    }
}

/// Whether this thread is ending the process: what it says now is not said by the program's work any more.
pub(crate) fn runs_exit_handlers() -> bool {
    EXITING.try_with(Cell::get).unwrap_or(false)
}

static WORK: OnceLock<fn(Option<i32>)> = OnceLock::new();

thread_local! {
    static EXITING: Cell<bool> = const { Cell::new(false) };
}

fn run(code: Option<i32>) {
    if let Some(work) = WORK.get() {
        // A signal that ends the process has it end as it should; whoever exits meanwhile must not cut that short.
        wait_for_the_end();
        let _ = EXITING.try_with(|exiting| exiting.set(true));
        // Unwinding into C would abort the process and change its exit code.
        let _ = catch_unwind(|| {
            work(code);
            tell_the_last();
        });
    }
}

/// Handlers that the program registered before ours run after ours; what they say is told when the process lets go of its
/// libraries, which is the last that happens.
#[cfg(target_os = "linux")]
mod last {
    extern "C" fn tell() {
        let _ = std::panic::catch_unwind(super::tell_the_last);
    }

    #[used]
    // SAFETY: the section holds addresses of functions without arguments, which the system's start-up code calls in turn.
    #[unsafe(link_section = ".fini_array")]
    static TELL: extern "C" fn() = tell;
}

fn tell_the_last() {
    /// A reader of stderr that has not read by then does not read.
    const PATIENCE: Duration = Duration::from_millis(200);
    tell_late();
    settle_notices(PATIENCE);
}

/// glibc tells the code, see `on_exit(3)`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register() {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn on_exit(work: extern "C" fn(c_int, *mut c_void), data: *mut c_void) -> c_int;
    }

    extern "C" fn at_exit(code: c_int, _: *mut c_void) {
        run(Some(code));
    }

    // SAFETY: the declaration is that of the manual; the function lives for ever, does not unwind and leaves its data alone.
    // Failure means that the system has no room for one more handler; then an orderly `finish` is all there is.
    let _ = unsafe { on_exit(at_exit, std::ptr::null_mut()) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn register() {
    extern "C" fn at_exit() {
        run(None);
    }

    // SAFETY: the function has the C signature, lives for ever and does not unwind. Failure means that the system has no
    // room for one more handler; then an orderly `finish` is all there is.
    let _ = unsafe { libc::atexit(at_exit) };
}
