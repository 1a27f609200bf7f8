//! The books of the sink: calls that are in the rows on disk, and those that the server has.
//!
//! The sink `jsonl` writes the rows, and merges the calls of a step. So the place of a call in the
//! file is unknown here, and calls are counted by *turns*: a turn is the calls of a logger with one
//! step, until its next step. The rows of a logger have the same turns.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use logcore::sync::{lock, wait_timeout};
use logcore::{Deadline, SinkBooks, StoredRow, canonical_name};
use logcore_delivery::{DeliveryPosition, SpoolBooks};

/// Why a call that is in no row cannot be delivered.
const NOT_ON_DISK: &str = "not in metrics.jsonl";
/// Why the values of a call are not on the server.
const REFUSED: &str = "refused by the server";

/// The books of one logger's calls.
#[derive(Debug, Default)]
pub(crate) struct CallBooks {
    turns: Turns,
    books: SpoolBooks,
    /// `true` if no call comes any more.
    is_closed: bool,
}

impl CallBooks {
    /// Counts a call for a step.
    pub(crate) fn add(&mut self, step: u64) {
        self.books.accept();
        self.books.spool();
        if self.turns.add(step) {
            // All calls but this one are in the turns before.
            self.books.mark(self.turns.begun - 1, 1);
        }
    }

    /// Notes that no call comes any more.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.books.mark(self.turns.begun, 0);
        }
    }

    /// Returns the books after what the server has of the logger.
    pub(crate) fn after(&mut self, delivered: &DeliveredRows) -> SinkBooks {
        // The last turn may go on.
        let open = u64::from(!self.is_closed);
        let mut books = self.books.delivered_to(DeliveryPosition {
            reached: delivered.turns.begun.saturating_sub(open),
            missing: 0,
        });
        if delivered.is_complete {
            let missing = std::mem::take(&mut books.spooled);
            books.drop_for(NOT_ON_DISK, missing);
        }
        let refused = delivered.refused.min(books.delivered);
        books.delivered -= refused;
        books.drop_for(REFUSED, refused);
        books
    }
}

/// The rows of each logger that the server has, as the thread of the delivery knows them.
#[derive(Debug, Default)]
pub(crate) struct DeliveredLoggers {
    state: Mutex<DeliveredState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DeliveredState {
    loggers: BTreeMap<String, DeliveredRows>,
    is_complete: bool,
}

/// The rows of one logger that the server has.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveredRows {
    turns: Turns,
    /// Number of rows with a refused value.
    refused: u64,
    /// `true` if no row comes any more.
    is_complete: bool,
}

impl DeliveredLoggers {
    /// Counts rows, each with `true` if the server did not take all of its values.
    pub(crate) fn add(&self, rows: impl Iterator<Item = (RowTurn, bool)>) {
        let mut state = lock(&self.state);
        for (row, is_refused) in rows {
            let rows = state.loggers.entry(row.logger).or_default();
            rows.turns.add(row.step);
            rows.refused += u64::from(is_refused);
        }
        self.changed.notify_all();
    }

    /// Returns the rows of a logger.
    pub(crate) fn of(&self, logger: &str) -> DeliveredRows {
        lock(&self.state).of(logger)
    }

    /// Notes that the server has all rows, and that no row comes any more.
    pub(crate) fn complete(&self) {
        lock(&self.state).is_complete = true;
        self.changed.notify_all();
    }

    /// Waits until the rows of a logger are enough, at most until the deadline.
    pub(crate) fn wait_for(&self, logger: &str, deadline: Deadline, mut is_enough: impl FnMut(&DeliveredRows) -> bool) {
        let mut state = lock(&self.state);
        while !is_enough(&state.of(logger)) && !deadline.has_passed() {
            state = wait_timeout(&self.changed, state, deadline.remaining());
        }
    }
}

impl DeliveredState {
    fn of(&self, logger: &str) -> DeliveredRows {
        let rows = self.loggers.get(&*canonical_name(logger)).cloned();
        DeliveredRows {
            is_complete: self.is_complete,
            ..rows.unwrap_or_default()
        }
    }
}

/// The turn of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowTurn {
    logger: String,
    step: u64,
}

impl RowTurn {
    pub(crate) fn of(row: &StoredRow) -> Self {
        Self {
            logger: canonical_name(&row.logger).into_owned(),
            step: row.step,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Turns {
    begun: u64,
    step: Option<u64>,
}

impl Turns {
    /// Adds a call or a row of a step. Returns `true` if it begins a turn.
    fn add(&mut self, step: u64) -> bool {
        let begins = self.step.replace(step) != Some(step);
        self.begun += u64::from(begins);
        begins
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(step: u64) -> RowTurn {
        RowTurn::of(&StoredRow::new(step, 0.0, "my-app::train"))
    }

    proptest! {
        /// The books balance at each moment, and never count a call that may not be there.
        #[test]
        fn books_balance_and_count_no_call_too_many(
            steps in prop::collection::vec(0..4_u64, 1..60), read in 0..60_usize, refused in 0..3_usize,
        ) {
            let mut calls = CallBooks::default();
            let server = DeliveredLoggers::default();
            let read = read.min(steps.len());
            for (at, step) in steps.iter().enumerate() {
                calls.add(*step);
                if at < read {
                    server.add([(row(*step), at < refused)].into_iter());
                }
            }
            let books = calls.after(&server.of("my_app.train"));
            prop_assert!(books.balanced());
            prop_assert!(books.delivered <= read as u64);
            server.complete();
            calls.close();
            let books = calls.after(&server.of("my-app::train"));
            prop_assert!(books.balanced() && books.spooled == 0, "{books:?}");
            let is_whole = steps[read..].iter().all(|step| read > 0 && *step == steps[read - 1]);
            prop_assert_eq!(!books.dropped.contains_key(NOT_ON_DISK), is_whole, "{:?}", books);
        }
    }
}
