//! The rows of the last steps, for incidents.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use logcore::{MetricBatch, MetricValue};

use super::incident::Rows;
use super::layouts::Layouts;

/// Number of rows before and after the row of an incident.
pub(super) const ROWS_AROUND: u64 = 200;

/// Bytes of the rows that are remembered. The memory of a ring may be twice what is in it.
const MAX_BYTES: usize = 2 << 20;

/// Bytes that the rows of an incident take as text, as far as the names go and with 24 bytes a
/// value: names may be long, and each row has them.
const MAX_TEXT: usize = 16 << 20;

/// The last rows. A row is all batches of one step, one after another; it has a number that counts
/// up.
#[derive(Debug, Default)]
pub(super) struct RowHistory {
    batches: VecDeque<Batch>,
    values: VecDeque<MetricValue>,
    /// Number of the newest row; 0 before the first.
    newest: u64,
    /// Number of the oldest row that is remembered, if any is.
    oldest: u64,
}

/// A batch of the history; its values stand in the ring of values.
#[derive(Debug, Clone, Copy)]
struct Batch {
    row: u64,
    step: u64,
    time: SystemTime,
    layout: u32,
    length: u32,
}

impl RowHistory {
    /// Returns the number of the newest row; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Begins a row, and forgets the one that is too old for any incident.
    #[inline]
    pub(super) fn begin_row(&mut self) {
        self.newest += 1;
        // An incident is complete when the row behind its last one begins.
        while self.oldest + 2 * ROWS_AROUND + 1 < self.newest && !self.batches.is_empty() {
            self.forget_oldest();
        }
    }

    /// Adds a batch to the newest row.
    #[inline]
    pub(super) fn push(&mut self, batch: &MetricBatch<'_>, layout: u32) {
        let values = batch.iter();
        if self.batches.is_empty() {
            self.oldest = self.newest;
        }
        self.batches.push_back(Batch {
            row: self.newest,
            step: batch.step(),
            time: batch.time(),
            layout,
            length: values.len() as u32,
        });
        self.values.extend(values.map(|(_, value)| value));
    }

    /// Returns the number of the oldest row, if the rows need more memory than they may.
    #[inline]
    pub(super) fn row_too_much(&self) -> Option<u64> {
        (self.bytes() > MAX_BYTES).then_some(self.oldest)
    }

    /// Forgets the oldest row.
    pub(super) fn forget_oldest(&mut self) {
        while let Some(batch) = self.batches.front().filter(|batch| batch.row <= self.oldest) {
            self.values.drain(..batch.length as usize);
            self.batches.pop_front();
        }
        self.oldest = self.batches.front().map_or(self.newest + 1, |batch| batch.row);
    }

    /// Returns the newest finite value of a metric that is remembered.
    #[cold]
    pub(super) fn last_finite(&self, id: u32, layouts: &Layouts) -> Option<f64> {
        let mut end = self.values.len();
        for batch in self.batches.iter().rev() {
            end -= batch.length as usize;
            let at = layouts.ids(batch.layout).iter().position(|known| *known == id);
            let value = at.map(|at| self.values[end + at].as_f64());
            if let Some(value) = value.filter(|value| value.is_finite()) {
                return Some(value);
            }
        }
        None
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.values.clear();
        self.oldest = self.newest + 1;
    }

    /// Copies the rows around a row, as many as fit into `max_bytes`. `names` are the names of the
    /// metrics by their numbers.
    pub(super) fn copy_around(&self, row: u64, max_bytes: usize, layouts: &Layouts, names: &[Arc<str>]) -> Rows {
        let mut around = ROWS_AROUND;
        loop {
            let rows = row.saturating_sub(around)..=row + around;
            let skipped = self.batches.iter().take_while(|batch| batch.row < *rows.start());
            let (batches, values) = skipped.fold((0, 0), |(batches, values), batch| {
                (batches + 1, values + batch.length as usize)
            });
            let kept = self.batches.range(batches..);
            let kept: Vec<_> = kept.take_while(|batch| rows.contains(&batch.row)).copied().collect();
            let length: usize = kept.iter().map(|batch| batch.length as usize).sum();
            let ids = kept.iter().flat_map(|batch| &**layouts.ids(batch.layout));
            let text = ids.map(|id| names[*id as usize].len() + 24);
            let is_too_much = bytes(kept.len(), length) > max_bytes || text.sum::<usize>() > MAX_TEXT;
            if is_too_much && !kept.is_empty() {
                if around == 0 {
                    return Rows::default();
                }
                around -= (around / 8).max(1);
                continue;
            }
            let mut copy = Rows {
                values: self.values.range(values..values + length).copied().collect(),
                names: HashMap::new(),
                ..Rows::default()
            };
            for batch in kept {
                let ids = layouts.ids(batch.layout);
                for id in &**ids {
                    copy.names
                        .entry(*id)
                        .or_insert_with(|| Arc::clone(&names[*id as usize]));
                }
                copy.batches.push((batch.step, batch.time, Arc::clone(ids)));
            }
            return copy;
        }
    }

    fn bytes(&self) -> usize {
        bytes(self.batches.len(), self.values.len())
    }
}

fn bytes(batches: usize, values: usize) -> usize {
    batches * size_of::<Batch>() + values * size_of::<MetricValue>()
}
