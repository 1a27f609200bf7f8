//! Proves on a machine with an NVIDIA GPU that the logger's readings of GPU memory are right.
//!
//! ```sh
//! gpu-proof [--output FILE] [--candle PROGRAM | --without-candle REASON] [--seconds S]
//! gpu-proof --section NAME [--seconds S]
//! ```
//!
//! The program needs a driver and nothing else, takes at most five minutes, and writes a page of
//! rows: known allocations, device figures beside `nvidia-smi`, costs, and the open questions about
//! drivers. `--section` runs one section and prints its rows. `--seconds` is the time for which the
//! readers of the machine are watched.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | no row fails |
//! | 1 | a row fails |
//! | 2 | the arguments are wrong, the driver does not answer, or the page cannot be written |
//! | 3 | there is no GPU that CUDA can use; nothing is written |
//!
//! Each section is a process of its own (`sections.rs`), because a driver may hang, and because a
//! logger keeps the source that it has found first.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal, whose parts talk over their output"
)]

mod candle;
mod child;
mod cuda;
mod options;
mod probed_logger;
mod report;
mod row;
mod sections;
mod smi;
mod times;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::options::Options;
use crate::report::Report;
use crate::row::Verdict;
use crate::sections::{Machine, SECTIONS};

/// The whole proof takes at most this, so that it ends within five minutes whatever hangs.
const LONGEST: Duration = Duration::from_secs(285);

const NO_GPU: u8 = 3;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gpu-proof: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    if let Some(section) = options.section.as_deref() {
        return Ok(sections::run_here(section, &options));
    }
    let start = Instant::now();
    let machine = match sections::find_machine(start + LONGEST)? {
        Machine::Found(facts) => facts,
        Machine::WithoutGpu(reason) => {
            eprintln!("gpu-proof: nothing to prove, because there is no GPU that CUDA can use: {reason}");
            return Ok(ExitCode::from(NO_GPU));
        }
    };
    let mut report = Report::new(machine);
    for section in SECTIONS {
        println!("gpu-proof: {}", section.title);
        report.add(section.title, sections::run(section, &options, start + LONGEST));
    }
    report.add("Frameworks", candle::rows(&options.candle, start + LONGEST));
    write(&options.output, &report.page(start.elapsed()))?;
    for row in report.rows().filter(|row| matches!(row.verdict, Verdict::Fails(_))) {
        println!("gpu-proof: fails: {}: {}", row.subject, row.answer);
    }
    println!("gpu-proof: {}; {}", report.summary(), options.output.display());
    Ok(if report.fails() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes the page, and its folder if that is missing. A page that cannot be written is printed,
/// because it took minutes.
fn write(file: &Path, page: &str) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written = folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(file, page));
    if written.is_err() {
        println!("{page}");
    }
    written.with_context(|| format!("cannot write {}: choose another file with --output", file.display()))
}
