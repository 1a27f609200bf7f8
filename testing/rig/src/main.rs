//! The crash rig, `cargo xtask torture`: kills processes that log, again and again, and compares
//! what they leave with the calls that had returned.
//!
//! A process is this program, run again with the hidden task `child`. The points at which a process
//! kills itself are armed only in a program that is built with `--cfg logcore_kill_points`, as
//! `cargo xtask torture` does.

#![allow(clippy::print_stdout, reason = "the rig reports to the person who runs it")]

mod chain;
mod check;
mod child;
mod event_files;
mod findings;
mod manifests;
mod plan;
mod planted_damage;
mod random;
mod receipts;
mod resumed;
mod scripted_call;
mod sequences;
mod stage;
mod table;
mod wandb_log;
mod wandb_rewrite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use crate::chain::KillChain;
use crate::manifests::ManifestReader;
use crate::random::{Random, mix};
use crate::table::KillTable;

/// Number of processes in one folder.
const GENERATIONS: u64 = 10;
/// Number of kills, unless `--kills` gives another.
const KILLS: u64 = 60;
/// Time between two lines about the progress.
const REPORT_PERIOD: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((task, rest)) if task == "child" => child::run(rest),
        _ => torture(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nrig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn torture(arguments: &[String]) -> Result<()> {
    ensure!(
        cfg!(logcore_kill_points),
        "this program has no kill points: run `cargo xtask torture`, which builds it with them"
    );
    let mut options = TortureOptions::default();
    options.read(arguments)?;
    let folder = options.folder.join(options.seed.to_string());
    println!("seed {}, in {}", options.seed, folder.display());
    planted_damage::run(&folder.join("controls"), options.seed)?;
    let mut table = KillTable::default();
    let (start, mut reported) = (Instant::now(), Instant::now());
    for number in 0.. {
        if table.kills() >= options.kills {
            break;
        }
        let generations = GENERATIONS.min(options.kills - table.kills());
        one_chain(
            &folder.join(number.to_string()),
            options.seed,
            number,
            generations,
            &mut table,
        )
        .with_context(|| format!("chain {number} of seed {}", options.seed))?;
        if reported.elapsed() > REPORT_PERIOD {
            reported = Instant::now();
            println!("{} kills, {} chains failed", table.kills(), table.failures);
        }
    }
    println!("\n{}", table.text());
    println!("{:.0} s", start.elapsed().as_secs_f64());
    ensure!(
        table.failures == 0,
        "{} chains failed; `--seed {}` repeats their plans, their folders are kept",
        table.failures,
        options.seed
    );
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn one_chain(folder: &Path, seed: u64, number: u64, generations: u64, table: &mut KillTable) -> Result<()> {
    let mut random = Random::new(mix(seed) ^ number);
    let mut chain = KillChain::new(folder)?;
    let reader = ManifestReader::start(&chain.log(), chain.stage())?;
    for step in plan::chain(&mut random, folder, generations) {
        chain.step(&step)?;
    }
    chain.recover()?;
    let mut findings = chain.check()?;
    table.manifests_read += reader.stop(&mut findings);
    table.add(&chain.outcomes()?, chain.killed_recoveries, &findings);
    if !findings.any() {
        return Ok(fs::remove_dir_all(folder)?);
    }
    println!("chain {number} of seed {seed}, in {}: {findings}", folder.display());
    findings.words.iter().for_each(|words| println!("  {words}"));
    Ok(())
}

struct TortureOptions {
    kills: u64,
    seed: u64,
    /// Folder in which each seed has one.
    folder: PathBuf,
}

impl Default for TortureOptions {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            kills: KILLS,
            seed: now.unwrap_or_default().as_secs(),
            folder: std::env::temp_dir().join("logcore-torture"),
        }
    }
}

impl TortureOptions {
    fn read(&mut self, arguments: &[String]) -> Result<()> {
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let value = rest.next().with_context(|| format!("{name} takes a value"))?;
            let number = || value.parse().with_context(|| format!("{name} takes a number"));
            match name.as_str() {
                "--kills" => self.kills = number()?,
                "--seed" => self.seed = number()?,
                "--folder" => self.folder = value.into(),
                _ => bail!("unknown argument `{name}`: torture takes --kills N, --seed S and --release"),
            }
        }
        Ok(())
    }
}
