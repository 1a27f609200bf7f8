//! Programs to copy: see `src/bin`. Each takes the folder for its files as first argument.

use std::path::PathBuf;

/// The folder that a program writes to: the first argument, else `outputs/<name>`.
pub fn log_dir(name: &str) -> PathBuf {
    std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("outputs").join(name), PathBuf::from)
}
