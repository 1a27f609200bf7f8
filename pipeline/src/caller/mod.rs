//! The side of the callers: a logger's access to the ring, and the commands that it sends to the
//! writer.

pub(crate) mod command;
pub(crate) mod counters;
pub(crate) mod pipeline_state;
pub(crate) mod producer;
