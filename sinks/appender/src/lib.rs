//! One owner for each file that sinks append to.
//!
//! Whoever opens the same path again gets a handle to the same owner, so that loggers which share a file never mix their
//! records. The owner writes whole records, keeps what a full disk has no room for, rotates, and comes back to the path
//! when someone has moved or deleted the file.

mod already_written;
mod appender;
mod file_id;
mod file_writer;
mod links;
mod output;
mod position;
mod rotation;

pub use self::appender::Appender;
pub use self::position::FilePosition;
pub use self::rotation::Rotation;
