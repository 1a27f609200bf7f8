//! How much is measured.

use std::time::Duration;

use crate::peers::{self, BASELINE, PeerEntry};

/// The amounts of a run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// How often everyone gets their turn; the median of these is told.
    pub(crate) rounds: usize,
    /// Calls of a turn that are timed one by one.
    pub(crate) calls: u64,
    /// Lines before a turn's measurement. Enough for a ring of 4 MiB to have gone round once.
    pub(crate) warm_up: u64,
    /// Lines of a turn that is timed as a whole.
    pub(crate) lines: u64,
    /// Calls of a turn that are over before a clock could be read.
    pub(crate) small_calls: u64,
    /// How long nothing is said, to see what that costs.
    pub(crate) idle: Duration,
    /// Lone lines, at each of two intervals.
    pub(crate) lone_lines: usize,
    /// Metric points that are logged to see what they leave in memory.
    pub(crate) points: u64,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 7,
        calls: 100_000,
        warm_up: 50_000,
        lines: 200_000,
        small_calls: 1_000_000,
        idle: Duration::from_secs(3),
        lone_lines: 11,
        points: 10_000_000,
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

    /// The peers that are wanted, and the one that the others are compared with.
    pub(crate) fn peers(&self) -> Vec<PeerEntry> {
        let wanted = |entry: &PeerEntry| {
            self.names_a_section || entry.name.contains(&self.filter) || entry.name == BASELINE.name
        };
        peers::all().into_iter().filter(wanted).collect()
    }
}
