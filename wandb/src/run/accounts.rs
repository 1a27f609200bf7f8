//! The accounts of a run: calls that are in the log, delivered or lost.

use std::collections::VecDeque;

use logcore::SinkBooks;

use crate::log_format::LogLoss;
use crate::upload::state::control::DeliveryPosition;

/// The greatest number of marks. More are thinned out, so that a server that is down for days costs
/// no memory.
const MOST_MARKS: usize = 4096;

/// Counts the calls of a run, and finds the number of calls that the server has.
#[derive(Default)]
pub(super) struct CallAccounts {
    /// Number of calls in the log.
    calls: u64,
    /// Record numbers, each with the number of calls in the records up to it. The newest mark is
    /// last.
    marks: VecDeque<(i64, u64)>,
    books: SinkBooks,
}

impl CallAccounts {
    /// Counts a call.
    pub(super) fn accept(&mut self) {
        self.books.accepted += 1;
    }

    /// Counts a call that is in the log.
    pub(super) fn add_to_log(&mut self) {
        self.calls += 1;
    }

    /// Counts a call that is not in the log.
    pub(super) fn reject(&mut self, reason: &str) {
        self.books.drop_for(reason, 1);
    }

    /// Notes that the records up to `num` are in the file, and hold all calls but `open_calls`.
    pub(super) fn mark(&mut self, num: i64, open_calls: u64) {
        let mark = (num, self.calls - open_calls);
        if self.marks.back() != Some(&mark) {
            self.marks.push_back(mark);
        }
        if self.marks.len() > MOST_MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Notes that the file was cut, and returns the number of lost calls.
    pub(super) fn lose(&mut self, loss: &LogLoss) -> u64 {
        let calls_to = |num: i64| {
            let marks = self.marks.iter().take_while(|mark| mark.0 <= num);
            marks.last().map_or(0, |mark| mark.1)
        };
        let (kept, all) = (calls_to(loss.behind), calls_to(loss.to));
        let lost = all.saturating_sub(kept).saturating_sub(loss.rewritten);
        self.marks.retain(|mark| mark.0 <= loss.behind);
        self.marks.push_back((loss.to, all - lost));
        self.calls -= lost;
        self.books.drop_for("cut off by another program", lost);
        lost
    }

    /// Drops the calls that are not in the file, because the end of the run cannot be written.
    pub(super) fn drop_unwritten(&mut self, reason: &str) {
        let written = self.marks.back().map_or(0, |mark| mark.1);
        self.books.drop_for(reason, self.calls - written);
        self.calls = written;
    }

    /// Returns the books of a run that only exists on disk.
    pub(super) fn offline(&self) -> SinkBooks {
        self.with_delivered(0)
    }

    /// Returns the books of a run that the server has completely.
    pub(super) fn complete(&self) -> SinkBooks {
        self.with_delivered(self.calls)
    }

    /// Returns the books of a run that the server has up to `position`.
    pub(super) fn delivered_to(&mut self, position: DeliveryPosition) -> SinkBooks {
        while self.marks.len() > 1 && self.marks[1].0 <= position.num {
            self.marks.pop_front();
        }
        let mark = self.marks.front().filter(|mark| mark.0 <= position.num);
        self.with_delivered(mark.map_or(0, |mark| mark.1.saturating_sub(position.missing)))
    }

    /// Returns the books with a number of delivered calls.
    fn with_delivered(&self, delivered: u64) -> SinkBooks {
        let mut books = self.books.clone();
        books.delivered = delivered;
        books.spooled = self.calls - delivered;
        books
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_delivered_up_to_the_last_mark_before_the_position() {
        let mut accounts = CallAccounts::default();
        for num in 1..=4 {
            accounts.accept();
            accounts.add_to_log();
            accounts.mark(num * 10, 1);
        }
        let position = |num| DeliveryPosition { num, missing: 0 };
        assert_eq!(accounts.delivered_to(position(9)).delivered, 0);
        let books = accounts.delivered_to(position(35));
        assert_eq!((books.delivered, books.spooled), (2, 2));
        assert_eq!(accounts.complete().delivered, 4);
        assert_eq!(accounts.offline().spooled, 4);
    }

    #[test]
    fn a_cut_loses_the_calls_that_are_not_rewritten() {
        let mut accounts = CallAccounts::default();
        for num in 1..=4 {
            accounts.accept();
            accounts.add_to_log();
            accounts.mark(num, 0);
        }
        let loss = LogLoss {
            behind: 1,
            to: 4,
            rewritten: 1,
        };
        assert_eq!(accounts.lose(&loss), 2);
        assert_eq!(accounts.offline().spooled, 2);
    }

    #[test]
    fn marks_are_thinned_out() {
        let mut accounts = CallAccounts::default();
        for num in 0..20_000 {
            accounts.add_to_log();
            accounts.mark(num, 0);
        }
        assert!(accounts.marks.len() <= MOST_MARKS);
    }
}
