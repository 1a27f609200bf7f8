//! The way through the system: caller → ring → writer → sinks.
//!
//! Callers encode what they are told into frames in a bounded ring of bytes ([`Producer`]); one thread, the writer, takes
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
mod producer;
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

pub use self::command::{LoggerAccounts, NamedSink};
pub use self::dictionary::NameId;
pub use self::exit::at_exit;
pub use self::fold::RepeatFolder;
pub use self::fork::ForkMutex;
pub use self::frame::{MetricName, RecordOrigin};
pub use self::late::count_call_after_end;
pub use self::nice::lower_thread_priority;
pub use self::notice::{label_notices_with_rank, print_notice, redact_in_notices, set_notice_writer};
pub use self::pipeline::{FolderNumber, Pipeline};
pub use self::producer::{OVER_LIMIT, Producer, RING_FULL};
pub use self::recovery::{Recovered, RecoveryError, recover, recover_ranks, recover_trusted};
pub use self::shared::set_fork_takeover;
pub use self::signals::{Signal, SignalWork, handle_signals};
