//! The sequences of names in frames of metrics. Programs log the same names in the same order, step
//! after step, so a sequence is recognized by its numbers, and its names are looked up once. Sinks
//! recognize the number of the sequence in turn. Measured for ten metrics in two files: 2,000
//! instructions a row less.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::decode::MetricsFrame;
use crate::frame::types::MetricName;
use crate::ring::name_table::NameTable;

/// Number of names in all sequences together. Beyond that, further sequences are not kept.
const MAX_NAMES: usize = 1 << 14;

/// Number of the newest layout of this process: rings follow one another, and a number that a sink
/// has met must not come back with other names.
static NEWEST_LAYOUT: AtomicU64 = AtomicU64::new(0);

/// The sequences of a ring.
#[derive(Default)]
pub(super) struct NameSequences {
    all: Vec<NameSequence>,
    by_ids: HashMap<Box<[u32]>, usize>,
    /// Place of the sequence that was found last.
    last: usize,
    /// Number of names in all sequences.
    kept: usize,
}

/// A sequence of names.
pub(super) struct NameSequence {
    ids: Box<[u32]>,
    pub(super) names: Box<[Box<str>]>,
    /// See [`MetricBatch::layout`](logcore::MetricBatch::layout).
    pub(super) layout: NonZeroU64,
    /// Place of the sequence that followed this one last time.
    next: usize,
}

impl NameSequences {
    /// Returns the sequence of a frame. `None` if a name has no number in the ring, or too many
    /// sequences are kept.
    #[inline]
    pub(super) fn find(&mut self, frame: &MetricsFrame<'_>, names: &NameTable) -> Option<&NameSequence> {
        let expected = self.all.get(self.last).map_or(0, |last| last.next);
        let is_expected = self.all.get(expected).is_some_and(|known| frame.has_ids(&known.ids));
        self.last = match is_expected {
            true => expected,
            false => self.find_slowly(frame, names)?,
        };
        self.all.get(self.last)
    }

    #[cold]
    fn find_slowly(&mut self, frame: &MetricsFrame<'_>, names: &NameTable) -> Option<usize> {
        let mut known = Vec::new();
        for (name, _) in frame.values() {
            let MetricName::Id(id) = name else { return None };
            known.push((id, names.name(id)?));
        }
        let ids: Box<[u32]> = known.iter().map(|(id, _)| id.0).collect();
        // A damaged frame has fewer names than its head says.
        if !frame.has_ids(&ids) {
            return None;
        }
        let found = match self.by_ids.get(&ids) {
            Some(place) => *place,
            None => self.add(ids, known.iter().map(|(_, name)| Box::from(*name)).collect())?,
        };
        if let Some(last) = self.all.get_mut(self.last) {
            last.next = found;
        }
        Some(found)
    }

    fn add(&mut self, ids: Box<[u32]>, names: Box<[Box<str>]>) -> Option<usize> {
        // One more, so that sequences without names are bounded, too.
        self.kept = Some(self.kept + ids.len() + 1).filter(|kept| *kept <= MAX_NAMES)?;
        let place = self.all.len();
        self.by_ids.insert(ids.clone(), place);
        self.all.push(NameSequence {
            ids,
            names,
            layout: NonZeroU64::MIN.saturating_add(NEWEST_LAYOUT.fetch_add(1, Ordering::Relaxed)),
            next: place,
        });
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::decode::decode_metrics;
    use crate::frame::encode::encode_metrics;
    use crate::frame::types::LoggerId;
    use crate::ring::reader::RingReader;

    proptest! {
        /// Frames in any order have their own names, and equal layouts exactly if the names are
        /// equal, until too many are kept.
        #[test]
        fn layout_stands_for_the_names(frames in prop::collection::vec(prop::collection::vec(0..6_usize, 0..4), 1..20)) {
            let table = NameTable::new(RingReader::plain(4096).unwrap().0);
            let names: Vec<_> = (0..6).map(|at| format!("metric {at}")).collect();
            let ids: Vec<_> = names.iter().map(|name| table.intern(name).unwrap()).collect();
            let mut sequences = NameSequences::default();
            let mut seen: Vec<(Vec<usize>, NonZeroU64)> = Vec::new();
            for places in frames {
                let mut body = Vec::new();
                let values = places.iter().map(|at| (MetricName::Id(ids[*at]), MetricValue::Int(1)));
                encode_metrics(&mut body, LoggerId(1), 7, values);
                let found = sequences.find(&decode_metrics(&body).unwrap(), &table).unwrap();
                let expected = places.iter().map(|at| names[*at].as_str());
                prop_assert!(found.names.iter().map(|name| &**name).eq(expected));
                let layout = found.layout;
                for (other, of_other) in &seen {
                    prop_assert_eq!(*other == places, *of_other == layout);
                }
                seen.push((places, layout));
            }
        }
    }

    #[test]
    fn frame_with_a_text_or_without_its_end_has_no_sequence() {
        let table = NameTable::new(RingReader::plain(4096).unwrap().0);
        let id = MetricName::Id(table.intern("loss").unwrap());
        let mut sequences = NameSequences::default();
        let mut body = Vec::new();
        let one = MetricValue::Int(1);
        encode_metrics(&mut body, LoggerId(1), 7, [(id, one), (id, one)].into_iter());
        assert!(sequences.find(&decode_metrics(&body).unwrap(), &table).is_some());
        body.pop();
        assert!(sequences.find(&decode_metrics(&body).unwrap(), &table).is_none());
        body.clear();
        encode_metrics(
            &mut body,
            LoggerId(1),
            7,
            [(id, one), (MetricName::Text("x"), one)].into_iter(),
        );
        assert!(sequences.find(&decode_metrics(&body).unwrap(), &table).is_none());
    }

    #[test]
    fn too_many_sequences_are_not_kept() {
        let table = NameTable::new(RingReader::plain(4096).unwrap().0);
        let id = table.intern("loss").unwrap();
        let mut sequences = NameSequences::default();
        let mut find = |count: usize| {
            let mut body = Vec::new();
            let values = (0..count).map(|_| (MetricName::Id(id), MetricValue::Int(1)));
            encode_metrics(&mut body, LoggerId(1), 7, values);
            sequences.find(&decode_metrics(&body).unwrap(), &table).is_some()
        };
        assert!(find(MAX_NAMES / 2) && !find(MAX_NAMES / 2 + 1));
        // Those that are kept are still found.
        assert!(find(MAX_NAMES / 2) && find(3));
    }
}
