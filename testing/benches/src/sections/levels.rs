//! The time of a call whose level is off.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use hot_paths::{Line, median};
use log::LevelFilter;

use crate::amounts::Amounts;
use crate::peers::{LIMIT, Peer, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};

pub(crate) fn measure(amounts: &Amounts, chosen: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let peers: Vec<&PeerEntry> = chosen.iter().filter(|entry| !entry.only_once).collect();
    let mut turns: Vec<Vec<[LevelTurn; 2]>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..amounts.rounds {
        for (&entry, turns) in peers.iter().zip(&mut turns) {
            let mut session = Session::open(entry)?;
            session.warm_up(1);
            let unwanted = turn(&session, amounts)?;
            // Somebody else in the process may want the level; `log` then asks each logger for
            // itself.
            log::set_max_level(LevelFilter::Trace);
            let refused = turn(&session, amounts)?;
            turns.push([unwanted, refused]);
        }
    }

    let note = "Nanoseconds a call, loop included. `nobody wants` is a level above `log::max_level()`, with what \
         `log` costs by itself in the turn before; `it alone does not` is one that another logger of the process \
         does want. fast_log, which a process can have only once, has no row.";
    let mut table = ReportTable::new(
        "Calls whose level is off",
        note,
        &["peer", "nobody wants", "`log` by itself", "it alone does not"],
    );
    for (entry, turns) in peers.iter().zip(&turns) {
        let of = |value: fn(&[LevelTurn; 2]) -> f64| figure(median(turns.iter().map(value)));
        table.row([
            entry.name.to_owned(),
            of(|t| t[0].peer),
            of(|t| t[0].limit),
            of(|t| t[1].peer),
        ]);
    }
    Ok(vec![table])
}

struct LevelTurn {
    peer: f64,
    limit: f64,
}

fn turn(session: &Session, amounts: &Amounts) -> Result<LevelTurn> {
    let limit = (LIMIT.open)(std::path::Path::new(""))?;
    let time = |peer: &dyn Peer| {
        // The compiler must not see through the pointer of the limit, which it knows: a call
        // through a pointer takes longer than the check of a level.
        let peer = black_box(peer);
        let line = Line::at(1);
        let mut nanoseconds = f64::NAN;
        peer.enter(&mut || {
            let started = Instant::now();
            for _ in 0..amounts.small_calls {
                peer.log_disabled(black_box(&line));
            }
            nanoseconds = started.elapsed().as_secs_f64() * 1e9 / amounts.small_calls as f64;
        });
        nanoseconds
    };
    Ok(LevelTurn {
        limit: time(&*limit),
        peer: time(session.peer()),
    })
}
