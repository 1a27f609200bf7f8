//! The process around the pipeline: its end, its forks, its signals, its notices on stderr, and the priority of its threads.

pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod late_calls;
pub(crate) mod notice;
pub(crate) mod priority;
pub(crate) mod signals;
pub(crate) mod write_signals;
