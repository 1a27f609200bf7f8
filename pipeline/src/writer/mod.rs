//! The writer: the one thread that takes frames out of the ring and has the sinks deliver them.

pub(crate) mod checkpoint;
pub(crate) mod dispatch;
mod logger_names;
mod sink_slot;
mod sink_table;
pub(crate) mod thread;
