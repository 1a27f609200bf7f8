//! The program `logcore`: looks at what training runs have left, completes it and delivers it.

mod arguments;
mod columns;
mod commands;
mod exact_number;
mod file_system;
mod import;
mod output;
mod output_file;
mod removal;
mod run_entry;
#[cfg(unix)]
mod signals;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(arguments::join_conditions(std::env::args_os()));
    let mut output = Output::new(arguments.command.name(), arguments.json);
    let result = commands::run(&arguments, &mut output);
    output.end(result)
}
