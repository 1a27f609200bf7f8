//! Equal records in a row, which become one line.

use std::time::{Duration, Instant};

use super::decode::decode_record;
use super::encode::{FLAGS_AT, HAS_PLACE, PLACE_OVERHEAD};

/// Folds equal records in a row into one: keeps the last record of a sink, and counts how often it
/// is repeated.
///
/// The count is written as one line (`last line repeated 3 times`)
///
/// - when another record comes,
/// - when the writer receives a command (a flush, an end),
/// - at the latest two seconds after the count began. The command for that travels through the ring
///   like any other.
///
/// So the output follows from the frames alone, and a process that recovers the ring of a killed
/// one writes the same lines.
///
/// ```
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin, RepeatFolder};
/// use std::time::Duration;
///
/// let pipeline = Pipeline::start(1 << 20)?;
/// let producer = pipeline.producer("trainer");
/// let (handle, sink) = logcore::testing::recording();
/// let mut sink = NamedSink::new("recording", log::LevelFilter::Info, Box::new(sink));
/// sink.repeat_folder = Some(RepeatFolder::default());
/// let soon = Deadline::after(Duration::from_secs(5));
/// producer.open(Propagation::None, None, vec![sink], soon).unwrap();
///
/// for _ in 0..3 {
///     producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("retrying")).build());
/// }
/// producer.flush(soon).unwrap();
/// assert_eq!(handle.calls()[1], "record INFO trainer last line repeated 2 times");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct RepeatFolder {
    /// The frame of the last record; empty if a repetition could not be recognized.
    frame: Vec<u8>,
    count: u64,
    /// Beginning of the count that is not written yet.
    since: Option<Instant>,
}

/// A count is written after this time at the latest.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(2);

/// Longer frames are not kept, because each checkpoint contains the kept frame.
const MAX_FRAME: usize = 4096;

/// Length of the time at the beginning of a frame. Equal records differ in nothing else.
const TIME_BYTES: usize = 8;

impl RepeatFolder {
    /// Restores a folder from a checkpoint.
    pub(crate) fn restore(frame: &[u8], count: u64) -> Self {
        Self {
            frame: frame.to_owned(),
            count,
            since: None,
        }
    }

    /// Returns the frame of the last record and the count, for a checkpoint.
    pub(crate) fn state(&self) -> (&[u8], u64) {
        (&self.frame, self.count)
    }

    /// Counts a record if it repeats the last one. Returns `true` if it does.
    pub(crate) fn count(&mut self, frame: &[u8]) -> bool {
        if self.frame.is_empty() || !are_shown_alike(frame, &self.frame) {
            return false;
        }
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        self.count += 1;
        self.since.get_or_insert_with(Instant::now);
        true
    }

    /// Makes a record the last one.
    pub(crate) fn begin(&mut self, frame: &[u8]) {
        self.frame.clear();
        if frame.len() <= MAX_FRAME {
            self.frame.extend_from_slice(frame);
        }
    }

    /// Ends the count, and returns the newest frame and the count, if there is anything to write.
    pub(crate) fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        self.since = None;
        match std::mem::take(&mut self.count) {
            0 => None,
            count => Some((self.frame.clone(), count)),
        }
    }

    /// Returns `true` if a count has to be written.
    pub(crate) fn is_counting(&self) -> bool {
        self.count > 0
    }

    /// Returns `true` if a count has to be written now.
    pub(crate) fn is_due(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= MAX_DELAY)
    }
}

/// Returns `true` if people see no difference between two records.
#[inline]
fn are_shown_alike(one: &[u8], other: &[u8]) -> bool {
    let has_place = |frame: &[u8]| frame.get(FLAGS_AT).is_none_or(|flags| flags & HAS_PLACE != 0);
    match has_place(one) || has_place(other) {
        true => shown_parts(one) == shown_parts(other),
        false => one.get(TIME_BYTES..) == other.get(TIME_BYTES..),
    }
}

/// Returns the parts of a record that people see: all but its time, and its place in the program.
fn shown_parts(frame: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (head, rest) = (frame.get(TIME_BYTES..FLAGS_AT)?, frame.get(FLAGS_AT..)?);
    let (flags, rest) = rest.split_first()?;
    let place = match flags & HAS_PLACE {
        0 => 0,
        _ => decode_record(frame)?
            .0
            .place
            .map_or(0, |(file, _)| file.len() + PLACE_OVERHEAD),
    };
    Some((head, flags & !HAS_PLACE, rest.get(..rest.len().checked_sub(place)?)?))
}

/// Returns the message in place of `count` repeated records.
pub(crate) fn repeat_message(count: u64) -> String {
    match count {
        1 => "last line repeated once".to_owned(),
        count => format!("last line repeated {count} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode::{add_place, encode_record};
    use crate::frame::types::{LoggerId, RecordOrigin};

    #[test]
    fn places_do_not_keep_lines_from_folding() {
        let frame = |text: &str, place: Option<(&str, u32)>| {
            let mut frame = Vec::new();
            let args = format_args!("{text}");
            let mut record = log::Record::builder();
            let record = record
                .args(args)
                .file(place.map(|(file, _)| file))
                .line(place.map(|(_, line)| line))
                .build();
            encode_record(&mut frame, LoggerId(1), RecordOrigin::Method.into(), &record);
            if place.is_some() {
                add_place(&mut frame, &record);
            }
            frame
        };
        let mut folder = RepeatFolder::default();
        folder.begin(&frame("again", None));
        assert!(folder.count(&frame("again", Some(("a.rs", 1)))));
        assert!(folder.count(&frame("again", Some(("longer.rs", 2)))));
        assert!(!folder.count(&frame("other", Some(("longer.rs", 2)))));
        let (newest, count) = folder.take().unwrap();
        assert_eq!(
            (decode_record(&newest).unwrap().0.place, count),
            (Some(("longer.rs", 2)), 2)
        );
    }

    #[test]
    fn record_too_long_for_a_checkpoint_is_not_folded() {
        let mut folder = RepeatFolder::default();
        for (length, folds) in [(MAX_FRAME, true), (MAX_FRAME + 1, false)] {
            let frame = vec![1; length];
            folder.begin(&frame);
            assert_eq!(folder.count(&frame), folds);
        }
    }
}
