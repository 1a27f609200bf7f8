//! The bridge to burn, and the programs for candle, tch and cudarc, each in the framework's newest
//! version.

mod burn;
mod candle;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::{cargo, no_arguments};

/// The workspaces, each with a lock file of its own.
const BURN: &str = "bridges/burn";
const PROGRAMS: &str = "examples/frameworks";

/// The programs that do not run without a GPU or libtorch, each with its selection.
const LINTED: [(&str, &[&str]); 2] = [
    ("cudarc", &["--package", "cudarc-memory"]),
    (
        "tch",
        &[
            "--package",
            "tch-training",
            "--no-default-features",
            "--features",
            "doc-only",
        ],
    ),
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    for workspace in [BURN, PROGRAMS] {
        cargo::run_command(&mut command(workspace, &["fmt", "--check"]))?;
    }
    burn::check()?;
    for (framework, selection) in LINTED {
        let start = Instant::now();
        let clippy = [&["clippy", "--quiet"], selection, &["--", "-D", "warnings"]].concat();
        cargo::run_command(&mut command(PROGRAMS, &clippy))?;
        println!("frameworks: {framework} in {:.0} s", start.elapsed().as_secs_f64());
    }
    candle::check()
}

/// Builds the program that allocates a tensor with candle on a GPU, which needs nvcc, and returns
/// its path.
pub(crate) fn build_known_tensor() -> Result<PathBuf> {
    let arguments = [
        "build",
        "--quiet",
        "--package=candle-training",
        "--features=cuda",
        "--example=known_tensor",
        "--message-format=json",
    ];
    cargo::executable(&mut command(PROGRAMS, &arguments))
}

/// Returns a command of cargo in a workspace of frameworks.
fn command<S: AsRef<OsStr>>(workspace: &str, arguments: &[S]) -> Command {
    let mut command = cargo::command(arguments);
    command
        .current_dir(cargo::root().join(workspace))
        .env("CARGO_TARGET_DIR", target());
    command
}

/// Has a build lint the workspace, too: `cargo clippy` would compile the framework once more.
fn linting(mut command: Command) -> Command {
    command
        .env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver")
        .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    command
}

/// Returns the target folder that the workspaces share.
fn target() -> PathBuf {
    cargo::root().join("target/frameworks")
}
