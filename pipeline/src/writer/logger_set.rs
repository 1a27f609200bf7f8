//! The loggers and their sinks: how loggers are opened, changed, flushed and ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use log::LevelFilter;
use logcore::{Deadline, EventKind, LogError, LoggerEnd, Record, SinkBooks};

use super::checkpoint::WriterPosition;
use super::logger_table::{LoggerEntry, LoggerTable};
use super::routes::{SinkIndex, SinkRoute, record_routes};
use super::sink_slot::SinkSlot;
use super::sink_table::SinkTable;
use super::unsaved_changes::UnsavedChanges;
use crate::caller::command::{LoggerOutcome, NamedSink, SinkAccount};
use crate::caller::counters::DropCounters;
use crate::caller::pipeline_state::PipelineState;
use crate::frame::repeats::RepeatFolder;
use crate::frame::types::{LevelRule, LoggerId, ReplayHint};
use crate::ring::file::FolderNumber;

/// All loggers and all sinks of a pipeline.
pub(crate) struct LoggerSet {
    pub(super) loggers: LoggerTable,
    pub(super) sinks: SinkTable,
    /// The sinks that every logger has.
    pub(super) shared_sinks: Vec<SinkIndex>,
    pub(super) changes: UnsavedChanges,
    /// The name of the logger that ended last.
    pub(super) last_ended: String,
}

/// A logger to be opened.
pub(super) struct NewLogger {
    pub(super) name: String,
    pub(super) propagate: bool,
    pub(super) folder: Option<FolderNumber>,
    pub(super) counters: Arc<DropCounters>,
    pub(super) sinks: Vec<NamedSink>,
}

impl LoggerSet {
    pub(super) fn new(state: Arc<PipelineState>) -> Self {
        Self {
            loggers: LoggerTable::default(),
            sinks: SinkTable::new(state),
            shared_sinks: Vec::new(),
            changes: UnsavedChanges::default(),
            last_ended: String::new(),
        }
    }

    /// Opens a logger. If the logger is open, its sinks are finished first, and their books are
    /// added to the account of the new sinks.
    pub(super) fn open(&mut self, id: LoggerId, new: NewLogger, deadline: Deadline) {
        let step = self.loggers.get(id).and_then(|logger| logger.step);
        let mut replaced = BTreeMap::new();
        for account in self.end_own_sinks(id, None, deadline) {
            // A pending delivery of a replaced sink continues, and nobody waits for it.
            let mut books = account.books;
            books.add(&account.unseen);
            replaced.insert(account.sink, books);
        }
        match self.loggers.contains(id) {
            true => self.changes.add_for_checkpoint(),
            false => self.changes.add_opened(id),
        }
        let mut logger = LoggerEntry::new(new.name, new.propagate, new.counters);
        (logger.step, logger.replaced, logger.folder) = (step, replaced, new.folder);
        self.insert(id, logger, new.sinks);
    }

    /// Opens a logger of a killed process, with the sinks that could be restored from their resume
    /// points.
    pub(crate) fn restore(
        &mut self,
        id: LoggerId,
        name: &str,
        propagate: bool,
        step: Option<u64>,
        sinks: Vec<NamedSink>,
    ) {
        let mut logger = LoggerEntry::new(name.to_owned(), propagate, Arc::default());
        logger.step = step;
        self.insert(id, logger, sinks);
    }

    fn insert(&mut self, id: LoggerId, mut logger: LoggerEntry, sinks: Vec<NamedSink>) {
        let attach = |named: NamedSink| {
            let label = format!("sink `{}` of logger `{}`", named.name, logger.name);
            let (level, directed_level, foreign_level) = (named.level, named.directed_level, named.foreign_level);
            SinkRoute {
                sink: self.sinks.attach(named, label, Some(id)),
                level,
                directed_level,
                foreign_level,
            }
        };
        logger.own = sinks.into_iter().map(attach).collect();
        let name = logger.name.clone();
        self.loggers.insert(id, logger);
        self.changes.add();
        self.update_family_routes(&name);
    }

    pub(super) fn set_level(&mut self, id: LoggerId, sink: &str, level: LevelFilter) {
        let Some(logger) = self.loggers.get_mut(id) else {
            return;
        };
        for route in &mut logger.own {
            if self.sinks.get(route.sink).is_some_and(|slot| slot.name == sink) {
                route.level = level;
            }
        }
        logger.discard_saved();
        let name = logger.name.clone();
        self.changes.add();
        self.update_family_routes(&name);
    }

    /// Adds a sink that every logger has.
    pub(super) fn share(&mut self, named: NamedSink) {
        let label = format!("sink `{}` of every logger", named.name);
        self.shared_sinks.push(self.sinks.attach(named, label, None));
        self.update_all_routes();
    }

    /// Ends the sinks that every logger has.
    pub(super) fn end_shared_sinks(&mut self, end: Option<LoggerEnd>, deadline: Deadline) -> Vec<SinkAccount> {
        let outcome = end.map(LoggerOutcome::without_summary);
        let shared = std::mem::take(&mut self.shared_sinks);
        if let Some(outcome) = &outcome {
            shared.iter().for_each(|index| self.sinks.end(*index, outcome));
        }
        let finished = shared
            .into_iter()
            .filter_map(|index| self.sinks.detach(index, deadline));
        let accounts = finished.map(|slot| slot.into_account(SinkBooks::default())).collect();
        self.update_all_routes();
        accounts
    }

    pub(super) fn flush_shared_sinks(&mut self, deadline: Deadline) {
        for index in &self.shared_sinks {
            let _ = self.sinks.flush_early(*index, deadline);
        }
    }

    /// Flushes all sinks that receive anything from a logger. Returns the first error.
    pub(super) fn flush(&mut self, id: LoggerId, deadline: Deadline) -> Result<(), LogError> {
        let Some(logger) = self.loggers.get(id) else {
            return Ok(());
        };
        let mut indices: Vec<SinkIndex> = logger.sinks(&self.shared_sinks).collect();
        indices.extend(logger.routes.iter().map(|route| route.sink));
        indices.sort_unstable();
        indices.dedup();
        let mut first = Ok(());
        for index in indices {
            let flushed = self.sinks.flush(index, deadline);
            first = first.and(flushed.map_err(|(sink, error)| LogError::Sink { sink, error }));
        }
        first
    }

    /// Ends a logger, and returns the accounts of its sinks.
    pub(super) fn finish(&mut self, id: LoggerId, outcome: &LoggerOutcome, deadline: Deadline) -> Vec<SinkAccount> {
        let accounts = self.end_own_sinks(id, Some(outcome), deadline);
        if let Some(logger) = self.loggers.remove(id) {
            self.update_family_routes(&logger.name);
            self.last_ended = logger.name;
        }
        self.changes.add();
        accounts
    }

    /// Ends the sinks of a logger that deliver to other machines, and returns their accounts.
    pub(super) fn end_remote_sinks(
        &mut self,
        id: LoggerId,
        outcome: &LoggerOutcome,
        deadline: Deadline,
    ) -> Vec<SinkAccount> {
        let mut accounts = Vec::new();
        let Some(logger) = self.loggers.get(id) else {
            return accounts;
        };
        for route in &logger.own {
            let Some(slot) = self.sinks.get(route.sink).filter(|slot| slot.is_remote()) else {
                continue;
            };
            let label = format!("sink `{}` of logger `{}`", slot.name, logger.name);
            let ended = self.sinks.end_early(route.sink, outcome, deadline, id, label);
            accounts.extend(ended.map(|slot| slot.into_account(SinkBooks::default())));
        }
        self.changes.add_for_checkpoint();
        accounts
    }

    /// Ends the own sinks of a logger, and returns the accounts of all its sinks. Without an
    /// outcome, the run continues with other sinks.
    fn end_own_sinks(&mut self, id: LoggerId, outcome: Option<&LoggerOutcome>, deadline: Deadline) -> Vec<SinkAccount> {
        let Some(logger) = self.loggers.get_mut(id) else {
            return Vec::new();
        };
        let mut replaced = std::mem::take(&mut logger.replaced);
        let mut accounts = Vec::new();
        let own = std::mem::take(&mut logger.own);
        // Before any sink finishes, because one that hangs would keep the end from the others.
        if let Some(outcome) = outcome {
            own.iter().for_each(|route| self.sinks.end(route.sink, outcome));
        }
        for route in own {
            let Some(slot) = self.sinks.detach(route.sink, deadline) else {
                continue;
            };
            let mut unseen = replaced.remove(&slot.name).unwrap_or_default();
            unseen.add(&match outcome {
                Some(_) => slot.unseen_with(&logger.counters, route.level),
                None => slot.unseen.clone(),
            });
            accounts.push(slot.into_account(unseen));
        }
        // Sinks that a reconfiguration has removed.
        accounts.extend(replaced.into_iter().map(|(sink, books)| SinkAccount {
            sink,
            books,
            ..SinkAccount::default()
        }));
        if outcome.is_some() {
            let shared = self.shared_sinks.iter().filter_map(|index| self.sinks.get(*index));
            accounts.extend(shared.map(|slot| slot.account(slot.unseen_with(&logger.counters, LevelFilter::Trace))));
        }
        accounts
    }

    /// Repeats the effect of a command of a killed process.
    pub(crate) fn replay(&mut self, hint: ReplayHint, deadline: Deadline) {
        self.write_repeats();
        match hint {
            ReplayHint::None => {}
            ReplayHint::Flush(id) => drop(self.flush(id, deadline)),
            ReplayHint::Finish(id, exit_code, outcome) => {
                let outcome = LoggerOutcome::from_json(&outcome)
                    .unwrap_or_else(|| LoggerOutcome::without_summary(LoggerEnd::from_exit_code(exit_code)));
                // Another process waits for no server.
                drop(self.finish(id, &outcome, deadline));
            }
            ReplayHint::SetLevel(id, sink, level) => self.set_level(id, &sink, level),
            // Only recovery can restore the sinks of the logger.
            ReplayHint::Opened(_) => {}
        }
    }

    /// Ends the loggers that a killed process has left open. Each sink receives a record with the
    /// text `end`, and learns that the run was killed. Returns the names and the steps of the
    /// loggers.
    ///
    /// # Errors
    ///
    /// If a sink cannot deliver. Then no logger is ended.
    pub(crate) fn end_killed(
        &mut self,
        end: &str,
        time: SystemTime,
        deadline: Deadline,
    ) -> Result<Vec<(String, Option<u64>)>, LogError> {
        self.write_repeats();
        let open = self.loggers.ids();
        for id in &open {
            self.record_end(*id, end, time);
            self.flush(*id, deadline)?;
        }
        let killed = LoggerOutcome::without_summary(LoggerEnd::killed());
        let mut ended = Vec::new();
        for id in open {
            if let Some(logger) = self.loggers.get(id).filter(|logger| !logger.own.is_empty()) {
                ended.push((logger.name.clone(), logger.step));
                self.end_own_sinks(id, Some(&killed), deadline);
            }
        }
        Ok(ended)
    }

    fn record_end(&mut self, id: LoggerId, end: &str, time: SystemTime) {
        let Some(logger) = self.loggers.get(id) else { return };
        let at_step = logger.step.map(|step| format!(" at step {step}")).unwrap_or_default();
        let text = format!("{end}{at_step}");
        let record = Record::at(time, log::Level::Warn, &logger.name, &text);
        for route in &logger.own {
            if route.admits(log::Level::Warn, LevelRule::Usual) {
                self.sinks
                    .give(route.sink, EventKind::Record, |sink| sink.record(&record));
            }
        }
    }

    /// Writes the counts of all repeated records.
    pub(super) fn write_repeats(&mut self) {
        // In an order that follows from the frames alone.
        for index in self.sinks.busy_indices() {
            self.sinks.write_repeats(index, |id| self.loggers.name(id));
        }
    }

    pub(super) fn repeat_folders(&self) -> impl Iterator<Item = &RepeatFolder> {
        self.sinks.busy().filter_map(|slot| slot.repeat_folder.as_ref())
    }

    /// Asks the sinks that have changed for their resume points. Returns `true` if the output and
    /// the resume points of all sinks cover everything that the sinks received.
    pub(super) fn update_resume_points(&mut self) -> bool {
        let loggers = &mut self.loggers;
        self.sinks.update_resume_points(|owner| {
            if let Some(logger) = loggers.get_mut(owner) {
                logger.discard_saved();
            }
        })
    }

    /// Writes a checkpoint; see [`UnsavedChanges::write_checkpoint`].
    pub(super) fn write_checkpoint(&mut self, writer: WriterPosition<'_>, room: usize, out: &mut Vec<u8>) {
        self.changes
            .write_checkpoint(&mut self.loggers, &self.sinks, writer, room, out);
    }

    fn update_all_routes(&mut self) {
        self.loggers.ids().into_iter().for_each(|id| self.update_routes(id));
    }

    /// Updates the routes of the loggers that a change of the logger of this name concerns.
    fn update_family_routes(&mut self, name: &str) {
        self.loggers
            .family(name)
            .into_iter()
            .for_each(|id| self.update_routes(id));
    }

    fn update_routes(&mut self, id: LoggerId) {
        let Some(logger) = self.loggers.get(id) else { return };
        let parents = self.loggers.propagation_targets(logger).map(|parent| &*parent.own);
        let sink = |index| self.sinks.get(index).map(SinkSlot::routed);
        let routes = record_routes(&logger.own, parents, &self.shared_sinks, sink);
        if let Some(logger) = self.loggers.get_mut(id) {
            logger.routes = routes;
        }
    }
}

#[cfg(test)]
mod tests {
    use logcore::{ResumePoint, Sink};

    use super::*;
    use crate::ring::reader::RingReader;
    use crate::writer::checkpoint;

    /// A sink with a resume point of so many bytes, and two for the quotes.
    struct SinkWithResumePoint(usize);

    impl Sink for SinkWithResumePoint {
        fn resume_point(&mut self) -> Option<ResumePoint> {
            ResumePoint::new(&"x".repeat(self.0))
        }
    }

    #[test]
    fn checkpoint_fits_by_leaving_out_the_longest_resume_points() {
        let ring = RingReader::plain(4096).unwrap().0;
        let mut set = LoggerSet::new(Arc::new(PipelineState::new(ring)));
        for (id, bytes) in [10, 500, 90_000, 40_000].into_iter().enumerate() {
            let sinks = ["file", "jsonl"]
                .map(|name| NamedSink::new(name, LevelFilter::Info, Box::new(SinkWithResumePoint(bytes))));
            set.restore(LoggerId(id as u32), "trainer", false, None, sinks.into());
        }
        for (_, logger) in set.loggers.iter_mut() {
            logger.folder = Some(FolderNumber(0));
        }
        set.update_resume_points();
        let writer = WriterPosition {
            folders: &[],
            position: 0,
            chunk_bytes: 0,
        };
        let mut out = Vec::new();
        for (room, sinks) in [(1 << 20, 8), (100_000, 6), (50_000, 4), (300, 2), (200, 0)] {
            set.write_checkpoint(writer, room, &mut out);
            let loggers = checkpoint::read(&out, false).unwrap().loggers;
            let saved: usize = loggers.iter().map(|logger| logger.sinks.len()).sum();
            let left_out: u32 = loggers.iter().map(|logger| logger.left_out).sum();
            assert_eq!(
                (loggers.len(), saved, left_out as usize),
                (4, sinks, 8 - sinks),
                "in {room} bytes"
            );
            assert!(out.len() <= room);
        }
    }
}
