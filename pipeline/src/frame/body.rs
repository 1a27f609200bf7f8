//! What the bodies of frames hold. All little endian, no pointers: another process could read them.
//!
//! ```text
//! record    time i64, logger u32, level u8, route u8, fields u16, target length u32, message length u32,
//!           target, message, fields (see `fields.rs`)
//! metrics   time i64, logger u32, count u32, step u64, count x { tag u8, 8 bytes, id u32 | NO_ID, length u32, name }
//! progress  time i64, logger u32, kind u8, flags u8, slot u32, id u64, position u64, total u64, samples u64, elapsed ns
//!           u64, eta ns u64, rate f64, samples/s f64, description length u32, description
//! config    time i64, logger u32, length u32, JSON
//! message   time i64, logger u32, length u32, name of the sink, length u32, text
//! piece     number u64, whole kind u8, last u8, length u32, bytes
//! control   ticket u64, code u8, logger u32, number i32, length u32, name of a sink
//! ```
//!
//! Times are nanoseconds since 1970.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use log::{Level, LevelFilter};
use logcore::{FieldValue, MetricValue, ProgressEvent, ProgressKind, Record};

use crate::frame::clock::{coarse_now, nanos, now, time};
use crate::frame::fields::{decode_fields, encode_fields, put_rewritten_field};
use crate::ring::name_table::NameId;

/// A longer message is cut: 16 MiB.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// Which logger a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LoggerId(pub(crate) u32);

/// How a record came to its logger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOrigin {
    /// By the logger's own methods: its target is the logger's name.
    Method,
    /// Through a `log` macro that named the logger.
    Addressed,
    /// Through the global `log` facade, by its target.
    Facade,
}

/// Writes a record. The user's `Display` code runs here, before anything is reserved; its panics stay here.
pub(crate) fn encode_record(out: &mut Vec<u8>, logger: LoggerId, route: RecordOrigin, record: &log::Record<'_>) {
    let target = if route == RecordOrigin::Method {
        ""
    } else {
        record.target()
    };
    let target_length = u32::try_from(target.len()).unwrap_or(u32::MAX);
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..8].copy_from_slice(&now().to_le_bytes());
    head[8..12].copy_from_slice(&logger.0.to_le_bytes());
    head[12] = record.level() as u8;
    head[13] = route as u8;
    head[16..20].copy_from_slice(&target_length.to_le_bytes());
    let head_at = out.len();
    out.extend_from_slice(&head);
    out.extend_from_slice(target.as_bytes());
    let message_at = out.len();
    put_message(out, record.args());
    let message_end = out.len();

    let count = encode_fields(out, record.key_values());
    let head = &mut out[head_at..head_at + RECORD_HEAD_BYTES];
    head[14..16].copy_from_slice(&count.to_le_bytes());
    head[20..].copy_from_slice(&((message_end - message_at) as u32).to_le_bytes());
}

/// Rewrites the message of a record and the texts of its fields.
pub(crate) fn rewrite_record(body: &mut Vec<u8>, rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>) {
    let Some(record) = decode_record(body) else { return };
    let message = rewrite(record.message);
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(&body[..RECORD_HEAD_BYTES - 4]);
    put_u32(&mut out, message.len());
    out.extend_from_slice(record.target.as_bytes());
    out.extend_from_slice(message.as_bytes());
    for (name, value) in &record.fields {
        // A frame has every value that was read from one.
        if put_rewritten_field(&mut out, name, value, rewrite).is_none() {
            return;
        }
    }
    *body = out;
}

/// A record's head; the numbers of its fields and of its message's bytes are known at the end.
const RECORD_HEAD_BYTES: usize = 24;

/// A metric's name, as it travels.
#[derive(Debug, Clone, Copy)]
pub enum MetricName<'a> {
    /// By its number.
    Id(NameId),
    /// As it is: the dictionary is full.
    Text(&'a str),
}

/// Writes one call's metrics.
pub(crate) fn encode_metrics<'a>(
    out: &mut Vec<u8>,
    logger: LoggerId,
    step: u64,
    values: impl Iterator<Item = (MetricName<'a>, MetricValue)>,
) {
    let count_at = out.len() + COUNT_OFFSET;
    out.extend_from_slice(&metrics_head(logger, 0, step));
    let mut count = 0_u32;
    for (name, value) in values {
        match name {
            MetricName::Id(id) => out.extend_from_slice(&metrics_entry(id.0, value)),
            MetricName::Text(text) => {
                out.extend_from_slice(&metrics_entry(NO_ID, value));
                put_text(out, text);
            }
        }
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
}

/// One metric, without a buffer: what a handle in a hot loop sends.
pub(crate) fn encode_metric(
    logger: LoggerId,
    step: u64,
    id: NameId,
    value: MetricValue,
) -> [u8; HEAD_BYTES + ENTRY_BYTES] {
    let mut body = [0; HEAD_BYTES + ENTRY_BYTES];
    body[..HEAD_BYTES].copy_from_slice(&metrics_head(logger, 1, step));
    body[HEAD_BYTES..].copy_from_slice(&metrics_entry(id.0, value));
    body
}

const COUNT_OFFSET: usize = 12;
const HEAD_BYTES: usize = 24;
const ENTRY_BYTES: usize = 13;

#[inline]
fn metrics_head(logger: LoggerId, count: u32, step: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&coarse_now().to_le_bytes());
    head[8..COUNT_OFFSET].copy_from_slice(&logger.0.to_le_bytes());
    head[COUNT_OFFSET..16].copy_from_slice(&count.to_le_bytes());
    head[16..].copy_from_slice(&step.to_le_bytes());
    head
}

#[inline]
fn metrics_entry(id: u32, value: MetricValue) -> [u8; ENTRY_BYTES] {
    let (tag, bits) = value_bits(value);
    let mut entry = [tag; ENTRY_BYTES];
    entry[1..9].copy_from_slice(&bits.to_le_bytes());
    entry[9..].copy_from_slice(&id.to_le_bytes());
    entry
}

/// Writes the state of a progress.
pub(crate) fn encode_progress(out: &mut Vec<u8>, logger: LoggerId, event: &ProgressEvent<'_>) {
    out.extend_from_slice(&nanos(event.time).to_le_bytes());
    out.extend_from_slice(&logger.0.to_le_bytes());
    out.push(match event.kind {
        ProgressKind::Started => 0,
        ProgressKind::Finished => 2,
        _ => 1,
    });
    out.push(
        u8::from(event.total.is_some())
            | u8::from(event.samples.is_some()) << 1
            | u8::from(event.eta.is_some()) << 2
            | u8::from(event.rate.is_some()) << 3
            | u8::from(event.samples_per_sec.is_some()) << 4
            | u8::from(event.leave) << 5,
    );
    out.extend_from_slice(&event.line.to_le_bytes());
    for number in [
        event.id,
        event.position,
        event.total.unwrap_or(0),
        event.samples.unwrap_or(0),
        duration_nanos(event.elapsed),
        duration_nanos(event.eta.unwrap_or_default()),
        event.rate.unwrap_or(0.0).to_bits(),
        event.samples_per_sec.unwrap_or(0.0).to_bits(),
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_text(out, event.description);
}

/// Writes hyper-parameters.
pub(crate) fn encode_config(out: &mut Vec<u8>, logger: LoggerId, json: &str) {
    out.extend_from_slice(&now().to_le_bytes());
    out.extend_from_slice(&logger.0.to_le_bytes());
    put_text(out, json);
}

/// Writes what is for one sink alone.
pub(crate) fn encode_message(out: &mut Vec<u8>, logger: LoggerId, sink: &str, message: &str) {
    out.extend_from_slice(&now().to_le_bytes());
    out.extend_from_slice(&logger.0.to_le_bytes());
    put_text(out, sink);
    put_text(out, message);
}

/// Writes a part of a long body.
pub(crate) fn encode_piece(out: &mut Vec<u8>, number: u64, kind: u8, last: bool, bytes: &[u8]) {
    out.extend_from_slice(&number.to_le_bytes());
    out.push(kind);
    out.push(u8::from(last));
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What `encode_piece` writes besides the bytes.
pub(crate) const PIECE_OVERHEAD: usize = 14;

/// A record as it lies in the ring.
pub(crate) struct RecordFrame<'a> {
    pub(crate) time: SystemTime,
    pub(crate) logger: LoggerId,
    pub(crate) level: Level,
    pub(crate) route: RecordOrigin,
    pub(crate) target: &'a str,
    pub(crate) message: &'a str,
    pub(crate) fields: Vec<(&'a str, FieldValue<'a>)>,
}

impl<'a> RecordFrame<'a> {
    /// The record as sinks get it, with this message and without its fields.
    pub(crate) fn record<'r>(&self, logger: &'r str, message: &'r str) -> Record<'r>
    where
        'a: 'r,
    {
        let record = Record::at(self.time, self.level, logger, message);
        match self.route {
            RecordOrigin::Method => record,
            RecordOrigin::Addressed => record.with_target(self.target),
            RecordOrigin::Facade => record.with_facade_target(self.target),
        }
    }
}

pub(crate) fn decode_record(body: &[u8]) -> Option<RecordFrame<'_>> {
    let mut cursor = Cursor(body);
    let time = cursor.time()?;
    let logger = LoggerId(cursor.u32()?);
    let level = level(cursor.u8()?)?;
    let route = match cursor.u8()? {
        0 => RecordOrigin::Method,
        1 => RecordOrigin::Addressed,
        2 => RecordOrigin::Facade,
        _ => return None,
    };
    let count = cursor.u16()?;
    let target_length = cursor.u32()? as usize;
    let message_length = cursor.u32()? as usize;
    let target = cursor.text(target_length)?;
    let message = cursor.text(message_length)?;
    let fields = decode_fields(&mut cursor, count)?;
    Some(RecordFrame {
        time,
        logger,
        level,
        route,
        target,
        message,
        fields,
    })
}

/// The head of a metrics frame; its values are read by [`MetricsFrame::values`].
pub(crate) struct MetricsFrame<'a> {
    pub(crate) time: SystemTime,
    pub(crate) logger: LoggerId,
    pub(crate) step: u64,
    count: u32,
    rest: Cursor<'a>,
}

pub(crate) fn decode_metrics(body: &[u8]) -> Option<MetricsFrame<'_>> {
    let mut cursor = Cursor(body);
    Some(MetricsFrame {
        time: cursor.time()?,
        logger: LoggerId(cursor.u32()?),
        count: cursor.u32()?,
        step: cursor.u64()?,
        rest: cursor,
    })
}

impl<'a> MetricsFrame<'a> {
    pub(crate) fn values(&self) -> impl Iterator<Item = (MetricName<'a>, MetricValue)> {
        let mut cursor = self.rest.clone();
        (0..self.count).map_while(move |_| {
            let tag = cursor.u8()?;
            let value = value_from(tag, cursor.u64()?)?;
            let name = match cursor.u32()? {
                NO_ID => MetricName::Text(cursor.long_text()?),
                id => MetricName::Id(NameId(id)),
            };
            Some((name, value))
        })
    }
}

/// A progress as it lies in the ring; the logger's name comes from elsewhere.
pub(crate) fn decode_progress<'a>(body: &'a [u8]) -> Option<(LoggerId, ProgressEvent<'a>)> {
    let mut cursor = Cursor(body);
    let time = cursor.time()?;
    let logger = LoggerId(cursor.u32()?);
    let kind = match cursor.u8()? {
        0 => ProgressKind::Started,
        2 => ProgressKind::Finished,
        _ => ProgressKind::Advanced,
    };
    let flags = cursor.u8()?;
    let flag = |bit: u8| flags & (1 << bit) != 0;
    let slot = cursor.u32()?;
    let id = cursor.u64()?;
    let mut event = ProgressEvent::new(kind, id, "", "");
    event.time = time;
    event.line = slot;
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

/// The logger of a frame that is no control and no piece: all such frames begin with the time and the logger.
pub(crate) fn logger_of(body: &[u8]) -> Option<LoggerId> {
    let mut cursor = Cursor::over(body);
    cursor.u64()?;
    Some(LoggerId(cursor.u32()?))
}

pub(crate) fn decode_config(body: &[u8]) -> Option<(LoggerId, &str)> {
    let mut cursor = Cursor(body);
    cursor.time()?;
    Some((LoggerId(cursor.u32()?), cursor.long_text()?))
}

/// The logger, the name of the sink, and what is for it.
pub(crate) fn decode_message(body: &[u8]) -> Option<(LoggerId, &str, &str)> {
    let mut cursor = Cursor(body);
    cursor.time()?;
    Some((LoggerId(cursor.u32()?), cursor.long_text()?, cursor.long_text()?))
}

/// A part of a long body.
pub(crate) struct Piece<'a> {
    pub(crate) number: u64,
    pub(crate) kind: u8,
    pub(crate) last: bool,
    pub(crate) bytes: &'a [u8],
}

pub(crate) fn decode_piece(body: &[u8]) -> Option<Piece<'_>> {
    let mut cursor = Cursor(body);
    let (number, kind, last) = (cursor.u64()?, cursor.u8()?, cursor.u8()? != 0);
    let length = cursor.u32()? as usize;
    let bytes = cursor.take(length)?;
    Some(Piece {
        number,
        kind,
        last,
        bytes,
    })
}

/// What a command comes to for the files of the loggers: enough to do it again when its process was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Its place in the order of frames is all that matters.
    Nothing,
    Flush(LoggerId),
    /// A logger has ended: its exit code, and its outcome as JSON.
    Finish(LoggerId, i32, Vec<u8>),
    Level(LoggerId, String, LevelFilter),
    /// A logger has come: its entry in a checkpoint.
    Opened(Vec<u8>),
}

/// Writes a command: its ticket for this process, its echo for the next.
pub(crate) fn encode_control(out: &mut Vec<u8>, ticket: u64, echo: &Echo) {
    out.extend_from_slice(&ticket.to_le_bytes());
    let (code, logger, number, rest) = match echo {
        Echo::Nothing => (0, LoggerId(0), 0, &[][..]),
        Echo::Flush(logger) => (1, *logger, 0, &[][..]),
        Echo::Finish(logger, exit_code, outcome) => (2, *logger, *exit_code, &outcome[..]),
        Echo::Level(logger, sink, level) => (3, *logger, *level as i32, sink.as_bytes()),
        Echo::Opened(entry) => (4, LoggerId(0), 0, &entry[..]),
    };
    out.push(code);
    out.extend_from_slice(&logger.0.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    put_u32(out, rest.len());
    out.extend_from_slice(rest);
}

pub(crate) fn decode_control(body: &[u8]) -> Option<(u64, Echo)> {
    let mut cursor = Cursor(body);
    let (ticket, code, logger) = (cursor.u64()?, cursor.u8()?, LoggerId(cursor.u32()?));
    let (number, length) = (cursor.u32()? as i32, cursor.u32()? as usize);
    let rest = cursor.take(length)?;
    let echo = match code {
        0 => Echo::Nothing,
        1 => Echo::Flush(logger),
        2 => Echo::Finish(logger, number, rest.to_owned()),
        3 => {
            let level = LevelFilter::iter().find(|filter| *filter as i32 == number)?;
            Echo::Level(logger, std::str::from_utf8(rest).ok()?.to_owned(), level)
        }
        4 => Echo::Opened(rest.to_owned()),
        _ => return None,
    };
    Some((ticket, echo))
}

const NO_ID: u32 = u32::MAX;
pub(crate) const FLOAT: u8 = 0;
pub(crate) const INT: u8 = 1;
pub(crate) const UINT: u8 = 2;

#[inline]
pub(crate) fn value_bits(value: MetricValue) -> (u8, u64) {
    match value {
        MetricValue::Int(value) => (INT, value as u64),
        MetricValue::UInt(value) => (UINT, value),
        other => (FLOAT, other.as_f64().to_bits()),
    }
}

pub(crate) fn value_from(tag: u8, bits: u64) -> Option<MetricValue> {
    Some(match tag {
        FLOAT => MetricValue::Float(f64::from_bits(bits)),
        INT => MetricValue::Int(bits as i64),
        UINT => MetricValue::UInt(bits),
        _ => return None,
    })
}

fn level(number: u8) -> Option<Level> {
    Level::iter().find(|level| *level as u8 == number)
}

fn duration_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn put_u32(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_message(out: &mut Vec<u8>, message: &fmt::Arguments<'_>) {
    if let Some(literal) = message.as_str()
        && literal.len() <= MAX_MESSAGE
    {
        out.extend_from_slice(literal.as_bytes());
        return;
    }
    let mut limited = Limited::new(out);
    let written = catch_unwind(AssertUnwindSafe(|| limited.write_fmt(*message)));
    let cut = limited.cut;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(fmt::Error)) => out.extend_from_slice(b" (the message's Display failed here)"),
        Err(_) => out.extend_from_slice(b" (the message's Display panicked here)"),
    }
    if cut > 0 {
        // Writing to a vector cannot fail.
        out.extend_from_slice(format!(" (… {cut} bytes more were cut: a message holds 16 MiB)").as_bytes());
    }
}

/// Keeps the first bytes of a text and counts the rest.
pub(crate) struct Limited<'a> {
    out: &'a mut Vec<u8>,
    /// How long `out` may become.
    limit: usize,
    cut: usize,
}

impl<'a> Limited<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            limit: out.len() + MAX_MESSAGE,
            out,
            cut: 0,
        }
    }

    #[cold]
    fn cut(&mut self, text: &str) {
        let kept = text.floor_char_boundary(self.limit - self.out.len());
        self.out.extend_from_slice(&text.as_bytes()[..kept]);
        self.cut += text.len() - kept;
        // Once something is cut, nothing behind it may follow.
        self.limit = self.out.len();
    }
}

impl fmt::Write for Limited<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.out.len() + text.len() <= self.limit {
            self.out.extend_from_slice(text.as_bytes());
        } else {
            self.cut(text);
        }
        Ok(())
    }
}

/// Reads from the front; `None` where there is too little.
#[derive(Clone)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn over(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<SystemTime> {
        self.array().map(i64::from_le_bytes).map(time)
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub(crate) fn long_text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        self.text(length)
    }
}

#[cfg(test)]
mod tests {
    use log::kv::Value as KvValue;
    use proptest::prelude::*;

    use super::*;

    fn encoded(record: &log::Record<'_>, route: RecordOrigin) -> Vec<u8> {
        let mut out = Vec::new();
        encode_record(&mut out, LoggerId(7), route, record);
        out
    }

    #[test]
    fn a_record_comes_back_with_its_fields() {
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
                .args(format_args!("loss is {}", 0.5))
                .key_values(&fields)
                .build(),
            RecordOrigin::Facade,
        );
        let frame = decode_record(&body).unwrap();
        assert_eq!(
            (frame.logger, frame.level, frame.route),
            (LoggerId(7), Level::Warn, RecordOrigin::Facade)
        );
        assert_eq!((frame.target, frame.message), ("app::data", "loss is 0.5"));
        let shown: Vec<_> = frame
            .fields
            .iter()
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
    fn a_display_that_fails_or_panics_leaves_a_mark() {
        struct Fails;
        impl fmt::Display for Fails {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        struct Panics;
        impl fmt::Display for Panics {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("made to")
            }
        }
        let body = encoded(
            &log::Record::builder().args(format_args!("x {Fails}")).build(),
            RecordOrigin::Method,
        );
        assert_eq!(
            decode_record(&body).unwrap().message,
            "x half (the message's Display failed here)"
        );
        let body = encoded(
            &log::Record::builder().args(format_args!("x {Panics}")).build(),
            RecordOrigin::Method,
        );
        assert_eq!(
            decode_record(&body).unwrap().message,
            "x  (the message's Display panicked here)"
        );
    }

    #[test]
    fn a_message_is_cut_at_a_character_and_says_how_much() {
        let long = "ä".repeat(MAX_MESSAGE / 2) + "öü";
        let body = encoded(
            &log::Record::builder().args(format_args!("{}", &long)).build(),
            RecordOrigin::Method,
        );
        let message = decode_record(&body).unwrap().message;
        assert!(message.ends_with("ä (… 4 bytes more were cut: a message holds 16 MiB)"));
        assert_eq!(message.matches('ä').count(), MAX_MESSAGE / 2);
    }

    #[test]
    fn a_progress_comes_back() {
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
    fn a_command_comes_back() {
        let logger = LoggerId(4);
        let level = Echo::Level(logger, "file".to_owned(), LevelFilter::Debug);
        let opened = Echo::Opened(vec![0xff, 0]);
        for echo in [
            Echo::Nothing,
            Echo::Flush(logger),
            Echo::Finish(logger, -3, b"{}".to_vec()),
            level,
            opened,
        ] {
            let mut out = Vec::new();
            encode_control(&mut out, 77, &echo);
            assert_eq!(decode_control(&out), Some((77, echo)));
        }
    }

    #[test]
    fn one_metric_is_a_call_of_one() {
        let body = encode_metric(LoggerId(3), 9, NameId(70), MetricValue::Int(-4));
        let frame = decode_metrics(&body).unwrap();
        let values: Vec<_> = frame.values().collect();
        assert_eq!((frame.logger, frame.step), (LoggerId(3), 9));
        assert!(matches!(
            values[..],
            [(MetricName::Id(NameId(70)), MetricValue::Int(-4))]
        ));
    }

    proptest! {
        #[test]
        fn metrics_come_back(step: u64, values in prop::collection::vec((any::<u32>(), any::<u64>(), 0_u8..3, ".{0,9}"), 0..20)) {
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
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_record(&body);
            if let Some(frame) = decode_metrics(&body) {
                let _ = frame.values().count();
            }
            let _ = decode_progress(&body);
            let _ = decode_config(&body);
            let _ = decode_message(&body);
            let _ = decode_piece(&body);
            let _ = decode_control(&body);
        }
    }
}
