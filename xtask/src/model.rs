//! Explores every interleaving of callers and the writer on the ring, with loom.

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
    // A target folder of its own, because another flag would rebuild everything each time.
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", cargo::root().join("target/loom"));
    cargo::run_command(&mut command)
}
