//! The changes of loggers that the newest checkpoint does not contain.

use super::checkpoint::{self, WriterPosition};
use super::logger_table::LoggerTable;
use super::sink_table::SinkTable;
use crate::frame::clock::now;
use crate::frame::types::LoggerId;
use crate::process::notice::print_notice;

/// The changes of loggers since the newest checkpoint.
///
/// A checkpoint of thousands of loggers is long. So a new logger reaches the next process by a
/// frame of its own, unless other changes need a checkpoint.
#[derive(Default)]
pub(super) struct UnsavedChanges {
    exist: bool,
    /// `true` if some change can reach the next process only by a checkpoint.
    need_checkpoint: bool,
    /// New loggers that no frame announces.
    opened: Vec<LoggerId>,
}

impl UnsavedChanges {
    /// Notes a change that the frames reproduce.
    pub(super) fn add(&mut self) {
        self.exist = true;
    }

    /// Notes a change that only a checkpoint contains.
    pub(super) fn add_for_checkpoint(&mut self) {
        (self.exist, self.need_checkpoint) = (true, true);
    }

    /// Notes a new logger.
    pub(super) fn add_opened(&mut self, id: LoggerId) {
        self.exist = true;
        self.opened.push(id);
    }

    pub(super) fn exist(&self) -> bool {
        self.exist
    }

    pub(super) fn need_checkpoint(&self) -> bool {
        self.need_checkpoint
    }

    /// Returns the checkpoint entry of a new logger that no frame announces. After its frame is
    /// pushed, the caller calls [`pop_opened`](Self::pop_opened).
    pub(super) fn last_opened<'a>(&mut self, loggers: &'a mut LoggerTable, sinks: &SinkTable) -> Option<&'a [u8]> {
        while let Some(id) = self.opened.last()
            && !loggers.contains(*id)
        {
            self.opened.pop();
        }
        let id = *self.opened.last()?;
        Some(&loggers.get_mut(id)?.saved_entry(id, sinks).bytes)
    }

    /// Notes that a frame announces the logger that [`last_opened`](Self::last_opened) has
    /// returned.
    pub(super) fn pop_opened(&mut self) {
        self.opened.pop();
    }

    /// Writes a checkpoint of at most `room` bytes. If the room does not suffice, the sinks with
    /// the longest resume points are left out.
    pub(super) fn write_checkpoint(
        &mut self,
        loggers: &mut LoggerTable,
        sinks: &SinkTable,
        writer: WriterPosition<'_>,
        room: usize,
        out: &mut Vec<u8>,
    ) {
        let mut limit = usize::MAX;
        loop {
            limit = write_limited(loggers, sinks, writer, limit, out);
            // Without resume points nothing in a checkpoint grows.
            if out.len() <= room || limit == 0 {
                break;
            }
            print_notice(
                "a long resume point",
                "the resume points of sinks, such as incomplete rows, are longer than their place in the ring: if \
                 the process is killed now, the longest are lost (a larger `ring_bytes` helps)",
            );
        }
        *self = Self::default();
    }
}

/// Writes a checkpoint with the sinks that are shorter than `limit`. Returns the length of the
/// longest of them.
fn write_limited(
    loggers: &mut LoggerTable,
    sinks: &SinkTable,
    writer: WriterPosition<'_>,
    limit: usize,
    out: &mut Vec<u8>,
) -> usize {
    out.clear();
    checkpoint::write_head(out, writer, now(), loggers.len());
    let mut longest = 0;
    // All loggers, even those without sinks: recovery must distinguish a call to an ended logger
    // from a lost one.
    for (id, logger) in loggers.iter_mut() {
        longest = longest.max(match limit {
            usize::MAX => {
                let entry = logger.saved_entry(id, sinks);
                out.extend_from_slice(&entry.bytes);
                entry.longest
            }
            limit => logger.write_entry(id, sinks, limit, out),
        });
    }
    longest
}
