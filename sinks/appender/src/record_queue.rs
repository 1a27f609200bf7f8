//! The queue of records between [`FileWriter::append`](crate::file_writer::FileWriter::append) and
//! the file.

use std::collections::VecDeque;
use std::mem;

/// Records that are not completely written, oldest first, one after the other in one buffer.
#[derive(Debug, Default)]
pub(crate) struct RecordQueue {
    records: VecDeque<QueuedRecord>,
    bytes: Vec<u8>,
    /// Start of the oldest record in `bytes`.
    start: usize,
    /// Number of bytes of `bytes` that are in the file.
    written: usize,
}

#[derive(Debug)]
pub(crate) struct QueuedRecord {
    /// End of the record in the buffer of the queue.
    end: usize,
    /// Handle that appended the record. `None` for line ends that the writer adds, and for a record
    /// that was abandoned after a part of it had been written.
    pub(crate) handle: Option<usize>,
    /// Number of things that the record stands for in the books.
    pub(crate) weight: u64,
    part: LinePart,
}

/// Relation of a queued record to the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinePart {
    /// The record starts a line, so the file may be rotated before it.
    Whole,
    /// The record completes a line that a killed process began, so it belongs into the same file
    /// whatever its size.
    Remainder,
}

/// Bytes of removed records that a queue keeps, at least.
const MAX_REMOVED_BYTES: usize = 1 << 20;

impl RecordQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record at the end.
    pub(crate) fn push(&mut self, record: &[u8], handle: Option<usize>, weight: u64, part: LinePart) {
        self.bytes.extend_from_slice(record);
        let end = self.bytes.len();
        self.records.push_back(QueuedRecord {
            end,
            handle,
            weight,
            part,
        });
    }

    /// Returns the number of bytes that are not in the file.
    pub(crate) fn unwritten_len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Returns the unwritten bytes up to `end`, which is an offset from
    /// [`end_within`](Self::end_within).
    pub(crate) fn unwritten(&self, end: usize) -> &[u8] {
        &self.bytes[self.written..end]
    }

    pub(crate) fn mark_written(&mut self, count: usize) {
        self.written += count;
    }

    /// Returns the offset behind the last record that fits into `room` bytes of the file, but never
    /// less than one record. Without a limit all records fit.
    pub(crate) fn end_within(&self, room: Option<u64>) -> usize {
        let Some(room) = room else { return self.bytes.len() };
        let fits = |record: &&QueuedRecord| (record.end - self.written) as u64 <= room;
        let fitting = self.records.iter().take_while(fits).last();
        fitting
            .or(self.records.front())
            .map_or(self.bytes.len(), |record| record.end)
    }

    /// Returns the bytes of the oldest record; none if there is no record.
    pub(crate) fn first(&self) -> &[u8] {
        let end = self.records.front().map_or(self.start, |record| record.end);
        &self.bytes[self.start..end]
    }

    /// Returns the handle that appended the oldest record.
    pub(crate) fn first_handle(&self) -> Option<usize> {
        self.records.front()?.handle
    }

    /// Replaces the bytes of the oldest record, of which nothing is written.
    pub(crate) fn replace_first(&mut self, bytes: &[u8]) {
        let old = self.first().len();
        self.bytes.splice(self.start..self.start + old, bytes.iter().copied());
        for record in &mut self.records {
            record.end = record.end - old + bytes.len();
        }
    }

    /// Returns `true` if the oldest record completes a line of a killed process.
    pub(crate) fn first_completes_a_line(&self) -> bool {
        self.records
            .front()
            .is_some_and(|record| record.part == LinePart::Remainder)
    }

    /// Returns the part of the oldest record that is in the file already.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.bytes[self.start..self.written]
    }

    /// Has the oldest record written again from its first byte, into another file.
    pub(crate) fn rewind(&mut self) {
        self.written = self.start;
    }

    /// Removes the records that are written completely, and calls `removed` with each.
    pub(crate) fn remove_written(&mut self, mut removed: impl FnMut(&QueuedRecord)) {
        let mut count = 0;
        for record in &self.records {
            if record.end > self.written {
                break;
            }
            removed(record);
            self.start = record.end;
            count += 1;
        }
        self.records.drain(..count);
        self.discard_removed();
    }

    /// Discards the bytes of removed records: the queue of a slow pipe may never be empty.
    fn discard_removed(&mut self) {
        if self.start < MAX_REMOVED_BYTES || self.start < self.bytes.len() / 2 {
            return;
        }
        self.bytes.drain(..self.start);
        self.written -= self.start;
        for record in &mut self.records {
            record.end -= self.start;
        }
        self.start = 0;
    }

    /// Frees the buffer of an empty queue, except for `keep` bytes.
    pub(crate) fn shrink(&mut self, keep: usize) {
        if self.records.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(keep);
            (self.start, self.written) = (0, 0);
        }
    }

    /// Abandons the records of one handle; returns their weight.
    ///
    /// A record of which a part is in the file stays, because the next record would otherwise
    /// continue its line.
    pub(crate) fn abandon(&mut self, handle: usize) -> u64 {
        let old = mem::take(&mut self.bytes);
        let mut from = self.start;
        let partial = self.written - self.start;
        let mut weight = 0;
        for (index, mut record) in mem::take(&mut self.records).into_iter().enumerate() {
            let range = from..record.end;
            from = record.end;
            if record.handle == Some(handle) {
                weight += record.weight;
                if index > 0 || partial == 0 {
                    continue;
                }
                record.handle = None;
            }
            self.bytes.extend_from_slice(&old[range]);
            record.end = self.bytes.len();
            self.records.push_back(record);
        }
        (self.start, self.written) = (0, partial);
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandon_keeps_a_record_that_is_partly_written() {
        let mut queue = RecordQueue::default();
        for (text, handle) in [("one\n", 0), ("two\n", 1), ("three\n", 0)] {
            queue.push(text.as_bytes(), Some(handle), 1, LinePart::Whole);
        }
        queue.mark_written(2);
        assert_eq!(queue.abandon(0), 2);
        assert_eq!(queue.unwritten(queue.end_within(None)), b"e\ntwo\n");
        queue.mark_written(2);
        let mut handles = Vec::new();
        queue.remove_written(|record| handles.push(record.handle));
        assert_eq!(handles, [None]);
    }

    #[test]
    fn replace_first_moves_the_records_behind() {
        let mut queue = RecordQueue::default();
        for text in ["zero\n", "one\n", "two\n"] {
            queue.push(text.as_bytes(), Some(0), 1, LinePart::Whole);
        }
        queue.mark_written(5);
        queue.remove_written(|_| {});
        for text in ["longer than one\n", "1\n"] {
            queue.replace_first(text.as_bytes());
            assert_eq!(queue.first(), text.as_bytes());
            assert_eq!(
                queue.unwritten(queue.end_within(None)),
                format!("{text}two\n").as_bytes()
            );
        }
    }

    #[test]
    fn queue_that_is_never_empty_keeps_no_written_bytes() {
        let mut queue = RecordQueue::default();
        let line = [b'x'; 1000];
        queue.push(&line, Some(0), 1, LinePart::Whole);
        for _ in 0..10_000 {
            queue.push(&line, Some(0), 1, LinePart::Whole);
            queue.mark_written(line.len());
            queue.remove_written(|_| {});
            assert_eq!((queue.unwritten_len(), queue.first()), (1000, &line[..]));
        }
        assert!(queue.bytes.len() <= 2 * MAX_REMOVED_BYTES, "{}", queue.bytes.len());
    }

    #[test]
    fn end_within_allows_at_least_one_record() {
        let mut queue = RecordQueue::default();
        for _ in 0..3 {
            queue.push(b"12345\n", Some(0), 1, LinePart::Whole);
        }
        assert_eq!(queue.end_within(Some(1)), 6);
        assert_eq!(queue.end_within(Some(13)), 12);
        assert_eq!(queue.end_within(None), 18);
    }
}
