//! The cost of a peer that has nothing or little to do, measured in a process of its own.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hot_paths::{Line, median};

use crate::amounts::Amounts;
use crate::peers::{self, LIMIT, PeerEntry};
use crate::session::Session;
use crate::table::{ReportTable, figure};
use crate::usage::{cpu_seconds, resident_mb};

/// The argument with which this program measures one peer by itself.
pub(crate) const ALONE: &str = "--alone";

/// How long to look for a lone line. Longer than the flush interval of any peer that has one.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Intervals between lone lines: in the first a writer is still polling, in the second it may have
/// gone to sleep.
const INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(300)];

pub(crate) fn measure(amounts: &Amounts, peers: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let note = format!(
        "Each in a process of its own. The delay is from the call of a lone line until the file has grown (a dash: \
         not within {} s, only when a buffer is full or flushed), with 50 ms and 300 ms between the lines, median \
         and worst of {} each. The call is what it costs the caller then, after sleeping, with cold caches. Idle is \
         CPU time over {} s in which nothing is said. Memory is what is resident more than before the peer was \
         opened: after 1000 lines, and after {} lines at once.",
        PATIENCE.as_secs_f64(),
        amounts.lone_lines,
        amounts.idle.as_secs_f64(),
        amounts.lines,
    );
    let mut table = ReportTable::new(
        "A lone line, idleness and memory",
        note,
        &[
            "peer",
            "delay 50, ms",
            "worst",
            "delay 300, ms",
            "worst",
            "call, µs",
            "idle CPU, %",
            "memory, MB",
            "later, MB",
        ],
    );
    for entry in peers.iter().filter(|entry| !entry.again) {
        let figures = in_own_process(amounts, entry.name)?;
        table.row(
            [entry.name.to_owned()]
                .into_iter()
                .chain(figures.into_iter().map(figure)),
        );
    }
    Ok(vec![table])
}

/// Has a process of its own measure `name`, and returns the figures that it prints.
pub(crate) fn in_own_process(amounts: &Amounts, name: &str) -> Result<Vec<f64>> {
    in_process_with(amounts, name, &[])
}

/// The same, with variables of the environment.
pub(crate) fn in_process_with(amounts: &Amounts, name: &str, variables: &[(&str, String)]) -> Result<Vec<f64>> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command
        .args([ALONE, name])
        .args((amounts.rounds == Amounts::QUICK.rounds).then_some("--quick"))
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command
        .output()
        .with_context(|| format!("start a process for {name}"))?;
    ensure!(
        output.status.success(),
        "the process for {name} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    text.split_whitespace()
        .map(|word| word.parse().with_context(|| format!("a figure of {name}: {word}")))
        .collect()
}

/// The figures of one peer, in the order of the columns. This process should have done nothing
/// before.
pub(crate) fn figures(amounts: &Amounts, name: &str) -> Result<Vec<f64>> {
    let Some(entry) = peers::all().into_iter().find(|entry| entry.name == name) else {
        bail!("there is no peer `{name}`");
    };
    // Memory for formatting is used in any case, so it is taken before the first measurement.
    let limit = Session::open(&LIMIT)?;
    (0..1000).for_each(|step| limit.peer().log_line(&Line::at(step)));

    let before = resident_mb();
    let mut session = Session::open(&entry)?;
    session.warm_up(1000);
    let base = resident_mb() - before;
    let idle = idle_percent(amounts);
    let polling = lone_lines(&session, amounts.lone_lines, INTERVALS[0]);
    // A peer that waits for a full buffer delivers a lone line at no interval.
    let asleep = if polling.delays.is_empty() {
        Lone::default()
    } else {
        lone_lines(&session, amounts.lone_lines, INTERVALS[1])
    };
    session.warm_up(amounts.lines);
    let later = resident_mb() - before;

    let worst = |delays: &[f64]| delays.iter().copied().fold(f64::NAN, f64::max);
    Ok(vec![
        median(polling.delays.iter().copied()),
        worst(&polling.delays),
        median(asleep.delays.iter().copied()),
        worst(&asleep.delays),
        median(polling.calls.iter().chain(&asleep.calls).copied()),
        idle,
        base,
        later,
    ])
}

fn idle_percent(amounts: &Amounts) -> f64 {
    // Let it come to rest first.
    thread::sleep(Duration::from_millis(400));
    let before = cpu_seconds();
    thread::sleep(amounts.idle);
    (cpu_seconds() - before) / amounts.idle.as_secs_f64() * 100.0
}

#[derive(Default)]
struct Lone {
    /// Milliseconds until the file grew.
    delays: Vec<f64>,
    /// Microseconds of the call.
    calls: Vec<f64>,
}

fn lone_lines(session: &Session, count: usize, interval: Duration) -> Lone {
    let peer = session.peer();
    let path = session.path();
    let length = || fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let mut lone = Lone::default();
    for step in 0..count {
        thread::sleep(interval);
        let before = length();
        let line = Line::at(step as u64);
        let mut started = Instant::now();
        peer.enter(&mut || {
            started = Instant::now();
            peer.log_line(&line);
            lone.calls.push(started.elapsed().as_secs_f64() * 1e6);
        });
        // Looked at without a pause: there is a core for the writer, and a sleep would be most of
        // the delay.
        while length() == before {
            if started.elapsed() > PATIENCE {
                return lone;
            }
        }
        lone.delays.push(started.elapsed().as_secs_f64() * 1e3);
    }
    lone
}
