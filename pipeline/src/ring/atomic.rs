//! The atomics of the shared memory: those of the machine, or those of the model checker
//! (`cargo xtask model`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// A fence for the model checker alone, which treats sequentially consistent accesses as acquire
/// and release.
#[inline]
pub(crate) fn sequential() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}
