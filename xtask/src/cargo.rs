//! Commands of cargo, and its metadata of the workspace.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The selection of all packages but `benches` and `echoes`, with all features: `echoes` would
/// switch on features of `tracing` for all. Steps with this selection share the crates that they
/// build.
pub(crate) const EVERYTHING: [&str; 6] = [
    "--workspace",
    "--exclude",
    "benches",
    "--exclude",
    "echoes",
    "--all-features",
];

/// Returns the folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Returns a command of cargo in the workspace.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(root());
    command
}

/// Runs cargo, which prints on the terminal.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Result<()> {
    run_command(&mut command(arguments))
}

/// Runs a command, which prints on the terminal.
pub(crate) fn run_command(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Runs cargo and returns its standard output.
pub(crate) fn output<S: AsRef<OsStr>>(arguments: &[S]) -> Result<String> {
    output_of(&mut command(arguments))
}

/// Runs a command and returns its standard output.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds one program and returns its path.
pub(crate) fn build(arguments: &[&str]) -> Result<PathBuf> {
    executable(&mut command(&[arguments, &["--message-format=json"]].concat()))
}

/// Builds one program, and the crates of this workspace in it with `--cfg` of this name; returns
/// its path.
pub(crate) fn build_with_cfg(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let wrapper = root().join("testing/rustc-with").join(name);
    let mut command = command(&[arguments, &["--message-format=json"]].concat());
    executable(command.env("RUSTC_WORKSPACE_WRAPPER", wrapper))
}

/// Returns the path of the program that a command of cargo builds.
pub(crate) fn executable(command: &mut Command) -> Result<PathBuf> {
    let messages = output_of(command)?;
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| Some(message["executable"].as_str()?.to_owned()));
    Ok(executable.context("cargo has built no program")?.into())
}

/// Returns the packages of the workspace as `cargo metadata` describes them.
pub(crate) fn packages() -> Result<Vec<Value>> {
    let metadata: Value = serde_json::from_str(&output(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    Ok(metadata["packages"].as_array().cloned().unwrap_or_default())
}

/// Returns `true` if a package is published.
pub(crate) fn is_published(package: &Value) -> bool {
    package["publish"].is_null()
}

/// Returns the name of a package.
pub(crate) fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}
