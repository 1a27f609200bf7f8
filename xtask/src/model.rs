//! `cargo xtask model`: every interleaving of callers and the writer on the ring.

use anyhow::Result;

use crate::{cargo, no_arguments};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let tests = [
        "test",
        "--release",
        "--quiet",
        "-p",
        "logcore-pipeline",
        "--lib",
        "model::",
    ];
    let mut command = cargo::command(&tests);
    // In a folder of its own: another flag would build everything anew, again and again.
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", cargo::root().join("target/loom"));
    cargo::run_command(&mut command)
}
