//! All tests.

use anyhow::{Context as _, Result};

use crate::{cargo, no_arguments, readme};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let all = ["--workspace", "--exclude", "benches", "--all-features"];
    // The tests are written for one process each: the global logger and the panic hook are one a process.
    cargo::output(&["nextest", "--version"])
        .context("cargo-nextest is needed: cargo install --locked cargo-nextest")?;
    cargo::run(&[&["nextest", "run"][..], &all[..]].concat())?;
    cargo::run(&[&["test", "--doc"][..], &all[..]].concat())?;
    readme::run(&[])
}
