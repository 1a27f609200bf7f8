//! The events and ranks of a run that goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use logcore_health::event::Events;
use serde_json::{Map, Value};

use crate::StoredRun;
use crate::report::health_data::{MAX_EVENT_BYTES, events_for_page, ranks_for_page};

/// Time between two looks. Ranks write once a second, and a look asks the file system for each.
const INTERVAL: Duration = Duration::from_secs(2);
/// Most files of events whose growth is noticed: those of the lowest ranks.
const MAX_FILES: usize = 256;

/// The newest events and the ranks of a run.
pub(super) struct FollowedHealth {
    looked_at: Instant,
    marks: Vec<FileMark>,
    /// Members of what the page loads, and of its news.
    members: Map<String, Value>,
    /// Size of the members as text.
    bytes: usize,
}

/// Tells whether a file of events has grown or was made anew.
type FileMark = (PathBuf, Option<(u64, Option<SystemTime>)>);

impl FollowedHealth {
    /// Reads all of it.
    pub(super) fn read(run: &StoredRun) -> Self {
        let mut health = Self {
            looked_at: Instant::now(),
            marks: find_marks(run),
            members: Map::new(),
            bytes: 0,
        };
        health.keep(event_members(&run.events()));
        health.keep([("ranks".to_owned(), ranks_for_page(run).into())]);
        health
    }

    /// Returns the members that have changed, whole: events are rare, and ranks few.
    pub(super) fn read_on(&mut self, run: &StoredRun) -> Map<String, Value> {
        if self.looked_at.elapsed() < INTERVAL {
            return Map::new();
        }
        self.looked_at = Instant::now();
        let mut now = Map::new();
        // Before the events: what comes meanwhile is found by the next look.
        let marks = find_marks(run);
        if marks != self.marks {
            self.marks = marks;
            now.extend(event_members(&run.events()));
        }
        now.insert("ranks".to_owned(), ranks_for_page(run).into());
        now.retain(|name, value| self.members.get(name) != Some(value));
        self.keep(now.clone());
        now
    }

    /// Returns all members.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Returns the bytes that are held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn make_late(&mut self) {
        self.looked_at -= INTERVAL;
    }

    fn keep(&mut self, members: impl IntoIterator<Item = (String, Value)>) {
        self.members.extend(members);
        self.bytes = self.members.values().map(|value| value.to_string().len()).sum();
    }
}

fn event_members(read: &Events) -> [(String, Value); 2] {
    let events = events_for_page(&read.events, MAX_EVENT_BYTES);
    let earlier = read.events.len() - events.len();
    [
        ("events".to_owned(), events.into()),
        ("earlier_events".to_owned(), earlier.into()),
    ]
}

fn find_marks(run: &StoredRun) -> Vec<FileMark> {
    let files = run.event_files().unwrap_or_default().into_values();
    let mark = |path: PathBuf| {
        let metadata = path.symlink_metadata().ok();
        let mark = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
        (path, mark)
    };
    files.take(MAX_FILES).map(mark).collect()
}
