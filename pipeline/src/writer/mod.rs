//! The writer: the one thread that takes frames out of the ring and has the sinks deliver them.
//!
//! # A batch
//!
//! ```text
//!             ring                                    sinks                               files
//!   ┌──────────────────────┐
//!   │ frame  frame  frame  │──(1) record, metrics, … ──▶ keep the output in memory
//!   └──────────────────────┘
//!     until the ring is empty, or 256 KiB are read
//!                            ──(2) deliver ───────────▶ write ─────────────────────────▶ training.log, …
//!                            ──(3) resume_point ──────▶ "training.log, 4096 bytes"
//!   ┌──────────────────────┐
//!   │ checkpoint           │◀─(4) position in the ring, resume points of all sinks
//!   └──────────────────────┘
//!                            ──(5) release: callers may overwrite the frames of the batch
//!                            ──(6) answers to flush, finish, …, and to records of level ERROR
//! ```
//!
//! If the process is killed, the next process restores the sinks from the resume points of the
//! newest checkpoint, and gives them the frames from the position of the checkpoint on. Step 4
//! makes each batch count once: a kill before this step repeats the whole batch onto the old resume
//! points; a kill after it repeats nothing. Frames are released only after the checkpoint, so a
//! frame is always in a file or in the ring.
//!
//! A sink that cannot write, because its disk is full for example, keeps its output in memory. Then
//! the checkpoint waits, and the frames stay in the ring, until half of the ring is used.
//!
//! # The files
//!
//! - [`thread`] is the loop; `idle` decides when it sleeps, and `checkpoint_saver` does steps 3 to
//!   5.
//! - [`dispatch`] gives a frame to the sinks of its logger; `routes` decides which sinks get its
//!   records.
//! - `commands` executes the commands of callers on a [`logger_set`]: the loggers (`logger_table`)
//!   and their sinks (`sink_table`, `sink_slot`).
//! - [`checkpoint`] is the format of a checkpoint; `unsaved_changes` knows what the newest one
//!   lacks.

pub(crate) mod checkpoint;
mod checkpoint_saver;
mod commands;
pub(crate) mod dispatch;
mod idle;
mod logger_set;
mod logger_table;
mod name_sequences;
mod routes;
mod sink_slot;
mod sink_table;
pub(crate) mod thread;
mod unsaved_changes;
