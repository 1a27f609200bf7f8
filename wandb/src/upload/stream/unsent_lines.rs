//! Lines that wait to be sent.

use std::collections::VecDeque;

use crate::log_format::json;

/// Bytes of the longest line that servers accept.
pub(crate) const LONGEST_LINE: usize = (10 << 20) - (100 << 10);

/// The waiting lines of one file of the stream.
#[derive(Default)]
pub(crate) struct StreamLines {
    /// The number of the first waiting line in the whole run.
    pub(crate) next: u64,
    /// Number of lines to skip, because an earlier delivery of the same log has sent them.
    skip: u64,
    /// The waiting lines as JSON strings, each with a comma behind, as a request has them.
    content: String,
    /// Bytes of each waiting line in `content`.
    lengths: VecDeque<usize>,
}

impl StreamLines {
    /// Returns `true` if no line waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Returns the lines that fit into `room` bytes, at least one: their number, and the lines as
    /// JSON strings.
    pub(crate) fn portion(&self, room: usize) -> (usize, &str) {
        let (mut count, mut end) = (self.lengths.len(), self.content.len());
        if end > room {
            (count, end) = (0, 0);
            for length in &self.lengths {
                if count > 0 && end + length > room {
                    break;
                }
                count += 1;
                end += length;
            }
        }
        let content = &self.content[..end];
        (count, content.strip_suffix(',').unwrap_or(content))
    }

    /// Removes the first `count` lines, which the server has now.
    pub(crate) fn mark_sent(&mut self, count: usize) {
        let sent: usize = self.lengths.drain(..count).sum();
        self.content.drain(..sent);
        self.next += count as u64;
        // A run keeps no memory of a backlog that is sent.
        if self.content.is_empty() && sent < self.content.capacity() / 4 {
            self.content = String::new();
        }
    }

    /// Sets the number of the first line of the log, and of the first line that the server does not
    /// have.
    pub(crate) fn begin_at(&mut self, start: u64, sent: u64) {
        self.next = start;
        self.skip = sent.saturating_sub(start);
    }

    /// Returns the number of the next line that is added.
    pub(crate) fn end(&self) -> u64 {
        self.next + self.lengths.len() as u64
    }

    /// Returns the number of waiting bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.content.len()
    }

    /// Adds a line. Returns `false` if servers do not accept its length.
    pub(crate) fn push(&mut self, line: &str) -> bool {
        if line.len() > LONGEST_LINE {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            self.next += 1;
            return true;
        }
        let before = self.content.len();
        json::put_string(line, &mut self.content);
        self.content.push(',');
        self.lengths.push_back(self.content.len() - before);
        true
    }
}
