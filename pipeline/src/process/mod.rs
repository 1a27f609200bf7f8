//! The process around the pipeline: its end, its forks, its signals, its notices on stderr, and the
//! priority of its threads.

mod ending;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod late_calls;
pub(crate) mod notice;
pub(crate) mod priority;
pub(crate) mod process_lock;
pub(crate) mod signals;
pub(crate) mod sys;
mod write_signals;

pub(crate) use self::ending::wait_for_process_end;
pub use self::write_signals::block_write_signals;
