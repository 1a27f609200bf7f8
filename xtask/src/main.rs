//! The tasks of this workspace: `cargo xtask TASK`.

#![allow(clippy::print_stdout, reason = "a task talks to the person who runs it")]

mod cargo;
mod ci;
mod demo;
mod features;
mod frameworks;
mod fuzz;
mod instructions;
mod layers;
mod merge;
mod model;
mod package;
mod picture;
mod random;
mod readme;
mod repair;
mod rig;
mod test;
mod torture;
mod wandb;

use std::process::ExitCode;

use anyhow::{Result, bail};
use facade::logcore::escape::escape_except_styles;

/// A task: its name, its arguments, what it does.
type Task = (&'static str, &'static str, &'static str, fn(&[String]) -> Result<()>);

const TASKS: [Task; 16] = [
    (
        "demo",
        "[--fast] [--wandb URL] [--out DIR]",
        "a walkthrough: a real training, and what it leaves",
        demo::run,
    ),
    ("test", "", "all tests", test::run),
    (
        "bench",
        "[--quick] [--markdown FILE] [FILTER]",
        "the system beside its peers",
        bench,
    ),
    (
        "instructions",
        "[--update]",
        "what each call costs its caller, against the record",
        instructions::run,
    ),
    (
        "features",
        "",
        "every choice of features, the layers, the size of a small pick",
        features::run,
    ),
    (
        "frameworks",
        "",
        "the programs for candle, burn, tch and cudarc",
        frameworks::run,
    ),
    ("package", "", "every library is ready to publish", package::run),
    (
        "picture",
        "",
        "the README's picture of the terminal, from a real run",
        picture::run,
    ),
    (
        "wandb",
        "sync [--url URL] [--patience SECONDS] DIR…",
        "delivers W&B runs that are only on disk",
        wandb::run,
    ),
    (
        "model",
        "",
        "every interleaving of callers and the writer on the ring",
        model::run,
    ),
    (
        "merge",
        "DIR [--out DIR]",
        "one text and one metrics file of what several ranks have logged",
        merge::run,
    ),
    (
        "repair",
        "[--trust] DIR…",
        "delivers what killed runs have left",
        repair::run,
    ),
    (
        "torture",
        "[--kills N] [--seed S] [--release]",
        "processes that log are killed; nothing is lost, doubled or torn",
        torture::run,
    ),
    (
        "fuzz",
        "[--seconds S] [--seed N] [--replay FILE] [TARGET…]",
        "what comes from outside, as hostile as a fuzzer can make it",
        fuzz::run,
    ),
    ("readme", "", "the README's commands and files", readme::run),
    ("ci", "[--after-test]", "everything that has to hold", ci::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        // What `torture` starts and kills.
        Some((name, rest)) if name == "torture-child" => torture::child(rest),
        _ => dispatch(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its lines are ours, what stands in them may be anybody's.
            println!("\nxtask: {}", escape_except_styles(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        println!("cargo xtask TASK, where TASK is one of\n");
        for (name, arguments, summary, _) in TASKS {
            println!("  {:<48} {summary}", format!("{name} {arguments}"));
        }
        return Ok(());
    };
    let Some((.., run)) = TASKS.iter().find(|(task, ..)| task == name) else {
        let known: Vec<_> = TASKS.iter().map(|(task, ..)| *task).collect();
        bail!("there is no task `{name}`; there are: {}", known.join(", "));
    };
    run(rest)
}

fn bench(arguments: &[String]) -> Result<()> {
    let mut command = vec!["run", "--release", "--quiet", "-p", "benches", "--"];
    command.extend(arguments.iter().map(String::as_str));
    cargo::run(&command)
}

/// Refuses arguments that a task does not know.
fn no_arguments(arguments: &[String]) -> Result<()> {
    match arguments.first() {
        Some(unknown) => bail!("`{unknown}` is not known here; the task takes no arguments"),
        None => Ok(()),
    }
}
