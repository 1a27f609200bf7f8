//! Loggers and their sinks, as the writer keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::LevelFilter;
use logcore::{Deadline, EventKind, LogError, LoggerEnd, MetricBatch, MetricValue, Record, SinkBooks, canonical_name};

use crate::caller::command::{Close, Command, Ended, LoggerAccounts, LoggerOutcome, NamedSink};
use crate::caller::producer::Counters;
use crate::caller::shared::Shared;
use crate::frame::body::{
    Echo, LoggerId, MetricName, decode_config, decode_message, decode_metrics, decode_progress, decode_record,
};
use crate::frame::clock::now;
use crate::frame::repeats::{self, RepeatFolder};
use crate::pipeline::FolderNumber;
use crate::process::notice::print_notice;
use crate::writer::checkpoint::{self, Here, LoggerHead};
use crate::writer::logger_names::{Names, parents};
use crate::writer::sink_slot::{Departed, Slot};
use crate::writer::sink_table::SinkTable;

pub(crate) struct Delivery {
    shared: Arc<Shared>,
    loggers: BTreeMap<LoggerId, Logger>,
    names: Names,
    sinks: SinkTable,
    /// Places of the sinks that every logger has.
    common: Vec<usize>,
    /// The names and values of one metrics frame; kept for its memory.
    values: Vec<(&'static str, MetricValue)>,
    /// What callers wait for; they get it when a checkpoint has what they asked for.
    answers: Vec<Box<dyn FnOnce() + Send>>,
    /// Loggers have come, gone or changed since the last checkpoint.
    changed: bool,
    /// Those that have come, as far as no frame tells of them.
    opened: Vec<LoggerId>,
    /// They have changed in a way that no frame tells.
    untold: bool,
    /// Calls for loggers that have ended, and the one that has ended last.
    late: u64,
    ended: String,
}

struct Logger {
    name: String,
    propagate: bool,
    /// The highest step of its metrics.
    step: Option<u64>,
    counters: Arc<Counters>,
    /// Which log directory its files are in.
    folder: Option<FolderNumber>,
    /// The logger's own sinks, with their levels.
    own: Vec<(usize, LevelFilter)>,
    /// Where a record goes: own sinks, those of the parents it propagates to, the common ones.
    records: Vec<(usize, LevelFilter)>,
    /// Accounts of sinks that a reconfiguration has replaced.
    carried: BTreeMap<String, SinkBooks>,
    /// Its entry in a checkpoint, until something of it changes.
    saved: Option<SavedEntry>,
}

struct SavedEntry {
    bytes: Vec<u8>,
    /// The bytes of the longest mark in it.
    longest: usize,
}

impl Delivery {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            sinks: SinkTable::new(Arc::clone(&shared)),
            shared,
            loggers: BTreeMap::new(),
            names: Names::default(),
            common: Vec::new(),
            values: Vec::new(),
            answers: Vec::new(),
            changed: false,
            opened: Vec::new(),
            untold: false,
            late: 0,
            ended: String::new(),
        }
    }

    pub(crate) fn record(&mut self, body: &[u8]) {
        let Some(frame) = decode_record(body) else { return };
        let Some(logger) = self.loggers.get(&frame.logger) else {
            self.late += 1;
            return;
        };
        let record = frame.record(&logger.name, frame.message).with_fields(&frame.fields);
        for (at, level) in &logger.records {
            if frame.level > *level {
                continue;
            }
            if let Some(Slot { fold: Some(fold), .. }) = self.sinks.touch(*at) {
                if fold.count(body) {
                    continue;
                }
                unfold(&self.loggers, &mut self.sinks, *at, Some(body));
            }
            self.sinks.give(*at, EventKind::Record, |sink| sink.record(&record));
        }
    }

    pub(crate) fn metrics(&mut self, body: &[u8]) {
        let Some(frame) = decode_metrics(body) else { return };
        let Some(logger) = self.loggers.get_mut(&frame.logger) else {
            self.late += 1;
            return;
        };
        if logger.step < Some(frame.step) {
            logger.step = Some(frame.step);
            logger.saved = None;
        }
        let mut values = reuse(std::mem::take(&mut self.values));
        values.extend(frame.values().filter_map(|(name, value)| match name {
            MetricName::Id(id) => Some((self.shared.dictionary.name(id)?, value)),
            MetricName::Text(text) => Some((text, value)),
        }));
        let batch = MetricBatch::at(frame.time, &logger.name, frame.step, &values);
        for at in logger.places(&self.common) {
            self.sinks.give(at, EventKind::Metrics, |sink| sink.metrics(&batch));
        }
        self.values = reuse(values);
    }

    pub(crate) fn progress(&mut self, body: &[u8]) {
        let Some((id, mut event)) = decode_progress(body) else {
            return;
        };
        let Some(logger) = self.loggers.get(&id) else { return };
        event.logger = &logger.name;
        for at in logger.places(&self.common) {
            self.sinks.give(at, EventKind::Progress, |sink| sink.progress(&event));
        }
    }

    pub(crate) fn config(&mut self, body: &[u8]) {
        let Some((id, json)) = decode_config(body) else { return };
        let Some(logger) = self.loggers.get(&id) else {
            self.late += 1;
            return;
        };
        let config = match serde_json::from_str(json) {
            Ok(config) => config,
            Err(error) => {
                let text = format!("hyper-parameters that cannot be read are left out: {error}");
                print_notice("hyper-parameters", &text);
                return;
            }
        };
        for at in logger.places(&self.common) {
            self.sinks.give(at, EventKind::Config, |sink| sink.config(&config));
        }
    }

    pub(crate) fn message(&mut self, body: &[u8]) {
        let Some((id, sink, message)) = decode_message(body) else {
            return;
        };
        let Some(logger) = self.loggers.get(&id) else {
            self.late += 1;
            return;
        };
        for (at, _) in &logger.own {
            if self.sinks.get(*at).is_some_and(|slot| slot.name == sink) {
                self.sinks.give(*at, None, |sink| sink.message(message));
            }
        }
    }

    /// Has every sink that got something write it out, and those in trouble try again every `retry`.
    pub(crate) fn deliver(&mut self, retry: Duration) {
        self.sinks.deliver(retry);
    }

    /// Whether a sink waits to try again.
    pub(crate) fn in_trouble(&self) -> bool {
        self.sinks.busy().any(|slot| slot.stuck_since.is_some())
    }

    /// Whether a count of repeated records waits to be written.
    pub(crate) fn has_folds(&self) -> bool {
        self.folds().any(RepeatFolder::is_waiting)
    }

    /// Whether one has waited long enough; [`Command::Unfold`] writes it.
    pub(crate) fn fold_is_due(&self) -> bool {
        self.folds().any(RepeatFolder::is_due)
    }

    /// Does what a caller asked for; returns what the writer shall end with.
    pub(crate) fn command(&mut self, command: Command) -> Option<Close> {
        self.unfold();
        match command {
            Command::Unfold => {}
            Command::Open {
                id,
                name,
                propagate,
                folder,
                sinks,
                counters,
                deadline,
                reply,
            } => {
                let step = self.loggers.get(&id).and_then(|logger| logger.step);
                let carried = self.close(id, None, deadline).closing.books;
                match self.loggers.contains_key(&id) {
                    true => self.untold = true,
                    false => self.opened.push(id),
                }
                let mut logger = Logger::new(name, propagate, counters);
                (logger.step, logger.carried, logger.folder) = (step, carried, folder);
                self.open(id, logger, sinks);
                self.answer(move || reply.send(()));
            }
            Command::Level { id, sink, level } => self.set_level(id, &sink, level),
            Command::Share(named) => {
                let label = format!("sink `{}` of every logger", named.name);
                self.common.push(self.sinks.attach(named, label, None));
                self.route_all();
            }
            Command::Flush { id, deadline, reply } => {
                let flushed = self.flush(id, deadline);
                self.answer(move || reply.send(flushed));
            }
            Command::Finish {
                id,
                outcome,
                deadline,
                reply,
            } => {
                for at in self.common.clone() {
                    self.sinks.flush(at, deadline);
                }
                let ended = self.finish(id, &outcome, deadline);
                self.answer(move || reply.send(ended));
            }
            Command::FinishShared { end, deadline, reply } => {
                let outcome = LoggerOutcome::without_summary(end);
                let mut remainders = Vec::new();
                for at in std::mem::take(&mut self.common) {
                    if let Some(mut slot) = self.detach(at, Some(&outcome), deadline) {
                        remainders.extend(slot.take_remainder(SinkBooks::default()));
                        slot.discard();
                    }
                }
                self.route_all();
                self.answer(move || reply.send(remainders));
            }
            Command::WindUp {
                id,
                outcome,
                deadline,
                reply,
            } => {
                let ended = self.wind_up(id, &outcome, deadline);
                self.answer(move || reply.send(ended));
            }
            Command::Close(close) => return Some(close),
        }
        None
    }

    /// Ends what is open, as the last that is done.
    pub(crate) fn close_all(&mut self, close: Close) {
        let Close {
            loggers,
            deadline,
            reply,
        } = close;
        let worst = loggers.iter().max_by_key(|(_, outcome)| outcome.end.exit_code);
        let worst = worst.map(|(_, outcome)| LoggerOutcome::without_summary(outcome.end.clone()));
        // Each call that was accepted is delivered, and no frame says so.
        self.untold = true;
        self.unfold();
        let ended: Vec<Ended> = loggers
            .into_iter()
            .map(|(id, outcome)| self.finish(id, &outcome, deadline))
            .collect();
        let mut remainders = Vec::new();
        for at in std::mem::take(&mut self.common) {
            if let Some(mut slot) = self.detach(at, worst.as_ref(), deadline) {
                remainders.extend(slot.take_remainder(SinkBooks::default()));
                slot.discard();
            }
        }
        self.answer(move || reply.send((ended, remainders)));
    }

    /// How many calls came for loggers that have ended, since this was asked, and the name of one that has.
    pub(crate) fn take_late(&mut self) -> (u64, String) {
        (std::mem::take(&mut self.late), self.ended.clone())
    }

    fn wind_up(&mut self, id: LoggerId, outcome: &LoggerOutcome, deadline: Deadline) -> Ended {
        let mut ended = Ended::default();
        let Some(logger) = self.loggers.get(&id) else {
            return ended;
        };
        let label = format!("logger `{}`", logger.name);
        for (at, _) in logger.own.clone() {
            let Some(slot) = self.sinks.get(at) else { continue };
            if !slot.is_remote() {
                continue;
            }
            if let Some(mut slot) = self.sinks.take(at, Some(outcome), deadline) {
                ended.remainders.extend(slot.take_remainder(SinkBooks::default()));
                ended.closing.books.insert(slot.name.clone(), slot.books());
                ended.closing.note_place(&slot);
                let name = slot.name.clone();
                let label = format!("sink `{name}` of {label}");
                slot.discard();
                self.sinks.stand_in(at, Departed::named(name), label, id);
            }
        }
        (self.changed, self.untold) = (true, true);
        ended
    }

    /// Whether a caller waits for an answer.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Gives callers their answers.
    pub(crate) fn give_answers(&mut self) {
        for answer in self.answers.drain(..) {
            answer();
        }
    }

    fn answer(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.answers.push(Box::new(answer));
    }

    /// Asks every sink that was given something where it stands; returns whether all that they were given is in their
    /// outputs or in their marks.
    pub(crate) fn take_marks(&mut self) -> bool {
        let loggers = &mut self.loggers;
        self.sinks.take_marks(|owner| {
            if let Some(logger) = loggers.get_mut(&owner) {
                logger.saved = None;
            }
        })
    }

    /// Whether the loggers are others than those of the last checkpoint.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Whether something of that can be known by a checkpoint alone.
    pub(crate) fn has_untold(&self) -> bool {
        self.untold
    }

    /// A logger that has come since the last checkpoint and that no frame has told of, as its entry in one; until it is
    /// [`told`](Self::told).
    pub(crate) fn opened(&mut self) -> Option<&[u8]> {
        while let Some(id) = self.opened.last()
            && !self.loggers.contains_key(id)
        {
            self.opened.pop();
        }
        let (id, sinks) = (*self.opened.last()?, &self.sinks);
        Some(&self.loggers.get_mut(&id)?.saved_entry(id, sinks).bytes)
    }

    /// A frame tells of what [`opened`](Self::opened) has returned.
    pub(crate) fn told(&mut self) {
        self.opened.pop();
    }

    /// Writes where everything stands. Marks for which there is no room, the longest first, are left out.
    pub(crate) fn checkpoint(&mut self, here: Here<'_>, room: usize, out: &mut Vec<u8>) {
        let mut limit = usize::MAX;
        loop {
            limit = self.put_checkpoint(here, limit, out);
            // Without marks there is nothing in it that grows.
            if out.len() <= room || limit == 0 {
                break;
            }
            print_notice(
                "a long mark",
                "what sinks have to remember, such as a row that is not complete, is longer than its place in the ring: should the \
                 process be killed now, the longest of it is lost (a larger `ring_bytes` helps)",
            );
        }
        (self.changed, self.untold) = (false, false);
        self.opened.clear();
    }

    /// Puts the marks that are shorter than `limit`, with their loggers; returns the length of the longest of them.
    fn put_checkpoint(&mut self, here: Here<'_>, limit: usize, out: &mut Vec<u8>) -> usize {
        out.clear();
        checkpoint::begin(out, here, now(), self.loggers.len());
        let mut longest = 0;
        // All of them, so that a call which none of them takes is known to be late, and not lost.
        for (id, logger) in &mut self.loggers {
            longest = longest.max(match limit {
                usize::MAX => {
                    let entry = logger.saved_entry(*id, &self.sinks);
                    out.extend_from_slice(&entry.bytes);
                    entry.longest
                }
                limit => logger.put_entry(*id, &self.sinks, limit, out),
            });
        }
        longest
    }

    /// Takes up a logger of a killed process, with the sinks that could be made of its marks.
    pub(crate) fn take_up(
        &mut self,
        id: LoggerId,
        name: &str,
        propagate: bool,
        step: Option<u64>,
        sinks: Vec<NamedSink>,
    ) {
        let mut logger = Logger::new(name.to_owned(), propagate, Arc::default());
        logger.step = step;
        self.open(id, logger, sinks);
    }

    /// Does again what a killed process was asked for.
    pub(crate) fn replay(&mut self, echo: Echo, deadline: Deadline) {
        self.unfold();
        match echo {
            Echo::Nothing => {}
            Echo::Flush(id) => drop(self.flush(id, deadline)),
            Echo::Finish(id, exit_code, outcome) => {
                let outcome = LoggerOutcome::from_json(&outcome)
                    .unwrap_or_else(|| LoggerOutcome::without_summary(LoggerEnd::from_exit_code(exit_code)));
                self.finish(id, &outcome, deadline);
            }
            Echo::Level(id, sink, level) => self.set_level(id, &sink, level),
            // Its sinks can be made by who recovers the ring alone.
            Echo::Opened(_) => {}
        }
    }

    /// Ends the loggers that a killed process has left open: each sink learns of it by a record, which says this `end`, and by the exit code.
    /// Returns their names and steps.
    ///
    /// # Errors
    ///
    /// If a sink cannot deliver what it was given. Then nothing is ended.
    pub(crate) fn end_killed(
        &mut self,
        end: &str,
        time: SystemTime,
        deadline: Deadline,
    ) -> Result<Vec<(String, Option<u64>)>, LogError> {
        self.unfold();
        let left: Vec<_> = self.loggers.keys().copied().collect();
        for id in &left {
            self.say_end(*id, end, time);
            self.flush(*id, deadline)?;
        }
        let killed = LoggerOutcome::without_summary(LoggerEnd::killed());
        let mut ended = Vec::new();
        for id in left {
            if let Some(logger) = self.loggers.get(&id).filter(|logger| !logger.own.is_empty()) {
                ended.push((logger.name.clone(), logger.step));
                self.close(id, Some(&killed), deadline);
            }
        }
        Ok(ended)
    }

    fn say_end(&mut self, id: LoggerId, end: &str, time: SystemTime) {
        let Some(logger) = self.loggers.get(&id) else { return };
        let at_step = logger.step.map(|step| format!(" at step {step}")).unwrap_or_default();
        let text = format!("{end}{at_step}");
        let record = Record::at(time, log::Level::Warn, &logger.name, &text);
        for (at, level) in &logger.own {
            if log::Level::Warn <= *level {
                self.sinks.give(*at, EventKind::Record, |sink| sink.record(&record));
            }
        }
    }

    pub(crate) fn folds(&self) -> impl Iterator<Item = &RepeatFolder> {
        self.sinks.busy().filter_map(|slot| slot.fold.as_ref())
    }

    /// Writes what was counted as repeated.
    fn unfold(&mut self) {
        // In an order that follows from the frames alone.
        for at in self.sinks.busy_places() {
            unfold(&self.loggers, &mut self.sinks, at, None);
        }
    }

    fn open(&mut self, id: LoggerId, mut logger: Logger, sinks: Vec<NamedSink>) {
        let attach = |named: NamedSink| {
            let label = format!("sink `{}` of logger `{}`", named.name, logger.name);
            let level = named.level;
            (self.sinks.attach(named, label, Some(id)), level)
        };
        logger.own = sinks.into_iter().map(attach).collect();
        let name = logger.name.clone();
        self.loggers.insert(id, logger);
        self.names.insert(&name, id);
        self.changed = true;
        self.route(&name);
    }

    fn set_level(&mut self, id: LoggerId, sink: &str, level: LevelFilter) {
        let Some(logger) = self.loggers.get_mut(&id) else {
            return;
        };
        for (at, its) in &mut logger.own {
            if self.sinks.get(*at).is_some_and(|slot| slot.name == sink) {
                *its = level;
            }
        }
        logger.saved = None;
        let name = logger.name.clone();
        self.changed = true;
        self.route(&name);
    }

    fn finish(&mut self, id: LoggerId, outcome: &LoggerOutcome, deadline: Deadline) -> Ended {
        let ended = self.close(id, Some(outcome), deadline);
        if let Some(logger) = self.loggers.remove(&id) {
            self.names.remove(&logger.name, id);
            self.route(&logger.name);
            self.ended = logger.name;
        }
        self.changed = true;
        ended
    }

    fn flush(&mut self, id: LoggerId, deadline: Deadline) -> Result<(), LogError> {
        let Some(logger) = self.loggers.get(&id) else {
            return Ok(());
        };
        let mut places: Vec<usize> = logger.places(&self.common).collect();
        places.extend(logger.records.iter().map(|(at, _)| *at));
        places.sort_unstable();
        places.dedup();
        let mut first = Ok(());
        for at in places {
            let Some((slot, result)) = self.sinks.flush(at, deadline) else {
                continue;
            };
            slot.dirty = false;
            // Whether trouble is over is for `deliver` to say: a sink that has a spool is flushed in spite of it.
            if let Err(error) = result {
                slot.stuck_since = Some(Instant::now());
                let sink = slot.name.clone();
                first = first.and(Err(LogError::Sink { sink, error }));
            }
        }
        first
    }

    /// Ends the own sinks of a logger and returns all its accounts; with an outcome, as the end of its run.
    fn close(&mut self, id: LoggerId, outcome: Option<&LoggerOutcome>, deadline: Deadline) -> Ended {
        let Some(logger) = self.loggers.get_mut(&id) else {
            return Ended::default();
        };
        let mut remainders = Vec::new();
        let mut closing = LoggerAccounts::default();
        let mut carried = std::mem::take(&mut logger.carried);
        let own = std::mem::take(&mut logger.own);
        let counters = Arc::clone(&logger.counters);
        for (at, level) in own {
            let Some(mut slot) = self.detach(at, outcome, deadline) else {
                continue;
            };
            let mut besides = carried.remove(&slot.name).unwrap_or_default();
            besides.add(&match outcome {
                Some(_) => slot.besides(&counters, level),
                None => slot.folded.clone(),
            });
            let mut books = slot.books();
            books.add(&besides);
            remainders.extend(slot.take_remainder(besides));
            closing.books.insert(slot.name.clone(), books);
            closing.note_place(&slot);
            slot.discard();
        }
        // Those of sinks that a reconfiguration has taken away.
        closing.books.extend(carried);
        if outcome.is_some() {
            for at in &self.common {
                if let Some(slot) = self.sinks.get(*at) {
                    let mut books = slot.books();
                    books.add(&slot.besides(&counters, LevelFilter::Trace));
                    closing.books.insert(slot.name.clone(), books);
                    closing.note_place(slot);
                }
            }
        }
        Ended { closing, remainders }
    }

    fn detach(&mut self, at: usize, outcome: Option<&LoggerOutcome>, deadline: Deadline) -> Option<Slot> {
        let slot = self.sinks.take(at, outcome, deadline)?;
        self.sinks.free(at);
        Some(slot)
    }

    /// Works out anew where the records of every logger go.
    fn route_all(&mut self) {
        let all: Vec<_> = self.loggers.keys().copied().collect();
        all.into_iter().for_each(|id| self.route_one(id));
    }

    /// The same for the loggers that are concerned when the one of this name comes, goes or changes.
    fn route(&mut self, name: &str) {
        let family = self.names.family(name);
        family.into_iter().for_each(|id| self.route_one(id));
    }

    fn route_one(&mut self, id: LoggerId) {
        let Some(logger) = self.loggers.get(&id) else { return };
        let route = self.once_a_destination(self.places_above(logger));
        if let Some(logger) = self.loggers.get_mut(&id) {
            logger.records = route;
        }
    }

    /// The sinks of a logger, of those that it propagates to, and the common ones.
    fn places_above(&self, logger: &Logger) -> Vec<(usize, LevelFilter)> {
        let mut places = logger.own.clone();
        let mut here = logger;
        let name = canonical_name(&logger.name);
        let mut parents = parents(&name);
        while here.propagate
            && let Some(parent) = parents.find_map(|name| self.loggers.get(&self.names.find(name)?))
        {
            places.extend_from_slice(&parent.own);
            here = parent;
        }
        places.extend(self.common.iter().map(|at| (*at, LevelFilter::Trace)));
        places
    }

    /// Keeps the first sink for each destination, with the widest level that any of them has.
    fn once_a_destination(&self, route: Vec<(usize, LevelFilter)>) -> Vec<(usize, LevelFilter)> {
        let mut kept: Vec<(usize, LevelFilter)> = Vec::with_capacity(route.len());
        for (at, level) in route {
            let Some(slot) = self.sinks.get(at) else { continue };
            if !slot.wants(EventKind::Record) {
                continue;
            }
            let same = kept
                .iter_mut()
                .find(|(other, _)| match (&slot.destination, self.sinks.get(*other)) {
                    (Some(here), Some(other)) => other.destination.as_ref() == Some(here),
                    _ => false,
                });
            match same {
                Some((_, its)) => *its = level.max(*its),
                None => kept.push((at, level)),
            }
        }
        kept
    }
}

impl Logger {
    fn new(name: String, propagate: bool, counters: Arc<Counters>) -> Self {
        Self {
            name,
            propagate,
            step: None,
            counters,
            folder: None,
            own: Vec::new(),
            records: Vec::new(),
            carried: BTreeMap::new(),
            saved: None,
        }
    }

    /// Its entry in a checkpoint.
    fn saved_entry(&mut self, id: LoggerId, sinks: &SinkTable) -> &SavedEntry {
        if self.saved.is_none() {
            let mut bytes = Vec::new();
            let longest = self.put_entry(id, sinks, usize::MAX, &mut bytes);
            self.saved = Some(SavedEntry { bytes, longest });
        }
        self.saved.get_or_insert_with(|| unreachable!("it was just put there"))
    }

    /// Writes its entry, with the marks that are shorter than `limit`; returns the length of the longest of them.
    fn put_entry(&self, id: LoggerId, sinks: &SinkTable, limit: usize, out: &mut Vec<u8>) -> usize {
        let marked = self.own.iter().filter_map(|(at, level)| {
            let slot = sinks.get(*at)?;
            Some((slot, *level, slot.mark.as_ref()?.text()))
        });
        // In a folder without a name of the ring nobody would look for it.
        let marked = marked.filter(|_| self.folder.is_some());
        let all = marked.clone().count();
        let marked = marked.filter(move |(slot, ..)| slot.saved_bytes() < limit);
        let head = LoggerHead {
            id,
            name: &self.name,
            propagate: self.propagate,
            step: self.step,
            folder: self.folder.map(|folder| folder.0),
            left_out: all - marked.clone().count(),
            sinks: marked.clone().count(),
        };
        checkpoint::put_logger(out, head);
        let mut longest = 0;
        for (slot, level, mark) in marked {
            let fold = slot.fold.as_ref().map(RepeatFolder::state);
            checkpoint::put_sink(out, &slot.name, level, mark, fold);
            longest = longest.max(slot.saved_bytes());
        }
        longest
    }

    /// The sinks that get metrics, progress and config: a logger's own, and the common ones.
    fn places<'a>(&'a self, common: &'a [usize]) -> impl Iterator<Item = usize> + use<'a> {
        self.own.iter().map(|(at, _)| *at).chain(common.iter().copied())
    }
}

/// Writes what a sink's fold has counted; `next` is the record that comes then, if one does.
fn unfold(loggers: &BTreeMap<LoggerId, Logger>, sinks: &mut SinkTable, at: usize, next: Option<&[u8]>) {
    let Some(Slot {
        fold: Some(fold),
        folded,
        ..
    }) = sinks.touch(at)
    else {
        return;
    };
    let counted = fold.take();
    if let Some(next) = next {
        fold.begin(next);
    }
    let Some((frame, count)) = counted else { return };
    let Some(frame) = decode_record(&frame) else { return };
    let Some(logger) = loggers.get(&frame.logger) else {
        return;
    };
    // One of them is the line itself.
    folded.accepted += count - 1;
    folded.delivered += count - 1;
    let message = repeats::message(count);
    let record = frame.record(&logger.name, &message);
    sinks.give(at, EventKind::Record, |sink| sink.record(&record));
}

/// The same vector, empty, for borrows of another lifetime: collecting in place keeps its memory.
fn reuse<'a>(mut values: Vec<(&str, MetricValue)>) -> Vec<(&'a str, MetricValue)> {
    values.clear();
    values
        .into_iter()
        .map(|_| unreachable!("it was just cleared"))
        .collect()
}

#[cfg(test)]
mod tests {
    use logcore::{ResumePoint, Sink};

    use super::*;

    /// A mark of so many bytes, and two for the quotes.
    struct Marked(usize);

    impl Sink for Marked {
        fn resume_point(&mut self) -> Option<ResumePoint> {
            ResumePoint::new(&"x".repeat(self.0))
        }
    }

    #[test]
    fn a_checkpoint_fits_whatever_there_is_to_remember() {
        let mut delivery = Delivery::new(Arc::new(Shared::new(crate::ring::queue::Ring::plain(4096).unwrap().0)));
        for (id, bytes) in [10, 500, 90_000, 40_000].into_iter().enumerate() {
            let sinks = ["file", "jsonl"].map(|name| NamedSink {
                name: name.to_owned(),
                level: LevelFilter::Info,
                sink: Box::new(Marked(bytes)),
                fold: None,
            });
            delivery.take_up(LoggerId(id as u32), "trainer", false, None, sinks.into());
        }
        for logger in delivery.loggers.values_mut() {
            logger.folder = Some(FolderNumber(0));
        }
        delivery.take_marks();
        let here = Here {
            folders: &[],
            at: 0,
            pieces: 0,
        };
        let mut out = Vec::new();
        for (room, sinks) in [(1 << 20, 8), (100_000, 6), (50_000, 4), (300, 2), (200, 0)] {
            delivery.checkpoint(here, room, &mut out);
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

    #[test]
    fn reusing_keeps_the_memory() {
        let mut values: Vec<(&str, MetricValue)> = Vec::with_capacity(100);
        values.push(("a", MetricValue::Int(1)));
        let again = reuse(values);
        assert!(again.is_empty() && again.capacity() >= 100);
    }
}
