//! The sinks of all loggers, by index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logcore::kill_point::kill_point;
use logcore::sync::lock;
use logcore::{Deadline, EventKind, Record, Sink, SinkError};

use super::routes::SinkIndex;
use super::sink_slot::{EndedSink, SinkSlot};
use crate::caller::command::{LoggerOutcome, NamedSink};
use crate::caller::pipeline_state::PipelineState;
use crate::frame::checked_text::CheckedText;
use crate::frame::decode::decode_record;
use crate::frame::repeats::{RepeatFolder, repeat_message};
use crate::frame::types::LoggerId;

/// The sinks by index. The index of a sink that is gone is used again.
///
/// A process may have thousands of loggers, of which few log at a time. So two lists contain the
/// indices of the sinks with something to do, and no work for a batch of frames visits all sinks.
pub(super) struct SinkTable {
    state: Arc<PipelineState>,
    entries: Vec<TableEntry>,
    free: Vec<SinkIndex>,
    lists: AttentionLists,
}

#[derive(Default)]
struct TableEntry {
    slot: Option<SinkSlot>,
    /// `true` if the sink is in the list `busy`.
    is_busy: bool,
    /// `true` if the sink is in the list `stale_resume_points`.
    is_listed_as_stale: bool,
}

#[derive(Default)]
struct AttentionLists {
    /// The sinks that received something, have failed, or have a count of repeated records.
    busy: Vec<SinkIndex>,
    /// The sinks whose resume point may differ from that of the newest checkpoint.
    stale_resume_points: Vec<SinkIndex>,
}

impl AttentionLists {
    #[inline]
    fn add(&mut self, index: SinkIndex, entry: &mut TableEntry) {
        if !std::mem::replace(&mut entry.is_busy, true) {
            self.busy.push(index);
        }
        if !std::mem::replace(&mut entry.is_listed_as_stale, true) {
            self.stale_resume_points.push(index);
        }
    }
}

impl SinkTable {
    pub(super) fn new(state: Arc<PipelineState>) -> Self {
        Self {
            state,
            entries: Vec::new(),
            free: Vec::new(),
            lists: AttentionLists::default(),
        }
    }

    /// Starts a sink, and returns its index. `owner` is its logger, unless every logger has the
    /// sink.
    pub(super) fn attach(&mut self, named: NamedSink, label: String, owner: Option<LoggerId>) -> SinkIndex {
        let index = self.free.pop().unwrap_or(SinkIndex(self.entries.len()));
        let mut slot = SinkSlot::new(named, label.clone(), owner);
        slot.start(&self.state, index);
        let mut labels = lock(&self.state.labels);
        if index.0 == self.entries.len() {
            self.entries.push(TableEntry::default());
            labels.push(label);
        } else {
            labels[index.0] = label;
        }
        drop(labels);
        self.put(index, slot);
        index
    }

    /// Tells a sink that its logger has ended, and how.
    pub(super) fn end(&mut self, index: SinkIndex, outcome: &LoggerOutcome) {
        let state = Arc::clone(&self.state);
        let Some(slot) = self.get_mut(index) else { return };
        let result = slot.call(&state, index, |sink| {
            sink.logger_ended(&outcome.end, &outcome.summary);
            Ok(())
        });
        if let Err(panic) = result {
            slot.report(&panic);
        }
    }

    /// Finishes a sink, and removes it.
    pub(super) fn detach(&mut self, index: SinkIndex, deadline: Deadline) -> Option<SinkSlot> {
        let slot = self.finish(index, deadline)?;
        self.free.push(index);
        Some(slot)
    }

    /// Ends and finishes a sink, and replaces it by one that refuses all further events.
    pub(super) fn end_early(
        &mut self,
        index: SinkIndex,
        outcome: &LoggerOutcome,
        deadline: Deadline,
        owner: LoggerId,
        label: String,
    ) -> Option<SinkSlot> {
        self.end(index, outcome);
        let slot = self.finish(index, deadline)?;
        let mut ended = SinkSlot::new(EndedSink::named(slot.name.clone()), label, Some(owner));
        // Calls that the sink never wanted are not lost.
        ended.want_as(&slot);
        self.put(index, ended);
        Some(slot)
    }

    fn finish(&mut self, index: SinkIndex, deadline: Deadline) -> Option<SinkSlot> {
        let mut slot = self.entries.get_mut(index.0)?.slot.take()?;
        if let Err(error) = slot.call(&self.state, index, |sink| sink.finish(deadline)) {
            slot.report(&error);
        }
        Some(slot)
    }

    fn put(&mut self, index: SinkIndex, slot: SinkSlot) {
        let entry = &mut self.entries[index.0];
        entry.slot = Some(slot);
        self.lists.add(index, entry);
    }

    #[inline]
    pub(super) fn get(&self, index: SinkIndex) -> Option<&SinkSlot> {
        self.entries.get(index.0)?.slot.as_ref()
    }

    /// Returns a sink that is about to change.
    #[inline]
    fn get_mut(&mut self, index: SinkIndex) -> Option<&mut SinkSlot> {
        let entry = self.entries.get_mut(index.0)?;
        self.lists.add(index, entry);
        entry.slot.as_mut()
    }

    /// Flushes a sink, and reports an error. A sink that fails is called again after a while.
    pub(super) fn flush(&mut self, index: SinkIndex, deadline: Deadline) -> Result<(), (String, SinkError)> {
        let result = self.flush_early(index, deadline);
        let Some(slot) = self.get_mut(index) else { return Ok(()) };
        slot.is_dirty = false;
        // Only `deliver` decides that the trouble is over: a sink with a spool can be flushed in
        // spite of it.
        if result.is_err() {
            slot.failed_at = Some(Instant::now());
        }
        result.map_err(|error| (slot.name.clone(), error))
    }

    /// Flushes a sink that the batch delivers to later, and reports an error.
    pub(super) fn flush_early(&mut self, index: SinkIndex, deadline: Deadline) -> Result<(), SinkError> {
        let state = Arc::clone(&self.state);
        let Some(slot) = self.get_mut(index) else { return Ok(()) };
        let result = slot.call(&state, index, |sink| sink.flush(deadline));
        if let Err(error) = &result {
            slot.report(error);
        }
        result
    }

    /// Calls a sink with an event, if it wants this kind of event, and keeps the account. A message
    /// for this sink alone has no kind.
    #[inline]
    pub(super) fn give(
        &mut self,
        index: SinkIndex,
        kind: impl Into<Option<EventKind>>,
        call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
    ) {
        let kind = kind.into();
        let Some(entry) = self.entries.get_mut(index.0) else {
            return;
        };
        let is_wanted = |slot: &SinkSlot| kind.is_none_or(|kind| slot.wants(kind));
        if !entry.slot.as_ref().is_some_and(is_wanted) {
            return;
        }
        self.lists.add(index, entry);
        if let Some(slot) = &mut entry.slot {
            slot.give(&self.state, index, kind, call);
        }
    }

    /// Gives a sink a record, whose frame is `frame`, unless the record repeats the last one and
    /// the sink has repetitions folded. Writes the count of earlier repetitions before.
    #[inline]
    pub(super) fn give_record<'n>(
        &mut self,
        index: SinkIndex,
        frame: &[u8],
        record: &Record<'_>,
        logger_name: impl FnOnce(LoggerId) -> Option<&'n str>,
    ) {
        let Some(entry) = self.entries.get_mut(index.0) else {
            return;
        };
        self.lists.add(index, entry);
        match &mut entry.slot {
            // The routes of records lead to sinks that want them.
            Some(slot) if slot.repeat_folder.is_none() => {
                slot.give(&self.state, index, Some(EventKind::Record), |sink| sink.record(record));
            }
            Some(_) => self.give_folded(index, frame, record, logger_name),
            None => {}
        }
    }

    /// Gives a record to a sink that has repetitions folded.
    // Measured: inlined, folding takes 20 instructions of each line that is not folded.
    #[inline(never)]
    fn give_folded<'n>(
        &mut self,
        index: SinkIndex,
        frame: &[u8],
        record: &Record<'_>,
        logger_name: impl FnOnce(LoggerId) -> Option<&'n str>,
    ) {
        let folder = self.get_mut(index).and_then(|slot| slot.repeat_folder.as_mut());
        if let Some(folder) = folder {
            if folder.count(frame) {
                return;
            }
            let counted = folder.take();
            folder.begin(frame);
            self.write_count(index, counted, logger_name);
        }
        self.give(index, EventKind::Record, |sink| sink.record(record));
    }

    /// Writes the count of repeated records of a sink, if it has one.
    pub(super) fn write_repeats<'n>(
        &mut self,
        index: SinkIndex,
        logger_name: impl FnOnce(LoggerId) -> Option<&'n str>,
    ) {
        let folder = self.get_mut(index).and_then(|slot| slot.repeat_folder.as_mut());
        let counted = folder.and_then(RepeatFolder::take);
        self.write_count(index, counted, logger_name);
    }

    fn write_count<'n>(
        &mut self,
        index: SinkIndex,
        counted: Option<(Vec<u8>, u64)>,
        logger_name: impl FnOnce(LoggerId) -> Option<&'n str>,
    ) {
        let Some((frame, count)) = counted else { return };
        let Some((frame, _)) = decode_record(&frame) else {
            return;
        };
        let Some(name) = logger_name(frame.logger) else { return };
        if let Some(slot) = self.get_mut(index) {
            // The line itself accounts for one of the records.
            slot.unseen.accepted += count - 1;
            slot.unseen.delivered += count - 1;
        }
        let text = repeat_message(count);
        let message = CheckedText {
            text: &text,
            is_plain: true,
        };
        let record = frame.record(name, message);
        self.give(index, EventKind::Record, |sink| sink.record(&record));
    }

    /// Makes every sink that received something deliver, and every sink that has failed try again
    /// after `retry_interval`.
    pub(super) fn deliver(&mut self, retry_interval: Duration) {
        let (entries, state, stale) = (&mut self.entries, &self.state, &mut self.lists.stale_resume_points);
        self.lists.busy.retain(|&index| {
            let entry = &mut entries[index.0];
            entry.is_busy = false;
            let Some(slot) = &mut entry.slot else { return false };
            if slot.is_dirty || slot.is_retry_due(retry_interval) {
                slot.is_dirty = false;
                kill_point("before write");
                let result = slot.call(state, index, |sink| sink.deliver());
                kill_point("after write");
                slot.failed_at = result.is_err().then(Instant::now);
                match result {
                    Ok(()) => slot.report_recovery(),
                    Err(error) => slot.report(&error),
                }
                if !std::mem::replace(&mut entry.is_listed_as_stale, true) {
                    stale.push(index);
                }
            }
            entry.is_busy = slot.is_busy();
            entry.is_busy
        });
    }

    /// Returns the indices of the busy sinks, in ascending order.
    pub(super) fn busy_indices(&self) -> Vec<SinkIndex> {
        let mut indices = self.lists.busy.clone();
        indices.sort_unstable();
        indices
    }

    /// Returns the busy sinks.
    pub(super) fn busy(&self) -> impl Iterator<Item = &SinkSlot> {
        self.lists.busy.iter().filter_map(|index| self.get(*index))
    }

    /// Asks the sinks that have changed for their resume points, and calls `moved` with their
    /// loggers. Returns `true` if the output and the resume points of all sinks cover everything
    /// that the sinks received.
    pub(super) fn update_resume_points(&mut self, mut moved: impl FnMut(LoggerId)) -> bool {
        let entries = &mut self.entries;
        self.lists.stale_resume_points.retain(|index| {
            let entry = &mut entries[index.0];
            let is_complete = entry.slot.as_mut().is_none_or(SinkSlot::update_resume_point);
            entry.is_listed_as_stale = !is_complete;
            entry.slot.iter().filter_map(|slot| slot.owner).for_each(&mut moved);
            entry.is_listed_as_stale
        });
        self.lists.stale_resume_points.is_empty()
    }
}
