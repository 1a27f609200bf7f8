//! The books of a sink with a spool: calls that are in the spool, delivered or lost.

use std::collections::VecDeque;

use logcore::SinkBooks;

use crate::control::DeliveryPosition;

/// The greatest number of marks. More are thinned out, so that a server that is down for days costs
/// no memory.
const MOST_MARKS: usize = 4096;

/// Counts the calls of a sink that writes them to a spool, and finds the number of calls that the
/// server has. The books balance at every moment: each accepted call is delivered, spooled or
/// dropped.
///
/// A position in the spool is the number of a record or a number of bytes, as the sink likes; it
/// only has to grow. The books know about calls at the marks, so between two marks they count too
/// few calls as delivered, and never too many.
///
/// ```
/// use logcore_delivery::{DeliveryPosition, SpoolBooks};
///
/// let mut books = SpoolBooks::default();
/// for line in 1..=3 {
///     books.accept();
///     books.spool();
///     books.mark(line * 100, 0); // The file has `line * 100` bytes.
/// }
/// books.accept();
/// books.reject("disk full");
/// let books = books.delivered_to(DeliveryPosition { reached: 250, missing: 0 });
/// assert!(books.balanced());
/// assert_eq!((books.accepted, books.delivered, books.spooled), (4, 2, 1));
/// assert_eq!(books.dropped["disk full"], 1);
/// ```
#[derive(Debug, Clone, Default)]
pub struct SpoolBooks {
    /// Number of calls in the spool.
    calls: u64,
    /// Positions, each with the number of calls in the spool up to there. The newest mark is last.
    marks: VecDeque<(u64, u64)>,
    books: SinkBooks,
}

/// A part of a spool that another program has cut off.
///
/// ```
/// use logcore_delivery::{SpoolBooks, SpoolLoss};
///
/// let mut books = SpoolBooks::default();
/// for line in 1..=4 {
///     books.accept();
///     books.spool();
///     books.mark(line, 0);
/// }
/// let lost = books.lose(SpoolLoss { behind: 1, to: 4, rewritten: 1 });
/// assert_eq!(lost, 2);
/// assert!(books.offline().balanced());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLoss {
    /// The position behind which everything is lost.
    pub behind: u64,
    /// The position of the end of the lost part.
    pub to: u64,
    /// Number of lost calls that were written again.
    pub rewritten: u64,
}

impl SpoolBooks {
    /// Counts a call.
    pub fn accept(&mut self) {
        self.books.accepted += 1;
    }

    /// Counts an accepted call that is in the spool, or in the memory of its writer.
    pub fn spool(&mut self) {
        self.calls += 1;
    }

    /// Counts an accepted call that is not in the spool, by reason.
    pub fn reject(&mut self, reason: &str) {
        self.books.drop_for(reason, 1);
    }

    /// Notes that the file has the spool up to `position`, with all calls but `open_calls`.
    pub fn mark(&mut self, position: u64, open_calls: u64) {
        let mark = (position, self.calls.saturating_sub(open_calls));
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

    /// Notes that the file was cut, and returns the number of lost calls, which are dropped.
    pub fn lose(&mut self, loss: SpoolLoss) -> u64 {
        let calls_to = |position: u64| {
            let marks = self.marks.iter().take_while(|mark| mark.0 <= position);
            marks.last().map_or(0, |mark| mark.1)
        };
        let (kept, all) = (calls_to(loss.behind), calls_to(loss.to));
        let lost = all.saturating_sub(kept).saturating_sub(loss.rewritten);
        self.marks.retain(|mark| mark.0 <= loss.behind);
        self.marks.push_back((loss.to, all - lost));
        self.calls = self.calls.saturating_sub(lost);
        self.books.drop_for("cut off by another program", lost);
        lost
    }

    /// Drops the calls that are not in the file, because the end of the spool cannot be written.
    pub fn drop_unwritten(&mut self, reason: &str) {
        let written = self.marks.back().map_or(0, |mark| mark.1);
        self.books.drop_for(reason, self.calls.saturating_sub(written));
        self.calls = self.calls.min(written);
    }

    /// Returns the books of a spool that only exists on disk.
    #[must_use]
    pub fn offline(&self) -> SinkBooks {
        self.with_delivered(0)
    }

    /// Returns the books of a spool that the server has completely.
    #[must_use]
    pub fn complete(&self) -> SinkBooks {
        self.with_delivered(self.calls)
    }

    /// Returns the books of a spool that the server has up to `position`, which never falls.
    pub fn delivered_to(&mut self, position: DeliveryPosition) -> SinkBooks {
        while self.marks.len() > 1 && self.marks[1].0 <= position.reached {
            self.marks.pop_front();
        }
        let mark = self.marks.front().filter(|mark| mark.0 <= position.reached);
        self.with_delivered(mark.map_or(0, |mark| mark.1.saturating_sub(position.missing)))
    }

    /// Returns the books with a number of delivered calls.
    fn with_delivered(&self, delivered: u64) -> SinkBooks {
        let mut books = self.books.clone();
        books.delivered = delivered.min(self.calls);
        books.spooled = self.calls - books.delivered;
        books
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any calls, marks, cuts and positions, in any order.
        #[test]
        fn books_always_balance(steps in prop::collection::vec((0..6, 0..50_u64, 0..5_u64), 0..60)) {
            let mut books = SpoolBooks::default();
            let mut end = 0;
            for (step, position, calls) in steps {
                match step {
                    0 => books.accept_and_spool(calls),
                    1 => {
                        books.accept();
                        books.reject("disk full");
                    }
                    2 => {
                        end += position;
                        books.mark(end, calls);
                    }
                    3 => drop(books.lose(SpoolLoss { behind: end.saturating_sub(position), to: end, rewritten: calls })),
                    4 => books.drop_unwritten("disk full"),
                    _ => drop(books.delivered_to(DeliveryPosition { reached: position, missing: calls })),
                }
                let at = DeliveryPosition { reached: position, missing: calls };
                for books in [books.offline(), books.complete(), books.delivered_to(at)] {
                    prop_assert!(books.balanced(), "{books:?}");
                }
            }
        }
    }

    impl SpoolBooks {
        fn accept_and_spool(&mut self, calls: u64) {
            for _ in 0..calls {
                self.accept();
                self.spool();
            }
        }
    }

    #[test]
    fn calls_are_delivered_up_to_the_last_mark_before_the_position() {
        let mut books = SpoolBooks::default();
        for num in 1..=4 {
            books.accept();
            books.spool();
            books.mark(num * 10, 1);
        }
        let position = |reached| DeliveryPosition { reached, missing: 0 };
        assert_eq!(books.delivered_to(position(9)).delivered, 0);
        let reached = books.delivered_to(position(35));
        assert_eq!((reached.delivered, reached.spooled), (2, 2));
        assert_eq!(books.complete().delivered, 4);
        assert_eq!(books.offline().spooled, 4);
    }

    #[test]
    fn a_cut_loses_the_calls_that_are_not_rewritten() {
        let mut books = SpoolBooks::default();
        for num in 1..=4 {
            books.accept();
            books.spool();
            books.mark(num, 0);
        }
        let loss = SpoolLoss {
            behind: 1,
            to: 4,
            rewritten: 1,
        };
        assert_eq!(books.lose(loss), 2);
        assert_eq!(books.offline().spooled, 2);
    }

    #[test]
    fn marks_are_thinned_out() {
        let mut books = SpoolBooks::default();
        for num in 0..20_000 {
            books.spool();
            books.mark(num, 0);
        }
        assert!(books.marks.len() <= MOST_MARKS);
    }
}
