//! The tasks of this workspace: `cargo xtask TASK`.

#![allow(clippy::print_stdout, reason = "a task reports to the person who runs it")]

mod cargo;
mod ci;
mod demo;
mod echoes;
mod features;
mod frameworks;
mod fuzz;
mod gpu_proof;
mod instructions;
mod layers;
mod model;
mod package;
mod page;
mod pictures;
mod programs;
mod readme;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// A task: its name, its arguments, its purpose and its function.
type Task = (&'static str, &'static str, &'static str, fn(&[String]) -> Result<()>);

const TASKS: &[Task] = &[
    (
        "demo",
        "[--fast] [--dev] [--wandb URL] [--out DIR]",
        "a walkthrough: trains a real model and shows its files",
        demo::run,
    ),
    ("test", "", "all tests", test::run),
    (
        "bench",
        "[--quick] [--markdown FILE] [FILTER]",
        "the system beside its peers",
        programs::bench,
    ),
    (
        "instructions",
        "[--update]",
        "the cost of each call in instructions, against the record",
        instructions::run,
    ),
    (
        "features",
        "[--short]",
        "each feature, the layers, the size of a small pick",
        features::run,
    ),
    (
        "frameworks",
        "",
        "the bridge to burn, the programs for candle, tch and cudarc",
        frameworks::run,
    ),
    (
        "gpu-proof",
        "[--binary FILE] [--output FILE]",
        "readings of GPU memory, on a machine with an NVIDIA GPU",
        gpu_proof::run,
    ),
    (
        "echoes",
        "",
        "the lines of programs that use tracing, under three sets of features",
        echoes::run,
    ),
    ("package", "", "every library is ready to publish", package::run),
    (
        "page",
        "[--check]",
        "the scripts of the page, made smaller; needs npm",
        page::run,
    ),
    (
        "picture",
        "[terminal|page]",
        "the README's pictures, from real runs; the page needs Chromium",
        pictures::run,
    ),
    (
        "model",
        "",
        "every interleaving of callers and the writer on the ring",
        model::run,
    ),
    (
        "torture",
        "[--kills N] [--seed S] [--release]",
        "kills processes that log; nothing is lost, doubled or torn",
        programs::torture,
    ),
    (
        "fuzz",
        "[--seconds S] [--seed N] [--replay FILE] [TARGET…]",
        "fuzzes every parser of untrusted input",
        fuzz::run,
    ),
    (
        "deny",
        "[--advisories]",
        "licenses and sources of all dependencies",
        tools::deny,
    ),
    ("typos", "", "the spelling in all files", tools::typos),
    ("readme", "", "the README's commands and files", readme::run),
    ("ci", "[--after-test]", "all checks", ci::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        println!("cargo xtask TASK, where TASK is one of\n");
        for (name, arguments, summary, _) in TASKS {
            println!("  {:<54} {summary}", format!("{name} {arguments}"));
        }
        return Ok(());
    };
    let Some((.., run)) = TASKS.iter().find(|(task, ..)| task == name) else {
        let known: Vec<_> = TASKS.iter().map(|(task, ..)| *task).collect();
        bail!("unknown task `{name}`: the tasks are {}", known.join(", "));
    };
    run(rest)
}

/// Fails if a task without arguments has some.
fn no_arguments(arguments: &[String]) -> Result<()> {
    match arguments.first() {
        Some(unknown) => bail!("unexpected argument `{unknown}`: the task takes none"),
        None => Ok(()),
    }
}
