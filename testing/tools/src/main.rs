//! Tools for the files that runs have left: `cargo xtask repair`, `cargo xtask merge` and
//! `cargo xtask wandb sync`.

#![allow(clippy::print_stdout, reason = "a tool reports to the person who runs it")]

mod merge;
mod repair;
mod wandb;

use std::process::ExitCode;

use anyhow::{Result, bail};
use facade::logcore::escape::escape_except_styles;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The text may hold names of files that anybody can have made.
            println!("\n{}", escape_except_styles(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((task, rest)) if task == "merge" => merge::run(rest),
        Some((task, rest)) if task == "repair" => repair::run(rest),
        Some((task, rest)) if task == "wandb" => wandb::run(rest),
        _ => bail!("name a task: merge, repair or wandb"),
    }
}
