//! Fuzzes every parser of untrusted input.
//!
//! The fuzzer is libFuzzer, guided by coverage, in a program that flags of a stable compiler
//! instrument. The targets are in `testing/fuzz`.

mod driver;
mod options;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use self::driver::Driver;
use self::options::FuzzOptions;
use crate::cargo;

/// The targets, each with the greatest length of its inputs.
const TARGETS: [(&str, u32); 9] = [
    ("config", 4 << 10),
    ("ring", 32 << 10),
    ("wandb-log", 16 << 10),
    ("replies", 4 << 10),
    ("event-file", 8 << 10),
    ("rows", 2 << 10),
    ("jsonl", 4 << 10),
    ("text", 1 << 10),
    ("console", 2 << 10),
];
/// Targets with a fault that the fuzzer must find.
const PLANTED: [(&str, u32); 3] = [("planted-panic", 64), ("planted-hang", 64), ("planted-memory", 64)];
/// Limit in seconds for finding a planted fault. It takes 2 to 11 s, and more than 20 s beside two
/// builds.
const PLANTED_SECONDS: u64 = 180;
/// Limit in seconds for one input. Most take less than a millisecond.
const PATIENCE: u64 = 20;
const PLANTED_PATIENCE: u64 = 2;
/// Seconds for each target in CI.
pub(crate) const SHORT: u64 = 30;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = FuzzOptions::read(arguments)?;
    if let Some(file) = &options.replay {
        return replay(file, options.targets[0].0);
    }
    let driver = Driver::build(options.seed)?;
    println!("seed {}", options.seed);
    find_planted(&driver)?;
    let found = Mutex::new(Vec::new());
    println!("| target | inputs | a second | edges | kept inputs | MB | |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    in_parallel(&options.targets, |target| {
        let outcome = driver.run(target, options.seconds, PATIENCE)?;
        println!("{}", outcome.row(target.0));
        lock(&found).extend(outcome.found.map(|found| (target.0, found)));
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_default();
    for (target, found) in &found {
        println!("\n{target}, seed {}: {}", options.seed, found.cause);
        println!("  cargo xtask fuzz --replay {} {target}", found.input.display());
        println!("  log: {}", found.log.display());
    }
    ensure!(found.is_empty(), "{} targets have failed", found.len());
    Ok(())
}

/// Runs an input again, in a program without instrumentation, which a debugger can follow.
fn replay(file: &Path, target: &str) -> Result<()> {
    let file = file.canonicalize().with_context(|| format!("no {}", file.display()))?;
    let program = cargo::build_with_cfg("fuzzing", &["build", "--quiet", "-p", "fuzz"])?;
    let work = driver::work_folder(target)?;
    let mut command = Command::new(program);
    command.arg(target).arg(file).current_dir(work.path());
    // The target `console` reads its own output.
    cargo::run_command(command.stdout(work.output()?))
}

/// Checks that the fuzzer finds the planted faults.
fn find_planted(driver: &Driver) -> Result<()> {
    in_parallel(&PLANTED, |target| {
        let start = Instant::now();
        let outcome = driver.run(target, PLANTED_SECONDS, PLANTED_PATIENCE)?;
        let Some(found) = outcome.found else {
            bail!("{} was not found in {PLANTED_SECONDS} s", target.0);
        };
        println!("{}: found after {:.1} s", target.0, start.elapsed().as_secs_f64());
        fs::remove_file(found.input)?;
        Ok(())
    })
}

/// Does the work on all items, as many at a time as there are cores.
fn in_parallel<T: Sync>(all: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = Mutex::new(all.iter());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let worker = || {
            loop {
                let Some(one) = lock(&next).next() else { return Ok(()) };
                work(one)?;
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
