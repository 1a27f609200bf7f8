//! The commands that tidy, check and fill a `log_dir`, as a user runs them.

mod doctor;
mod import;
mod man;
mod prune;
mod support;
