//! The tasks that test the whole system need all of it: they run in this program, built with the feature `rig`.

use std::process::Command;

use anyhow::Result;

use crate::cargo;

/// Whether this program has everything in it.
pub(crate) fn is_built() -> bool {
    cfg!(feature = "rig")
}

/// Runs a task in a program that has; with `--release` among the arguments, in one that is optimised.
pub(crate) fn run(task: &str, arguments: &[String]) -> Result<()> {
    let (release, arguments): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| *argument == "--release");
    let mut build = vec!["build", "--quiet", "-p", "xtask", "--features", "rig"];
    if !release.is_empty() {
        build.push("--release");
    }
    let program = cargo::build_with_cfg("logcore_kill_points", &build)?;
    // A shell that puts a task into the background has it ignore some signals, and whatever that task starts would survive them.
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(program);
    cargo::run_command(command.arg(task).args(arguments))
}
