//! All tests, with cargo-nextest: each in a process of its own, and all cores busy.

use anyhow::Result;

use crate::{cargo, no_arguments, readme, tools};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let mut nextest = tools::NEXTEST.command()?;
    cargo::run_command(nextest.args(["nextest", "run"]).args(cargo::EVERYTHING))?;
    cargo::run(&[&["test", "--doc"], &cargo::EVERYTHING[..]].concat())?;
    readme::run(&[])
}
