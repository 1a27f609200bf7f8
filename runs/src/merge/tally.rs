//! Counts the lines of one merged file.

use std::collections::BTreeSet;

/// The counts of one merged file, see [`MergedFile`](crate::MergedFile).
#[derive(Debug, Default)]
pub(crate) struct MergeTally {
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) left_out: u64,
    pub(crate) first_left_out: Option<String>,
    pub(crate) torn: BTreeSet<u32>,
}

impl MergeTally {
    /// Counts a skipped line. Calls `location` for the first one only.
    pub(crate) fn skip_line(&mut self, location: impl FnOnce() -> String) {
        self.left_out += 1;
        self.first_left_out.get_or_insert_with(location);
    }

    /// Adds the ranks whose file ends with an incomplete line.
    pub(crate) fn add_torn(&mut self, ranks: impl Iterator<Item = (u32, bool)>) {
        self.torn.extend(ranks.filter_map(|(rank, torn)| torn.then_some(rank)));
    }
}
