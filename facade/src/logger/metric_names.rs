//! The names of a logger's metrics: the user's, with the prefix, and those of the system's own
//! families.

use std::collections::HashMap;
use std::sync::Arc;

use logcore_pipeline::{NameId, print_notice};

use crate::logger::name_cache::{CachedName, NameCache};

/// Columns of `metrics.jsonl` that no metric of the user may take.
const RESERVED: [&str; 3] = logcore::reserved_names::ROW_COLUMNS;

/// The naming of the system's own families, whose names do not change with the configuration.
const SYSTEM_NAMING: u64 = u64::MAX;

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
    /// The name that the sinks get.
    full: Arc<str>,
    logged: Arc<str>,
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
                let full = self.full_name(&self.entries[at].logged);
                self.entries[at].id = (self.intern)(&full);
                self.entries[at].full = full.into();
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn id(&self, metric: u32) -> Option<NameId> {
        self.entries[metric as usize].id
    }

    pub(crate) fn logged(&self, metric: usize) -> &Arc<str> {
        &self.entries[metric].logged
    }

    pub(crate) fn full(&self, metric: u32) -> &Arc<str> {
        &self.entries[metric as usize].full
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
    pub(crate) fn user(&mut self, naming: u64, name: &str) -> CachedName {
        let metric = match self.user.get(name) {
            Some(metric) => *metric,
            None => {
                let full = self.full_name(name);
                // Without a prefix, a user's metric with the name of a system's metric is the same
                // metric.
                let system = self.system.get(&full).copied();
                let metric = system.unwrap_or_else(|| self.add(name.into(), full, true));
                self.user.insert(name.to_owned(), metric);
                metric
            }
        };
        self.cached(naming, metric)
    }

    /// Returns the metric of a name in the system's own families; adds the metric if it is new.
    pub(crate) fn system(&mut self, name: &str) -> (u32, Option<NameId>) {
        if let Some(cached) = self.system_cache.find(SYSTEM_NAMING, name) {
            return (cached.metric, cached.id);
        }
        let metric = match self.system.get(name) {
            Some(metric) => *metric,
            None => {
                let user = self.entries.iter().position(|metric| *metric.full == *name);
                let metric = match user {
                    Some(at) => at as u32,
                    None => self.add(name.into(), name.into(), false),
                };
                self.system.insert(name.to_owned(), metric);
                metric
            }
        };
        self.system_cache.insert(self.cached(SYSTEM_NAMING, metric));
        (metric, self.id(metric))
    }

    fn cached(&self, naming: u64, metric: u32) -> CachedName {
        let entry = &self.entries[metric as usize];
        CachedName {
            naming,
            logged: Arc::clone(&entry.logged),
            metric,
            id: entry.id,
        }
    }

    fn add(&mut self, logged: Arc<str>, full: String, is_user: bool) -> u32 {
        let metric = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(MetricEntry {
            id: (self.intern)(&full),
            full: full.into(),
            logged,
            is_user,
        });
        metric
    }

    /// Returns a user's name with the prefix. A name that is a reserved column gets a `_`, and a
    /// notice says so.
    fn full_name(&self, name: &str) -> String {
        let mut full = format!("{}{name}", self.prefix);
        // The user may log both `step` and `step_`, and each gets a column of its own.
        let clashes = |full: &str| {
            RESERVED.contains(&full)
                || (RESERVED.contains(&full.trim_end_matches('_'))
                    && self.entries.iter().any(|entry| *entry.full == *full))
        };
        if clashes(&full) {
            while clashes(&full) {
                full.push('_');
            }
            print_notice(
                &format!("reserved metric name {full}"),
                &format!("the metric `{name}` is written as `{full}`, because metrics.jsonl has such a column already"),
            );
        }
        full
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
        const FAMILIES: [&str; 4] = logcore::reserved_names::SYSTEM_FAMILIES;
        if WANDB_COLUMNS.contains(&name) {
            return vec![name.to_owned()];
        }
        let mut names = vec![self.full_name(name)];
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
        let exists = |full: &String| {
            let is_it = |entry: &MetricEntry| *entry.full == **full;
            self.entries.iter().any(is_it) || DERIVED.contains(&full.as_str())
        };
        let at = names.iter().position(exists).unwrap_or(0);
        names.swap_remove(at)
    }
}
