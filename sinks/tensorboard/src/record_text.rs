//! The records of a step as one text: TensorBoard keeps one text for each step of a tag.

use std::fmt::Write as _;

use logcore::escape::to_one_line;
use logcore::{Record, epoch_seconds};
use serde::{Deserialize, Serialize};

/// Most bytes of the records of one step.
const MAX_BYTES: usize = 64 << 10;

/// The records since the last step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordText {
    /// The step of the records; `None` until the logger has one.
    pub(crate) step: Option<u64>,
    /// Seconds since 1970 of the last record.
    pub(crate) time: f64,
    /// The records as a block of code in Markdown, which shows them as they are.
    pub(crate) lines: String,
    /// The number of records that are in no event yet.
    pub(crate) unwritten: u64,
}

impl RecordText {
    /// Adds a record; returns `false` if the step has too many.
    pub(crate) fn add(&mut self, record: &Record<'_>) -> bool {
        let mut line = format!(
            "    {:<5} {}: {}",
            record.level(),
            to_one_line(record.display_name()),
            to_one_line(record.message())
        );
        for (name, value) in record.fields() {
            // Writing to a text cannot fail.
            let _ = write!(line, " {}={}", to_one_line(name), to_one_line(&value.to_string()));
        }
        if self.lines.len() + line.len() >= MAX_BYTES {
            return false;
        }
        self.lines.push_str(&line);
        self.lines.push('\n');
        self.time = epoch_seconds(record.time());
        self.unwritten += 1;
        true
    }
}
