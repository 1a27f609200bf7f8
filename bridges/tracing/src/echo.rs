//! Records that `tracing` makes of its own events and spans, for the crate `log`.
//!
//! With the feature `log-always`, the macros of `tracing` give each event to the subscriber and to
//! `log`, in an order that differs from macro to macro, and each span too. The record names the
//! file and the line of the place in the program, by which the place is found again among those
//! that the layer has seen. The macros of `log` mark these names as static; those of `tracing` do
//! not.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use log::Record;
use logcore::PerProcess;
use tracing_core::{Metadata, dispatcher};

use crate::layer::{EventLayer, EventReceiver};

/// Address of a file's name, and a line in the file.
type Place = (usize, u32);

/// What is at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    Span,
    /// An event, perhaps beside spans.
    Event,
}

/// The places that the layer has seen. A child of a fork begins with those of its parent, unless
/// a thread was adding one.
static PLACES: PerProcess<RwLock<HashMap<Place, PlaceKind>>> = PerProcess::new(|parent| {
    let places = parent.and_then(|parent| parent.try_read().ok().map(|places| places.clone()));
    RwLock::new(places.unwrap_or_default())
});

/// Notes a place in the program with an event or a span.
pub(crate) fn note_place(metadata: &Metadata<'_>) {
    let Some(place) = place(metadata.file(), metadata.line()) else {
        return;
    };
    let kind = match metadata.is_span() {
        true => PlaceKind::Span,
        false => PlaceKind::Event,
    };
    let known = kind_of(place);
    if known.is_none() || (known, kind) == (Some(PlaceKind::Span), PlaceKind::Event) {
        let mut places = PLACES.get().write().unwrap_or_else(PoisonError::into_inner);
        places.insert(place, kind);
    }
}

fn kind_of(place: Place) -> Option<PlaceKind> {
    let places = PLACES.get().read().unwrap_or_else(PoisonError::into_inner);
    places.get(&place).copied()
}

/// Returns `true` if the record is that of an event or a span of `tracing` which the thread's
/// subscriber gives to a layer with this receiver.
#[inline]
#[must_use]
pub fn is_echo<R: EventReceiver>(record: &Record<'_>) -> bool {
    // The names of files in other records are static.
    record.file_static().is_none() && crate::is_installed() && is_seen::<R>(record)
}

#[cold]
fn is_seen<R: EventReceiver>(record: &Record<'_>) -> bool {
    let Some(place) = place(record.file(), record.line()) else {
        return false;
    };
    match kind_of(place) {
        Some(PlaceKind::Event) => dispatcher::get_default(|dispatch| dispatch.is::<EventLayer<R>>()),
        // A line about a span may come from within the dispatcher, which then knows no subscriber.
        Some(PlaceKind::Span) => true,
        None => false,
    }
}

fn place(file: Option<&str>, line: Option<u32>) -> Option<Place> {
    Some((file?.as_ptr().addr(), line?))
}
