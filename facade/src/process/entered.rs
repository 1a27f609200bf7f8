//! The loggers that a thread has entered: they take what no name claims on that thread.

use std::cell::RefCell;
use std::sync::Arc;

use crate::logger::inner::LoggerInner;

/// A logger in the stack of a thread, with the number of its entry.
type Entry = (u64, Arc<LoggerInner>);

thread_local! {
    static ENTERED: RefCell<(u64, Vec<Entry>)> = const { RefCell::new((0, Vec::new())) };
}

/// Adds a logger to the stack of this thread; returns the number of the entry.
pub(crate) fn enter(logger: &Arc<LoggerInner>) -> u64 {
    let add = |entered: &RefCell<(u64, Vec<Entry>)>| {
        let (number, stack) = &mut *entered.borrow_mut();
        *number += 1;
        stack.push((*number, Arc::clone(logger)));
        *number
    };
    // A thread that ends has no stack anymore.
    ENTERED.try_with(add).unwrap_or_default()
}

/// Removes the entry of this number.
pub(crate) fn leave(number: u64) {
    let removed = ENTERED.try_with(|entered| {
        let stack = &mut entered.borrow_mut().1;
        let at = stack.iter().rposition(|(other, _)| *other == number)?;
        Some(stack.remove(at))
    });
    // Dropped here, where no borrow is left.
    drop(removed);
}

/// Returns the open logger that this thread entered last.
pub(crate) fn entered_logger() -> Option<Arc<LoggerInner>> {
    let find = |entered: &RefCell<(u64, Vec<Entry>)>| {
        let entered = entered.try_borrow().ok()?;
        let mut loggers = entered.1.iter().rev().map(|(_, logger)| logger);
        loggers.find(|logger| logger.is_open()).cloned()
    };
    ENTERED.try_with(find).ok().flatten()
}
