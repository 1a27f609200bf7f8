//! The sinks of all loggers, each in its place.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use logcore::kill_point::kill_point;
use logcore::{Deadline, EventKind, Sink, SinkError};

use crate::caller::command::{LoggerOutcome, NamedSink};
use crate::caller::shared::Shared;
use crate::frame::body::LoggerId;
use crate::writer::sink_slot::Slot;

/// The sinks by place; a place is free again when its sink is gone.
///
/// A process may have thousands of loggers of which few say something at a time. So the places at which something is to be done are
/// in two lists, and nothing that is done for each batch of frames looks at all places.
pub(crate) struct SinkTable {
    shared: Arc<Shared>,
    places: Vec<Place>,
    free: Vec<usize>,
    lists: Lists,
}

#[derive(Default)]
struct Place {
    slot: Option<Slot>,
    /// It is in the list of this name.
    busy: bool,
    moved: bool,
}

#[derive(Default)]
struct Lists {
    /// Places of sinks that were given something, are in trouble, or have a count of repeated records.
    busy: Vec<usize>,
    /// Places of sinks that may stand elsewhere than the last checkpoint says.
    moved: Vec<usize>,
}

impl Lists {
    #[inline]
    fn note(&mut self, at: usize, place: &mut Place) {
        if !std::mem::replace(&mut place.busy, true) {
            self.busy.push(at);
        }
        if !std::mem::replace(&mut place.moved, true) {
            self.moved.push(at);
        }
    }
}

impl SinkTable {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            places: Vec::new(),
            free: Vec::new(),
            lists: Lists::default(),
        }
    }

    /// Starts a sink and returns its place; `owner` is the logger whose own it is.
    pub(crate) fn attach(&mut self, named: NamedSink, label: String, owner: Option<LoggerId>) -> usize {
        let at = self.free.pop().unwrap_or(self.places.len());
        let mut slot = Slot::new(named, label.clone(), owner);
        slot.start(&self.shared, at);
        let mut labels = self.shared.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if at == self.places.len() {
            self.places.push(Place::default());
            labels.push(label);
        } else {
            labels[at] = label;
        }
        drop(labels);
        self.put(at, slot);
        at
    }

    /// Has another sink stand in the place of one that was taken.
    pub(crate) fn stand_in(&mut self, at: usize, named: NamedSink, label: String, owner: LoggerId) {
        self.put(at, Slot::new(named, label, Some(owner)));
    }

    fn put(&mut self, at: usize, slot: Slot) {
        let place = &mut self.places[at];
        place.slot = Some(slot);
        self.lists.note(at, place);
    }

    /// Finishes a sink and takes it from its place, which is to be [freed](Self::free) then.
    pub(crate) fn take(&mut self, at: usize, outcome: Option<&LoggerOutcome>, deadline: Deadline) -> Option<Slot> {
        let mut slot = self.places.get_mut(at)?.slot.take()?;
        let result = slot.call(&self.shared, at, |sink| {
            if let Some(LoggerOutcome { end, summary }) = outcome {
                sink.logger_ended(end, summary);
            }
            sink.finish(deadline)
        });
        if let Err(error) = result {
            slot.say(&error);
        }
        Some(slot)
    }

    pub(crate) fn free(&mut self, at: usize) {
        self.free.push(at);
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Slot> {
        self.places.get(at)?.slot.as_ref()
    }

    /// The sink of a place, to which something is about to happen.
    #[inline]
    pub(crate) fn touch(&mut self, at: usize) -> Option<&mut Slot> {
        let place = self.places.get_mut(at)?;
        self.lists.note(at, place);
        place.slot.as_mut()
    }

    /// Has a sink flush, and says an error.
    pub(crate) fn flush(&mut self, at: usize, deadline: Deadline) -> Option<(&mut Slot, Result<(), SinkError>)> {
        let shared = Arc::clone(&self.shared);
        let slot = self.touch(at)?;
        let result = slot.call(&shared, at, |sink| sink.flush(deadline));
        if let Err(error) = &result {
            slot.say(error);
        }
        Some((slot, result))
    }

    /// Gives a sink something, if it wants that kind of thing, and keeps the account. A message for the sink alone has no kind.
    pub(crate) fn give(
        &mut self,
        at: usize,
        what: impl Into<Option<EventKind>>,
        call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
    ) {
        let what = what.into();
        let Some(place) = self.places.get_mut(at) else { return };
        let wanted = |slot: &Slot| what.is_none_or(|what| slot.wants(what));
        if !place.slot.as_ref().is_some_and(wanted) {
            return;
        }
        self.lists.note(at, place);
        if let Some(slot) = &mut place.slot {
            slot.give(&self.shared, at, what, call);
        }
    }

    /// Has every sink that got something write it out, and those in trouble try again every `retry`.
    pub(crate) fn deliver(&mut self, retry: Duration) {
        let (places, shared, moved) = (&mut self.places, &self.shared, &mut self.lists.moved);
        self.lists.busy.retain(|&at| {
            let place = &mut places[at];
            place.busy = false;
            let Some(slot) = &mut place.slot else { return false };
            if slot.dirty || slot.retry_due(retry) {
                slot.dirty = false;
                kill_point("before write");
                let result = slot.call(shared, at, |sink| sink.deliver());
                kill_point("after write");
                slot.stuck_since = result.is_err().then(Instant::now);
                match result {
                    Ok(()) => slot.over(),
                    Err(error) => slot.say(&error),
                }
                if !std::mem::replace(&mut place.moved, true) {
                    moved.push(at);
                }
            }
            place.busy = slot.is_busy();
            place.busy
        });
    }

    /// The places of sinks that are busy, in their order.
    pub(crate) fn busy_places(&self) -> Vec<usize> {
        let mut places = self.lists.busy.clone();
        places.sort_unstable();
        places
    }

    /// The sinks that are busy.
    pub(crate) fn busy(&self) -> impl Iterator<Item = &Slot> {
        self.lists.busy.iter().filter_map(|at| self.get(*at))
    }

    /// Asks every sink to which something has happened where it stands, and tells of whose it is; returns whether all that sinks
    /// were given is in their outputs or in their marks.
    pub(crate) fn take_marks(&mut self, mut moved: impl FnMut(LoggerId)) -> bool {
        let places = &mut self.places;
        self.lists.moved.retain(|at| {
            let place = &mut places[*at];
            let complete = place.slot.as_mut().is_none_or(Slot::take_mark);
            place.moved = !complete;
            place.slot.iter().filter_map(|slot| slot.owner).for_each(&mut moved);
            place.moved
        });
        self.lists.moved.is_empty()
    }
}
