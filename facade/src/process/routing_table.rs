//! The routing table of the global logger: the logger for each target, by the longest name above
//! the target.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use logcore::log::{Level, LevelFilter};
use logcore::{canonical_name, is_under, process_number};
use logcore_pipeline::LevelRule;

use crate::logger::inner::LoggerInner;

/// An immutable table of loggers. A change returns a new table that shares most of its chunks with
/// the old one, so that thousands of loggers can come and go.
#[derive(Clone, Default)]
pub(crate) struct RoutingTable {
    /// Entries in the order of [`order`], in which a name stands right before the names beneath it.
    chunks: Vec<Arc<RouteChunk>>,
    /// Targets that directives name, the longest first.
    directed: Arc<Vec<DirectedTarget>>,
    /// The logger that takes what no name, no thread and no directive claims: `root`, else the
    /// first that was set up.
    fallback: Option<Arc<LoggerInner>>,
    /// The last logger, after its end.
    ended: Option<Arc<EndedLogger>>,
    /// Number of the process that made the table: a forked child still has the loggers of its
    /// parent.
    process: u64,
}

/// Some loggers with neighboring names.
struct RouteChunk {
    entries: Vec<RouteEntry>,
    /// The most verbose level of these loggers.
    level: LevelFilter,
    /// The first of these loggers that takes records of foreign targets.
    takes_foreign: Option<Arc<LoggerInner>>,
}

#[derive(Clone)]
struct RouteEntry {
    name: Arc<str>,
    logger: Arc<LoggerInner>,
    level: LevelFilter,
    takes_foreign: bool,
}

/// A target that a directive of a logger names.
#[derive(Clone)]
struct DirectedTarget {
    target: Arc<str>,
    /// Length of the target in its canonical form.
    length: usize,
    logger: Arc<LoggerInner>,
}

/// A logger that has ended, and the records that it would take.
pub(crate) struct EndedLogger {
    pub(crate) name: String,
    level: LevelFilter,
    foreign_level: LevelFilter,
}

impl EndedLogger {
    /// Returns `true` if the logger would have taken a record of this target and level.
    pub(crate) fn would_take(&self, target: &str, level: Level) -> bool {
        match is_under(target, &self.name) {
            true => level <= self.level,
            false => level <= self.level.min(self.foreign_level),
        }
    }
}

/// A chunk with more entries is split.
const MOST_ENTRIES: usize = 128;
/// Up to this number of entries, a linear search is faster than a binary one. Most programs have
/// one to three loggers.
const FEW: usize = 8;

/// The logger that takes records of foreign targets before all others.
const ROOT: &str = "root";

impl RoutingTable {
    /// Returns the table with this logger as it is now, which replaces a logger of the same name.
    pub(crate) fn with(&self, logger: &Arc<LoggerInner>) -> Self {
        let mut table = self.of_this_process();
        let settings = logger.settings();
        let entry = RouteEntry {
            name: canonical_name(logger.name()).into(),
            logger: Arc::clone(logger),
            level: settings.level(),
            takes_foreign: logger.takes_foreign(),
        };
        let replaced = table.replace(&entry.name.clone(), Some(entry));
        table.set_targets(logger, replaced.as_ref());
        table.choose_fallback();
        table.ended = None;
        table
    }

    /// Returns the table without this logger.
    pub(crate) fn without(&self, logger: &Arc<LoggerInner>) -> Self {
        let mut table = self.of_this_process();
        let name = canonical_name(logger.name());
        // A newer logger may have taken the name.
        let is_same = |entry: &&RouteEntry| Arc::ptr_eq(&entry.logger, logger);
        if table.find(&name).filter(is_same).is_some() {
            table.replace(&name, None);
        }
        table.remove_targets(|directed| Arc::ptr_eq(&directed.logger, logger));
        table.choose_fallback();
        if table.chunks.is_empty() && !self.chunks.is_empty() {
            let settings = logger.settings();
            table.ended = Some(Arc::new(EndedLogger {
                name: logger.name().to_owned(),
                level: settings.level(),
                foreign_level: settings.foreign_levels().0,
            }));
        }
        table
    }

    /// Returns the logger for a record that no name claims, and the rule by which the logger takes
    /// the record. `entered` is the logger of the thread, `layered` that of a layer which gives the
    /// record.
    pub(crate) fn foreign_taker<'a>(
        &'a self,
        target: &str,
        level: Level,
        entered: Option<&'a Arc<LoggerInner>>,
        layered: Option<&'a Arc<LoggerInner>>,
    ) -> Option<(&'a Arc<LoggerInner>, LevelRule)> {
        let mut directed = self
            .directed
            .iter()
            .filter(|directed| is_under(target, &directed.target))
            .map(|directed| &directed.logger);
        if let Some(entered) = entered {
            // The filter of the logger decides by its directives.
            if directed.clone().any(|logger| Arc::ptr_eq(logger, entered)) {
                return Some((entered, LevelRule::Usual));
            }
            if entered.takes_foreign() {
                return Some((entered, entered.foreign_rule(level)?));
            }
        }
        if let Some(logger) = directed.next() {
            return Some((logger, LevelRule::Usual));
        }
        if let Some(layered) = layered.filter(|logger| logger.is_in_place()) {
            // The layer was made for this logger, whatever other foreign records the logger takes.
            let rule = match layered.takes_foreign() {
                true => layered.foreign_rule(level)?,
                false => LevelRule::Usual,
            };
            return Some((layered, rule));
        }
        let fallback = self.fallback.as_ref()?;
        Some((fallback, fallback.foreign_rule(level)?))
    }

    /// Returns the logger that takes what nothing claims, panics included.
    pub(crate) fn fallback(&self) -> Option<&Arc<LoggerInner>> {
        self.fallback.as_ref()
    }

    /// Returns the logger of this name.
    #[cfg(feature = "tracing")]
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<LoggerInner>> {
        self.find(&canonical_name(name)).map(|entry| &entry.logger)
    }

    /// Returns the last logger if it has ended.
    pub(crate) fn ended(&self) -> Option<&EndedLogger> {
        self.ended.as_deref()
    }

    pub(crate) fn loggers(&self) -> impl Iterator<Item = &Arc<LoggerInner>> {
        self.entries().map(|entry| &entry.logger)
    }

    /// Returns the most verbose level of all loggers. The level of an ended logger stays, so that
    /// the calls after its end are counted.
    pub(crate) fn level(&self) -> LevelFilter {
        let levels = self.chunks.iter().map(|chunk| chunk.level);
        levels
            .chain(self.ended.iter().map(|ended| ended.level))
            .max()
            .unwrap_or(LevelFilter::Off)
    }

    /// Returns the logger with the longest name above a target.
    pub(crate) fn above(&self, mut target: &str) -> Option<&Arc<LoggerInner>> {
        if let [chunk] = &*self.chunks
            && chunk.entries.len() <= FEW
        {
            // Of the names above the target, the longest stands last.
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
            // A name above both stands before both.
            target = common_parts(target, &before.name)?;
        }
    }

    /// Returns the last entry whose name does not come after this name.
    fn last_up_to(&self, name: &str) -> Option<&RouteEntry> {
        let is_up_to = |entry: &RouteEntry| order(&entry.name, name) != Ordering::Greater;
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.entries.first().is_some_and(is_up_to));
        let entries = &self.chunks.get(chunk.checked_sub(1)?)?.entries;
        entries.get(entries.partition_point(is_up_to).checked_sub(1)?)
    }

    fn find(&self, name: &str) -> Option<&RouteEntry> {
        self.last_up_to(name).filter(|entry| &*entry.name == name)
    }

    fn entries(&self) -> impl Iterator<Item = &RouteEntry> {
        self.chunks.iter().flat_map(|chunk| &chunk.entries)
    }

    /// Replaces the entry of this name; returns the logger of the old entry.
    fn replace(&mut self, name: &str, entry: Option<RouteEntry>) -> Option<Arc<LoggerInner>> {
        let comes_before = |other: &RouteEntry| order(&other.name, name) != Ordering::Greater;
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
            chunks.push(Arc::new(RouteChunk::new(std::mem::replace(&mut entries, rest))));
        }
        if !entries.is_empty() {
            chunks.push(Arc::new(RouteChunk::new(entries)));
        }
        let old = at..self.chunks.len().min(at + 1);
        self.chunks.splice(old, chunks);
        replaced
    }

    /// Sets the targets of a logger's directives, which replace those of the logger that it
    /// replaced.
    fn set_targets(&mut self, logger: &Arc<LoggerInner>, replaced: Option<&Arc<LoggerInner>>) {
        let is_old =
            |directed: &DirectedTarget| replaced.is_some_and(|replaced| Arc::ptr_eq(&directed.logger, replaced));
        self.remove_targets(|directed| is_old(directed) || Arc::ptr_eq(&directed.logger, logger));
        let settings = logger.settings();
        let mut new = settings.rules.directives.targets().peekable();
        if new.peek().is_none() {
            return;
        }
        let new = new.map(|(target, _)| DirectedTarget {
            length: canonical_name(target).len(),
            target: target.into(),
            logger: Arc::clone(logger),
        });
        let all = Arc::make_mut(&mut self.directed);
        all.extend(new);
        // Directives of the whole process are those of every logger: then `root` goes first.
        all.sort_by_key(|directed| {
            let logger = &directed.logger;
            (Reverse(directed.length), logger.name() != ROOT, logger.seniority())
        });
    }

    fn remove_targets(&mut self, is_gone: impl Fn(&DirectedTarget) -> bool) {
        if self.directed.iter().any(&is_gone) {
            Arc::make_mut(&mut self.directed).retain(|directed| !is_gone(directed));
        }
    }

    fn choose_fallback(&mut self) {
        let root = self.find(ROOT).filter(|entry| entry.takes_foreign);
        let first = || {
            let all = self.chunks.iter().filter_map(|chunk| chunk.takes_foreign.as_ref());
            all.min_by_key(|logger| logger.seniority())
        };
        self.fallback = root.map(|entry| &entry.logger).or_else(first).cloned();
    }

    /// Returns the table for this process. A forked child keeps only the open loggers of its
    /// parent.
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
            table.set_targets(&entry.logger, None);
        }
        table
    }
}

impl RouteChunk {
    fn new(entries: Vec<RouteEntry>) -> Self {
        let takes_foreign = entries.iter().filter(|entry| entry.takes_foreign);
        let takes_foreign = takes_foreign
            .map(|entry| &entry.logger)
            .min_by_key(|logger| logger.seniority());
        Self {
            level: entries
                .iter()
                .map(|entry| entry.level)
                .max()
                .unwrap_or(LevelFilter::Off),
            takes_foreign: takes_foreign.cloned(),
            entries,
        }
    }
}

/// Orders names by their canonical form: each name right before the names beneath it.
fn order(one: &str, other: &str) -> Ordering {
    let (a, b) = (one.as_bytes(), other.as_bytes());
    // The first difference decides nearly every pair.
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let is_plain = |byte: u8| !matches!(byte, b'.' | b':' | b'-' | b'_');
    match (a.get(same), b.get(same)) {
        (Some(a), Some(b)) if is_plain(*a) && is_plain(*b) => a.cmp(b),
        (None, None) => Ordering::Equal,
        _ => units(one).map(|(_, unit)| unit).cmp(units(other).map(|(_, unit)| unit)),
    }
}

/// Returns the leading parts that `target` has in common with a name, if there are any, and fewer
/// than all.
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

/// Returns the bytes of a name in its canonical form with their offsets. A separator sorts before
/// all other bytes.
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

    fn logger(name: &str) -> Arc<LoggerInner> {
        Arc::new(LoggerInner::new(
            name,
            Producer::disconnected(name),
            StopFlag::default(),
        ))
    }

    proptest! {
        #[test]
        fn the_table_routes_a_target_to_the_longest_name_above_it(
            come in prop_oneof![0..FEW + 3, 0..300_usize].prop_flat_map(|count| {
                prop::collection::vec(("[ab]{1,2}(([.]|::)[a_-]{1,2}){0,3}", any::<bool>()), count)
            }),
            targets in prop::collection::vec("[ab]{0,2}(([.]|::|:)[a_-]{0,2}){0,4}", 9),
        ) {
            let (mut table, mut there) = (RoutingTable::default(), Vec::<Arc<LoggerInner>>::new());
            for (name, goes) in &come {
                let is_it = |other: &Arc<LoggerInner>| canonical_name(other.name()) == canonical_name(name);
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
        fn a_foreign_record_goes_to_the_first_that_claims_it(
            names in Just(vec!["root", "a", "b", "a.c", "d"]).prop_shuffle(),
            loggers in prop::collection::vec(
                (0..6_usize, prop::sample::subsequence(vec!["x=off", "x::y=debug", "z=trace", "w-w=info"], 0..3)),
                0..5,
            ),
            gone in any::<prop::sample::Index>(),
            entered in any::<prop::sample::Index>(),
            target in prop::sample::select(vec!["x", "x.y.z", "xx", "z::q", "w_w", "rooted", "v"]),
            level in prop::sample::select(Level::iter().collect::<Vec<_>>()),
        ) {
            let levels: Vec<_> = LevelFilter::iter().collect();
            let mut there: Vec<_> = names
                .iter()
                .zip(&loggers)
                .map(|(name, (foreign, directives))| {
                    Arc::new(LoggerInner::for_routing(name, levels[*foreign], &directives.join(",")))
                })
                .collect();
            let mut table = there.iter().fold(RoutingTable::default(), |table, logger| table.with(logger));
            if there.len() > 2 {
                table = table.without(&there.remove(gone.index(there.len())));
            }
            let entered = (!there.is_empty()).then(|| &there[entered.index(there.len())]);

            let length = |logger: &Arc<LoggerInner>| {
                let directives = logger.settings().rules.directives;
                directives.targets().find(|(name, _)| is_under(target, name)).map(|(name, _)| name.len())
            };
            let is_root = |logger: &&Arc<LoggerInner>| logger.name() == ROOT;
            let takes = |logger: &&Arc<LoggerInner>| logger.foreign_rule(Level::Error).is_some();
            let named = there.iter().filter(|logger| length(logger).is_some());
            let named = named.min_by_key(|logger| (Reverse(length(logger)), !is_root(logger)));
            let fallback = there.iter().filter(takes).min_by_key(|logger| !is_root(logger));
            let expected = match (entered.filter(|logger| length(logger).is_some()), entered.filter(takes), named) {
                (Some(logger), ..) | (None, None, Some(logger)) => Some(logger),
                (None, taker, _) => taker.or(fallback).filter(|logger| logger.foreign_rule(level).is_some()),
            };
            let found = table.foreign_taker(target, level, entered, None).map(|(logger, _)| logger.name());
            prop_assert_eq!(found, expected.map(|logger| logger.name()));
        }

        #[test]
        fn order_compares_names_part_by_part(one in "[ab.:_-]{0,5}", other in "[ab.:_-]{0,5}") {
            let parts = |name: &str| canonical_name(name).split('.').map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(order(&one, &other), parts(&one).cmp(&parts(&other)), "{} {}", one, other);
        }
    }
}
