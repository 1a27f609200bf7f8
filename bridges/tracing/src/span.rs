//! The fields of spans, and the spans that a thread is in.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use log::Record;
use log::kv::{Error as KvError, Source, VisitSource};
use tracing_core::Metadata;
use tracing_core::span::Id;

use crate::field::{FieldList, FieldSink, FieldValue, with_scratch};
use crate::layer::EventReceiver;

/// The field of a record with the names of its spans, the outermost first.
const SPAN: &str = "span";
/// A span with this field is a bar; its value is the total.
const PROGRESS: &str = "progress";
/// The position of the bar. In other spans this is a field like others.
const POSITION: &str = "pos";
/// The description of the bar, if the name of the span is not enough.
const MESSAGE: &str = "message";
/// The time of a span in which this field is `true` is a metric.
const METRIC: &str = "metric";

/// Longest path of a span's names in bytes, unless its own name is longer. Spans that are nested
/// without end must not take memory without end.
const MAX_PATH: usize = 256;
/// Most fields that a record gets from its spans.
const MAX_SPAN_FIELDS: usize = 64;

/// The fields of a span, with those of its parents.
#[derive(Debug)]
pub(crate) struct SpanFields {
    path: Box<str>,
    /// A further value may come at any time, from any thread. No lock, which a fork could find
    /// held.
    own: ArcSwap<FieldList>,
    parent: Option<Arc<SpanFields>>,
}

impl SpanFields {
    pub(crate) fn new(name: &'static str, own: FieldList, parent: Option<Arc<SpanFields>>) -> Self {
        let path = match &parent {
            Some(parent) if parent.path.len() + name.len() < MAX_PATH => format!("{}:{name}", parent.path).into(),
            Some(_) => format!("…:{name}").into(),
            None => name.into(),
        };
        Self {
            path,
            own: ArcSwap::from_pointee(own),
            parent,
        }
    }

    /// Adds the fields of the span and its parents that neither `fields` nor `is_known` has: first
    /// those of the outermost span. The value of the innermost counts.
    pub(crate) fn add_to(&self, fields: &mut FieldList, is_known: impl Fn(&str) -> bool) {
        let start = fields.len();
        let mut span = Some(self);
        while let Some(SpanFields { own, parent, .. }) = span
            && fields.len() < start + MAX_SPAN_FIELDS
        {
            fields.extend_reversed(&own.load(), &is_known);
            span = parent.as_deref();
        }
        fields.reverse_from(start);
        if !fields.contains(SPAN) && !is_known(SPAN) {
            fields.push_text(SPAN, &self.path);
        }
    }

    pub(crate) fn change(&self, changed: &FieldList) {
        if changed.len() > 0 {
            self.own.rcu(|own| own.with(changed));
        }
    }
}

/// A span between its beginning and its end.
pub(crate) struct OpenSpan<R: EventReceiver> {
    /// Number of the layer to which the span belongs: the first that saw the span.
    pub(crate) layer: u64,
    pub(crate) fields: Arc<SpanFields>,
    /// Set if the time of the span is a metric.
    pub(crate) began: Option<Instant>,
    pub(crate) bar: Option<Arc<SpanBar<R>>>,
    /// The description of the bar.
    pub(crate) title: Box<str>,
}

/// The bar of a span.
pub(crate) struct SpanBar<R: EventReceiver> {
    bar: R::Bar,
    position: AtomicU64,
}

impl<R: EventReceiver> SpanBar<R> {
    /// Starts the bar of a span, if its fields have a total.
    pub(crate) fn start(receiver: &R, title: &str, read: &SpanReader) -> Option<Self> {
        let bar = Self {
            bar: receiver.start_bar(read.total?, title),
            position: AtomicU64::new(0),
        };
        bar.follow(read);
        Some(bar)
    }

    /// Advances the bar to a new position. A bar goes forward only.
    pub(crate) fn follow(&self, read: &SpanReader) {
        let Some(position) = read.position else { return };
        let before = self.position.fetch_max(position, Ordering::Relaxed);
        if position > before {
            R::advance_bar(&self.bar, position - before);
        }
    }
}

/// Reads the fields of a span, sorted by their use.
#[derive(Debug, Default)]
pub(crate) struct SpanReader {
    /// `true` if the span has a field for the total of a bar.
    is_bar: bool,
    pub(crate) fields: FieldList,
    pub(crate) total: Option<u64>,
    pub(crate) position: Option<u64>,
    pub(crate) is_timed: bool,
    /// The text that stands for the name of the span.
    pub(crate) title: Option<Box<str>>,
}

impl SpanReader {
    pub(crate) fn new(metadata: &Metadata<'_>) -> Self {
        Self {
            is_bar: metadata.fields().field(PROGRESS).is_some(),
            ..Self::default()
        }
    }
}

impl FieldSink for SpanReader {
    fn take(&mut self, name: &'static str, value: FieldValue) {
        match (name, value.as_unsigned(), &value) {
            (PROGRESS, Some(total), _) => self.total = Some(total),
            (POSITION, Some(position), _) if self.is_bar => self.position = Some(position),
            (METRIC, _, FieldValue::Bool(true)) => self.is_timed = true,
            _ => self.fields.push(name, value),
        }
    }

    fn take_written(&mut self, name: &'static str, write: &mut dyn FnMut(&mut dyn fmt::Write) -> fmt::Result) {
        self.fields.push_written(name, write);
        if self.is_bar && name == MESSAGE {
            self.title = self.fields.pop_text();
        }
    }
}

thread_local! {
    /// The spans that the thread is in, the innermost last.
    static ENTERED: RefCell<Vec<(u64, Arc<SpanFields>)>> = const { RefCell::new(Vec::new()) };
}

/// Notes that the thread is in a span.
pub(crate) fn enter(id: &Id, fields: Arc<SpanFields>) {
    let _ = ENTERED.try_with(|entered| entered.borrow_mut().push((id.into_u64(), fields)));
}

/// Notes that the thread has left a span.
pub(crate) fn exit(id: &Id) {
    let removed = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        let at = entered.iter().rposition(|(other, _)| *other == id.into_u64())?;
        Some(entered.remove(at))
    });
    // Dropped here, where no borrow is left.
    drop(removed);
}

/// Returns the innermost span that the thread is in.
pub(crate) fn current() -> Option<Arc<SpanFields>> {
    let innermost = |entered: &RefCell<Vec<_>>| {
        let entered = entered.borrow();
        entered.last().map(|(_, fields)| Arc::clone(fields))
    };
    ENTERED.try_with(innermost).ok().flatten()
}

/// Gives a record with the fields of the span that the thread is in.
pub fn with_span_fields<T>(record: &Record<'_>, give: impl FnOnce(&Record<'_>) -> T) -> T {
    let Some(span) = current() else {
        return give(record);
    };
    let own = record.key_values();
    with_scratch(|fields| {
        // The source of the fields may be the program's own, and run its code.
        let has = |name: &str| catch_unwind(AssertUnwindSafe(|| own.get(name.into()).is_some()));
        span.add_to(fields, |name| has(name).unwrap_or(true));
        give(
            &record
                .to_builder()
                .key_values(&AllFields { own, spans: fields })
                .build(),
        )
    })
}

/// The fields of a record, then those of its spans.
struct AllFields<'a> {
    own: &'a dyn Source,
    spans: &'a FieldList,
}

impl Source for AllFields<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), KvError> {
        self.own.visit(visitor)?;
        self.spans.visit(visitor)
    }

    fn count(&self) -> usize {
        self.own.count() + self.spans.count()
    }
}
