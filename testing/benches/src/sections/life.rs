//! The time that a logger needs to start, and to end with everything in its file.

use std::time::Instant;

use anyhow::{Context, Result};
use hot_paths::{Line, median};
use log::LevelFilter;

use crate::amounts::Amounts;
use crate::peers::{self, FILE, PeerEntry};
use crate::table::{ReportTable, figure};

/// Number of lines that wait to be written when the end of a peer begins.
const LINES: u64 = 1000;

pub(crate) fn measure(amounts: &Amounts, chosen: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let rounds = amounts.rounds * 3;
    let note = format!(
        "Milliseconds, medians of {rounds} turns. The start is until the peer is ready for its first line; the end is \
         that of a peer which has just logged {LINES} lines. Lines that are missing in the file afterwards are lost. \
         fast_log, which a process can have only once, has no row."
    );
    let mut table = ReportTable::new("Start and end", note, &["peer", "start", "end", "lost"]);
    let ours = chosen.iter().any(|entry| entry.name.starts_with("logcore"));
    let with_wandb = ours.then_some(&peers::WITH_WANDB);
    for entry in chosen
        .iter()
        .filter(|entry| !entry.again && !entry.only_once)
        .chain(with_wandb)
    {
        let turns = (0..rounds).map(|_| turn(entry)).collect::<Result<Vec<_>>>()?;
        table.row([
            entry.name.to_owned(),
            figure(median(turns.iter().map(|turn| turn.start))),
            figure(median(turns.iter().map(|turn| turn.end))),
            turns.iter().map(|turn| turn.lost).sum::<i64>().to_string(),
        ]);
    }
    Ok(vec![table])
}

/// Times in milliseconds.
struct LifeTurn {
    start: f64,
    end: f64,
    lost: i64,
}

fn turn(entry: &PeerEntry) -> Result<LifeTurn> {
    let folder = tempfile::tempdir().context("make a folder for a peer's file")?;
    // A peer that is not the global logger does not set this.
    log::set_max_level(LevelFilter::Info);
    let started = Instant::now();
    let peer = (entry.open)(folder.path()).with_context(|| format!("open {}", entry.name))?;
    let start = milliseconds(started);
    peer.enter(&mut || (0..LINES).for_each(|step| peer.log_line(&Line::at(step))));
    let ending = Instant::now();
    drop(peer);
    let end = milliseconds(ending);
    let path = folder.path().join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let there = text.lines().filter(|line| line.ends_with(" samples/s")).count();
    Ok(LifeTurn {
        start,
        end,
        lost: LINES as i64 - there as i64,
    })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
