//! The amounts that are measured, and the choice of sections and peers.

use std::time::Duration;

use crate::peers::{self, BASELINE, PeerEntry};

/// The amounts of a run.
#[derive(Clone, Copy)]
pub(crate) struct Amounts {
    /// Number of turns of each peer. A table has their medians.
    pub(crate) rounds: usize,
    /// Number of calls of a turn that are timed one by one.
    pub(crate) calls: u64,
    /// Number of lines before a turn's measurement, enough to fill a ring of 4 MiB once.
    pub(crate) warm_up: u64,
    /// Number of lines of a turn that is timed as a whole.
    pub(crate) lines: u64,
    /// Number of calls of a turn whose calls are shorter than a reading of the clock.
    pub(crate) small_calls: u64,
    /// Time without a line, in which the cost of an idle logger is measured.
    pub(crate) idle: Duration,
    /// Number of single lines at each of two intervals.
    pub(crate) lone_lines: usize,
    /// Number of metric points that are logged before the memory is measured.
    pub(crate) points: u64,
    /// Number of rows of ten metrics that a whole process logs.
    pub(crate) rows: u64,
    /// The same for a client that takes seconds for a thousand.
    pub(crate) slow_rows: u64,
    /// `true` if programs are built to measure the build.
    pub(crate) builds: bool,
}

impl Amounts {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        calls: 100_000,
        warm_up: 50_000,
        lines: 200_000,
        small_calls: 1_000_000,
        idle: Duration::from_secs(3),
        lone_lines: 11,
        points: 10_000_000,
        rows: 100_000,
        slow_rows: 2_000,
        builds: true,
    };

    pub(crate) const QUICK: Self = Self {
        rounds: 2,
        calls: 10_000,
        warm_up: 2_000,
        lines: 20_000,
        small_calls: 100_000,
        idle: Duration::from_millis(200),
        lone_lines: 1,
        points: 100_000,
        rows: 2_000,
        slow_rows: 100,
        builds: false,
    };
}

/// The chosen sections, by a part of their names, or else the chosen peers.
pub(crate) struct Choice {
    filter: String,
    names_a_section: bool,
}

impl Choice {
    pub(crate) fn new(filter: String, sections: &[&str]) -> Self {
        Self {
            names_a_section: sections.iter().any(|section| section.contains(&filter)),
            filter,
        }
    }

    pub(crate) fn section(&self, name: &str) -> bool {
        !self.names_a_section || name.contains(&self.filter)
    }

    /// Returns the chosen peers, and the baseline that they are compared with.
    pub(crate) fn peers(&self) -> Vec<PeerEntry> {
        let wanted = |entry: &PeerEntry| {
            self.names_a_section || entry.name.contains(&self.filter) || entry.name == BASELINE.name
        };
        peers::all().into_iter().filter(wanted).collect()
    }
}
