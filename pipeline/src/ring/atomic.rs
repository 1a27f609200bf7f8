//! The atomics of what callers and the writer share: those of the machine, or those of the model that explores every
//! interleaving (`cargo xtask model`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// The model takes sequentially consistent accesses for acquire and release; what else they promise has to be said to it.
#[inline]
pub(crate) fn sequential() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}
