//! The loggers that are open.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use logcore::canonical_name;

use crate::instance::Instance;

/// The loggers that are open, by age and by name.
#[derive(Default)]
pub(crate) struct Roster {
    by_age: BTreeMap<u64, Arc<Instance>>,
    by_name: HashMap<String, Arc<Instance>>,
}

impl Roster {
    /// The logger of this name, however it is written.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Instance>> {
        self.by_name.get(&*canonical_name(name))
    }

    pub(crate) fn has(&self, logger: &Instance) -> bool {
        self.by_age.contains_key(&logger.age())
    }

    pub(crate) fn add(&mut self, logger: Arc<Instance>) {
        let name = canonical_name(logger.name()).into_owned();
        self.by_name.insert(name, Arc::clone(&logger));
        self.by_age.insert(logger.age(), logger);
    }

    /// Returns whether it was there.
    pub(crate) fn remove(&mut self, logger: &Arc<Instance>) -> bool {
        let is_there = self.by_age.remove(&logger.age()).is_some();
        let name = canonical_name(logger.name());
        if is_there && self.find(&name).is_some_and(|known| Arc::ptr_eq(known, logger)) {
            self.by_name.remove(&*name);
        }
        is_there
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.by_age.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }
}
