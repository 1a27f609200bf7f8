//! Names that travel through the ring as numbers.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ring::layout::DICTIONARY_USED;
use crate::ring::queue::Ring;

/// A name's number: its offset in the dictionary's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameId(pub(crate) u32);

/// The append-only list of names in the ring's block.
///
/// Names are added under a lock, once each; who has the number needs none.
pub(crate) struct Dictionary {
    ring: Arc<Ring>,
    known: Mutex<HashMap<Box<str>, NameId>>,
}

impl Dictionary {
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self {
            ring,
            known: Mutex::default(),
        }
    }

    /// The same names under the same numbers, in a fresh ring that is no smaller.
    pub(crate) fn copy(other: &Self, ring: Arc<Ring>) -> Self {
        let bytes = other.bytes();
        let (region, start, room) = ring.dictionary_area();
        let bytes = &bytes[..bytes.len().min(room)];
        // SAFETY: nobody else knows the fresh ring.
        unsafe { region.write_front(start, bytes) };
        let used = bytes.len() as u64;
        region.word(DICTIONARY_USED).store(used, Ordering::Release);
        region.front_word(DICTIONARY_USED).store(used, Ordering::Release);
        let copy = Self::new(ring);
        let mut at = 0;
        let mut known = HashMap::new();
        while let Some(name) = copy.name(NameId(at)) {
            known.insert(Box::from(name), NameId(at));
            at += 2 + name.len() as u32;
        }
        *copy.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        copy
    }

    /// All that is complete.
    fn bytes(&self) -> &[u8] {
        let (region, start, _) = self.ring.dictionary_area();
        let used = region.front_word(DICTIONARY_USED).load(Ordering::Acquire) as usize;
        // SAFETY: what lies below `used` is complete (acquire) and never written again.
        unsafe { region.front_bytes(start, used) }
    }

    /// The number of a name; `None` if there is no room for it, and it has to travel as it is.
    pub(crate) fn intern(&self, name: &str) -> Option<NameId> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.get(name) {
            return Some(*id);
        }
        let (region, start, bytes) = self.ring.dictionary_area();
        let used = region.front_word(DICTIONARY_USED).load(Ordering::Relaxed) as usize;
        let length = u16::try_from(name.len()).ok()?;
        let end = used + 2 + name.len();
        if end > bytes {
            return None;
        }
        // SAFETY: bytes beyond `used` are nobody's yet, and the lock keeps other adders away. They are handed over with
        // the number: whoever reads them got it through the release and acquire of a frame, or of this lock.
        unsafe {
            region.write_front(start + used, &length.to_le_bytes());
            region.write_front(start + used + 2, name.as_bytes());
        }
        // In the file before anybody can use it.
        region.word(DICTIONARY_USED).store(end as u64, Ordering::Release);
        region.front_word(DICTIONARY_USED).store(end as u64, Ordering::Release);
        let id = NameId(used as u32);
        known.insert(name.into(), id);
        Some(id)
    }

    /// The name behind a number that [`Dictionary::intern`] gave.
    pub(crate) fn name(&self, id: NameId) -> Option<&str> {
        let below = self.bytes();
        let at = id.0 as usize;
        if at + 2 > below.len() {
            return None;
        }
        let length = usize::from(u16::from_le_bytes([below[at], below[at + 1]]));
        std::str::from_utf8(below.get(at + 2..at + 2 + length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_comes_back() {
        let dictionary = Dictionary::new(Ring::plain(4096).unwrap().0);
        let loss = dictionary.intern("metrics/loss").unwrap();
        let other = dictionary.intern("Grüße").unwrap();
        assert_eq!(dictionary.intern("metrics/loss"), Some(loss));
        assert_ne!(loss, other);
        assert_eq!(dictionary.name(loss), Some("metrics/loss"));
        assert_eq!(dictionary.name(other), Some("Grüße"));
        assert_eq!(dictionary.name(NameId(1 << 20)), None);
    }

    #[test]
    fn a_full_dictionary_refuses_and_keeps_what_it_has() {
        let dictionary = Dictionary::new(Ring::plain(4096).unwrap().0);
        let first = dictionary.intern("first").unwrap();
        let long = "x".repeat(1000);
        let added = (0..100)
            .filter(|i| dictionary.intern(&format!("{i}{long}")).is_some())
            .count();
        assert!((60..66).contains(&added), "{added}");
        assert_eq!(dictionary.intern(&"y".repeat(70_000)), None);
        assert_eq!(dictionary.name(first), Some("first"));
    }
}
