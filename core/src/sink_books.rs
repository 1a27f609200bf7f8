//! The account of one sink.

use std::collections::BTreeMap;

use serde::Serialize;

/// The account of one sink: received calls, and their fate.
///
/// Records, metric calls, hyper-parameters and messages count. Progress does not count, because it
/// is a state that a sink may skip. [`unit`](Self::unit) says what the numbers count. The books of
/// a finished logger balance: `accepted` is the sum of the other numbers.
///
/// ```
/// use logcore::SinkBooks;
///
/// let mut books = SinkBooks::default();
/// books.accepted = 3;
/// books.delivered = 2;
/// books.drop_for("disk full", 1);
/// assert!(books.balanced());
/// assert_eq!(books.dropped["disk full"], 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SinkBooks {
    /// Number of calls that the sink was to deliver.
    pub accepted: u64,
    /// Number of calls that reached the destination.
    pub delivered: u64,
    /// Number of calls that wait on disk for a later delivery.
    pub spooled: u64,
    /// Number of dropped calls, by [reason](crate::SinkError::reason).
    pub dropped: BTreeMap<String, u64>,
    /// The unit of all numbers. Default: calls.
    pub unit: BookUnit,
}

/// The unit in which the books of a sink count.
///
/// A line is one record; repeated records that a sink folds into one line count each. A call is a
/// record, a call of `log_metrics`, hyper-parameters, or a message: several calls may make one row.
///
/// ```
/// use logcore::BookUnit;
///
/// assert_eq!(BookUnit::Lines.of(1), "line");
/// assert_eq!(BookUnit::default().of(2), "calls");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BookUnit {
    /// Calls of any kind.
    #[default]
    Calls,
    /// Lines of text, one for each record.
    Lines,
}

impl BookUnit {
    /// Returns the word for `count` units.
    #[must_use]
    pub fn of(self, count: u64) -> &'static str {
        match (self, count) {
            (Self::Calls, 1) => "call",
            (Self::Calls, _) => "calls",
            (Self::Lines, 1) => "line",
            (Self::Lines, _) => "lines",
        }
    }
}

impl SinkBooks {
    /// Returns the books, counted in another unit.
    #[must_use]
    pub fn in_unit(self, unit: BookUnit) -> Self {
        Self { unit, ..self }
    }

    /// Adds `count` dropped calls under `reason`; 0 adds no entry.
    pub fn drop_for(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason.to_owned()).or_default() += count;
        }
    }

    /// Returns the number of dropped calls, for all reasons together.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Returns `true` if every accepted call is delivered, spooled or dropped.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.accepted == self.delivered + self.spooled + self.dropped_total()
    }

    /// Adds the books of another period of the same sink. The unit stays, unless these books are
    /// empty.
    ///
    /// ```
    /// use logcore::SinkBooks;
    ///
    /// let mut before = SinkBooks::default();
    /// (before.accepted, before.delivered) = (2, 2);
    /// let mut after = SinkBooks::default();
    /// after.accepted = 1;
    /// after.drop_for("queue full", 1);
    /// before.add(&after);
    /// assert_eq!((before.accepted, before.dropped_total()), (3, 1));
    ///
    /// let mut all = SinkBooks::default();
    /// all.add(&before.in_unit(logcore::BookUnit::Lines));
    /// assert_eq!(all.unit, logcore::BookUnit::Lines);
    /// ```
    pub fn add(&mut self, other: &SinkBooks) {
        if *self == Self::default() {
            self.unit = other.unit;
        }
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.spooled += other.spooled;
        for (reason, count) in &other.dropped {
            self.drop_for(reason, *count);
        }
    }
}
