//! The state of a delivery: its progress on disk, the run on the server, and the state shared with
//! the sink.

pub(crate) mod control;
pub(crate) mod progress_file;
pub(crate) mod resume;
pub(crate) mod uploaded_files;
