//! The time of a text call. Each turn has a process of its own, as in `lines`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hot_paths::{Line, Timing, median, pause};

use super::alone::in_own_process;
use crate::amounts::Amounts;
use crate::peers::{self, CLOCK, LIMIT, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};

/// A pause as short as between the calls of a busy program, but long enough for a writer to keep
/// up.
pub(crate) const GAP: Duration = Duration::from_micros(2);

/// Before the gap in nanoseconds and the name of a peer: a turn of the limit and one of the peer.
pub(crate) const TURN: &str = "calls/";

pub(crate) fn measure(amounts: &Amounts, peers: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let back_to_back = table(amounts, peers, Duration::ZERO, "Text calls, back to back")?;
    let with_gaps = table(amounts, peers, GAP, "Text calls, 2 µs apart")?;
    Ok(vec![back_to_back, with_gaps])
}

fn table(amounts: &Amounts, peers: &[PeerEntry], gap: Duration, title: &str) -> Result<ReportTable> {
    let mut turns: Vec<Vec<CallTurn>> = peers.iter().map(|_| Vec::new()).collect();
    let mut clock = Vec::new();
    for round in 0..amounts.rounds {
        clock.push(CallTurn::of(&CLOCK, amounts, gap)?.timing);
        for offset in 0..peers.len() {
            // Everyone begins once, so that nobody always has the same one before it.
            let index = (round + offset) % peers.len();
            turns[index].push(CallTurn::of(&peers[index], amounts, gap)?);
        }
    }

    let note = format!(
        "Nanoseconds; {} rounds of {} calls, medians over the rounds. Each turn has a process of its own. `×` is the \
         ratio to the limit, which has a turn just before the peer's in that process. Each time includes one reading \
         of the clock.",
        amounts.rounds, amounts.calls
    );
    let mut table = ReportTable::new(
        title,
        note,
        &[
            "peer", "× p50", "× p99", "× p99.9", "p50", "p90", "p99", "p99.9", "mean", "lost",
        ],
    );
    let figures = |timings: &[Timing]| {
        let of = |value: fn(&Timing) -> f64| figure(median(timings.iter().map(value)));
        [
            of(|t| t.p50),
            of(|t| t.p90),
            of(|t| t.p99),
            of(|t| t.p999),
            of(|t| t.mean),
        ]
    };
    let none = || ["-"; 3].map(str::to_owned);
    table.row(
        [CLOCK.name.to_owned()]
            .into_iter()
            .chain(none())
            .chain(figures(&clock))
            .chain(["-".to_owned()]),
    );
    let limits: Vec<Timing> = turns.iter().flatten().map(|turn| turn.limit).collect();
    let one = ["1", "1", "1"].map(str::to_owned);
    table.row(
        [LIMIT.name.to_owned()]
            .into_iter()
            .chain(one)
            .chain(figures(&limits))
            .chain(["-".to_owned()]),
    );
    for (entry, turns) in peers.iter().zip(&turns) {
        let ratio =
            |value: fn(&Timing) -> f64| figure(median(turns.iter().map(|t| value(&t.timing) / value(&t.limit))));
        let timings: Vec<Timing> = turns.iter().map(|turn| turn.timing).collect();
        let lost: i64 = turns.iter().map(|turn| turn.lost).sum();
        table.row(
            [
                entry.name.to_owned(),
                ratio(|t| t.p50),
                ratio(|t| t.p99),
                ratio(|t| t.p999),
            ]
            .into_iter()
            .chain(figures(&timings))
            .chain([lost.to_string()]),
        );
    }
    Ok(table)
}

struct CallTurn {
    timing: Timing,
    /// Of the limit's turn just before.
    limit: Timing,
    lost: i64,
}

impl CallTurn {
    fn of(entry: &PeerEntry, amounts: &Amounts, gap: Duration) -> Result<Self> {
        let name = format!("{TURN}{}/{}", gap.as_nanos(), entry.name);
        let figures = in_own_process(amounts, &name)?;
        let timing = |figures: &[f64]| match *figures {
            [p50, p90, p99, p999, mean] => Ok(Timing {
                p50,
                p90,
                p99,
                p999,
                mean,
            }),
            _ => bail!("a turn of {} has {} figures", entry.name, figures.len()),
        };
        let (limit, rest) = figures.split_at(figures.len().min(5));
        let (of_peer, lost) = rest.split_at(rest.len().min(5));
        Ok(Self {
            timing: timing(of_peer)?,
            limit: timing(limit)?,
            lost: lost.iter().sum::<f64>() as i64,
        })
    }
}

/// The times of a turn of the limit and one of the peer, and the lost lines. `name` has what stands
/// behind [`TURN`]. This process should have done nothing before.
pub(crate) fn turns(amounts: &Amounts, name: &str) -> Result<Vec<f64>> {
    let (gap, peer) = name.split_once('/').context("the turn has no gap")?;
    let gap = Duration::from_nanos(gap.parse().context("the gap")?);
    let entry = peers::find(peer).with_context(|| format!("there is no peer `{peer}`"))?;
    let mut samples = Vec::with_capacity(amounts.calls as usize);
    let (limit, _) = turn(&LIMIT, amounts, gap, &mut samples)?;
    let (timing, lost) = turn(&entry, amounts, gap, &mut samples)?;
    let figures = |timing: Timing| [timing.p50, timing.p90, timing.p99, timing.p999, timing.mean];
    Ok([&figures(limit)[..], &figures(timing), &[lost as f64]].concat())
}

fn turn(entry: &PeerEntry, amounts: &Amounts, gap: Duration, samples: &mut Vec<u32>) -> Result<(Timing, i64)> {
    let mut session = Session::open(entry)?;
    session.warm_up(amounts.warm_up);
    let peer = session.peer();
    samples.clear();
    peer.enter(&mut || {
        for step in 0..amounts.calls {
            let line = Line::at(step);
            let started = pause(gap);
            peer.log_line(&line);
            samples.push(started.elapsed().as_nanos() as u32);
        }
    });
    session.settle();
    let lost = session.close(amounts.warm_up + amounts.calls)?;
    Ok((Timing::of(samples), lost))
}
