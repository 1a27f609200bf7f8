//! The ring: the memory that it lies in, the queue of frames, and the file by which the next process finds it.

mod atomic;
pub(crate) mod child_lock;
#[cfg(all(target_os = "linux", not(loom)))]
mod fault;
pub(crate) mod file;
mod file_system;
pub(crate) mod host_id;
pub(crate) mod layout;
#[cfg(all(test, loom))]
mod model;
pub(crate) mod name_table;
pub(crate) mod queue;
#[cfg_attr(loom, path = "region_model.rs")]
pub(crate) mod region;
pub(crate) mod wakeup;
