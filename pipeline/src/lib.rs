//! The way through the system: caller → ring → writer → sinks.
//!
//! Callers encode what they are told into frames in a bounded ring of bytes ([`Producer`]); one thread, the writer, takes
//! them out in order and calls the sinks. The ring outlives a process that is killed, and [`recover`] delivers what is left
//! in it. Programs use this through `logcore-facade`.

// The ring is the one place in the workspace where memory is shared by hand. Each block has its proof beside it.
#![allow(unsafe_code)]

mod caller;
mod frame;
mod pipeline;
mod process;
mod recovery;
mod ring;
mod writer;

pub use self::caller::command::{LoggerAccounts, LoggerOutcome, NamedSink};
pub use self::caller::producer::{OVER_LIMIT, Producer, RING_FULL};
pub use self::caller::shared::set_fork_takeover;
pub use self::frame::body::{MetricName, RecordOrigin};
pub use self::frame::repeats::RepeatFolder;
pub use self::pipeline::{FolderNumber, Pipeline};
pub use self::process::exit::at_exit;
pub use self::process::fork::ForkMutex;
pub use self::process::late_calls::count_call_after_end;
pub use self::process::notice::{label_notices_with_rank, print_notice, redact_in_notices, set_notice_writer};
pub use self::process::priority::lower_thread_priority;
pub use self::process::signals::{Signal, SignalWork, handle_signals};
pub use self::recovery::recover::{Recovered, RecoveryError, recover, recover_ranks, recover_trusted};
pub use self::ring::name_table::NameId;
