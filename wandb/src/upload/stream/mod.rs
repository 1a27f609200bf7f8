//! The content of a run in the form of the server: rows, console lines, summary, config and the
//! run's own files.

pub(crate) mod assembler;
pub(crate) mod definitions;
pub(crate) mod metadata;
pub(crate) mod tail_summary;
pub(crate) mod unsent_lines;
pub(crate) mod yaml;
