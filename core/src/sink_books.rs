use std::collections::BTreeMap;

use serde::Serialize;

/// The account of one sink: what it was given, and what became of it.
///
/// Records, metric calls and configs count; progress, being a state, does not. Once a logger is finished the books
/// balance: `accepted` is the sum of the rest.
///
/// ```
/// use logcore::SinkBooks;
///
/// let mut books = SinkBooks::default();
/// books.accepted = 3;
/// books.delivered = 2;
/// books.drop_for("disk full", 1);
/// assert!(books.is_balanced());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SinkBooks {
    /// What the sink was to deliver.
    pub accepted: u64,
    /// What it delivered.
    pub delivered: u64,
    /// What is kept on disk to be delivered later.
    pub spooled: u64,
    /// What was given up, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl SinkBooks {
    /// Counts `count` drops for `reason`; none are no entry.
    pub fn drop_for(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason.to_owned()).or_default() += count;
        }
    }

    /// All drops together.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether everything accepted is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.delivered + self.spooled + self.dropped_total()
    }

    /// Adds the account of another stretch of the same sink's life.
    pub fn add(&mut self, other: &SinkBooks) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.spooled += other.spooled;
        for (reason, count) in &other.dropped {
            self.drop_for(reason, *count);
        }
    }
}
