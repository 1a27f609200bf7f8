//! The names of a logger's metrics: the user's, with the prefix, and those of the system's own
//! families; and a thread's cache of names, so that the thread looks each name up once.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logcore_pipeline::{NameId, print_notice};

/// Columns of `metrics.jsonl` that no metric of the user may take.
const RESERVED: [&str; 5] = logcore::reserved_names::ROW_COLUMNS;

/// Version of the names in the system's own families, which do not change with the configuration.
const SYSTEM_NAMES_VERSION: u64 = u64::MAX;

/// Returns the short form of a name in the ring, if there is room for one.
pub(crate) type Interner = Box<dyn Fn(&str) -> Option<NameId> + Send>;

/// The metrics of a logger by name. A metric is a number: its index here and in the tracker.
pub(crate) struct MetricNames {
    intern: Interner,
    prefix: String,
    entries: Vec<MetricEntry>,
    /// Metrics by the name that the user logs.
    user: HashMap<String, u32>,
    /// Metrics of the system's own families, by their full names.
    system: HashMap<String, u32>,
    system_cache: NameCache,
}

struct MetricEntry {
    /// The name that the user or the system gives.
    given: Arc<str>,
    /// The name that the sinks get.
    written: Arc<str>,
    id: Option<NameId>,
    is_user: bool,
}

impl MetricNames {
    pub(crate) fn new(intern: Interner) -> Self {
        Self {
            intern,
            prefix: String::new(),
            entries: Vec::new(),
            user: HashMap::new(),
            system: HashMap::new(),
            system_cache: NameCache::default(),
        }
    }

    /// Sets the prefix of the user's metrics, also for the metrics so far.
    pub(crate) fn set_prefix(&mut self, prefix: &str) {
        if self.prefix == prefix {
            return;
        }
        prefix.clone_into(&mut self.prefix);
        for at in 0..self.entries.len() {
            if self.entries[at].is_user {
                let written = self.written_name(&self.entries[at].given);
                self.entries[at].id = (self.intern)(&written);
                self.entries[at].written = written.into();
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn id(&self, metric: u32) -> Option<NameId> {
        self.entries[metric as usize].id
    }

    pub(crate) fn given(&self, metric: usize) -> &Arc<str> {
        &self.entries[metric].given
    }

    pub(crate) fn written(&self, metric: u32) -> &Arc<str> {
        &self.entries[metric as usize].written
    }

    pub(crate) fn is_user(&self, metric: usize) -> bool {
        self.entries[metric].is_user
    }

    /// Returns the metric of a name that the user or the system has logged.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let metric = self.user.get(name).or_else(|| self.system.get(name))?;
        Some(*metric as usize)
    }

    /// Returns `true` if the user has logged this name.
    pub(crate) fn has_user(&self, name: &str) -> bool {
        self.user.contains_key(name)
    }

    /// Returns the metric of a user's name; adds the metric if it is new.
    pub(crate) fn metric_of_user_name(&mut self, names_version: u64, name: &str) -> CachedName {
        let metric = match self.user.get(name) {
            Some(metric) => *metric,
            None => {
                let written = self.written_name(name);
                // Without a prefix, a user's metric with the name of a system's metric is the same
                // metric.
                let system = self.system.get(&written).copied();
                let metric = system.unwrap_or_else(|| self.add(name.into(), written, true));
                self.user.insert(name.to_owned(), metric);
                metric
            }
        };
        self.cached(names_version, metric)
    }

    /// Returns the metric of a name in the system's own families; adds the metric if it is new.
    pub(crate) fn metric_of_system_name(&mut self, name: &str) -> (u32, Option<NameId>) {
        if let Some(cached) = self.system_cache.find(SYSTEM_NAMES_VERSION, name) {
            return (cached.metric, cached.id);
        }
        let metric = match self.system.get(name) {
            Some(metric) => *metric,
            None => {
                let user = self.entries.iter().position(|metric| *metric.written == *name);
                let metric = match user {
                    Some(at) => at as u32,
                    None => self.add(name.into(), name.into(), false),
                };
                self.system.insert(name.to_owned(), metric);
                metric
            }
        };
        self.system_cache.insert(self.cached(SYSTEM_NAMES_VERSION, metric));
        (metric, self.id(metric))
    }

    fn cached(&self, names_version: u64, metric: u32) -> CachedName {
        let entry = &self.entries[metric as usize];
        CachedName {
            names_version,
            given: Arc::clone(&entry.given),
            metric,
            id: entry.id,
        }
    }

    fn add(&mut self, given: Arc<str>, written: String, is_user: bool) -> u32 {
        let metric = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(MetricEntry {
            id: (self.intern)(&written),
            written: written.into(),
            given,
            is_user,
        });
        metric
    }

    /// Returns a user's name with the prefix. A name that is a reserved column gets a `_`, and a
    /// notice says so.
    fn written_name(&self, name: &str) -> String {
        let mut written = format!("{}{name}", self.prefix);
        // The user may log both `step` and `step_`, and each gets a column of its own.
        let clashes = |written: &str| {
            RESERVED.contains(&written)
                || (RESERVED.contains(&written.trim_end_matches('_'))
                    && self.entries.iter().any(|entry| *entry.written == *written))
        };
        if clashes(&written) {
            while clashes(&written) {
                written.push('_');
            }
            print_notice(
                &format!("reserved metric name {written}"),
                &format!(
                    "the metric `{name}` is written as `{written}`, because metrics.jsonl has such a column already"
                ),
            );
        }
        written
    }
}

/// Names for the definitions of W&B metrics.
#[cfg(feature = "wandb")]
impl MetricNames {
    /// Returns the names that sinks may get for a metric or a family (`progress/*`): the user's
    /// name with the prefix, and the name as it stands if it can be one of the system's metrics or
    /// has the prefix already.
    pub(crate) fn possible_names(&self, name: &str) -> Vec<String> {
        /// Columns that W&B adds to each row.
        const WANDB_COLUMNS: [&str; 3] = ["_step", "_runtime", "_timestamp"];
        const FAMILIES: [&str; 5] = logcore::reserved_names::SYSTEM_FAMILIES;
        if WANDB_COLUMNS.contains(&name) {
            return vec![name.to_owned()];
        }
        let mut names = vec![self.written_name(name)];
        let stands_as_it_is = name.starts_with(&self.prefix)
            || FAMILIES.iter().any(|family| name.starts_with(family))
            || self.system.contains_key(name);
        if stands_as_it_is && !names.contains(&name.to_owned()) {
            names.push(name.to_owned());
        }
        names
    }

    /// Returns the most likely of the possible names: that of an existing metric, else that of a
    /// metric derived from a progress, else the user's.
    pub(crate) fn likely_name(&self, name: &str) -> String {
        const DERIVED: [&str; 5] = [
            "throughput/samples_per_sec",
            "throughput/batch_time_ms",
            "throughput/accumulated_samples",
            "progress/eta_seconds",
            "progress/percent",
        ];
        let mut names = self.possible_names(name);
        let exists = |written: &String| {
            let is_it = |entry: &MetricEntry| *entry.written == **written;
            self.entries.iter().any(is_it) || DERIVED.contains(&written.as_str())
        };
        let at = names.iter().position(exists).unwrap_or(0);
        names.swap_remove(at)
    }
}

/// A metric of a logger, with its name.
#[derive(Clone)]
pub(crate) struct CachedName {
    /// Version of the names that the entry belongs to, from [`next_names_version`].
    pub(crate) names_version: u64,
    pub(crate) given: Arc<str>,
    pub(crate) metric: u32,
    /// The short form of the name, if there is one.
    pub(crate) id: Option<NameId>,
}

/// Returns a number for the names of a logger as it is configured now. No other logger or
/// configuration has this number.
pub(crate) fn next_names_version() -> u64 {
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
    /// Indices of the entries by version of the names and metric.
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
    pub(crate) fn find(&mut self, names_version: u64, name: &str) -> Option<&CachedName> {
        let CacheEntry {
            name: cached,
            followed_by,
        } = self.entries.get(self.expected)?;
        // A handle passes the very text of the cache, so that comparing addresses often decides.
        if cached.names_version != names_version || !(ptr::eq(&*cached.given, name) || *cached.given == *name) {
            return None;
        }
        self.last = self.expected;
        self.expected = *followed_by;
        Some(cached)
    }

    /// Adds a name that [`find`](Self::find) did not return; from now on the cache expects it after
    /// the last one.
    pub(crate) fn insert(&mut self, name: CachedName) {
        let key = (name.names_version, name.metric);
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
    fn look_up(cache: &mut NameCache, names_version: u64, name: &str) -> bool {
        if let Some(cached) = cache.find(names_version, name) {
            assert_eq!((cached.names_version, &*cached.given), (names_version, name));
            return true;
        }
        cache.insert(CachedName {
            names_version,
            given: name.into(),
            metric: name.bytes().fold(0, |sum, byte| sum * 256 + u32::from(byte)),
            id: None,
        });
        false
    }

    #[test]
    fn a_loop_misses_each_name_once() {
        let mut cache = NameCache::default();
        for round in 0..10 {
            for (names_version, name) in [(1, "loss"), (1, "acc"), (2, "loss"), (1, "lr")] {
                assert_eq!(
                    look_up(&mut cache, names_version, name),
                    round > 0,
                    "{round} {names_version} {name}"
                );
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
        for names_version in 0..2 * MAX_ENTRIES as u64 {
            look_up(&mut cache, names_version, "loss");
        }
        assert!(cache.entries.len() <= MAX_ENTRIES && cache.indices.len() == cache.entries.len());
    }
}
