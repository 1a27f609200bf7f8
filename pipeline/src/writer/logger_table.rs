//! The loggers of a process, by number and by name.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use logcore::{SinkBooks, canonical_name};

use super::checkpoint::{self, LoggerHead};
use super::routes::{SinkIndex, SinkRoute};
use super::sink_table::SinkTable;
use crate::caller::counters::DropCounters;
use crate::frame::repeats::RepeatFolder;
use crate::frame::types::LoggerId;
use crate::ring::file::FolderNumber;

/// A logger and its sinks.
pub(super) struct LoggerEntry {
    pub(super) name: String,
    pub(super) propagate: bool,
    /// The highest step of its metrics.
    pub(super) step: Option<u64>,
    pub(super) counters: Arc<DropCounters>,
    /// The log directory of its files; `None` if that has no name of the ring.
    pub(super) folder: Option<FolderNumber>,
    /// The logger's own sinks.
    pub(super) own: Vec<SinkRoute>,
    /// The sinks that receive its records.
    pub(super) routes: Vec<SinkRoute>,
    /// The books of sinks that a reconfiguration has replaced.
    pub(super) replaced: BTreeMap<String, SinkBooks>,
    /// Its entry in a checkpoint, until something of it changes.
    saved: Option<SavedEntry>,
}

/// The bytes of a logger in a checkpoint.
pub(super) struct SavedEntry {
    pub(super) bytes: Vec<u8>,
    /// Length of its longest resume point.
    pub(super) longest: usize,
}

impl LoggerEntry {
    pub(super) fn new(name: String, propagate: bool, counters: Arc<DropCounters>) -> Self {
        Self {
            name,
            propagate,
            step: None,
            counters,
            folder: None,
            own: Vec::new(),
            routes: Vec::new(),
            replaced: BTreeMap::new(),
            saved: None,
        }
    }

    /// Notes a step of the logger's metrics.
    pub(super) fn note_step(&mut self, step: u64) {
        if self.step < Some(step) {
            self.step = Some(step);
            self.saved = None;
        }
    }

    /// Returns the sinks that receive metrics, progress and hyper-parameters: the logger's own
    /// sinks, and the shared ones.
    pub(super) fn sinks<'a>(&'a self, shared: &'a [SinkIndex]) -> impl Iterator<Item = SinkIndex> + use<'a> {
        self.own.iter().map(|route| route.sink).chain(shared.iter().copied())
    }

    /// Discards the saved entry, because something of the logger has changed.
    pub(super) fn discard_saved(&mut self) {
        self.saved = None;
    }

    /// Returns the logger's entry in a checkpoint.
    pub(super) fn saved_entry(&mut self, id: LoggerId, sinks: &SinkTable) -> &SavedEntry {
        if self.saved.is_none() {
            let mut bytes = Vec::new();
            let longest = self.write_entry(id, sinks, usize::MAX, &mut bytes);
            self.saved = Some(SavedEntry { bytes, longest });
        }
        self.saved
            .get_or_insert_with(|| unreachable!("the entry was just saved"))
    }

    /// Writes the logger's entry, with the sinks that are shorter than `limit`. Returns the length
    /// of the longest of them.
    pub(super) fn write_entry(&self, id: LoggerId, sinks: &SinkTable, limit: usize, out: &mut Vec<u8>) -> usize {
        let with_resume_point = self.own.iter().filter_map(|route| {
            let slot = sinks.get(route.sink)?;
            Some((slot, route.level, slot.resume_point.as_ref()?.text()))
        });
        // Recovery looks for the ring only in folders with a name of it.
        let all = with_resume_point.filter(|_| self.folder.is_some());
        let total = all.clone().count();
        let saved = all.filter(move |(slot, ..)| slot.saved_bytes() < limit);
        let head = LoggerHead {
            id,
            name: &self.name,
            propagate: self.propagate,
            step: self.step,
            folder: self.folder.map(|folder| folder.0),
            left_out: total - saved.clone().count(),
            sinks: saved.clone().count(),
        };
        checkpoint::write_logger(out, head);
        let mut longest = 0;
        for (slot, level, resume_point) in saved {
            let repeats = slot.repeat_folder.as_ref().map(RepeatFolder::state);
            checkpoint::write_sink(out, &slot.name, level, resume_point, repeats);
            longest = longest.max(slot.saved_bytes());
        }
        longest
    }
}

/// The loggers by number, and their numbers by name.
#[derive(Default)]
pub(super) struct LoggerTable {
    /// In the order of their numbers.
    entries: Vec<(LoggerId, Box<LoggerEntry>)>,
    /// The place of the entry that was found last: most calls are to one logger. Measured, 50
    /// instructions a line.
    recent: Cell<usize>,
    names: LoggerNames,
}

impl LoggerTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, id: LoggerId) -> bool {
        self.get(id).is_some()
    }

    #[inline]
    pub(super) fn get(&self, id: LoggerId) -> Option<&LoggerEntry> {
        let place = self.find(id)?;
        Some(&self.entries[place].1)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: LoggerId) -> Option<&mut LoggerEntry> {
        let place = self.find(id)?;
        Some(&mut self.entries[place].1)
    }

    pub(super) fn name(&self, id: LoggerId) -> Option<&str> {
        Some(&self.get(id)?.name)
    }

    pub(super) fn ids(&self) -> Vec<LoggerId> {
        self.entries.iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LoggerId, &mut LoggerEntry)> {
        self.entries.iter_mut().map(|(id, logger)| (*id, &mut **logger))
    }

    pub(super) fn insert(&mut self, id: LoggerId, logger: LoggerEntry) {
        self.names.insert(&logger.name, id);
        let logger = Box::new(logger);
        match self.search(id) {
            Ok(place) => self.entries[place].1 = logger,
            Err(place) => self.entries.insert(place, (id, logger)),
        }
    }

    pub(super) fn remove(&mut self, id: LoggerId) -> Option<LoggerEntry> {
        let place = self.search(id).ok()?;
        let (_, logger) = self.entries.remove(place);
        self.names.remove(&logger.name, id);
        Some(*logger)
    }

    #[inline]
    fn find(&self, id: LoggerId) -> Option<usize> {
        let recent = self.recent.get();
        if self.entries.get(recent).is_none_or(|(of_recent, _)| *of_recent != id) {
            self.recent.set(self.search(id).ok()?);
        }
        Some(self.recent.get())
    }

    fn search(&self, id: LoggerId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// Returns the loggers whose records may go to the sinks of the logger of this name, including
    /// that logger itself.
    pub(super) fn family(&self, name: &str) -> Vec<LoggerId> {
        self.names.family(name)
    }

    /// Returns the parents that a logger propagates to, nearest first.
    pub(super) fn propagation_targets<'a>(&'a self, logger: &'a LoggerEntry) -> impl Iterator<Item = &'a LoggerEntry> {
        let name = canonical_name(&logger.name).into_owned();
        let parents: Vec<_> = parents(&name)
            .filter_map(|name| self.get(self.names.find(name)?))
            .collect();
        let mut propagates = logger.propagate;
        parents
            .into_iter()
            .take_while(move |parent| std::mem::replace(&mut propagates, parent.propagate))
    }
}

/// The numbers of loggers by canonical name. Of several loggers with one name, all but the newest
/// are about to end.
#[derive(Default)]
struct LoggerNames(BTreeSet<(String, LoggerId)>);

const FIRST: LoggerId = LoggerId(0);
const LAST: LoggerId = LoggerId(u32::MAX);

/// The parent of all loggers.
const ROOT: &str = "root";

impl LoggerNames {
    fn insert(&mut self, name: &str, id: LoggerId) {
        self.0.insert((canonical_name(name).into_owned(), id));
    }

    fn remove(&mut self, name: &str, id: LoggerId) {
        self.0.remove(&(canonical_name(name).into_owned(), id));
    }

    /// Returns the newest logger of a canonical name.
    fn find(&self, name: &str) -> Option<LoggerId> {
        let name = name.to_owned();
        let all = self.0.range((name.clone(), FIRST)..=(name, LAST));
        all.map(|(_, id)| *id).next_back()
    }

    /// Returns the loggers of this name and those below it.
    fn family(&self, name: &str) -> Vec<LoggerId> {
        let name = canonical_name(name);
        if name == ROOT {
            return self.0.iter().map(|(_, id)| *id).collect();
        }
        let itself = (name.clone().into_owned(), FIRST)..=(name.clone().into_owned(), LAST);
        // No name below it begins with the character after `.`.
        let below = (format!("{name}."), FIRST)..(format!("{name}/"), FIRST);
        let all = self.0.range(itself).chain(self.0.range(below));
        all.map(|(_, id)| *id).collect()
    }
}

/// Returns the names above a canonical name, nearest first. `root` is above all.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    let above = std::iter::successors(Some(name), |name| Some(name.rsplit_once('.')?.0)).skip(1);
    above.chain((name != ROOT).then_some(ROOT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parents_are_nearest_first() {
        assert_eq!(
            parents(&canonical_name("a.b::c")).collect::<Vec<_>>(),
            ["a.b", "a", "root"]
        );
        assert_eq!(parents("a").collect::<Vec<_>>(), ["root"]);
        assert_eq!(parents("root").count(), 0);
    }

    #[test]
    fn propagation_ends_at_a_parent_that_does_not_propagate() {
        let mut table = LoggerTable::default();
        for (id, (name, propagate)) in [("root", false), ("a", false), ("a.b", true), ("a.b.c", true)]
            .into_iter()
            .enumerate()
        {
            table.insert(
                LoggerId(id as u32),
                LoggerEntry::new(name.to_owned(), propagate, Arc::default()),
            );
        }
        let targets = |id| {
            let targets = table.propagation_targets(table.get(LoggerId(id)).unwrap());
            targets.map(|logger| logger.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(targets(3), ["a.b", "a"]);
        assert_eq!(targets(1), [] as [&str; 0]);
    }

    proptest! {
        #[test]
        fn family_contains_all_loggers_below_a_name(
            names in prop::collection::vec("(root|[a-b/ _-]{1,2}([.][a-b/ _-]{1,2}){0,2})", 1..9),
            asked: prop::sample::Selector,
        ) {
            let mut all = LoggerNames::default();
            for (id, name) in (0..).zip(&names) {
                all.insert(name, LoggerId(id));
            }
            let asked = canonical_name(asked.select(&names)).into_owned();
            let is_of_it = |name: &String| {
                let name = canonical_name(name);
                name == asked || parents(&name).any(|parent| parent == asked)
            };
            let of_it = (0..).zip(&names).filter(|(_, name)| is_of_it(name));
            let expected: Vec<_> = of_it.map(|(id, _)| LoggerId(id)).collect();
            let mut family = all.family(&asked);
            family.sort_unstable();
            prop_assert_eq!(&family, &expected);
            let newest = (0..).zip(&names).filter(|(_, name)| canonical_name(name) == asked).last();
            prop_assert_eq!(all.find(&asked), newest.map(|(id, _)| LoggerId(id)));
            for (id, name) in (0..).zip(&names) {
                all.remove(name, LoggerId(id));
            }
            prop_assert!(all.family("root").is_empty());
        }
    }
}
