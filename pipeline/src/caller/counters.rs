//! Counts the calls that no sink ever sees.

use std::sync::atomic::{AtomicU64, Ordering};

use log::LevelFilter;

/// The reason in the books for calls that the ring had no room for.
pub const RING_FULL: &str = "ring full";

/// The reason in the books for records beyond the rate limit of their place in the code.
pub const OVER_LIMIT: &str = "limit";

/// The calls that a logger lost before any sink saw them.
#[derive(Debug, Default)]
pub(crate) struct DropCounters {
    /// Records without room in the ring, by level as the `log` crate numbers them, from 1.
    pub(crate) records: [AtomicU64; 6],
    /// Records over the rate limit, by level.
    pub(crate) over_limit: [AtomicU64; 6],
    pub(crate) metrics: AtomicU64,
    pub(crate) configs: AtomicU64,
    pub(crate) media: AtomicU64,
    /// Messages for single sinks, which are not counted by sink.
    pub(crate) messages: AtomicU64,
}

/// Returns the sum of the counts up to `level`.
pub(crate) fn sum_up_to(level: LevelFilter, counts: &[AtomicU64; 6]) -> u64 {
    let counts = counts[..=level as usize].iter();
    counts.map(|count| count.load(Ordering::Relaxed)).sum()
}
