//! A media value as a line of `media.jsonl`.

use serde::{Deserialize, Serialize};

use super::{MediaDescription, MediaItem};
use crate::epoch_seconds;

/// A line of `media.jsonl`, the index of the media of a run.
///
/// ```
/// use logcore::{MediaContent, MediaDescription, MediaItem, StoredMedia, serde_json};
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let description = MediaDescription::new("note", 12, MediaContent::Text);
/// let item = MediaItem::new(UNIX_EPOCH + Duration::from_millis(1500), "trainer", &description);
/// let line = serde_json::to_string(&StoredMedia::new(&item, 2)).unwrap();
/// assert_eq!(line, r#"{"time":1.5,"logger":"trainer","attempt":2,"key":"note","step":12,"kind":"text"}"#);
/// assert_eq!(serde_json::from_str::<StoredMedia>(&line).unwrap().description, description);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredMedia {
    /// The time of the call in seconds since 1970.
    pub time: f64,
    /// The name of the logger.
    pub logger: String,
    /// The number of the run's attempt, counted from 1; lines of the first attempt have none.
    #[serde(default = "first_attempt", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// The value.
    #[serde(flatten)]
    pub description: MediaDescription,
}

impl StoredMedia {
    /// Creates the line of an item that an attempt of a run has logged.
    #[must_use]
    pub fn new(item: &MediaItem<'_>, attempt: u32) -> Self {
        Self {
            time: epoch_seconds(item.time()),
            logger: item.logger().to_owned(),
            attempt,
            description: item.description().clone(),
        }
    }
}

fn first_attempt() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}
