//! Isolation of panics in sinks.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

/// Runs code of a sink and returns the message of a panic as an error.
///
/// The writer thread and [`Queued`](crate::Queued) call every sink through this function. The panic
/// does not reach the panic hook: a sink that panics on every call would print on every call. The
/// caller reports the panic as an error of the sink.
///
/// ```
/// let result: Result<(), String> = logcore::catch_panic(|| panic!("no such table"));
/// assert_eq!(result.unwrap_err(), "no such table");
/// ```
///
/// # Errors
///
/// The message of the panic.
#[inline]
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    struct RestoreCatching(bool);
    impl Drop for RestoreCatching {
        #[inline]
        fn drop(&mut self) {
            let _ = CATCHING.try_with(|catching| catching.set(self.0));
        }
    }
    let before = CATCHING.try_with(|catching| catching.replace(true));
    let _restore = RestoreCatching(before.unwrap_or(true));
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message = message_of(&*payload);
        // The destructor of a payload may panic, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        message
    })
}

/// Returns `true` inside [`catch_panic`].
///
/// ```
/// assert!(!logcore::is_catching_panic());
/// assert_eq!(logcore::catch_panic(logcore::is_catching_panic), Ok(true));
/// ```
#[must_use]
pub fn is_catching_panic() -> bool {
    CATCHING.try_with(Cell::get).unwrap_or(false)
}

/// Calls panic hooks. If the panic is shown to the user already, the hook of the standard library
/// says nothing; hooks of programs run as always.
///
/// Needs [`hide_caught_panics_from_hook`].
///
/// ```
/// logcore::hide_caught_panics_from_hook();
/// let caught = logcore::call_hooks(true, || std::panic::catch_unwind(|| panic!("prints nothing")));
/// assert!(caught.is_err());
/// ```
pub fn call_hooks<T>(is_shown: bool, hooks: impl FnOnce() -> T) -> T {
    let before = SHOWN.try_with(|shown| shown.replace(is_shown));
    let result = hooks();
    let _ = SHOWN.try_with(|shown| shown.set(before.unwrap_or(false)));
    result
}

/// Installs a panic hook that ignores panics inside [`catch_panic`] and passes all others to the
/// previous hook. Further calls have no effect.
///
/// ```
/// logcore::hide_caught_panics_from_hook();
/// // Prints nothing on stderr:
/// assert!(logcore::catch_panic(|| panic!("no such table")).is_err());
/// ```
pub fn hide_caught_panics_from_hook() {
    static ONCE: Once = Once::new();
    // A panicking thread cannot change the hook. The next call installs the hook.
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        // Without a hook, `take_hook` returns that of the standard library, always the same one.
        // Neither has data, so this compares their code.
        let is_default = std::ptr::eq(&raw const *previous, &raw const *panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            if is_default && SHOWN.try_with(Cell::get).unwrap_or(false) {
                return;
            }
            // Without unwinding the process ends here, and the hook prints the only trace of the
            // cause.
            if !is_catching_panic() || cfg!(panic = "abort") {
                previous(info);
            }
        }));
    });
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// `true` while hooks run for a panic that the user has seen.
    static SHOWN: Cell<bool> = const { Cell::new(false) };
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
        .to_owned()
}
