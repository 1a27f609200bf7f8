//! Records that `tracing` makes of its own events and spans, for the crate `log`.
//!
//! With the feature `log-always`, the macros of `tracing` give each event to the subscriber and to
//! `log`, in an order that differs from macro to macro, and each span too. The record names the
//! file and the line of the place in the program, by which the place is found again among those
//! that the layer has seen. The macros of `log` mark these names as static; those of `tracing` do
//! not.

use std::collections::HashSet;
use std::sync::{LazyLock, RwLock};

use log::Record;
use tracing_core::{Metadata, dispatcher};

use crate::layer::{EventLayer, EventReceiver};

/// Address of a file's name, and a line in the file.
type Place = (usize, u32);

static PLACES: LazyLock<RwLock<HashSet<Place>>> = LazyLock::new(RwLock::default);

/// Notes a place in the program with an event or a span.
pub(crate) fn note_place(metadata: &'static Metadata<'static>) {
    if let Some(place) = place(metadata.file(), metadata.line()) {
        let mut places = PLACES.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        places.insert(place);
    }
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
    let is_known = {
        let places = PLACES.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        places.contains(&place)
    };
    is_known && dispatcher::get_default(|dispatch| dispatch.is::<EventLayer<R>>())
}

fn place(file: Option<&str>, line: Option<u32>) -> Option<Place> {
    Some((file?.as_ptr().addr(), line?))
}
