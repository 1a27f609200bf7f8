use std::collections::VecDeque;

use crate::log_format::json;

/// A longer line is refused by servers.
pub(crate) const LONGEST_LINE: usize = (10 << 20) - (100 << 10);

/// Lines of one file of the stream that are not sent yet.
#[derive(Default)]
pub(crate) struct LineBuffer {
    /// The number of the first of them in the whole run.
    pub(crate) next: u64,
    /// Lines that the server has already, from an earlier delivery of the same log.
    skip: u64,
    waiting: VecDeque<String>,
    bytes: usize,
}

impl LineBuffer {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The lines that fit into `room` bytes, at least one; how many, and as JSON strings.
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

    /// The server has the first `count` of them.
    pub(crate) fn sent(&mut self, count: usize) {
        for line in self.waiting.drain(..count) {
            self.bytes -= line.len();
        }
        self.next += count as u64;
    }

    /// Where the first line stands, and the first that the server has not.
    pub(crate) fn begin_at(&mut self, start: u64, sent: u64) {
        self.next = start;
        self.skip = sent.saturating_sub(start);
    }

    /// The number of the line that is added next.
    pub(crate) fn end(&self) -> u64 {
        self.next + self.waiting.len() as u64
    }

    /// The content of the lines that wait, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a line; returns whether servers take one of this length.
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
