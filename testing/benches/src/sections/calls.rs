//! The time of a text call.

use std::time::Duration;

use anyhow::Result;
use hot_paths::{Line, Timing, median, pause};

use crate::amounts::Amounts;
use crate::peers::{CLOCK, LIMIT, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};

/// A pause as short as between the calls of a busy program, but long enough for a writer to keep
/// up.
const GAP: Duration = Duration::from_micros(2);

pub(crate) fn measure(amounts: &Amounts, peers: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let back_to_back = table(amounts, peers, Duration::ZERO, "Text calls, back to back")?;
    let with_gaps = table(amounts, peers, GAP, "Text calls, 2 µs apart")?;
    Ok(vec![back_to_back, with_gaps])
}

fn table(amounts: &Amounts, peers: &[PeerEntry], gap: Duration, title: &str) -> Result<ReportTable> {
    let mut turns: Vec<Vec<CallTurn>> = peers.iter().map(|_| Vec::new()).collect();
    let mut clock = Vec::new();
    let mut samples = Vec::with_capacity(amounts.calls as usize);
    for round in 0..amounts.rounds {
        clock.push(turn(&CLOCK, amounts, gap, &mut samples)?.0);
        for offset in 0..peers.len() {
            // Everyone begins once, so that nobody always has the same one before it.
            let index = (round + offset) % peers.len();
            let (limit, _) = turn(&LIMIT, amounts, gap, &mut samples)?;
            let (timing, lost) = turn(&peers[index], amounts, gap, &mut samples)?;
            turns[index].push(CallTurn { timing, limit, lost });
        }
    }

    let note = format!(
        "Nanoseconds; {} rounds of {} calls, medians over the rounds. `×` is the ratio to the limit, which has a turn \
         just before each peer's. Each time includes one reading of the clock.",
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
