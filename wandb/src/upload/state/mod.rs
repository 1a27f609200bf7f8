//! The state of a delivery: its progress on disk, and the run on the server.

pub(crate) mod progress_file;
pub(crate) mod resume;
pub(crate) mod uploaded_files;
