//! A thread's cache of metric names, so that the thread looks each name up once.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logcore_pipeline::NameId;

/// A metric of a logger, with its name.
#[derive(Clone)]
pub(crate) struct CachedName {
    /// The naming that the entry belongs to, from [`next_naming`].
    pub(crate) naming: u64,
    pub(crate) logged: Arc<str>,
    pub(crate) metric: u32,
    /// The short form of the name, if there is one.
    pub(crate) id: Option<NameId>,
}

/// Returns a number for the names of a logger as it is configured now. No other logger or
/// configuration has this number.
pub(crate) fn next_naming() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The names that a thread has looked up.
///
/// A loop logs the same names in the same order. So the cache first compares a name with the one
/// that followed last time: one comparison, where a map would need a hash and a lock.
#[derive(Default)]
pub(crate) struct NameCache {
    entries: Vec<CacheEntry>,
    /// Indices of the entries by naming and metric.
    indices: HashMap<(u64, u32), usize>,
    last: usize,
    expected: usize,
}

struct CacheEntry {
    name: CachedName,
    /// Index of the entry that followed last time.
    followed_by: usize,
}

/// Largest number of entries; a cache that is full starts anew.
const MAX_ENTRIES: usize = 16 << 10;

impl NameCache {
    /// Returns the metric of a name, if the name is the expected one.
    #[inline]
    pub(crate) fn find(&mut self, naming: u64, name: &str) -> Option<&CachedName> {
        let CacheEntry {
            name: cached,
            followed_by,
        } = self.entries.get(self.expected)?;
        // A handle passes the very text of the cache, so that comparing addresses often decides.
        if cached.naming != naming || !(ptr::eq(&*cached.logged, name) || *cached.logged == *name) {
            return None;
        }
        self.last = self.expected;
        self.expected = *followed_by;
        Some(cached)
    }

    /// Adds a name that [`find`](Self::find) did not return; from now on the cache expects it after
    /// the last one.
    pub(crate) fn insert(&mut self, name: CachedName) {
        let key = (name.naming, name.metric);
        let at = match self.indices.get(&key) {
            Some(at) => *at,
            None => {
                if self.entries.len() == MAX_ENTRIES {
                    self.entries.clear();
                    self.indices.clear();
                }
                let at = self.entries.len();
                self.indices.insert(key, at);
                self.entries.push(CacheEntry { name, followed_by: 0 });
                at
            }
        };
        if let Some(last) = self.entries.get_mut(self.last) {
            last.followed_by = at;
        }
        self.last = at;
        self.expected = self.entries[at].followed_by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a name up as a call does; returns whether the cache had the name. A metric's number is
    /// its name's bytes.
    fn look_up(cache: &mut NameCache, naming: u64, name: &str) -> bool {
        if let Some(cached) = cache.find(naming, name) {
            assert_eq!((cached.naming, &*cached.logged), (naming, name));
            return true;
        }
        cache.insert(CachedName {
            naming,
            logged: name.into(),
            metric: name.bytes().fold(0, |sum, byte| sum * 256 + u32::from(byte)),
            id: None,
        });
        false
    }

    #[test]
    fn a_loop_misses_each_name_once() {
        let mut cache = NameCache::default();
        for round in 0..10 {
            for (naming, name) in [(1, "loss"), (1, "acc"), (2, "loss"), (1, "lr")] {
                assert_eq!(look_up(&mut cache, naming, name), round > 0, "{round} {naming} {name}");
            }
        }
        assert_eq!(cache.entries.len(), 4);
    }

    #[test]
    fn another_order_of_names_costs_one_miss_at_each_turn() {
        let mut cache = NameCache::default();
        let misses = |cache: &mut NameCache, all: &[&str]| -> usize {
            all.iter().filter(|name| !look_up(cache, 1, name)).count()
        };
        let train = ["a", "b", "c", "d", "e"];
        let validation = ["x", "y", "z"];
        assert_eq!(misses(&mut cache, &train), 5);
        assert_eq!(misses(&mut cache, &validation), 3);
        for _ in 0..3 {
            assert_eq!(misses(&mut cache, &train), 0);
            assert_eq!(misses(&mut cache, &train), 1);
            assert_eq!(misses(&mut cache, &train), 0);
            assert_eq!(misses(&mut cache, &validation), 1);
        }
    }

    #[test]
    fn the_cache_stays_bounded_with_any_number_of_names() {
        let mut cache = NameCache::default();
        for naming in 0..2 * MAX_ENTRIES as u64 {
            look_up(&mut cache, naming, "loss");
        }
        assert!(cache.entries.len() <= MAX_ENTRIES && cache.indices.len() == cache.entries.len());
    }
}
