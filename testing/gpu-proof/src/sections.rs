//! The sections of the proof, each a process of its own.

mod capture;
mod costs;
mod driver;
mod figures;
mod identity;
mod machine;
mod memory;
mod process;
mod untouched;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::machine::{Fact, Machine};
use crate::child;
use crate::options::Options;
use crate::row::{Row, Verdict};

/// A part of the proof that needs a fresh process.
pub(crate) struct Section {
    /// Name for `--section`.
    name: &'static str,
    /// Heading of its rows.
    pub(crate) title: &'static str,
    longest: Duration,
    run: fn(&Options, &mut SectionRows) -> Result<()>,
}

/// All sections, in the order of the page. The sum of the longest times is more than the whole
/// proof may take: one hang leaves time for the others, and no section takes nearly as long
/// otherwise.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        name: "untouched",
        title: "No side effects",
        longest: Duration::from_secs(40),
        run: untouched::run,
    },
    Section {
        name: "memory",
        title: "Known allocations",
        longest: Duration::from_secs(60),
        run: memory::run,
    },
    Section {
        name: "capture",
        title: "Captures",
        longest: Duration::from_secs(40),
        run: capture::run,
    },
    Section {
        name: "process",
        title: "The process in the driver's list",
        longest: Duration::from_secs(40),
        run: process::run,
    },
    Section {
        name: "identity",
        title: "Identities",
        longest: Duration::from_secs(40),
        run: identity::run,
    },
    Section {
        name: "figures",
        title: "Figures of devices",
        longest: Duration::from_secs(80),
        run: figures::run,
    },
    Section {
        name: "costs",
        title: "Costs",
        longest: Duration::from_secs(80),
        run: costs::run,
    },
];

/// The process that looks at the machine hands over facts instead of rows.
const MACHINE: &str = "machine";
const MACHINE_LONGEST: Duration = Duration::from_secs(40);

/// The rows of a section, each printed when it is found, so that a later hang costs no row.
#[derive(Default)]
pub(crate) struct SectionRows {
    fails: bool,
}

impl SectionRows {
    pub(crate) fn add(&mut self, row: Row) {
        self.fails |= matches!(row.verdict, Verdict::Fails(_));
        println!("{}", row.line());
    }
}

/// Looks for a GPU in a process of its own.
///
/// # Errors
///
/// If the driver does not answer.
pub(crate) fn find_machine(deadline: Instant) -> Result<Machine> {
    let deadline = deadline.min(Instant::now() + MACHINE_LONGEST);
    let output = child::run(&mut part(MACHINE)?, deadline).context("cannot ask the driver for its devices")?;
    if output.code != Some(0) {
        bail!("cannot ask the driver for its devices: {}", output.end);
    }
    Machine::parse(&output.stdout).context("cannot ask the driver for its devices: the process said nothing")
}

/// Runs a section in a process of its own. A section that does not end well has a row that fails.
pub(crate) fn run(section: &Section, options: &Options, deadline: Instant) -> Vec<Row> {
    let ended = part(section.name).and_then(|mut command| {
        command.args(["--seconds", &options.watched.as_secs().to_string()]);
        child::run(&mut command, deadline.min(Instant::now() + section.longest))
    });
    let subject = format!("the section `{}` ends", section.name);
    match ended {
        Ok(output) => {
            let mut rows: Vec<Row> = output.stdout.lines().filter_map(Row::parse).collect();
            let fails = rows.iter().any(|row| matches!(row.verdict, Verdict::Fails(_)));
            if rows.is_empty() || output.code != Some(i32::from(fails)) {
                rows.push(Row::failed(subject, output.end));
            }
            rows
        }
        Err(error) => vec![Row::failed(subject, format!("{error:#}"))],
    }
}

/// Runs a section in this process and prints its rows.
pub(crate) fn run_here(name: &str, options: &Options) -> ExitCode {
    if name == MACHINE {
        machine::print();
        return ExitCode::SUCCESS;
    }
    let Some(section) = SECTIONS.iter().find(|section| section.name == name) else {
        let names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        eprintln!("gpu-proof: unknown section `{name}`: there are {}", names.join(", "));
        return ExitCode::from(2);
    };
    let mut rows = SectionRows::default();
    if let Err(error) = (section.run)(options, &mut rows) {
        rows.add(Row::failed(format!("the section `{name}` ends"), format!("{error:#}")));
    }
    if rows.fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Returns the command of a part of the proof. A switch in the environment must not change the
/// probes.
fn part(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program again")?);
    command.args(["--section", name]).env_remove("GPU_PROBE");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sections_differ() {
        let names: std::collections::BTreeSet<_> = SECTIONS.iter().map(|section| section.name).collect();
        assert_eq!(names.len(), SECTIONS.len());
        assert!(!names.contains(MACHINE));
    }
}
