//! The system beside its peers: `cargo xtask bench [--quick] [--markdown FILE] [FILTER]`.
//!
//! Everything is measured in one run, in turn, again and again: on a machine that others use too,
//! only what was measured side by side can be compared. Nothing here passes or fails.

#![allow(clippy::print_stdout, reason = "a program whose output is its result")]

mod amounts;
mod machine;
mod peers;
mod picture;
mod process_use;
mod python;
mod sections;
mod session;
mod table;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::amounts::{Amounts, Choice};
use crate::peers::PeerEntry;
use crate::sections::alone::ALONE;
use crate::sections::{alone, builds, calls, eta, levels, life, lines, metrics};
use crate::sections::{processes, progress, readings, scale, spans, tail, trackers};
use crate::table::ReportTable;

type Section = fn(&Amounts, &[PeerEntry]) -> Result<Vec<ReportTable>>;

const SECTIONS: &[(&str, Section)] = &[
    ("calls", calls::measure),
    ("tail", |amounts, _| tail::measure(amounts)),
    ("levels", levels::measure),
    ("metrics", metrics::measure),
    ("trackers", |amounts, _| trackers::measure(amounts)),
    ("processes", |amounts, _| processes::measure(amounts)),
    ("builds", |amounts, _| builds::measure(amounts)),
    ("scale", |amounts, _| scale::measure(amounts)),
    ("spans", |amounts, _| spans::measure(amounts)),
    ("progress", progress::measure),
    ("readings", readings::measure),
    ("eta", eta::measure),
    ("lines", lines::measure),
    ("life", life::measure),
    ("alone", alone::measure),
];

fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let amounts = if arguments.quick { Amounts::QUICK } else { Amounts::FULL };
    if let Some(name) = arguments.alone {
        let figures = match name.as_str() {
            metrics::POINTS => metrics::points_in_memory(&amounts)?,
            readings::MEMORY => readings::memory_calls(&amounts)?,
            trackers::KILLED => trackers::log_and_die()?,
            readings::SYSTEM => readings::system_share(&amounts)?,
            name => match name.split_inclusive('/').next() {
                Some(lines::TURN) => lines::turn(&amounts, &name[lines::TURN.len()..])?,
                Some(calls::TURN) => calls::turns(&amounts, &name[calls::TURN.len()..])?,
                Some(tail::TURN) => tail::turn(&amounts, &name[tail::TURN.len()..])?,
                Some(scale::POINT) => scale::point(&amounts, &name[scale::POINT.len()..])?,
                Some(processes::PART) => processes::part(&amounts, &name[processes::PART.len()..])?,
                _ => alone::figures(&amounts, name)?,
            },
        };
        println!("{}", figures.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        return Ok(());
    }

    let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    let choice = Choice::new(arguments.filter, &names);
    let peers = choice.peers();
    let machine = machine::description();
    println!("{machine}\n");
    let mut document = format!("{machine}\n\n{}", legend(&peers).markdown());
    let write = |path: &Path, text: &str| fs::write(path, text).with_context(|| format!("write {}", path.display()));
    for (name, section) in SECTIONS {
        if choice.section(name) {
            for table in section(&amounts, &peers)? {
                println!("{}", table.text());
                document = format!("{document}\n{}", table.markdown());
                if let (Some(page), Some(picture)) = (&arguments.markdown, table.picture()) {
                    write(&page.with_file_name(picture.file_name), &picture.svg)?;
                }
            }
        }
    }
    if let Some(path) = arguments.markdown {
        write(&path, &document)?;
    }
    Ok(())
}

fn legend(peers: &[PeerEntry]) -> ReportTable {
    let note = "Each writes the same line behind time, level and target into a file of its own.";
    let mut table = ReportTable::new("Peers", note, &["peer", "a line is in the file"]);
    for entry in peers {
        table.row([entry.name, entry.delivery].map(str::to_owned));
    }
    table
}

#[derive(Default)]
struct Arguments {
    quick: bool,
    markdown: Option<PathBuf>,
    alone: Option<String>,
    filter: String,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--markdown" => arguments.markdown = Some(words.next().context("--markdown needs a file")?.into()),
                ALONE => arguments.alone = Some(words.next().context("--alone needs a peer")?),
                _ if word.starts_with('-') => {
                    bail!("unknown option {word}: use --quick, --markdown FILE or a part of a name")
                }
                _ => arguments.filter = word,
            }
        }
        Ok(arguments)
    }
}
