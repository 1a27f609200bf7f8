//! Panics of sinks, which are trouble of that sink and of nobody else.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

/// Runs code of a sink.
///
/// Code that calls sinks for others runs each call in it: the writer, and [`Queued`](crate::Queued) on its thread. The sink's
/// panic goes no further and is not printed, since a sink that panics on every call would print as many; it is told as the
/// sink's error.
///
/// ```
/// let result: Result<(), String> = logcore::catch_panic(|| panic!("no such table"));
/// assert_eq!(result.unwrap_err(), "no such table");
/// ```
///
/// # Errors
///
/// The message of the panic.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = CONTAINED.try_with(|contained| contained.set(self.0));
        }
    }
    let _restore = Restore(CONTAINED.try_with(|contained| contained.replace(true)).unwrap_or(true));
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = text_of(&*payload);
        // A payload may panic when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        text
    })
}

/// Whether this thread is inside [`catch_panic`].
pub fn is_catching_panic() -> bool {
    CONTAINED.try_with(Cell::get).unwrap_or(false)
}

/// Keeps the panics of sinks from the hook of the process, which has all others as before. Only the first call counts.
pub fn hide_caught_panics_from_hook() {
    static ONCE: Once = Once::new();
    // Hooks cannot be changed by a thread that is panicking; the next call will do it.
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // Without unwinding the process ends here, and whoever looks for the reason has nothing else.
            if !is_catching_panic() || cfg!(panic = "abort") {
                earlier(info);
            }
        }));
    });
}

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
        .to_owned()
}
