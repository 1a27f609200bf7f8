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
    waiting: VecDeque<String>,
    bytes: usize,
}

impl StreamLines {
    /// Returns `true` if no line waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the lines that fit into `room` bytes, at least one: their number, and the lines as
    /// JSON strings.
    pub(crate) fn portion(&self, room: usize) -> (usize, String) {
        let mut content = String::new();
        let mut count = 0;
        for line in &self.waiting {
            if count > 0 && content.len() + line.len() > room {
                break;
            }
            if count > 0 {
                content.push(',');
            }
            json::put_string(line, &mut content);
            count += 1;
        }
        (count, content)
    }

    /// Removes the first `count` lines, which the server has now.
    pub(crate) fn mark_sent(&mut self, count: usize) {
        for line in self.waiting.drain(..count) {
            self.bytes -= line.len();
        }
        self.next += count as u64;
    }

    /// Sets the number of the first line of the log, and of the first line that the server does not
    /// have.
    pub(crate) fn begin_at(&mut self, start: u64, sent: u64) {
        self.next = start;
        self.skip = sent.saturating_sub(start);
    }

    /// Returns the number of the next line that is added.
    pub(crate) fn end(&self) -> u64 {
        self.next + self.waiting.len() as u64
    }

    /// Returns the number of waiting bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a line. Returns `false` if servers do not accept its length.
    pub(crate) fn push(&mut self, line: String) -> bool {
        if line.len() > LONGEST_LINE {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            self.next += 1;
            return true;
        }
        self.bytes += line.len();
        self.waiting.push_back(line);
        true
    }
}
