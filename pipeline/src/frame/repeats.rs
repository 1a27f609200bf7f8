use std::time::{Duration, Instant};

/// The record that a sink was given last, and how often it has come again since.
///
/// What was counted is written as one line when another record comes, when anything is asked of the writer (a flush, an end),
/// and two seconds after the count began. The last of these travels through the ring, as the others do, so that what is
/// written follows from the frames alone: a process that delivers what a killed one has left writes the same lines.
#[derive(Default)]
pub struct RepeatFolder {
    /// The frame of the newest record; empty if there is none that could be told to come again.
    frame: Vec<u8>,
    count: u64,
    /// Since when something is counted and not written.
    since: Option<Instant>,
}

/// A count waits so long at most.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Longer frames are not kept to be compared, because each checkpoint has what is kept.
const LONGEST_FRAME: usize = 4096;

/// How long the time at the beginning of a frame is; everything else is what records can have in common.
const TIME_BYTES: usize = 8;

impl RepeatFolder {
    /// Goes on from a checkpoint.
    pub(crate) fn saved(frame: &[u8], count: u64) -> Self {
        Self {
            frame: frame.to_owned(),
            count,
            since: None,
        }
    }

    /// The frame of the newest record and the count, for a checkpoint.
    pub(crate) fn state(&self) -> (&[u8], u64) {
        (&self.frame, self.count)
    }

    /// Counts a record, if it is the last one again; returns whether it is.
    pub(crate) fn count(&mut self, frame: &[u8]) -> bool {
        if frame.get(TIME_BYTES..) != self.frame.get(TIME_BYTES..) {
            return false;
        }
        self.frame.copy_from_slice(frame);
        self.count += 1;
        self.since.get_or_insert_with(Instant::now);
        true
    }

    /// Makes this the last record.
    pub(crate) fn begin(&mut self, frame: &[u8]) {
        self.frame.clear();
        if frame.len() <= LONGEST_FRAME {
            self.frame.extend_from_slice(frame);
        }
    }

    /// What was counted and has to be written now: the newest frame, and how many there were.
    pub(crate) fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        self.since = None;
        match std::mem::take(&mut self.count) {
            0 => None,
            count => Some((self.frame.clone(), count)),
        }
    }

    /// Whether something waits to be written.
    pub(crate) fn is_waiting(&self) -> bool {
        self.count > 0
    }

    /// Whether something has waited long enough.
    pub(crate) fn is_due(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= LONGEST_WAIT)
    }
}

/// The message in place of the records that were counted.
pub(crate) fn message(count: u64) -> String {
    match count {
        1 => "last line repeated once".to_owned(),
        count => format!("last line repeated {count} times"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use log::{Level, LevelFilter};
    use logcore::Deadline;
    use logcore::testing::recording;
    use proptest::prelude::*;

    use super::*;
    use crate::caller::command::NamedSink;
    use crate::caller::shared::Shared;
    use crate::frame::body::{Echo, LoggerId, RecordOrigin, encode_record};
    use crate::ring::queue::Ring;
    use crate::writer::dispatch::Delivery;

    /// What comes through the ring: a record, or a command.
    #[derive(Debug, Clone)]
    enum Told {
        Record(Level, u8),
        Command,
    }

    fn told() -> impl Strategy<Value = Vec<Told>> {
        let record = (any::<bool>(), 0..3_u8).prop_map(|(warns, text)| {
            let level = if warns { Level::Warn } else { Level::Info };
            Told::Record(level, text)
        });
        prop::collection::vec(prop_oneof![9 => record, 1 => Just(Told::Command)], 0..60)
    }

    /// What a sink gets of this, that goes on from `fold`; and the fold as it is then.
    fn sink_gets(told: &[Told], fold: RepeatFolder, ended: bool) -> (Vec<String>, RepeatFolder) {
        let mut delivery = Delivery::new(Arc::new(Shared::new(Ring::plain(4096).unwrap().0)));
        let (handle, sink) = recording();
        let sink = NamedSink {
            name: "recording".to_owned(),
            level: LevelFilter::Info,
            sink: Box::new(sink),
            fold: Some(fold),
        };
        delivery.take_up(LoggerId(1), "trainer", false, None, vec![sink]);
        for one in told {
            match one {
                Told::Command => delivery.replay(Echo::Nothing, Deadline::after(Duration::ZERO)),
                Told::Record(level, text) => {
                    let mut frame = Vec::new();
                    encode_record(
                        &mut frame,
                        LoggerId(1),
                        RecordOrigin::Method,
                        &log::Record::builder()
                            .level(*level)
                            .args(format_args!("{text}"))
                            .build(),
                    );
                    delivery.record(&frame);
                }
            }
        }
        if ended {
            delivery.replay(Echo::Nothing, Deadline::after(Duration::ZERO));
        }
        let (frame, count) = delivery.folds().next().unwrap().state();
        (handle.calls(), RepeatFolder::saved(frame, count))
    }

    /// The records that lines stand for.
    fn unfolded(lines: &[String]) -> Vec<String> {
        let mut records: Vec<String> = Vec::new();
        for line in lines {
            match line.split_once("last line repeated ") {
                None => records.push(line.clone()),
                Some((level, often)) => {
                    let often = often.split(' ').next().unwrap().parse().unwrap_or(1);
                    let last = records.last().unwrap().clone();
                    assert!(last.starts_with(level), "{line:?} behind {last:?}");
                    records.extend(std::iter::repeat_n(last, often));
                }
            }
        }
        records
    }

    proptest! {
        #[test]
        fn lines_stand_for_the_records(told in told()) {
            let (lines, _) = sink_gets(&told, RepeatFolder::default(), true);
            let expected = told.iter().filter_map(|told| match told {
                Told::Record(level, text) => Some(format!("record {level} trainer {text}")),
                Told::Command => None,
            });
            prop_assert_eq!(unfolded(&lines), expected.collect::<Vec<_>>());
            let records = |line: &&String| !line.contains("repeated");
            let kept: Vec<_> = lines.iter().filter(records).collect();
            prop_assert!(kept.windows(2).all(|two| two[0] != two[1]), "{:?}", lines);
        }

        #[test]
        fn whoever_goes_on_from_a_checkpoint_writes_the_same(told in told(), cut in 0..60_usize) {
            let cut = cut.min(told.len());
            let (whole, _) = sink_gets(&told, RepeatFolder::default(), true);
            let (mut lines, fold) = sink_gets(&told[..cut], RepeatFolder::default(), false);
            lines.extend(sink_gets(&told[cut..], fold, true).0);
            prop_assert_eq!(lines, whole);
        }
    }

    #[test]
    fn what_is_too_long_for_a_checkpoint_is_not_folded() {
        let mut fold = RepeatFolder::default();
        for (length, folds) in [(LONGEST_FRAME, true), (LONGEST_FRAME + 1, false)] {
            let frame = vec![1; length];
            fold.begin(&frame);
            assert_eq!(fold.count(&frame), folds);
        }
    }
}
