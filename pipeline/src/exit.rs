//! What runs when the process ends by a return from `main` or by `exit`.

use std::panic::catch_unwind;
use std::sync::OnceLock;

/// Has `work` called once when the process exits, with its exit code where the system tells it. Only the first call
/// counts.
///
/// The other threads are still alive then, so the writer can be waited for.
pub fn at_exit(work: fn(Option<i32>)) {
    if WORK.set(work).is_ok() {
        register();
    }
}

static WORK: OnceLock<fn(Option<i32>)> = OnceLock::new();

fn run(code: Option<i32>) {
    if let Some(work) = WORK.get() {
        // Unwinding into C would abort the process and change its exit code.
        let _ = catch_unwind(|| work(code));
    }
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
