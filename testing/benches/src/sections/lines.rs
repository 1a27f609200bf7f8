//! How fast lines get into the file, and what that costs.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use hot_paths::{Line, median};

use crate::amounts::Amounts;
use crate::peers::{BASELINE, LIMIT, Peer, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};
use crate::usage::cpu_seconds;

pub(crate) fn measure(amounts: &Amounts, peers: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    [1, 4]
        .into_iter()
        .map(|threads| table(amounts, peers, threads))
        .collect()
}

fn table(amounts: &Amounts, peers: &[PeerEntry], threads: u64) -> Result<ReportTable> {
    let others = peers.iter().filter(|entry| !entry.again);
    let everyone: Vec<PeerEntry> = [&LIMIT].into_iter().chain(others).copied().collect();
    let mut turns: Vec<Vec<LineTurn>> = everyone.iter().map(|_| Vec::new()).collect();
    for round in 0..amounts.rounds {
        for offset in 0..everyone.len() {
            let index = (round + offset) % everyone.len();
            turns[index].push(turn(&everyone[index], amounts, threads)?);
        }
    }

    let title = format!(
        "Lines until they are in the file, {threads} thread{}",
        if threads == 1 { "" } else { "s" }
    );
    let note = format!(
        "{} rounds of {} lines, medians over the rounds. `×` is the ratio to {} in the same round (above 1 is faster; \
         for CPU, below 1 is cheaper). CPU is of all threads of the process, in seconds a million lines.",
        amounts.rounds, amounts.lines, BASELINE.name
    );
    let mut table = ReportTable::new(title, note, &["peer", "lines/s", "×", "CPU s/M", "× CPU", "lost"]);
    let baseline = everyone
        .iter()
        .position(|entry| entry.name == BASELINE.name)
        .unwrap_or(0);
    for (entry, own) in everyone.iter().zip(&turns) {
        let against = |value: fn(&LineTurn) -> f64| {
            let ratios = own
                .iter()
                .zip(&turns[baseline])
                .map(|(own, base)| value(own) / value(base));
            figure(median(ratios))
        };
        table.row([
            entry.name.to_owned(),
            figure(median(own.iter().map(|turn| turn.rate))),
            against(|turn| turn.rate),
            figure(median(own.iter().map(|turn| turn.cpu))),
            against(|turn| turn.cpu),
            own.iter().map(|turn| turn.lost).sum::<i64>().to_string(),
        ]);
    }
    Ok(table)
}

struct LineTurn {
    /// Lines a second.
    rate: f64,
    /// CPU seconds a million lines.
    cpu: f64,
    lost: i64,
}

fn turn(entry: &PeerEntry, amounts: &Amounts, threads: u64) -> Result<LineTurn> {
    let mut session = Session::open(entry)?;
    session.warm_up(amounts.warm_up);
    let per_thread = amounts.lines / threads;
    let cpu_before = cpu_seconds();
    let started = say_lines(session.peer(), threads, per_thread);
    session.settle();
    let wall = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu_before;
    let logged = per_thread * threads;
    Ok(LineTurn {
        rate: logged as f64 / wall,
        cpu: cpu * 1e6 / logged as f64,
        lost: session.close(amounts.warm_up + logged)?,
    })
}

/// Returns the time before which none of them began.
fn say_lines(peer: &dyn Peer, threads: u64, per_thread: u64) -> Instant {
    let say_all =
        |first: u64| peer.enter(&mut || (first..first + per_thread).for_each(|step| peer.log_line(&Line::at(step))));
    if threads == 1 {
        let started = Instant::now();
        say_all(0);
        return started;
    }
    let (there, go) = (Barrier::new(threads as usize + 1), Barrier::new(threads as usize + 1));
    thread::scope(|scope| {
        for thread in 0..threads {
            let (say_all, there, go) = (&say_all, &there, &go);
            scope.spawn(move || {
                there.wait();
                go.wait();
                say_all(thread * per_thread);
            });
        }
        // Two barriers: with one, the first thread through it might be done before this one reads
        // the clock.
        there.wait();
        let started = Instant::now();
        go.wait();
        started
    })
}
