//! A sink as the writer has it: what it is given, what it says, how it stands.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::LevelFilter;
use logcore::{
    Deadline, EventKind, MetricBatch, Notices, Record, ResumePoint, Sink, SinkBooks, SinkError, catch_panic,
};
use serde_json::Value;

use crate::caller::command::{LoggerAccounts, NamedRemainder, NamedSink};
use crate::caller::producer::{Counters, OVER_LIMIT, RING_FULL, up_to};
use crate::caller::shared::Shared;
use crate::frame::body::LoggerId;
use crate::frame::repeats::RepeatFolder;
use crate::process::notice::print_notice;

/// A sink in its place.
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) destination: Option<String>,
    /// The logger whose own it is.
    pub(crate) owner: Option<LoggerId>,
    wanted: [bool; 4],
    /// The pipeline's own account, for sinks that keep none.
    counted: SinkBooks,
    /// The record that it was given last, if equal ones in a row become one here.
    pub(crate) fold: Option<RepeatFolder>,
    /// The account of those that have no line of their own.
    pub(crate) folded: SinkBooks,
    /// It was given something since it was last asked to deliver.
    pub(crate) dirty: bool,
    /// Where it stood when it was last asked.
    pub(crate) mark: Option<ResumePoint>,
    /// It could not deliver when it was last asked.
    pub(crate) stuck_since: Option<Instant>,
    /// The kinds of trouble that were said, and not yet that they are over.
    said: Vec<String>,
    panics: Panics,
}

impl Slot {
    pub(crate) fn new(named: NamedSink, label: String, owner: Option<LoggerId>) -> Self {
        let asked = catch_panic(|| (named.sink.destination(), EVENT_KINDS.map(|what| named.sink.wants(what))));
        let (destination, wanted) = asked.unwrap_or((None, [true; 4]));
        Self {
            name: named.name,
            label,
            sink: named.sink,
            destination,
            owner,
            wanted,
            counted: SinkBooks::default(),
            fold: named.fold,
            folded: SinkBooks::default(),
            dirty: false,
            mark: None,
            stuck_since: None,
            said: Vec::new(),
            panics: Panics::default(),
        }
    }

    /// Whether what it is given goes to others than this machine.
    pub(crate) fn is_remote(&self) -> bool {
        catch_panic(|| self.sink.is_remote()).unwrap_or(false)
    }

    pub(crate) fn wants(&self, what: EventKind) -> bool {
        EVENT_KINDS
            .iter()
            .position(|kind| *kind == what)
            .is_some_and(|at| self.wanted[at])
    }

    /// Calls the sink so that its panics stay here and a caller that waits can say what it waits for.
    pub(crate) fn call(
        &mut self,
        shared: &Shared,
        at: usize,
        call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        shared.busy.0.store(at as u64 + 1, Ordering::Relaxed);
        let called = catch_panic(|| call(&mut *self.sink));
        shared.busy.0.store(0, Ordering::Relaxed);
        called.unwrap_or_else(|panic| {
            self.panics.add();
            Err(SinkError::panicked(&panic))
        })
    }

    /// Gives the sink something, and keeps the account. A message for the sink alone has no kind.
    #[inline]
    pub(crate) fn give(
        &mut self,
        shared: &Shared,
        at: usize,
        what: Option<EventKind>,
        call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
    ) {
        let counts = u64::from(what != Some(EventKind::Progress));
        if self.panics.keep_away() {
            self.folded.accepted += counts;
            self.folded.drop_for(PANIC, counts);
            return;
        }
        self.dirty = true;
        self.counted.accepted += counts;
        match self.call(shared, at, call) {
            Ok(()) => {
                self.counted.delivered += counts;
                self.panics.is_over();
            }
            Err(error) => {
                self.counted.drop_for(error.reason(), counts);
                self.say(&error);
            }
        }
    }

    /// Asks the sink where it stands; returns whether the mark has all that it was given.
    pub(crate) fn take_mark(&mut self) -> bool {
        self.mark = catch_panic(|| self.sink.resume_point()).unwrap_or(None);
        self.mark.as_ref().is_none_or(ResumePoint::is_complete)
    }

    /// Whether it has something to write out, is in trouble, or has a count of repeated records.
    pub(crate) fn is_busy(&self) -> bool {
        self.dirty || self.stuck_since.is_some() || self.fold.as_ref().is_some_and(RepeatFolder::is_waiting)
    }

    pub(crate) fn books(&self) -> SinkBooks {
        let own = catch_panic(|| self.sink.books()).unwrap_or(None);
        own.unwrap_or_else(|| self.counted.clone())
    }

    /// How much of a checkpoint it takes, but for what is always short.
    pub(crate) fn saved_bytes(&self) -> usize {
        let frame = self.fold.as_ref().map_or(0, |fold| fold.state().0.len());
        self.mark.as_ref().map_or(0, |mark| mark.text().len()) + frame
    }

    /// What was meant for this sink and it does not know of: records without a line of their own, those beyond a limit, what
    /// the ring had no room for.
    pub(crate) fn besides(&self, counters: &Counters, level: LevelFilter) -> SinkBooks {
        let mut besides = self.folded.clone();
        let (mut lost, mut over_limit) = (0, 0);
        if self.wants(EventKind::Record) {
            lost += up_to(level, &counters.records);
            over_limit = up_to(level, &counters.over_limit);
        }
        if self.wants(EventKind::Metrics) {
            lost += counters.metrics.load(Ordering::Relaxed);
        }
        if self.wants(EventKind::Config) {
            lost += counters.configs.load(Ordering::Relaxed);
        }
        besides.accepted += lost + over_limit;
        besides.drop_for(RING_FULL, lost);
        besides.drop_for(OVER_LIMIT, over_limit);
        besides
    }

    pub(crate) fn retry_due(&self, retry: Duration) -> bool {
        self.stuck_since.is_some_and(|since| since.elapsed() >= retry)
    }

    /// What trouble is one with that of another sink: two loggers with one terminal have one trouble with it.
    pub(crate) fn place(&self) -> &str {
        self.destination.as_deref().unwrap_or(&self.label)
    }

    pub(crate) fn start(&mut self, shared: &Shared, at: usize) {
        let place = self.place().to_owned();
        let notices = Notices::new(move |kind, text| {
            print_notice(&format!("{place} {kind}"), text);
        });
        if let Err(error) = self.call(shared, at, |sink| sink.start(&notices)) {
            self.say(&error);
        }
    }

    /// Says each kind of trouble once, until it is over.
    pub(crate) fn say(&mut self, error: &SinkError) {
        if self.said.iter().any(|said| said == error.reason()) {
            return;
        }
        self.said.push(error.reason().to_owned());
        print_notice(
            &format!("{} {}", self.place(), error.reason()),
            &format!(
                "{}: {error}; the run goes on, and what cannot be delivered is counted",
                self.label
            ),
        );
    }

    /// Says that the trouble is over.
    pub(crate) fn over(&mut self) {
        let before = self.said.len();
        // Of one that panics when it is given something, a call with nothing to do says nothing.
        let panics = self.panics.count > 0;
        self.said.retain(|reason| panics && reason == PANIC);
        if self.said.len() < before {
            print_notice(
                &format!("{} over", self.place()),
                &format!("{} delivers again", self.label),
            );
        }
    }

    /// The wait that remains after the sink has finished; `besides` is what it does not know of.
    pub(crate) fn take_remainder(&mut self, besides: SinkBooks) -> Option<NamedRemainder> {
        let wait = catch_panic(|| self.sink.pending_delivery()).unwrap_or(None)?;
        Some(NamedRemainder {
            sink: self.name.clone(),
            label: self.label.clone(),
            wait,
            besides,
        })
    }

    /// Drops the sink; a panic in its `drop` stays here.
    pub(crate) fn discard(self) {
        let _ = catch_panic(|| drop(self.sink));
    }
}

/// How often a sink has panicked since a call went well. Each panic costs as much as many lines, and one that always panics would
/// be asked as often as the others.
#[derive(Default)]
struct Panics {
    count: u32,
    /// It is given nothing before.
    until: Option<Instant>,
}

/// So many panics cost no more than the calls in which they were.
const FORGIVEN: u32 = 3;
/// A sink that goes on panicking is asked again after twice the time each time, and at last this often.
const LONGEST_REST: Duration = Duration::from_secs(60);
const PANIC: &str = "panic";

impl Panics {
    fn add(&mut self) {
        self.count = self.count.saturating_add(1);
        if let Some(more) = self.count.checked_sub(FORGIVEN) {
            let rest = Duration::from_millis(100) * 2_u32.pow(more.min(10));
            self.until = Some(Instant::now() + rest.min(LONGEST_REST));
        }
    }

    fn is_over(&mut self) {
        (self.count, self.until) = (0, None);
    }

    fn keep_away(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// In the place of a sink that has ended before its logger: all that still comes is counted.
#[derive(Default)]
pub(crate) struct Departed {
    /// Something was said since.
    refused: bool,
}

impl Departed {
    pub(crate) fn named(name: String) -> NamedSink {
        NamedSink {
            name,
            level: LevelFilter::Trace,
            sink: Box::new(Self::default()),
            fold: None,
        }
    }

    fn refuse(&mut self) -> Result<(), SinkError> {
        self.refused = true;
        Self::nothing_more()
    }

    fn nothing_more() -> Result<(), SinkError> {
        let text = "the process is ending, and what it says now is in the files alone";
        Err(SinkError::new(text).with_reason("said while the process was ending"))
    }
}

impl Sink for Departed {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        self.refuse()
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.refuse()
    }

    fn config(&mut self, _: &Value) -> Result<(), SinkError> {
        self.refuse()
    }

    fn message(&mut self, _: &str) -> Result<(), SinkError> {
        self.refuse()
    }

    /// So that nobody takes the trouble for over.
    fn deliver(&mut self) -> Result<(), SinkError> {
        if self.refused { Self::nothing_more() } else { Ok(()) }
    }

    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        Ok(())
    }
}

impl LoggerAccounts {
    pub(crate) fn note_place(&mut self, slot: &Slot) {
        if let Some(place) = &slot.destination {
            self.places.insert(slot.name.clone(), place.clone());
        }
    }
}

const EVENT_KINDS: [EventKind; 4] = [
    EventKind::Record,
    EventKind::Metrics,
    EventKind::Progress,
    EventKind::Config,
];
