//! The side of the callers: a logger's way into the ring.

pub(crate) mod command;
pub(crate) mod producer;
pub(crate) mod shared;
