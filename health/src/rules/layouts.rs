//! The sequences of names in batches. Programs log the same names in the same order, step after
//! step, so a batch is recognized by comparing each name with the one at the same place before.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use logcore::MetricBatch;

/// Number of metrics that are watched and remembered.
const MAX_METRICS: usize = 1 << 16;

/// Number of places in all sequences together: half a megabyte.
const MAX_PLACES: usize = 1 << 17;

/// Names, and sequences of names.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// The names as batches have them.
    names: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
    layouts: Vec<Layout>,
    by_ids: HashMap<Arc<[u32]>, u32>,
    /// Number of ids in all layouts.
    places: usize,
    /// The layout of the last batch.
    last: u32,
    /// [`MetricBatch::layout`] of the last batch, if it has the layout `last`.
    last_numbered: Option<NonZeroU64>,
    scratch: Vec<u32>,
}

#[derive(Debug)]
struct Layout {
    ids: Arc<[u32]>,
    /// The layout that followed this one last time.
    next: u32,
}

/// The answer to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The number of the layout.
    Layout(u32),
    /// There is no room for more sequences until all are forgotten.
    TooManyLayouts,
    /// There is no room for more names.
    TooManyNames,
}

impl Layouts {
    /// Returns the layout of a batch.
    #[inline]
    pub(super) fn find(&mut self, batch: &MetricBatch<'_>) -> Found {
        let numbered = batch.layout();
        if numbered.is_some() && numbered == self.last_numbered {
            return Found::Layout(self.last);
        }
        let found = self.find_by_names(batch);
        self.last_numbered = numbered.filter(|_| matches!(found, Found::Layout(_)));
        found
    }

    #[inline]
    fn find_by_names(&mut self, batch: &MetricBatch<'_>) -> Found {
        if let Some(last) = self.layouts.get(self.last as usize) {
            let next = last.next;
            if self.has_layout(batch, next) {
                self.last = next;
                return Found::Layout(next);
            }
        }
        self.find_slowly(batch)
    }

    /// Returns the numbers of the metrics in a layout.
    #[inline]
    pub(super) fn ids(&self, layout: u32) -> &Arc<[u32]> {
        &self.layouts[layout as usize].ids
    }

    /// Returns the names; a metric's number is its place.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Returns the number of a metric that was seen.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// Forgets the sequences, and keeps the numbers of the metrics.
    pub(super) fn forget_layouts(&mut self) {
        self.layouts.clear();
        self.by_ids.clear();
        self.places = 0;
        self.last_numbered = None;
    }

    #[inline]
    fn has_layout(&self, batch: &MetricBatch<'_>, layout: u32) -> bool {
        let ids = &self.layouts[layout as usize].ids;
        let values = batch.iter();
        values.len() == ids.len()
            && values
                .zip(&**ids)
                .all(|((name, _), id)| *self.names[*id as usize] == *name)
    }

    #[cold]
    fn find_slowly(&mut self, batch: &MetricBatch<'_>) -> Found {
        self.scratch.clear();
        for (name, _) in batch.iter() {
            let id = match self.ids.get(name) {
                Some(id) => *id,
                None if self.names.len() == MAX_METRICS => return Found::TooManyNames,
                None => self.add_name(name),
            };
            self.scratch.push(id);
        }
        let found = match self.by_ids.get(&*self.scratch) {
            Some(layout) => *layout,
            None if self.places + self.scratch.len() >= MAX_PLACES => return Found::TooManyLayouts,
            None => self.add_layout(),
        };
        if let Some(last) = self.layouts.get_mut(self.last as usize) {
            last.next = found;
        }
        self.last = found;
        Found::Layout(found)
    }

    fn add_name(&mut self, name: &str) -> u32 {
        let (id, name) = (self.names.len() as u32, Arc::<str>::from(name));
        self.names.push(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    fn add_layout(&mut self) -> u32 {
        let (layout, ids) = (self.layouts.len() as u32, Arc::<[u32]>::from(&*self.scratch));
        // One place more, so that sequences without names are bounded, too.
        self.places += ids.len() + 1;
        self.by_ids.insert(Arc::clone(&ids), layout);
        self.layouts.push(Layout { ids, next: layout });
        layout
    }
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For any batches, equal sequences of names have one layout, whose ids stand for the
        /// names.
        #[test]
        fn a_layout_stands_for_its_names(
            batches in prop::collection::vec("[abc]{0,4}|a", 1..40),
            is_numbered in prop::collection::vec(any::<bool>(), 40),
            forget in 0..40_usize,
        ) {
            let mut layouts = Layouts::default();
            let mut seen = HashMap::new();
            for (at, batch) in batches.iter().enumerate() {
                if at == forget {
                    layouts.forget_layouts();
                    seen.clear();
                }
                let names: Vec<_> = batch.chars().map(String::from).collect();
                let values: Vec<_> = names.iter().map(|name| (&**name, MetricValue::Int(1))).collect();
                let mut sent = MetricBatch::new("trainer", 1, &values);
                if is_numbered[at] {
                    let number = batch.bytes().fold(1, |number, byte| number * 4 + u64::from(byte - b'`'));
                    sent = sent.with_layout(NonZeroU64::new(number).unwrap());
                }
                let found = layouts.find(&sent);
                let Found::Layout(layout) = found else { panic!("{found:?}") };
                let of_ids: String = layouts.ids(layout).iter().map(|id| &*layouts.names()[*id as usize]).collect();
                prop_assert_eq!(&of_ids, batch);
                prop_assert_eq!(*seen.entry(batch.clone()).or_insert(layout), layout);
            }
        }
    }

    #[test]
    fn names_and_sequences_are_bounded() {
        let names: Vec<String> = (0..MAX_METRICS + 1).map(|at| format!("m{at}")).collect();
        let values: Vec<_> = names.iter().map(|name| (&**name, MetricValue::Int(1))).collect();
        let mut layouts = Layouts::default();
        let mut find = |values: &[_]| layouts.find(&MetricBatch::new("trainer", 1, values));
        assert_eq!(find(&values), Found::TooManyNames);
        assert_eq!(find(&values[..MAX_METRICS]), Found::Layout(0));
        assert_eq!(find(&values[1..MAX_METRICS]), Found::TooManyLayouts);
        layouts.forget_layouts();
        assert_eq!(
            layouts.find(&MetricBatch::new("trainer", 1, &values[1..MAX_METRICS])),
            Found::Layout(0)
        );
    }
}
