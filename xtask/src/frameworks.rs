//! The programs for candle, burn, tch and cudarc, each in the framework's newest version.

mod candle;

use std::ffi::OsStr;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::{cargo, no_arguments};

/// The workspaces, each with a lock file of its own.
const MOST: &str = "examples/frameworks";
const TCH: &str = "examples/frameworks/tch";

/// The programs, each with its workspace and its selection. They are built one by one: together,
/// burn would get the version of CUDA that the program for cudarc names.
const PROGRAMS: [(&str, &str, &[&str]); 3] = [
    ("cudarc", MOST, &["--package", "cudarc-memory"]),
    ("tch", TCH, &["--no-default-features", "--features", "doc-only"]),
    ("burn", MOST, &["--package", "burn-memory"]),
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    for workspace in [MOST, TCH] {
        cargo::run_command(&mut command(workspace, &["fmt", "--check"]))?;
    }
    for (framework, workspace, selection) in PROGRAMS {
        let start = Instant::now();
        lint(workspace, selection)?;
        println!("frameworks: {framework} in {:.0} s", start.elapsed().as_secs_f64());
    }
    candle::check()
}

fn lint(workspace: &str, selection: &[&str]) -> Result<()> {
    let clippy = [
        &["clippy", "--quiet", "--all-targets"],
        selection,
        &["--", "-D", "warnings"],
    ]
    .concat();
    // The CUDA compiler of burn downloads LLVM, except for documentation.
    cargo::run_command(command(workspace, &clippy).env("DOCS_RS", "1"))
}

/// Returns a command of cargo in a workspace of frameworks, with a target folder of its own.
fn command<S: AsRef<OsStr>>(workspace: &str, arguments: &[S]) -> Command {
    let root = cargo::root();
    let mut command = cargo::command(arguments);
    command
        .current_dir(root.join(workspace))
        .env("CARGO_TARGET_DIR", root.join("target/frameworks"));
    command
}
