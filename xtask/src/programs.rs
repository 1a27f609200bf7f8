//! Tasks that need the logging system: programs of their own, which are built when they are asked
//! for.

use std::process::Command;

use anyhow::Result;

use crate::cargo;

/// Number of kills that CI takes time for.
pub(crate) const SHORT_TORTURE: u64 = 60;

/// Builds the crash rig with its kill points and runs it; with `--release` among the arguments,
/// optimized.
pub(crate) fn torture(arguments: &[String]) -> Result<()> {
    let (release, arguments): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| *argument == "--release");
    // The selection of the tests, so that the rig shares all crates from outside with them.
    let mut build = [&["build", "--quiet"], &cargo::EVERYTHING[..], &["--bin", "rig"]].concat();
    if !release.is_empty() {
        build.push("--release");
    }
    let program = cargo::build_with_cfg("logcore_kill_points", &build)?;
    // A shell that starts a task in the background has it ignore some signals, and the processes of
    // the rig would survive them.
    let mut command = Command::new("env");
    command
        .arg("--default-signal")
        .arg(program)
        .args(["--folder", "target/torture"])
        .args(arguments)
        .current_dir(cargo::root());
    cargo::run_command(&mut command)
}

/// Measures the system beside its peers.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let mut command = vec!["run", "--release", "--quiet", "-p", "benches", "--"];
    command.extend(arguments.iter().map(String::as_str));
    cargo::run(&command)
}
