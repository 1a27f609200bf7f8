//! The counts of one merged file.

use std::collections::BTreeSet;

/// What a merge counts.
#[derive(Default)]
pub(crate) struct MergeTally {
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) left_out: u64,
    pub(crate) first_left_out: Option<String>,
    pub(crate) torn: BTreeSet<u32>,
}

impl MergeTally {
    pub(crate) fn leave_out(&mut self, place: impl FnOnce() -> String) {
        self.left_out += 1;
        self.first_left_out.get_or_insert_with(place);
    }

    /// Takes whether the file of each rank is torn.
    pub(crate) fn note_torn(&mut self, ranks: impl Iterator<Item = (u32, bool)>) {
        self.torn.extend(ranks.filter_map(|(rank, torn)| torn.then_some(rank)));
    }
}
