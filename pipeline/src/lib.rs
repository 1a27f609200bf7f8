//! The pipeline of a logging system: callers → ring → writer → sinks.
//!
//! Programs log through `logcore-facade`, which uses this crate. Its interface has no stability of
//! its own.
//!
//! # The way of a call
//!
//! 1. A call of a logger reaches its [`Producer`]. The producer encodes the call into a frame, in a
//!    buffer of the thread.
//! 2. The frame is copied into the ring: a bounded queue of bytes, 4 MiB by default, in a file that
//!    is mapped into memory. Then the call returns. A record of level ERROR waits for its delivery.
//! 3. The writer, one thread, takes the frames out of the ring in order, and calls the sinks of
//!    their logger.
//! 4. After each batch the sinks write, and return how their output can be resumed. A checkpoint in
//!    the ring contains these resume points. Then callers may overwrite the frames of the batch.
//!
//! If the process is killed, the file of the ring remains. The next process that logs into the same
//! folder finds it there, and [`recover`] delivers the frames that were not delivered yet: each of
//! them once.
//!
//! # Example: a call and its delivery
//!
//! ```
//! use logcore::{Deadline, log};
//! use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! let pipeline = Pipeline::start(1 << 20)?;
//! let producer = pipeline.producer("trainer");
//! let (handle, sink) = logcore::testing::recording();
//! let sink = NamedSink::new("recording", log::LevelFilter::Info, Box::new(sink));
//! let soon = Deadline::after(Duration::from_secs(5));
//! producer.open(Propagation::None, None, vec![sink], soon).unwrap();
//!
//! producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
//! let accounts = producer.finish(Arc::default(), soon).unwrap();
//! assert_eq!(accounts.books["recording"].delivered, 1);
//! assert_eq!(handle.calls()[0], "record INFO trainer hello");
//! pipeline.end(soon).unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The folders
//!
//! Each folder uses only those above it in this list, so a reader can stop anywhere.
//!
//! | folder | content |
//! |---|---|
//! | `process/` | the process around the pipeline: exit, forks, signals, notices on stderr |
//! | `ring/` | shared memory, the queue of frames, the file of the ring and its names |
//! | `frame/` | the layout of frames: encoding, decoding, rewriting, chunks of long frames |
//! | `caller/` | [`Producer`], the state shared with the writer, the commands to it |
//! | `writer/` | the writer's thread, the loggers and sinks, checkpoints |
//! | `recovery/` | the delivery of what killed processes have left |
//! | `snapshot/` | the calls in the ring of a process that lives, for a look from outside |
//!
//! `unsafe` code is denied, except in six files of `ring/` (the shared memory), in
//! `process/sys/` (calls of the C library), and in `frame/checked_text.rs`.

mod caller;
mod frame;
mod pipeline;
mod process;
mod recovery;
mod ring;
mod snapshot;
mod writer;

pub use self::caller::command::{LoggerAccounts, LoggerOutcome, NamedSink, Propagation};
pub use self::caller::counters::{OVER_LIMIT, RING_FULL};
pub use self::caller::pipeline_state::set_fork_takeover;
pub use self::caller::producer::Producer;
pub use self::frame::deferred::{DeferredArgument, DeferredMessage, DeferredType};
pub use self::frame::repeats::RepeatFolder;
pub use self::frame::types::{LevelRule, MetricName, RecordArrival, RecordOrigin};
pub use self::pipeline::Pipeline;
pub use self::process::block_write_signals;
pub use self::process::exit::at_exit;
pub use self::process::fork::ForkMutex;
pub use self::process::late_calls::count_call_after_end;
pub use self::process::notice::{
    label_notices_with_rank, print_line_of_logger, print_notice, redact_in_notices, set_notice_writer,
};
pub use self::process::priority::lower_thread_priority;
pub use self::process::process_lock::ProcessLock;
pub use self::process::signals::{Signal, SignalAnswer, SignalWork, handle_signals, signal_self};
pub use self::recovery::outcome::{KilledRun, Recovered, RecoveryError};
pub use self::recovery::recover::{KilledRunHook, recover, recover_ranks, recover_trusted};
pub use self::ring::file::FolderNumber;
pub use self::ring::name_table::NameId;
pub use self::snapshot::{RingCall, RingContent, RingSnapshot, read_live_ring, rings_in, rings_of_process};
