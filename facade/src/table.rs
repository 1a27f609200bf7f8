//! The loggers as the `log` facade looks for them: by the name under which a target lies.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use logcore::log::{Level, LevelFilter};
use logcore::{canonical_name, is_under, process_number};

use crate::instance::Instance;

/// The loggers that are there. A table never changes: whoever adds a logger gets another one, which has all but a little in common
/// with the one before, so that thousands of loggers can come and go.
#[derive(Clone, Default)]
pub(crate) struct Table {
    /// In the order of [`order`], in which a name stands right before all that lies beneath it.
    chunks: Vec<Arc<Chunk>>,
    /// Targets that directives name, the longest first.
    named: Arc<Vec<Named>>,
    root: Option<Arc<Instance>>,
    /// The one logger that takes warnings, errors and panics from anywhere.
    capturing: Option<Arc<Instance>>,
    /// The process that made it: a child of a fork still has the loggers of its parent.
    process: u64,
}

/// Some loggers whose names follow each other.
struct Chunk {
    entries: Vec<Entry>,
    /// The most verbose level of all of them.
    level: LevelFilter,
    /// The oldest that captures warnings.
    capturing: Option<Arc<Instance>>,
}

#[derive(Clone)]
struct Entry {
    name: Arc<str>,
    logger: Arc<Instance>,
    level: LevelFilter,
    captures: bool,
}

#[derive(Clone)]
struct Named {
    target: Arc<str>,
    /// The length of the target in its canonical form.
    length: usize,
    level: LevelFilter,
    logger: Arc<Instance>,
}

/// A chunk of more entries is divided.
const MOST_ENTRIES: usize = 128;
/// So many are looked at one by one in less time than in halves: a program has one to three loggers.
const FEW: usize = 8;

impl Table {
    /// The same with this logger as it is now, in place of one of its name.
    pub(crate) fn with(&self, logger: &Arc<Instance>) -> Self {
        let mut table = self.of_this_process();
        let settings = logger.settings();
        let entry = Entry {
            name: canonical_name(logger.name()).into(),
            logger: Arc::clone(logger),
            level: settings.level(),
            captures: settings.config.capture_warnings,
        };
        let replaced = table.replace(&entry.name.clone(), Some(entry));
        table.name_targets(logger, replaced.as_ref());
        table.choose();
        table
    }

    /// The same without this logger.
    pub(crate) fn without(&self, logger: &Arc<Instance>) -> Self {
        let mut table = self.of_this_process();
        let name = canonical_name(logger.name());
        // Another one of its name may have come.
        let is_there = |known: &&Entry| Arc::ptr_eq(&known.logger, logger);
        if table.find(&name).filter(is_there).is_some() {
            table.replace(&name, None);
        }
        table.forget_targets(|named| Arc::ptr_eq(&named.logger, logger));
        table.choose();
        table
    }

    /// The logger for what is said of a target, if there is one.
    pub(crate) fn route(&self, target: &str, level: Level) -> Option<&Arc<Instance>> {
        self.above(target).or(self.root.as_ref()).or_else(|| {
            let named = self
                .named
                .iter()
                .find(|named| level <= named.level && is_under(target, &named.target));
            match named {
                Some(named) => Some(&named.logger),
                None => self.capturing.as_ref().filter(|_| level <= Level::Warn),
            }
        })
    }

    pub(crate) fn capturing(&self) -> Option<&Arc<Instance>> {
        self.capturing.as_ref()
    }

    pub(crate) fn loggers(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.entries().map(|entry| &entry.logger)
    }

    /// The most verbose level of all loggers.
    pub(crate) fn level(&self) -> LevelFilter {
        let levels = self.chunks.iter().map(|chunk| chunk.level);
        levels.max().unwrap_or(LevelFilter::Off)
    }

    /// The logger with the longest name under which a target lies.
    fn above(&self, mut target: &str) -> Option<&Arc<Instance>> {
        if let [chunk] = &*self.chunks
            && chunk.entries.len() <= FEW
        {
            // Of those above it, the longest stands last.
            let mut entries = chunk.entries.iter().rev();
            return entries
                .find(|entry| is_under(target, &entry.name))
                .map(|entry| &entry.logger);
        }
        loop {
            let before = self.last_up_to(target)?;
            if is_under(target, &before.name) {
                return Some(&before.logger);
            }
            // Whatever both lie under stands before both.
            target = common_parts(target, &before.name)?;
        }
    }

    /// The last entry whose name does not come after this one.
    fn last_up_to(&self, name: &str) -> Option<&Entry> {
        let is_up_to = |entry: &Entry| order(&entry.name, name) != Ordering::Greater;
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.entries.first().is_some_and(is_up_to));
        let entries = &self.chunks.get(chunk.checked_sub(1)?)?.entries;
        entries.get(entries.partition_point(is_up_to).checked_sub(1)?)
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.last_up_to(name).filter(|entry| &*entry.name == name)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flat_map(|chunk| &chunk.entries)
    }

    /// Puts an entry in the place of the one of this name; returns the logger that was there.
    fn replace(&mut self, name: &str, entry: Option<Entry>) -> Option<Arc<Instance>> {
        let comes_before = |other: &Entry| order(&other.name, name) != Ordering::Greater;
        let behind = self
            .chunks
            .partition_point(|chunk| chunk.entries.first().is_some_and(comes_before));
        let at = behind.saturating_sub(1);
        let mut entries = self
            .chunks
            .get(at)
            .map(|chunk| chunk.entries.clone())
            .unwrap_or_default();
        let within = entries.partition_point(|other| order(&other.name, name) == Ordering::Less);
        let replaced = match entries.get(within) {
            Some(other) if &*other.name == name => Some(entries.remove(within).logger),
            _ => None,
        };
        entries.splice(within..within, entry);
        let mut chunks = Vec::new();
        while entries.len() > MOST_ENTRIES {
            let rest = entries.split_off(MOST_ENTRIES / 2);
            chunks.push(Arc::new(Chunk::of(std::mem::replace(&mut entries, rest))));
        }
        if !entries.is_empty() {
            chunks.push(Arc::new(Chunk::of(entries)));
        }
        let old = at..self.chunks.len().min(at + 1);
        self.chunks.splice(old, chunks);
        replaced
    }

    /// Names the targets of a logger's directives, in place of those of the logger before it.
    fn name_targets(&mut self, logger: &Arc<Instance>, replaced: Option<&Arc<Instance>>) {
        let is_old = |named: &Named| replaced.is_some_and(|replaced| Arc::ptr_eq(&named.logger, replaced));
        self.forget_targets(|named| is_old(named) || Arc::ptr_eq(&named.logger, logger));
        let settings = logger.settings();
        let mut new = settings.screens.directives.targets().peekable();
        if new.peek().is_none() {
            return;
        }
        let new = new.map(|(target, level)| Named {
            length: canonical_name(target).len(),
            target: target.into(),
            level,
            logger: Arc::clone(logger),
        });
        let all = Arc::make_mut(&mut self.named);
        all.extend(new);
        all.sort_by_key(|named| (Reverse(named.length), rank(&named.logger)));
    }

    fn forget_targets(&mut self, is_gone: impl Fn(&Named) -> bool) {
        if self.named.iter().any(&is_gone) {
            Arc::make_mut(&mut self.named).retain(|named| !is_gone(named));
        }
    }

    fn choose(&mut self) {
        self.root = self.find("root").map(|entry| Arc::clone(&entry.logger));
        let capturing = self.chunks.iter().filter_map(|chunk| chunk.capturing.as_ref());
        self.capturing = capturing.min_by_key(|logger| rank(logger)).cloned();
    }

    /// The same; in a child of a fork, with those of its parent's loggers alone that are open, and behind its own ones.
    fn of_this_process(&self) -> Self {
        if self.process == process_number() || self.chunks.is_empty() {
            let process = process_number();
            return Self {
                process,
                ..self.clone()
            };
        }
        let mut table = Self {
            process: process_number(),
            ..Self::default()
        };
        for entry in self.entries().filter(|entry| entry.logger.is_inherited()) {
            table.replace(&entry.name, Some(entry.clone()));
            table.name_targets(&entry.logger, None);
        }
        table
    }
}

impl Chunk {
    fn of(entries: Vec<Entry>) -> Self {
        let capturing = entries.iter().filter(|entry| entry.captures);
        let capturing = capturing.map(|entry| &entry.logger).min_by_key(|logger| rank(logger));
        Self {
            level: entries
                .iter()
                .map(|entry| entry.level)
                .max()
                .unwrap_or(LevelFilter::Off),
            capturing: capturing.cloned(),
            entries,
        }
    }
}

/// The older one comes first; in a child of a fork behind all of its own.
fn rank(logger: &Instance) -> (bool, u64) {
    (logger.is_inherited(), logger.age())
}

/// How names follow each other, however they are written: each right before all that lies beneath it.
fn order(one: &str, other: &str) -> Ordering {
    let (a, b) = (one.as_bytes(), other.as_bytes());
    // Nearly every pair is decided where the two first differ.
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let is_plain = |byte: u8| !matches!(byte, b'.' | b':' | b'-' | b'_');
    match (a.get(same), b.get(same)) {
        (Some(a), Some(b)) if is_plain(*a) && is_plain(*b) => a.cmp(b),
        (None, None) => Ordering::Equal,
        _ => units(one).map(|(_, unit)| unit).cmp(units(other).map(|(_, unit)| unit)),
    }
}

/// The parts of `target` that it has in common with a name, if there are any, and fewer than all.
fn common_parts<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (mut common, mut others) = (0, units(name));
    for (at, unit) in units(target) {
        let other = others.next().map(|(_, unit)| unit);
        if unit == SEPARATOR && matches!(other, None | Some(SEPARATOR)) {
            common = at;
        }
        if other != Some(unit) {
            break;
        }
    }
    (common > 0).then(|| &target[..common])
}

const SEPARATOR: u16 = 0;

/// The bytes of a name in its canonical form, with their places; a separator comes before all else.
fn units(name: &str) -> impl Iterator<Item = (usize, u16)> {
    let (bytes, mut next) = (name.as_bytes(), 0);
    std::iter::from_fn(move || {
        let at = next;
        let (unit, length) = match bytes.get(at)? {
            b'.' => (SEPARATOR, 1),
            b':' if bytes.get(at + 1) == Some(&b':') => (SEPARATOR, 2),
            b'-' => (u16::from(b'_') + 1, 1),
            byte => (u16::from(*byte) + 1, 1),
        };
        next += length;
        Some((at, unit))
    })
}

#[cfg(test)]
mod tests {
    use logcore::StopFlag;
    use logcore_pipeline::Producer;
    use proptest::prelude::*;

    use super::*;

    fn logger(name: &str) -> Arc<Instance> {
        Arc::new(Instance::new(name, Producer::dead(name), StopFlag::default()))
    }

    proptest! {
        #[test]
        fn a_target_goes_to_the_longest_name_above_it(
            come in prop_oneof![0..FEW + 3, 0..300_usize].prop_flat_map(|count| {
                prop::collection::vec(("[ab]{1,2}(([.]|::)[a_-]{1,2}){0,3}", any::<bool>()), count)
            }),
            targets in prop::collection::vec("[ab]{0,2}(([.]|::|:)[a_-]{0,2}){0,4}", 9),
        ) {
            let (mut table, mut there) = (Table::default(), Vec::<Arc<Instance>>::new());
            for (name, goes) in &come {
                let is_it = |other: &Arc<Instance>| canonical_name(other.name()) == canonical_name(name);
                match there.iter().position(is_it) {
                    Some(at) if *goes => table = table.without(&there.remove(at)),
                    Some(_) => {}
                    None => {
                        there.push(logger(name));
                        table = table.with(&there[there.len() - 1]);
                    }
                }
            }
            prop_assert_eq!(table.loggers().count(), there.len());
            for target in targets.iter().chain(come.iter().map(|(name, _)| name)) {
                let above = there.iter().filter(|logger| is_under(target, logger.name()));
                let expected = above.max_by_key(|logger| canonical_name(logger.name()).len());
                let found = table.above(target);
                prop_assert_eq!(found.map(|logger| logger.name()), expected.map(|logger| logger.name()), "{}", target);
            }
        }

        #[test]
        fn names_are_in_the_order_of_their_parts(one in "[ab.:_-]{0,5}", other in "[ab.:_-]{0,5}") {
            let parts = |name: &str| canonical_name(name).split('.').map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(order(&one, &other), parts(&one).cmp(&parts(&other)), "{} {}", one, other);
        }
    }
}
