//! Reads the bodies of frames. Damaged bodies give `None`.

use std::time::{Duration, SystemTime};

use log::{Level, LevelFilter};
use logcore::{FieldValue, MetricValue, ProgressEvent, ProgressKind, Record};

use super::bytes::{ByteCursor, value_from};
use super::checked_text::CheckedText;
use super::encode::{ENTRY_BYTES, HAS_PLACE, NO_ID, RECORD_HEAD_BYTES};
use super::fields::decode_fields;
use super::types::{
    ChunkPlace, LevelRule, LoggerId, MessageTarget, MetricName, RecordArrival, RecordOrigin, ReplayHint,
};
use crate::ring::name_table::NameId;
use crate::ring::queue::FrameKind;

/// A record in the ring, without its fields.
pub(crate) struct RecordFrame<'a> {
    pub(crate) time: SystemTime,
    pub(crate) logger: LoggerId,
    pub(crate) level: Level,
    pub(crate) arrival: RecordArrival,
    pub(crate) target: &'a str,
    pub(crate) message: CheckedText<'a>,
    /// File and line of the call.
    pub(crate) place: Option<(&'a str, u32)>,
    /// Length of the body, behind which the ring may have bytes of an earlier lap.
    pub(crate) length: usize,
}

impl<'a> RecordFrame<'a> {
    /// Returns the record for sinks, without its fields, with `message`.
    #[inline]
    pub(crate) fn record<'r>(&self, logger: &'r str, message: CheckedText<'r>) -> Record<'r>
    where
        'a: 'r,
    {
        let mut record = Record::at(self.time, self.level, logger, message.text);
        if message.is_plain {
            record = record.with_plain_message();
        }
        if let Some((file, line)) = self.place {
            record = record.with_place(file, line);
        }
        match self.arrival.origin {
            RecordOrigin::Method => record,
            RecordOrigin::Addressed => record.with_target(self.target),
            RecordOrigin::Facade => record.with_facade_target(self.target),
        }
    }
}

/// The fields of a record in the ring, if it has any.
pub(crate) type RecordFields<'a> = Option<Vec<(&'a str, FieldValue<'a>)>>;

// Measured: 60 instructions less than a call. The fields are apart from the frame, because their
// destructor would keep the frame in memory.
#[inline(always)]
pub(crate) fn decode_record(body: &[u8]) -> Option<(RecordFrame<'_>, RecordFields<'_>)> {
    // All checks of the head's length are one.
    let (head, rest) = body.split_first_chunk::<RECORD_HEAD_BYTES>()?;
    let mut head = ByteCursor::new(head);
    let time = head.time()?;
    let logger = LoggerId(head.u32()?);
    let level = level(head.u8()?)?;
    let flags = head.u8()?;
    let arrival = arrival(flags & !HAS_PLACE)?;
    let count = head.u16()?;
    let target_length = head.u32()? as usize;
    let message_length = head.u32()? as usize;
    let mut cursor = ByteCursor::new(rest);
    let texts = cursor.take(target_length.checked_add(message_length)?)?;
    let (target, message) = CheckedText::split(texts, target_length)?;
    let fields = match count {
        0 => None,
        count => Some(decode_fields(&mut cursor, count)?),
    };
    let place = match flags & HAS_PLACE {
        0 => None,
        _ => Some((cursor.long_text()?, cursor.u32()?)),
    };
    let frame = RecordFrame {
        time,
        logger,
        level,
        arrival,
        target,
        message,
        place,
        length: body.len() - cursor.rest().len(),
    };
    Some((frame, fields))
}

/// The head of a metrics frame; [`MetricsFrame::values`] reads the values.
pub(crate) struct MetricsFrame<'a> {
    pub(crate) time: SystemTime,
    pub(crate) logger: LoggerId,
    pub(crate) step: u64,
    count: u32,
    rest: ByteCursor<'a>,
}

pub(crate) fn decode_metrics(body: &[u8]) -> Option<MetricsFrame<'_>> {
    let mut cursor = ByteCursor::new(body);
    Some(MetricsFrame {
        time: cursor.time()?,
        logger: LoggerId(cursor.u32()?),
        count: cursor.u32()?,
        step: cursor.u64()?,
        rest: cursor,
    })
}

impl<'a> MetricsFrame<'a> {
    #[inline]
    pub(crate) fn values(&self) -> impl Iterator<Item = (MetricName<'a>, MetricValue)> {
        let mut cursor = self.rest.clone();
        (0..self.count).map_while(move |_| {
            // All checks of the entry's length are one.
            let mut entry = ByteCursor::new(cursor.take(ENTRY_BYTES)?);
            let tag = entry.u8()?;
            let value = value_from(tag, entry.u64()?)?;
            let name = match entry.u32()? {
                NO_ID => MetricName::Text(cursor.long_text()?),
                id => MetricName::Id(NameId(id)),
            };
            Some((name, value))
        })
    }

    /// Returns `true` if the names of the values are exactly those of these numbers.
    #[inline]
    pub(crate) fn has_ids(&self, ids: &[u32]) -> bool {
        let mut cursor = self.rest.clone();
        self.count as usize == ids.len()
            && ids.iter().all(|id| {
                let entry = cursor.take(ENTRY_BYTES).and_then(<[u8]>::last_chunk);
                entry.is_some_and(|bytes| u32::from_le_bytes(*bytes) == *id && *id != NO_ID)
            })
    }
}

/// Reads the state of a progress bar. The frame has the number of the logger, the event needs its
/// name.
pub(crate) fn decode_progress<'a>(body: &'a [u8]) -> Option<(LoggerId, ProgressEvent<'a>)> {
    let mut cursor = ByteCursor::new(body);
    let time = cursor.time()?;
    let logger = LoggerId(cursor.u32()?);
    let kind = match cursor.u8()? {
        0 => ProgressKind::Started,
        2 => ProgressKind::Finished,
        _ => ProgressKind::Advanced,
    };
    let flags = cursor.u8()?;
    let flag = |bit: u8| flags & (1 << bit) != 0;
    let line = cursor.u32()?;
    let id = cursor.u64()?;
    let mut event = ProgressEvent::new(kind, id, "", "");
    event.time = time;
    event.line = line;
    event.position = cursor.u64()?;
    event.total = Some(cursor.u64()?).filter(|_| flag(0));
    event.samples = Some(cursor.u64()?).filter(|_| flag(1));
    event.elapsed = Duration::from_nanos(cursor.u64()?);
    event.eta = Some(Duration::from_nanos(cursor.u64()?)).filter(|_| flag(2));
    event.rate = Some(f64::from_bits(cursor.u64()?)).filter(|_| flag(3));
    event.samples_per_sec = Some(f64::from_bits(cursor.u64()?)).filter(|_| flag(4));
    event.leave = flag(5);
    event.description = cursor.long_text()?;
    Some((logger, event))
}

/// Reads the logger of any frame except controls and chunks: all others begin with the time and the
/// logger.
pub(crate) fn logger_of(body: &[u8]) -> Option<LoggerId> {
    let mut cursor = ByteCursor::new(body);
    cursor.u64()?;
    Some(LoggerId(cursor.u32()?))
}

pub(crate) fn decode_config(body: &[u8]) -> Option<(LoggerId, &str)> {
    let mut cursor = ByteCursor::new(body);
    cursor.time()?;
    Some((LoggerId(cursor.u32()?), cursor.long_text()?))
}

/// A message for one sink, an alert, or a media value.
pub(crate) struct MessageFrame<'a> {
    pub(crate) time: SystemTime,
    pub(crate) logger: LoggerId,
    pub(crate) target: MessageTarget<'a>,
    pub(crate) text: &'a str,
}

pub(crate) fn decode_message(body: &[u8]) -> Option<MessageFrame<'_>> {
    let mut cursor = ByteCursor::new(body);
    Some(MessageFrame {
        time: cursor.time()?,
        logger: LoggerId(cursor.u32()?),
        target: MessageTarget::from_name(cursor.long_text()?),
        text: cursor.long_text()?,
    })
}

/// A part of a long body.
pub(crate) struct ChunkFrame<'a> {
    /// The number of the long body.
    pub(crate) number: u64,
    /// The kind of the whole frame. A chunk of chunks does not exist.
    pub(crate) kind: Option<FrameKind>,
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
    pub(crate) bytes: &'a [u8],
}

pub(crate) fn decode_chunk(body: &[u8]) -> Option<ChunkFrame<'_>> {
    let mut cursor = ByteCursor::new(body);
    let (number, kind, place) = (cursor.u64()?, cursor.u8()?, cursor.u8()?);
    let length = cursor.u32()? as usize;
    let bytes = cursor.take(length)?;
    Some(ChunkFrame {
        number,
        kind: FrameKind::from_bits(u64::from(kind)).filter(|kind| *kind != FrameKind::Chunk),
        is_first: place == ChunkPlace::First as u8,
        is_last: place == ChunkPlace::Last as u8,
        bytes,
    })
}

/// Reads the ticket and the hint of a command.
pub(crate) fn decode_control(body: &[u8]) -> Option<(u64, ReplayHint)> {
    let mut cursor = ByteCursor::new(body);
    let (ticket, code, logger) = (cursor.u64()?, cursor.u8()?, LoggerId(cursor.u32()?));
    let (number, length) = (cursor.u32()? as i32, cursor.u32()? as usize);
    let rest = cursor.take(length)?;
    let hint = match code {
        0 => ReplayHint::None,
        1 => ReplayHint::Flush(logger),
        2 => ReplayHint::Finish(logger, number, rest.to_owned()),
        3 => {
            let level = LevelFilter::iter().find(|filter| *filter as i32 == number)?;
            ReplayHint::SetLevel(logger, std::str::from_utf8(rest).ok()?.to_owned(), level)
        }
        4 => ReplayHint::Opened(rest.to_owned()),
        _ => return None,
    };
    Some((ticket, hint))
}

/// Reads the origin from the low half of the byte, and the rule from the high half.
fn arrival(byte: u8) -> Option<RecordArrival> {
    let origin = match byte & 0xf {
        0 => RecordOrigin::Method,
        1 => RecordOrigin::Addressed,
        2 => RecordOrigin::Facade,
        _ => return None,
    };
    let rule = match byte >> 4 {
        0 => LevelRule::Usual,
        1 => LevelRule::Directed,
        2 => LevelRule::Foreign,
        _ => return None,
    };
    Some(RecordArrival { origin, rule })
}

fn level(number: u8) -> Option<Level> {
    Some(match number {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        4 => Level::Debug,
        5 => Level::Trace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use log::kv::Value as KvValue;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::bytes::{F32, FLOAT, INT, MAX_TEXT, UINT, value_bits};
    use crate::frame::encode::{
        add_place, encode_control, encode_metric, encode_metrics, encode_progress, encode_record,
    };

    fn encoded(record: &log::Record<'_>, origin: RecordOrigin) -> Vec<u8> {
        let mut out = Vec::new();
        encode_record(&mut out, LoggerId(7), origin.into(), record);
        add_place(&mut out, record);
        out
    }

    #[test]
    fn record_is_decoded_with_its_fields() {
        let fields: &[(&str, KvValue<'_>)] = &[
            ("lr", 0.1.into()),
            ("epoch", 3.into()),
            ("big", u64::MAX.into()),
            ("warm", true.into()),
            ("who", "me".into()),
            ("none", KvValue::null()),
        ];
        let body = encoded(
            &log::Record::builder()
                .level(Level::Warn)
                .target("app::data")
                .file(Some("src/data.rs"))
                .line(Some(7))
                .args(format_args!("loss is {}", 0.5))
                .key_values(&fields)
                .build(),
            RecordOrigin::Facade,
        );
        let (frame, fields) = decode_record(&body).unwrap();
        assert_eq!(frame.place, Some(("src/data.rs", 7)));
        assert_eq!(
            (frame.logger, frame.level, frame.arrival.origin),
            (LoggerId(7), Level::Warn, RecordOrigin::Facade)
        );
        assert_eq!((frame.target, frame.message.text), ("app::data", "loss is 0.5"));
        let shown: Vec<_> = fields
            .iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "lr=0.1",
                "epoch=3",
                "big=18446744073709551615",
                "warm=true",
                "who=me",
                "none=null"
            ]
        );
    }

    #[test]
    fn message_names_a_display_that_fails_or_panics() {
        struct FailingDisplay;
        impl fmt::Display for FailingDisplay {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        struct PanickingDisplay;
        impl fmt::Display for PanickingDisplay {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("made to")
            }
        }
        let body = encoded(
            &log::Record::builder().args(format_args!("x {FailingDisplay}")).build(),
            RecordOrigin::Method,
        );
        assert_eq!(
            decode_record(&body).unwrap().0.message.text,
            "x half (the message's Display failed here)"
        );
        let body = encoded(
            &log::Record::builder()
                .args(format_args!("x {PanickingDisplay}"))
                .build(),
            RecordOrigin::Method,
        );
        assert_eq!(
            decode_record(&body).unwrap().0.message.text,
            "x  (the message's Display panicked here)"
        );
    }

    #[test]
    fn long_message_is_cut_between_characters_and_tells_how_much() {
        let long = "ä".repeat(MAX_TEXT / 2) + "öü";
        let body = encoded(
            &log::Record::builder().args(format_args!("{}", &long)).build(),
            RecordOrigin::Method,
        );
        let message = decode_record(&body).unwrap().0.message.text;
        assert!(message.ends_with("ä (… 4 bytes more were cut: a message holds 16 MiB)"));
        assert_eq!(message.matches('ä').count(), MAX_TEXT / 2);
    }

    #[test]
    fn progress_is_decoded() {
        let mut event = ProgressEvent::new(ProgressKind::Advanced, 9, "trainer", "Training");
        event.position = 5;
        event.total = Some(10);
        event.rate = Some(2.5);
        event.eta = Some(Duration::from_secs(2));
        event.line = 3;
        let mut out = Vec::new();
        encode_progress(&mut out, LoggerId(1), &event);
        let (logger, mut back) = decode_progress(&out).unwrap();
        back.logger = "trainer";
        assert_eq!(logger, LoggerId(1));
        assert_eq!(back, event);
    }

    #[test]
    fn command_is_decoded() {
        let logger = LoggerId(4);
        let level = ReplayHint::SetLevel(logger, "file".to_owned(), LevelFilter::Debug);
        let opened = ReplayHint::Opened(vec![0xff, 0]);
        for hint in [
            ReplayHint::None,
            ReplayHint::Flush(logger),
            ReplayHint::Finish(logger, -3, b"{}".to_vec()),
            level,
            opened,
        ] {
            let mut out = Vec::new();
            encode_control(&mut out, 77, &hint);
            assert_eq!(decode_control(&out), Some((77, hint)));
        }
    }

    #[test]
    fn single_metric_is_decoded_like_a_call_of_one() {
        let body = encode_metric(LoggerId(3), 9, NameId(70), MetricValue::Int(-4));
        let frame = decode_metrics(&body).unwrap();
        let values: Vec<_> = frame.values().collect();
        assert_eq!((frame.logger, frame.step), (LoggerId(3), 9));
        assert!(matches!(
            values[..],
            [(MetricName::Id(NameId(70)), MetricValue::Int(-4))]
        ));
    }

    fn number_tag() -> impl Strategy<Value = u8> {
        prop::sample::select(vec![FLOAT, F32, INT, UINT])
    }

    proptest! {
        #[test]
        fn metrics_are_decoded(
            step: u64,
            values in prop::collection::vec((any::<u32>(), any::<u64>(), number_tag(), ".{0,9}"), 0..20),
        ) {
            let sent: Vec<_> = values.iter().map(|(id, bits, tag, text)| {
                let name = if id % 2 == 0 { MetricName::Id(NameId(id / 2)) } else { MetricName::Text(text) };
                (name, value_from(*tag, *bits).unwrap())
            }).collect();
            let mut out = Vec::new();
            encode_metrics(&mut out, LoggerId(2), step, sent.iter().copied());
            out.extend_from_slice(&[0xAB; 7]);
            let frame = decode_metrics(&out).unwrap();
            prop_assert_eq!((frame.logger, frame.step), (LoggerId(2), step));
            let same = frame.values().zip(&sent).all(|((name, value), (sent_name, sent_value))| {
                let names = match (name, sent_name) {
                    (MetricName::Id(a), MetricName::Id(b)) => a == *b,
                    (MetricName::Text(a), MetricName::Text(b)) => a == *b,
                    _ => false,
                };
                names && value_bits(value) == value_bits(*sent_value)
            });
            prop_assert!(same && frame.values().count() == sent.len());
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_record(&body);
            if let Some(frame) = decode_metrics(&body) {
                let _ = frame.values().count();
            }
            let _ = decode_progress(&body);
            let _ = decode_config(&body);
            let _ = decode_message(&body);
            let _ = decode_chunk(&body);
            let _ = decode_control(&body);
        }
    }
}
