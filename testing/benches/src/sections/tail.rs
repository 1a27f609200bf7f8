//! The slowest of the text calls with gaps: how many of them met a page fault or a context switch.
//!
//! Each turn has a process of its own, as in `calls`. For a trace,
//! `TAIL_TIMES=FILE perf record -k mono -a -e … benches --alone 'tail/PEER'` writes begin, duration
//! and events of each slow call into the file: seconds of the monotonic clock, nanoseconds, page
//! faults, context switches.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hot_paths::{Line, median, pause};

use super::alone::in_own_process;
use super::calls::GAP;
use crate::amounts::Amounts;
use crate::peers::{self, BASELINE, LIMIT, OURS_HANDLE, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};
use crate::usage::{ThreadEvents, monotonic_seconds, thread_events};

/// Before the name of a peer: a turn of the peer.
pub(crate) const TURN: &str = "tail/";

/// Names the file for the times of the slow calls, if somebody wants them.
const TIMES: &str = "TAIL_TIMES";

/// The slowest calls that are looked at: one of so many.
const ONE_OF: usize = 1000;

const ROWS: [PeerEntry; 3] = [LIMIT, OURS_HANDLE, BASELINE];

pub(crate) fn measure(amounts: &Amounts) -> Result<Vec<ReportTable>> {
    let mut turns = ROWS.map(|_| Vec::new());
    for round in 0..amounts.rounds {
        for offset in 0..ROWS.len() {
            let index = (round + offset) % ROWS.len();
            turns[index].push(TailTurn::of(&ROWS[index], amounts)?);
        }
    }
    let note = format!(
        "The slowest 0.1 % of {} rounds of {} calls that are 2 µs apart: sums over the rounds, by what the calling \
         thread met (`getrusage` before the gap and behind the call). `Neither` is a line whose digits take long to \
         format, an interrupt, a host that takes the core away, a missing cache line or a system call; the limit, \
         which writes nothing, has only the first three. Times in nanoseconds, medians over the rounds.",
        amounts.rounds, amounts.calls
    );
    let columns = [
        "peer",
        "slow calls",
        "page fault",
        "switch",
        "both",
        "neither",
        "from, ns",
        "neither, p50",
        "all calls: faults",
        "switches",
    ];
    let mut table = ReportTable::new("The slowest text calls, 2 µs apart", note, &columns);
    for (entry, turns) in ROWS.iter().zip(&turns) {
        let sum = |value: fn(&TailTurn) -> f64| turns.iter().map(value).sum::<f64>().to_string();
        let middle = |value: fn(&TailTurn) -> f64| {
            let values = turns.iter().map(value).filter(|value| !value.is_nan());
            figure(median(values))
        };
        table.row([
            entry.name.to_owned(),
            sum(|turn| turn.slow),
            sum(|turn| turn.faulted),
            sum(|turn| turn.switched),
            sum(|turn| turn.both),
            sum(|turn| turn.neither),
            middle(|turn| turn.threshold),
            middle(|turn| turn.of_neither),
            sum(|turn| turn.all_faults),
            sum(|turn| turn.all_switches),
        ]);
    }
    Ok(vec![table])
}

/// Numbers of calls, and times in nanoseconds.
struct TailTurn {
    slow: f64,
    faulted: f64,
    switched: f64,
    both: f64,
    neither: f64,
    threshold: f64,
    of_neither: f64,
    all_faults: f64,
    all_switches: f64,
}

impl TailTurn {
    fn of(entry: &PeerEntry, amounts: &Amounts) -> Result<Self> {
        let figures = in_own_process(amounts, &format!("{TURN}{}", entry.name))?;
        let [
            slow,
            faulted,
            switched,
            both,
            neither,
            threshold,
            of_neither,
            all_faults,
            all_switches,
        ] = figures[..]
        else {
            bail!("a turn of {} has {} figures", entry.name, figures.len());
        };
        Ok(Self {
            slow,
            faulted,
            switched,
            both,
            neither,
            threshold,
            of_neither,
            all_faults,
            all_switches,
        })
    }
}

struct Call {
    begin: Instant,
    nanoseconds: u32,
    met: ThreadEvents,
}

/// The figures of a turn, in the order of the fields of [`TailTurn`]. This process should have done
/// nothing before.
pub(crate) fn turn(amounts: &Amounts, peer: &str) -> Result<Vec<f64>> {
    let entry = peers::find(peer).with_context(|| format!("there is no peer `{peer}`"))?;
    let mut session = Session::open(&entry)?;
    session.warm_up(amounts.warm_up);
    // The list is touched before, so that it takes no page fault of its own.
    let mut calls: Vec<Call> = (0..amounts.calls)
        .map(|_| Call {
            begin: Instant::now(),
            nanoseconds: 0,
            met: ThreadEvents::default(),
        })
        .collect();
    let peer = session.peer();
    peer.enter(&mut || {
        for (step, call) in calls.iter_mut().enumerate() {
            let line = Line::at(step as u64);
            let before = thread_events();
            call.begin = pause(GAP);
            peer.log_line(&line);
            call.nanoseconds = call.begin.elapsed().as_nanos() as u32;
            call.met = thread_events().since(before);
        }
    });
    session.settle();
    session.close(amounts.warm_up + amounts.calls)?;

    let all_faults = calls.iter().filter(|call| call.met.faults > 0).count();
    let all_switches = calls.iter().filter(|call| call.met.switches > 0).count();
    calls.sort_unstable_by_key(|call| call.nanoseconds);
    let slow = calls.split_off(calls.len() - calls.len().div_ceil(ONE_OF));
    if let Some(path) = std::env::var_os(TIMES) {
        let (now, monotonic) = (Instant::now(), monotonic_seconds());
        let line = |call: &Call| {
            let begin = monotonic - (now - call.begin).as_secs_f64();
            format!(
                "{begin:.9} {} {} {}\n",
                call.nanoseconds, call.met.faults, call.met.switches
            )
        };
        fs::write(path, slow.iter().map(line).collect::<String>()).context("write the times of the slow calls")?;
    }
    let count = |faulted: bool, switched: bool| {
        let is_one = |call: &&Call| (call.met.faults > 0) == faulted && (call.met.switches > 0) == switched;
        slow.iter().filter(is_one).count() as f64
    };
    let neither = slow.iter().filter(|call| call.met == ThreadEvents::default());
    Ok(vec![
        slow.len() as f64,
        count(true, false),
        count(false, true),
        count(true, true),
        count(false, false),
        slow.first().map_or(f64::NAN, |call| f64::from(call.nanoseconds)),
        median(neither.map(|call| f64::from(call.nanoseconds))),
        all_faults as f64,
        all_switches as f64,
    ])
}
