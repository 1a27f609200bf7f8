//! The books of the sink: calls that are in the rows on disk, and those that the server has.
//!
//! The sink `jsonl` writes the rows, and merges the calls of a step. So the place of a call in the
//! file is unknown here, and calls are counted by *turns*: a turn is the calls of a logger with one
//! step, until its next step. The rows of a logger have the same turns.

use std::collections::BTreeMap;

use logcore::{SinkBooks, StoredRow, canonical_name};
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

    /// Returns the books after what the server has of the logger.
    pub(crate) fn after(&mut self, delivered: &DeliveredRows) -> SinkBooks {
        let turns = &delivered.turns;
        if !delivered.is_complete {
            let mut books = self.books.delivered_to(DeliveryPosition {
                // The last turn may go on.
                reached: turns.begun.saturating_sub(1),
                missing: 0,
            });
            drop_refused(&mut books, delivered.refused);
            return books;
        }
        let mut books = match turns.begun < self.turns.begun {
            false => self.books.complete(),
            true => {
                let mut books = self.books.delivered_to(DeliveryPosition {
                    reached: turns.begun,
                    missing: 0,
                });
                let missing = std::mem::take(&mut books.spooled);
                books.drop_for(NOT_ON_DISK, missing);
                books
            }
        };
        drop_refused(&mut books, delivered.refused);
        books
    }
}

/// Moves calls whose values were refused from the delivered ones to the dropped ones.
fn drop_refused(books: &mut SinkBooks, refused: u64) {
    let refused = refused.min(books.delivered);
    if refused > 0 {
        books.delivered -= refused;
        books.drop_for(REFUSED, refused);
    }
}

/// The rows of each logger that the server has.
#[derive(Debug, Default)]
pub(crate) struct DeliveredLoggers {
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
    /// Counts a row; `is_refused` if the server did not take all of its values.
    pub(crate) fn add(&mut self, row: &RowTurn, is_refused: bool) {
        let rows = self.loggers.entry(row.logger.clone()).or_default();
        rows.turns.add(row.step);
        rows.refused += u64::from(is_refused);
    }

    /// Returns the rows of a logger.
    pub(crate) fn of(&self, logger: &str) -> DeliveredRows {
        let rows = self.loggers.get(&*canonical_name(logger)).cloned();
        DeliveredRows {
            is_complete: self.is_complete,
            ..rows.unwrap_or_default()
        }
    }

    /// Notes that the server has all rows, and that no row comes any more.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
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
            let mut server = DeliveredLoggers::default();
            let read = read.min(steps.len());
            for (at, step) in steps.iter().enumerate() {
                calls.add(*step);
                if at < read {
                    server.add(&row(*step), at < refused);
                }
            }
            let books = calls.after(&server.of("my_app.train"));
            prop_assert!(books.balanced());
            prop_assert!(books.delivered <= read as u64);
            server.complete();
            let books = calls.after(&server.of("my-app::train"));
            prop_assert!(books.balanced() && books.spooled == 0, "{books:?}");
            let is_whole = steps[read..].iter().all(|step| read > 0 && *step == steps[read - 1]);
            prop_assert_eq!(!books.dropped.contains_key(NOT_ON_DISK), is_whole, "{:?}", books);
        }
    }
}
