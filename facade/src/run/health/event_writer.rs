//! The events of a run on their way to `events.jsonl`, also while the disk takes none.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use logcore::{FileRank, suppress_logging};
use logcore_health::event::{Event, EventLog};
use logcore_health::rules::Episode;
use logcore_pipeline::print_notice;

/// Most events that wait for the disk.
const MOST_WAITING: usize = 1_000;

/// Most bytes of their texts.
const MOST_BYTES: usize = 1 << 20;

/// Writes events in their order. Those that cannot be written wait; the newest ones that find no
/// room are lost, because the first ones tell what went wrong.
pub(super) struct EventWriter {
    log: EventLog,
    dir: PathBuf,
    waiting: VecDeque<WaitingEvent>,
    /// Bytes of the texts of those that wait.
    bytes: usize,
    /// Number of events that found no room.
    lost: usize,
}

struct WaitingEvent {
    event: Event,
    /// Its incident may get a file before the event is written.
    episode: Option<Episode>,
    /// Bytes of the texts.
    bytes: usize,
}

impl EventWriter {
    pub(super) fn new(dir: &Path, rank: FileRank) -> Self {
        Self {
            log: EventLog::new(dir, rank),
            dir: dir.to_owned(),
            waiting: VecDeque::new(),
            bytes: 0,
            lost: 0,
        }
    }

    /// Writes an event, or lets the event wait.
    pub(super) fn write(&mut self, event: Event, episode: Option<Episode>) {
        let bytes = length(&event);
        if !self.has_room(bytes) {
            self.write_waiting();
        }
        if self.has_room(bytes) {
            self.bytes += bytes;
            self.waiting.push_back(WaitingEvent { event, episode, bytes });
            self.write_waiting();
        } else {
            self.lose();
        }
    }

    /// Writes the events that wait.
    pub(super) fn write_waiting(&mut self) {
        while let Some(WaitingEvent { event, episode, bytes }) = self.waiting.front_mut() {
            if let Some(name) = episode.as_ref().and_then(Episode::incident_file) {
                event.incident = Some(name.to_owned());
            }
            if let Err(error) = suppress_logging(|| self.log.append(event)) {
                let dir = self.dir.display();
                print_notice(
                    &format!("events {dir}"),
                    &format!(
                        "cannot write the events of the run in {dir}: {error}; they are written as soon as this works"
                    ),
                );
                return;
            }
            self.bytes -= *bytes;
            self.waiting.pop_front();
        }
    }

    /// Writes the events that wait for the last time.
    pub(super) fn end(&mut self) {
        self.write_waiting();
        let lost = self.lost + self.waiting.len();
        if lost > 0 {
            let dir = self.dir.display();
            print_notice(
                &format!("events at the end {dir}"),
                &format!("{lost} events of the run in {dir} are lost: the disk did not take them"),
            );
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let has_bytes = self.bytes + bytes <= MOST_BYTES || self.waiting.is_empty();
        has_bytes && self.waiting.len() < MOST_WAITING
    }

    fn lose(&mut self) {
        self.lost += 1;
        if self.lost == 1 {
            let (dir, waiting) = (self.dir.display(), self.waiting.len());
            print_notice(
                &format!("lost events {dir}"),
                &format!(
                    "further events of the run in {dir} are lost: {waiting} wait until the disk takes them; make room \
                     on the disk"
                ),
            );
        }
    }
}

/// Returns the bytes of the texts of an event.
fn length(event: &Event) -> usize {
    let texts = [&event.rule, &event.metric, &event.phase, &event.incident];
    let lengths = texts.into_iter().flatten().map(String::len);
    event.text.len() + lengths.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use logcore::AlertLevel;
    use logcore_health::event::{HealthKind, read_events};

    use super::*;

    #[test]
    fn events_wait_in_their_order_and_the_newest_find_no_room() {
        for (length, waiting) in [(10, MOST_WAITING), (MOST_BYTES / 8 - 1, 8)] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = EventWriter::new(folder.path(), FileRank(None));
            let file = folder.path().join(logcore_health::EVENTS_FILE);
            let mut write = |number: usize| {
                let text = number.to_string() + &"x".repeat(length);
                writer.write(Event::new(HealthKind::Rule, AlertLevel::Warn, text), None);
                (writer.waiting.len(), writer.lost)
            };
            fs::create_dir(&file).unwrap();
            (0..waiting).for_each(|number| assert_eq!(write(number), (number + 1, 0)));
            assert_eq!(write(waiting), (waiting, 1));
            fs::remove_dir(&file).unwrap();
            assert_eq!(write(waiting + 1), (0, 1));
            let read = read_events(folder.path());
            let numbers = read.events.iter().map(|event| event.text.trim_end_matches('x'));
            assert!(numbers.eq((0..waiting).chain([waiting + 1]).map(|number| number.to_string())));
            assert_eq!((writer.bytes, read.bad_lines), (0, 0));
        }
    }
}
