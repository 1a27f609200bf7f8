//! `cargo xtask torture`: processes that log are killed, again and again, and what they leave is compared with what their
//! calls had returned for.

mod chain;
mod check;
mod child;
mod controls;
mod courses;
mod findings;
mod plan;
mod receipts;
mod said;
mod table;
mod wandb_log;
mod wandb_rewrite;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use self::chain::Chain;
use self::table::Table;
use crate::random::{Random, mix};
use crate::rig;

pub(crate) use self::child::run as child;

/// Processes in one folder.
const GENERATIONS: u64 = 10;
/// What CI takes time for.
pub(crate) const SHORT: u64 = 60;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !rig::is_built() {
        return rig::run("torture", arguments);
    }
    let mut options = Options::default();
    options.read(arguments)?;
    let folder = crate::cargo::root()
        .join("target/torture")
        .join(options.seed.to_string());
    println!("seed {}, in {}", options.seed, folder.display());
    controls::run(&folder.join("controls"), options.seed)?;
    let mut table = Table::default();
    let (start, mut said) = (Instant::now(), Instant::now());
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
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
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

fn one_chain(folder: &Path, seed: u64, number: u64, generations: u64, table: &mut Table) -> Result<()> {
    let mut random = Random::new(mix(seed) ^ number);
    let mut chain = Chain::new(folder)?;
    for step in plan::chain(&mut random, folder, generations) {
        chain.step(&step)?;
    }
    chain.recover()?;
    let findings = chain.check()?;
    table.add(&chain.fates()?, chain.killed_recoveries, &findings);
    if !findings.any() {
        return Ok(fs::remove_dir_all(folder)?);
    }
    println!("chain {number} of seed {seed}, in {}: {findings}", folder.display());
    findings.words.iter().for_each(|words| println!("  {words}"));
    Ok(())
}

struct Options {
    kills: u64,
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            kills: SHORT,
            seed: now.unwrap_or_default().as_secs(),
        }
    }
}

impl Options {
    fn read(&mut self, arguments: &[String]) -> Result<()> {
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let value = rest.next().and_then(|value| value.parse().ok());
            match (name.as_str(), value) {
                ("--kills", Some(value)) => self.kills = value,
                ("--seed", Some(value)) => self.seed = value,
                _ => bail!("torture takes --kills N, --seed S and --release; `{name}` is not understood"),
            }
        }
        Ok(())
    }
}
