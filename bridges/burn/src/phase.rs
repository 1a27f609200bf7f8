//! The phase of burn's reporting thread. A phase of the logger belongs to its thread, and a
//! renderer moves between threads, so that the renderer cannot hold one.

use std::cell::RefCell;

use facade::{Phase, UnifiedLogger};

thread_local! {
    static CURRENT: RefCell<Option<Phase>> = const { RefCell::new(None) };
}

/// Books the time of the run to `name` until [`leave`].
pub(crate) fn enter(logger: &UnifiedLogger, name: &str) {
    leave();
    CURRENT.set(Some(logger.phase(name)));
}

/// Ends the phase that this thread has entered, if there is one.
pub(crate) fn leave() {
    CURRENT.take();
}
