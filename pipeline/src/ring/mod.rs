//! The ring: a bounded queue of bytes between many callers and one writer, which outlives a killed
//! process.
//!
//! - `region` is the memory: a block of bytes with fixed offsets ([`layout`]), which is a mapped
//!   file where possible. `fault` keeps the process alive when the file behind the mapping fails.
//! - [`queue`] is the callers' side, [`reader`] the writer's side, and [`dead`] the ring of a
//!   killed process.
//! - [`wakeup`] puts the writer to sleep and wakes it; [`child_lock`] serves children of a fork.
//! - [`name_table`] holds names that travel as numbers.
//! - [`file`] creates the file and the names by which the next process finds it, and [`entry`] the
//!   entries that lead to names in run folders.
//!
//! Memory is shared by hand here, and nowhere else in the workspace. Each `unsafe` block has its
//! proof beside it.

#[allow(unsafe_code, reason = "robust locks between processes are those of the C library")]
pub(crate) mod child_lock;
pub(crate) mod dead;
pub(crate) mod entry;
#[cfg(all(target_os = "linux", not(loom)))]
#[allow(
    unsafe_code,
    reason = "a handler of SIGBUS puts memory in the place of a lost mapping"
)]
mod fault;
pub(crate) mod file;
mod file_system;
pub(crate) mod host_id;
pub(crate) mod layout;
#[cfg(all(test, loom))]
mod model;
#[allow(unsafe_code, reason = "names are read without a lock while others are added")]
pub(crate) mod name_table;
#[allow(unsafe_code, reason = "callers copy frames into memory that they have reserved")]
pub(crate) mod queue;
#[allow(unsafe_code, reason = "the reader lends bytes that no caller writes to")]
pub(crate) mod reader;
#[cfg(not(loom))]
#[allow(
    unsafe_code,
    reason = "maps the memory that callers, the writer and other processes share"
)]
mod region;
#[cfg(loom)]
#[allow(unsafe_code, reason = "has the interface of the real memory; the model checks it")]
mod region_model;
pub(crate) mod wakeup;

#[cfg(not(loom))]
pub(crate) use self::region::Region;
#[cfg(loom)]
pub(crate) use self::region_model::ModelRegion as Region;

// The atomics of the shared memory: those of the machine, or those of the model checker
// (`cargo xtask model`).
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// A fence for the model checker alone, which treats sequentially consistent accesses as acquire
/// and release.
#[inline]
fn sequential() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}
