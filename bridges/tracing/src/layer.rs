//! The layer: it takes events and spans from a subscriber's registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use log::Record;
use logcore::{MetricValue, is_logging_suppressed};
use tracing_core::span::{Attributes, Id, Record as SpanRecord};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, LevelFilter, Metadata, Subscriber, callsite};
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::event::{self, log_level};
use crate::field::FieldVisitor;
use crate::span::{OpenSpan, SpanBar, SpanFields, SpanReader};
use crate::{echo, span};

/// Makes the record of an event, and calls the given function with the record.
pub type GiveRecord<'a> = dyn Fn(&mut dyn FnMut(&Record<'_>)) + 'a;

/// Receives the events and spans: the loggers.
pub trait EventReceiver: Send + Sync + 'static {
    /// A bar on the terminal, which ends when this is dropped.
    type Bar: Send + Sync + 'static;

    /// Returns the most verbose level that any logger takes. After a change, [`note_new_level`]
    /// is called.
    fn max_level() -> log::LevelFilter;

    /// Takes an event. `give` makes the record, which costs nothing if nobody wants this metadata.
    fn receive_record(&self, metadata: &log::Metadata<'_>, give: &GiveRecord<'_>);

    /// Takes the metrics of an event, at its step if the event names one.
    fn receive_metrics(&self, step: Option<u64>, metrics: &[(&'static str, MetricValue)]);

    /// Returns `true` if the time of spans of this name is a metric.
    fn is_timed(&self, span: &str) -> bool;

    /// Takes the time of a span in seconds.
    fn receive_time(&self, span: &'static str, seconds: f64);

    /// Starts a bar.
    fn start_bar(&self, total: u64, description: &str) -> Self::Bar;

    /// Advances a bar by `n` units.
    fn advance_bar(bar: &Self::Bar, n: u64);
}

/// A layer for subscribers with a registry. It has a filter of its own, so that it narrows no other
/// layer, and levels that no logger takes cost nothing.
pub type Layer<R, S> = Filtered<EventLayer<R>, LevelGate<R>, S>;

static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
/// The most verbose level that any logger takes, as `tracing` knows it. No level at first.
static KNOWN_LEVEL: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Returns a layer that gives events and spans to `receiver`.
pub fn layer<R, S>(receiver: R) -> Layer<R, S>
where
    R: EventReceiver,
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    IS_INSTALLED.store(true, Ordering::Relaxed);
    let layer = EventLayer {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        receiver,
    };
    tracing_subscriber::Layer::with_filter(layer, LevelGate(std::marker::PhantomData))
}

/// Returns `true` once the program has made a layer.
#[inline]
#[must_use]
pub fn is_installed() -> bool {
    IS_INSTALLED.load(Ordering::Relaxed)
}

/// Has `tracing` ask again which levels are taken, if `max_level` does not return the level that it
/// knows.
pub fn note_new_level(max_level: impl Fn() -> log::LevelFilter) {
    // Two changes at once must not leave the older level, and filters of the program run in a
    // rebuild, so that no lock can order the two.
    while is_installed() {
        let level = max_level() as usize;
        if KNOWN_LEVEL.swap(level, Ordering::SeqCst) == level {
            return;
        }
        callsite::rebuild_interest_cache();
    }
}

/// Gives events and spans to a receiver; see [`layer`].
#[derive(Debug)]
pub struct EventLayer<R> {
    /// Number of the layer in the process.
    number: u64,
    receiver: R,
}

impl<R: EventReceiver> EventLayer<R> {
    fn fields_of<S>(&self, span: &SpanRef<'_, S>) -> Option<Arc<SpanFields>>
    where
        S: for<'span> LookupSpan<'span>,
    {
        let extensions = span.extensions();
        extensions.get::<OpenSpan<R>>().map(|open| Arc::clone(&open.fields))
    }

    /// Calls `look` with an open span of this layer. Threads that share a span do not wait for each
    /// other, and a fork finds no lock held for writing.
    fn look_at<S, T>(&self, id: &Id, context: &Context<'_, S>, look: impl FnOnce(&OpenSpan<R>) -> T) -> Option<T>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let span = context.span(id)?;
        let extensions = span.extensions();
        let open = extensions.get::<OpenSpan<R>>()?;
        (open.layer == self.number).then(|| look(open))
    }

    /// Calls `work` with an open span of this layer, to change the span.
    fn with_open<S, T>(&self, id: &Id, context: &Context<'_, S>, work: impl FnOnce(&mut OpenSpan<R>) -> T) -> Option<T>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let span = context.span(id)?;
        let mut extensions = span.extensions_mut();
        let open = extensions.get_mut::<OpenSpan<R>>()?;
        (open.layer == self.number).then(|| work(open))
    }
}

impl<R, S> tracing_subscriber::Layer<S> for EventLayer<R>
where
    R: EventReceiver,
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if is_logging_suppressed() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        if span.extensions().get::<OpenSpan<R>>().is_some() {
            return;
        }
        // The code of a field may log, so nothing is locked here.
        let mut read = SpanReader::new(attributes.metadata());
        attributes.record(&mut FieldVisitor(&mut read));
        let parent = span.parent().and_then(|parent| self.fields_of(&parent));
        let is_timed = read.is_timed || self.receiver.is_timed(span.name());
        let title = read.title.take().unwrap_or_else(|| span.name().into());
        let bar = SpanBar::start(&self.receiver, &title, &read).map(Arc::new);
        let open = OpenSpan {
            layer: self.number,
            fields: Arc::new(SpanFields::new(span.name(), read.fields, parent)),
            began: is_timed.then(Instant::now),
            bar,
            title,
        };
        span.extensions_mut().replace(open);
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        if is_logging_suppressed() {
            return;
        }
        let Some(metadata) = context.metadata(id) else { return };
        let mut read = SpanReader::new(metadata);
        values.record(&mut FieldVisitor(&mut read));
        let open = self.look_at(id, &context, |open| {
            let title = open.bar.is_none().then(|| open.title.clone());
            (Arc::clone(&open.fields), open.bar.clone(), title)
        });
        let Some((fields, bar, title)) = open else { return };
        fields.change(&read.fields);
        // A bar may wait for room in the ring, so the span is not locked meanwhile.
        match (bar, title) {
            (Some(bar), _) => bar.follow(&read),
            (None, Some(title)) => {
                if let Some(started) = SpanBar::start(&self.receiver, &title, &read) {
                    self.with_open(id, &context, |open| open.bar.replace(Arc::new(started)));
                }
            }
            (None, None) => {}
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if is_logging_suppressed() {
            return;
        }
        // The thread's own note of its spans is found sooner than that of the registry.
        let span = match event.is_contextual() {
            true => span::current(),
            false => event.parent().and_then(|parent| self.fields_of(&context.span(parent)?)),
        };
        event::give(&self.receiver, event, span.as_deref());
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(fields) = self.look_at(id, &context, |open| Arc::clone(&open.fields)) {
            span::enter(id, fields);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if self.look_at(id, &context, |_| ()).is_some() {
            span::exit(id);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let ended = self.with_open(&id, &context, |open| (open.began.take(), open.bar.take()));
        let Some((began, bar)) = ended else { return };
        drop(bar);
        // Sinks may hold spans.
        if let Some(began) = began
            && !is_logging_suppressed()
            && let Some(span) = context.span(&id)
        {
            self.receiver.receive_time(span.name(), began.elapsed().as_secs_f64());
        }
    }
}

/// Lets those levels through that some logger takes.
#[derive(Debug)]
pub struct LevelGate<R>(std::marker::PhantomData<fn() -> R>);

impl<R: EventReceiver, S> Filter<S> for LevelGate<R> {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        // While one thread registers a place, the others are asked here.
        echo::note_place(metadata);
        log_level(metadata.level()) <= R::max_level()
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        echo::note_place(metadata);
        match log_level(metadata.level()) <= R::max_level() {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match R::max_level() {
            log::LevelFilter::Off => LevelFilter::OFF,
            log::LevelFilter::Error => LevelFilter::ERROR,
            log::LevelFilter::Warn => LevelFilter::WARN,
            log::LevelFilter::Info => LevelFilter::INFO,
            log::LevelFilter::Debug => LevelFilter::DEBUG,
            log::LevelFilter::Trace => LevelFilter::TRACE,
        })
    }
}
