//! Names that travel through the ring as numbers.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use logcore::sync::lock;

use super::layout::NAMES_USED;
use super::queue::Ring;
use crate::frame::checked_text::checked_text;

/// The number of an interned name: its offset in the name table of the ring. See
/// [`Producer::intern`](crate::Producer::intern).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameId(pub(crate) u32);

/// The append-only list of names in the block of the ring.
///
/// Each name is added once, under a lock. Looking up the name of a number takes no lock.
pub(crate) struct NameTable {
    ring: Arc<Ring>,
    ids: Mutex<HashMap<Box<str>, NameId>>,
}

impl NameTable {
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self {
            ring,
            ids: Mutex::default(),
        }
    }

    /// Copies the names to a fresh ring that is no smaller. Each name keeps its number.
    pub(crate) fn copy(other: &Self, ring: Arc<Ring>) -> Self {
        let bytes = other.bytes();
        let (region, start, room) = ring.name_area();
        let bytes = &bytes[..bytes.len().min(room)];
        // SAFETY: nobody else knows the fresh ring.
        unsafe { region.write_front(start, bytes) };
        let used = bytes.len() as u64;
        region.word(NAMES_USED).store(used, Ordering::Release);
        region.front_word(NAMES_USED).store(used, Ordering::Release);
        let copy = Self::new(ring);
        let mut at = 0;
        let mut ids = HashMap::new();
        while let Some(name) = copy.name(NameId(at)) {
            ids.insert(Box::from(name), NameId(at));
            at += 2 + name.len() as u32;
        }
        *lock(&copy.ids) = ids;
        copy
    }

    /// Returns the bytes of all complete names.
    fn bytes(&self) -> &[u8] {
        let (region, start, _) = self.ring.name_area();
        let used = region.front_word(NAMES_USED).load(Ordering::Acquire) as usize;
        // SAFETY: the bytes below `used` are complete (acquire) and never written again.
        unsafe { region.front_bytes(start, used) }
    }

    /// Returns the number of a name. `None` if the table has no room for it: then the name travels
    /// as text.
    pub(crate) fn intern(&self, name: &str) -> Option<NameId> {
        let mut ids = lock(&self.ids);
        if let Some(id) = ids.get(name) {
            return Some(*id);
        }
        let (region, start, bytes) = self.ring.name_area();
        let used = region.front_word(NAMES_USED).load(Ordering::Relaxed) as usize;
        let length = u16::try_from(name.len()).ok()?;
        let end = used + 2 + name.len();
        if end > bytes {
            return None;
        }
        // SAFETY: nobody uses the bytes beyond `used` yet, and the lock excludes other writers. The
        // bytes are handed over with the number: a reader got the number through the release and
        // acquire of a frame, or of this lock.
        unsafe {
            region.write_front(start + used, &length.to_le_bytes());
            region.write_front(start + used + 2, name.as_bytes());
        }
        // In the file before anybody can use the number.
        region.word(NAMES_USED).store(end as u64, Ordering::Release);
        region.front_word(NAMES_USED).store(end as u64, Ordering::Release);
        let id = NameId(used as u32);
        ids.insert(name.into(), id);
        Some(id)
    }

    /// Returns the name of a number from [`NameTable::intern`].
    pub(crate) fn name(&self, id: NameId) -> Option<&str> {
        name_in(self.bytes(), id)
    }
}

/// Returns the name of a number in the bytes of a name table.
pub(crate) fn name_in(bytes: &[u8], id: NameId) -> Option<&str> {
    let at = id.0 as usize;
    if at + 2 > bytes.len() {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    checked_text(bytes.get(at + 2..at + 2 + length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::reader::RingReader;

    #[test]
    fn an_interned_name_has_one_number_and_is_found_by_it() {
        let names = NameTable::new(RingReader::plain(4096).unwrap().0);
        let loss = names.intern("metrics/loss").unwrap();
        let other = names.intern("Grüße").unwrap();
        assert_eq!(names.intern("metrics/loss"), Some(loss));
        assert_ne!(loss, other);
        assert_eq!(names.name(loss), Some("metrics/loss"));
        assert_eq!(names.name(other), Some("Grüße"));
        assert_eq!(names.name(NameId(1 << 20)), None);
    }

    #[test]
    fn a_full_name_table_refuses_new_names_and_keeps_the_others() {
        let names = NameTable::new(RingReader::plain(4096).unwrap().0);
        let first = names.intern("first").unwrap();
        let long = "x".repeat(1000);
        let added = (0..100)
            .filter(|i| names.intern(&format!("{i}{long}")).is_some())
            .count();
        assert!((60..66).contains(&added), "{added}");
        assert_eq!(names.intern(&"y".repeat(70_000)), None);
        assert_eq!(names.name(first), Some("first"));
    }
}
