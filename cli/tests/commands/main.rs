//! The commands that show runs, and write files of them, as a user runs them.

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod left_out;
mod list;
#[cfg(unix)]
mod live;
mod odd_values;
mod outputs;
mod plot;
#[cfg(unix)]
mod refused_files;
mod report;
mod show;
mod support;
mod tables;
mod tail;
mod watch;
