//! Appending to log files: one writer for each file, with rotation, and without torn or lost lines
//! when a disk fails.
//!
//! Log files have problems that a plain `File` does not solve, so the sinks `file` and `jsonl`
//! share this crate:
//!
//! - **Several loggers, one file.** All [`Appender`]s of a path in a process share one writer, so
//!   their records never mix. Other processes may append to the same file.
//! - **Full disks.** A record is written whole. While the disk is full or fails, up to 16 MiB wait
//!   in memory.
//! - **Moved and deleted files.** The writer notices within 100 ms that `logrotate` or a user moved
//!   the file, and opens the path again.
//! - **Rotation.** [`Rotation`] starts a new file by size or by day, and keeps a number of old
//!   ones.
//! - **Killed processes.** A [`FilePosition`] lets another process continue without a lost or
//!   repeated line.
//! - **Pipes and devices.** A path may name a pipe (`training.log -> /dev/stdout`); a reader that
//!   is slow or gone holds up nothing.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use logcore_appender::{Appender, Rotation};
//!
//! let path = folder.path().join("training.log");
//! let rotation = Rotation { max_bytes: Some(16), keep: 3, ..Rotation::default() };
//! let mut appender = Appender::open(&path, rotation).unwrap();
//! for record in ["step 1: 0.51\n", "step 2: 0.49\n"] {
//!     appender.append(record.as_bytes(), 1);
//!     appender.deliver().unwrap();
//! }
//! assert_eq!(std::fs::read_to_string(&path).unwrap(), "step 2: 0.49\n");
//! assert_eq!(std::fs::read_to_string(folder.path().join("training.log.1")).unwrap(), "step 1: 0.51\n");
//! ```
//!
//! Do not use it for files that are replaced as a whole (`logcore-files` does that), or for binary
//! formats: after a kill, a record is recognized by its line.

mod already_written;
mod appender;
mod file_writer;
mod links;
mod output;
mod position;
mod record_queue;
mod rotation;

pub use self::appender::{Appender, FirstForm, LazyAppender};
pub use self::position::FilePosition;
pub use self::rotation::Rotation;
