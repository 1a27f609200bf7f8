//! Hooks around a fork, at the exit of the process, and at the unloading of its libraries.

use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// Has the C library call these functions around every fork: `prepare` and `in_parent` on the
/// thread that forks, `in_child` on the one thread of the child.
#[cfg(unix)]
pub(crate) fn call_around_forks(prepare: extern "C" fn(), in_parent: extern "C" fn(), in_child: extern "C" fn()) {
    // SAFETY: the functions have the C signature, live forever and cannot unwind. To the system,
    // the thread of the child is the thread that forked, so it may release what that thread has
    // locked. A failure means that the system has no room for one more hook; then a child waits for
    // answers in vain.
    let _ = unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
}

/// A lock that is held without a borrow, until the value is dropped.
pub(crate) struct HeldLock<T: 'static> {
    _guard: MutexGuard<'static, T>,
    /// Dropped after the guard.
    _mutex: Arc<Mutex<T>>,
}

impl<T: 'static> HeldLock<T> {
    /// Holds the lock that `lock` takes; `None` if `lock` gives up.
    pub(crate) fn hold(
        mutex: Arc<Mutex<T>>,
        lock: impl for<'a> FnOnce(&'a Mutex<T>) -> Option<MutexGuard<'a, T>>,
    ) -> Option<Self> {
        let guard = lock(&mutex)?;
        // SAFETY: the guard borrows from the mutex, which the `Arc` keeps at its address, and which
        // is dropped after the guard.
        let guard = unsafe { std::mem::transmute::<MutexGuard<'_, T>, MutexGuard<'static, T>>(guard) };
        Some(Self {
            _guard: guard,
            _mutex: mutex,
        })
    }
}

static EXIT_WORK: OnceLock<fn(Option<i32>)> = OnceLock::new();

/// Has `work` called when the process exits, with the exit code if the system reveals it. Only the
/// first call counts.
pub(crate) fn call_at_exit(work: fn(Option<i32>)) {
    if EXIT_WORK.set(work).is_ok() {
        register_exit_hook();
    }
}

fn run_exit_work(code: Option<i32>) {
    if let Some(work) = EXIT_WORK.get() {
        // Unwinding into C would abort the process and change its exit code.
        let _ = catch_unwind(|| work(code));
    }
}

/// Registers the hook of glibc, which receives the exit code; see `on_exit(3)`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register_exit_hook() {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn on_exit(work: extern "C" fn(c_int, *mut c_void), data: *mut c_void) -> c_int;
    }

    extern "C" fn at_exit(code: c_int, _: *mut c_void) {
        run_exit_work(Some(code));
    }

    // SAFETY: the declaration is that of the manual; the function lives forever, does not unwind
    // and leaves its data alone. A failure means that the system has no room for one more hook;
    // then an orderly `finish` is all there is.
    let _ = unsafe { on_exit(at_exit, std::ptr::null_mut()) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn register_exit_hook() {
    extern "C" fn at_exit() {
        run_exit_work(None);
    }

    // SAFETY: the function has the C signature, lives forever and does not unwind. A failure means
    // that the system has no room for one more hook; then an orderly `finish` is all there is.
    let _ = unsafe { libc::atexit(at_exit) };
}

static UNLOAD_WORK: OnceLock<fn()> = OnceLock::new();

/// Has `work` called when the process unloads its libraries: after every exit hook of the program.
/// Only the first call counts, and systems other than Linux do nothing.
pub(crate) fn call_at_unload(work: fn()) {
    let _ = UNLOAD_WORK.set(work);
}

#[cfg(target_os = "linux")]
extern "C" fn run_unload_work() {
    if let Some(work) = UNLOAD_WORK.get() {
        let _ = catch_unwind(work);
    }
}

#[cfg(target_os = "linux")]
#[used]
// SAFETY: the section holds addresses of functions without arguments, which the system's start-up
// code calls in turn.
#[unsafe(link_section = ".fini_array")]
static RUN_UNLOAD_WORK: extern "C" fn() = run_unload_work;
