//! The commands that tidy, check and fill a `log_dir`, as a user runs them.

#[path = "../common/mod.rs"]
mod common;
mod doctor;
#[cfg(feature = "tensorboard")]
mod event_files;
mod import;
mod man;
mod prune;
mod schema;
mod support;
