//! The cost of each call: `hot-paths [ROUNDS]` measures its time beside the limit.
//! `cargo xtask instructions` counts instructions with the other two forms:
//! `hot-paths --once CALLS` makes each call so often, and `hot-paths --whole NAME CALLS` makes one
//! of them until everything is in the files.

#![allow(clippy::print_stdout, reason = "a program whose output is its result")]

mod paths;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_paths::{Timing, median, pause};

use crate::paths::{Path, Paths};

/// Calls before anything is measured: all that is allocated once is there, and the ring has gone
/// round.
const WARM_UP: u64 = 20_000;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--once", calls] => once(calls.parse().context("CALLS is a number")?),
        ["--whole", name, calls] => whole(name, calls.parse().context("CALLS is a number")?),
        [] => times(5),
        [rounds] => times(rounds.parse().context("ROUNDS is a number")?),
        _ => anyhow::bail!("use: hot-paths [ROUNDS] | hot-paths --once CALLS | hot-paths --whole NAME CALLS"),
    }
}

/// Says the paths' names, and walks them in that order, each in one call of [`measured`].
fn once(calls: u64) -> Result<()> {
    let paths = Paths::open()?;
    for path in paths.all() {
        println!("{}", path.name);
        (0..calls).for_each(&path.call);
        paths.settle();
        measured(&path.call, calls);
    }
    Ok(())
}

/// Makes the calls of one path, and ends the loggers.
fn whole(name: &str, calls: u64) -> Result<()> {
    let paths = Paths::open()?;
    let all = paths.all();
    let path = all.iter().find(|path| path.name == name);
    let path = path.with_context(|| format!("no path has the name {name:?}"))?;
    (0..calls).for_each(&path.call);
    paths.settle();
    Ok(())
}

/// Makes the calls. `cargo xtask instructions` counts in this function, by its name.
#[inline(never)]
fn measured(call: &dyn Fn(u64), calls: u64) {
    (calls..2 * calls).for_each(call);
}

fn times(rounds: usize) -> Result<()> {
    const CALLS: u64 = 20_000;
    ensure!(rounds > 0, "at least one round");
    let paths = Paths::open()?;
    let paths_with_limits: Vec<Path<'_>> = paths.all();
    let (limit, all) = paths_with_limits.split_first().context("the limit comes first")?;
    (0..WARM_UP).for_each(&limit.call);
    println!(
        "{:<38} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "nanoseconds a call", "p50", "x limit", "p99", "p50 gaps", "x limit", "p99 gaps", "mean"
    );
    for path in all {
        // Not sooner, because the last paths give the program a layer for `tracing`.
        (0..WARM_UP).for_each(&path.call);
        paths.settle();
        let mut columns: [Vec<f64>; 7] = Default::default();
        for round in 0..rounds as u64 {
            let steps = WARM_UP + round * 3 * CALLS..;
            for (at, gap) in [Duration::ZERO, Duration::from_micros(2)].into_iter().enumerate() {
                let of_limit = time(&paths, limit, 0..CALLS, gap);
                let first = steps.start + at as u64 * CALLS;
                let of_path = time(&paths, path, first..first + CALLS, gap);
                columns[3 * at].push(of_path.p50);
                columns[3 * at + 1].push(of_path.p50 / of_limit.p50);
                columns[3 * at + 2].push(of_path.p99);
            }
            let first = steps.start + 2 * CALLS;
            let mut spent = Duration::ZERO;
            for burst in 0..CALLS / BURST {
                paths.settle();
                let first = first + burst * BURST;
                let started = Instant::now();
                (first..first + BURST).for_each(&path.call);
                spent += started.elapsed();
            }
            columns[6].push(spent.as_secs_f64() * 1e9 / CALLS as f64);
        }
        let [p50, ratio, p99, p50_gaps, ratio_gaps, p99_gaps, mean] = columns.map(median);
        println!(
            "{:<38} {p50:>9.0} {ratio:>9.3} {p99:>9.0} {p50_gaps:>9.0} {ratio_gaps:>9.3} {p99_gaps:>9.0} {mean:>9.1}",
            path.name
        );
    }
    Ok(())
}

/// Calls between two flushes: few enough for the ring, since writing takes longer than handing
/// over.
const BURST: u64 = 2000;

fn time(paths: &Paths, path: &Path<'_>, steps: std::ops::Range<u64>, gap: Duration) -> Timing {
    let mut samples = Vec::with_capacity((steps.end - steps.start) as usize);
    for step in steps {
        if step % BURST == 0 {
            paths.settle();
        }
        let started = pause(gap);
        (path.call)(step);
        samples.push(started.elapsed().as_nanos() as u32);
    }
    Timing::of(&mut samples)
}
