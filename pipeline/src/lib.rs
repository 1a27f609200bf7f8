//! The way through the system: caller → ring → writer → sinks.
//!
//! Callers encode what they are told into frames in a bounded ring of bytes ([`Port`]); one thread, the writer, takes
//! them out in order and calls the sinks. The ring outlives a process that is killed, and [`recover`] delivers what is left
//! in it. Programs use this through `logcore-facade`.

// The ring is the one place in the workspace where memory is shared by hand. Each block has its proof beside it.
#![allow(unsafe_code)]

mod atomic;
mod bell;
mod buffer;
mod checkpoint;
mod children;
mod clock;
mod command;
mod delivery;
mod dictionary;
mod exit;
#[cfg(all(target_os = "linux", not(loom)))]
mod fault;
mod fields;
mod fold;
mod fork;
mod frame;
mod ground;
#[allow(
    dead_code,
    reason = "unused in a program without the feature `kv_serde` of `log`; see `fields`"
)]
mod json;
mod late;
mod layout;
mod machine;
#[cfg(all(test, loom))]
mod model;
mod names;
mod nice;
mod notice;
mod pieces;
mod pipeline;
mod port;
mod recovery;
#[cfg_attr(loom, path = "region_model.rs")]
mod region;
mod ring;
mod ring_file;
mod shared;
mod shield;
mod signals;
mod sink_table;
mod slot;
mod writer;

pub use self::command::{Closing, NamedSink};
pub use self::dictionary::NameId;
pub use self::exit::at_exit;
pub use self::fold::Fold;
pub use self::fork::ForkMutex;
pub use self::frame::{Name, Route};
pub use self::late::count_late;
pub use self::nice::yield_to_others;
pub use self::notice::{hide_in_notices, mark_notices, notice, write_notices_by};
pub use self::pipeline::{FolderNumber, Pipeline};
pub use self::port::{OVER_LIMIT, Port, RING_FULL};
pub use self::recovery::{Recovered, RecoveryError, recover, recover_ranks, recover_trusted};
pub use self::shared::take_over_by;
pub use self::signals::{Signal, SignalWork, handle_signals};
