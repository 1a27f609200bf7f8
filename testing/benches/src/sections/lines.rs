//! How fast lines get into the file, and what that costs.
//!
//! Each turn has a process of its own: some peers exist once in a process, and nobody is to find
//! the heap or the threads of another.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hot_paths::{Line, median};

use super::alone::in_own_process;
use crate::amounts::Amounts;
use crate::peers::{self, BASELINE, LIMIT, Peer, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};
use crate::usage::cpu_seconds;

/// Before the number of threads and the name of a peer: a turn of the peer.
pub(crate) const TURN: &str = "lines/";

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
            turns[index].push(LineTurn::of(&everyone[index], amounts, threads)?);
        }
    }

    let title = format!(
        "Lines until they are in the file, {threads} thread{}",
        if threads == 1 { "" } else { "s" }
    );
    let note = format!(
        "{} rounds of {} lines, in which the peers take turns, each turn in a process of its own; medians over the \
         rounds. `× {}` is the ratio to that peer in the same round, `× limit` the ratio to formatting alone with as \
         many threads (above 1 is faster; for CPU, below 1 is cheaper). CPU is user and system time of all threads of \
         the process, from the first call until the last line is in the file, in seconds a million lines.",
        amounts.rounds, amounts.lines, BASELINE.name
    );
    let to_baseline = format!("× {}", BASELINE.name);
    let columns = [
        "peer",
        "lines/s",
        &to_baseline,
        "× limit",
        "CPU s/M",
        &to_baseline,
        "× limit",
        "lost",
    ];
    let mut table = ReportTable::new(title, note, &columns);
    let baseline = everyone
        .iter()
        .position(|entry| entry.name == BASELINE.name)
        .unwrap_or(0);
    for (entry, own) in everyone.iter().zip(&turns) {
        let against = |other: usize, value: fn(&LineTurn) -> f64| {
            let ratios = own
                .iter()
                .zip(&turns[other])
                .map(|(own, base)| value(own) / value(base));
            figure(median(ratios))
        };
        table.row([
            entry.name.to_owned(),
            figure(median(own.iter().map(|turn| turn.rate))),
            against(baseline, |turn| turn.rate),
            against(0, |turn| turn.rate),
            figure(median(own.iter().map(|turn| turn.cpu))),
            against(baseline, |turn| turn.cpu),
            against(0, |turn| turn.cpu),
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

impl LineTurn {
    fn of(entry: &PeerEntry, amounts: &Amounts, threads: u64) -> Result<Self> {
        let name = format!("{TURN}{threads}/{}", entry.name);
        let figures = in_own_process(amounts, &name)?;
        let [rate, cpu, lost] = figures[..] else {
            bail!("a turn of {} has {} figures", entry.name, figures.len());
        };
        Ok(Self {
            rate,
            cpu,
            lost: lost as i64,
        })
    }
}

/// The figures of a turn, in the order of the fields of [`LineTurn`]. `name` has what stands behind
/// [`TURN`]. This process should have done nothing before.
pub(crate) fn turn(amounts: &Amounts, name: &str) -> Result<Vec<f64>> {
    let (threads, peer) = name.split_once('/').context("the turn has no number of threads")?;
    let threads: u64 = threads.parse().context("the number of threads")?;
    let entry = peers::find(peer).with_context(|| format!("there is no peer `{peer}`"))?;
    let mut session = Session::open(&entry)?;
    session.warm_up(amounts.warm_up);
    let per_thread = amounts.lines / threads;
    let cpu_before = cpu_seconds();
    let started = say_lines(session.peer(), threads, per_thread);
    session.settle();
    let wall = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu_before;
    let logged = per_thread * threads;
    let lost = session.close(amounts.warm_up + logged)?;
    Ok(vec![logged as f64 / wall, cpu * 1e6 / logged as f64, lost as f64])
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
