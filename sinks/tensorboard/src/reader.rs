//! Reads event files, those of other programs too.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};

use logcore::MetricValue;
use serde_json::{Map, Value};

use crate::event::{
    DT_DOUBLE, DT_FLOAT, HPARAMS_END_TAG, HPARAMS_START_TAG, SCALARS, SESSION_START, SessionStatus, TEXT, field,
};
use crate::framing::{MAX_MESSAGE, RecordError, RecordReader};
use crate::message::{FieldValue, Fields, MalformedMessage};

/// Most tags of a file.
const MAX_TAGS: usize = 100_000;

/// Reads the events of a file, whose content is not trusted: a record has at most 64 MiB, and a
/// file at most 100,000 tags.
///
/// ```
/// use logcore_tensorboard::{EventBuffer, EventReader};
///
/// let mut events = EventBuffer::default();
/// events.begin_file(10.0);
/// events.begin_session(10.0, 0);
/// let torn = &events.bytes()[..events.bytes().len() - 1];
/// let mut reader = EventReader::new(torn);
/// assert!(reader.next_event()?.is_some() && reader.next_event()?.is_none());
/// # Ok::<(), logcore_tensorboard::EventReadError>(())
/// ```
pub struct EventReader<R> {
    records: RecordReader<R>,
    /// The plugin of each tag: only the first value of a tag has to name it.
    plugins: HashMap<String, Plugin>,
}

/// One event of a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Seconds since 1970.
    pub time: f64,
    /// Step, which other programs may leave negative.
    pub step: i64,
    /// Content of the event.
    pub content: EventContent,
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventContent {
    /// The first event of a file, with the version of the format and the name of the writer.
    File {
        /// Version of the format.
        version: String,
        /// Name of the program or library; empty if none is given.
        writer: String,
    },
    /// A process begins to log at this step.
    SessionStart,
    /// Values under tags.
    Values(Vec<TaggedValue>),
    /// Anything else, such as the graph of a model.
    Other,
}

/// A value under a tag.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaggedValue {
    /// The name under which TensorBoard shows the value.
    pub tag: String,
    /// The value.
    pub value: TagContent,
}

/// The value of a tag.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TagContent {
    /// A number, in the precision in which the file has it.
    Scalar(MetricValue),
    /// A text.
    Text(String),
    /// The hyper-parameters of a run.
    HyperParameters(Map<String, Value>),
    /// The end of the run.
    End {
        /// State in which the run ended; `None` if the file says neither.
        status: Option<SessionStatus>,
        /// Seconds since 1970.
        time: f64,
    },
    /// Anything else, such as an image or a histogram.
    Other,
}

/// The reason why an event could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum EventReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// A checksum or a message is wrong. The events before this offset in bytes are whole.
    Damaged {
        /// Offset of the record in bytes.
        offset: u64,
    },
    /// A record is longer than 64 MiB.
    TooLong {
        /// Length of the record in bytes.
        length: u64,
    },
    /// The file has more than 100,000 tags.
    TooManyTags,
}

impl fmt::Display for EventReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged { offset } => write!(f, "the file is damaged at byte {offset}"),
            Self::TooLong { length } => {
                write!(
                    f,
                    "a record has {length} bytes, which is more than {} MiB",
                    MAX_MESSAGE >> 20
                )
            }
            Self::TooManyTags => write!(f, "the file has more than {MAX_TAGS} tags"),
        }
    }
}

impl std::error::Error for EventReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

/// The plugins whose tensors are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    Scalars,
    Text,
    Other,
}

impl<R: Read> EventReader<R> {
    /// Reads from `input`, which should have a buffer.
    #[must_use]
    pub fn new(input: R) -> Self {
        Self {
            records: RecordReader::new(input),
            plugins: HashMap::new(),
        }
    }

    /// Returns the offset in bytes behind the last whole record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.records.position()
    }

    /// Returns the next event; `None` at the end of the file, and at a record without its end,
    /// which a live or a killed process leaves.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged. Nothing behind a damage is read.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventReadError> {
        let offset = self.records.position();
        let message = match self.records.next() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(RecordError::Io(error)) => return Err(EventReadError::Io(error)),
            Err(RecordError::Damaged) => return Err(EventReadError::Damaged { offset }),
            Err(RecordError::TooLong(length)) => return Err(EventReadError::TooLong { length }),
        };
        let event = read_event(Fields::of(message), &mut self.plugins);
        if self.plugins.len() > MAX_TAGS {
            return Err(EventReadError::TooManyTags);
        }
        event.map(Some).map_err(|_| EventReadError::Damaged { offset })
    }
}

impl<R> fmt::Debug for EventReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").finish_non_exhaustive()
    }
}

fn read_event(fields: Fields<'_>, plugins: &mut HashMap<String, Plugin>) -> Result<Event, MalformedMessage> {
    let mut event = Event {
        time: 0.0,
        step: 0,
        content: EventContent::Other,
    };
    let mut writer = String::new();
    for item in fields {
        let (number, value) = item?;
        match u32::try_from(number).unwrap_or_default() {
            field::EVENT_TIME => event.time = value.double()?,
            field::EVENT_STEP => event.step = value.integer()?,
            field::EVENT_FILE_VERSION => {
                let version = value.text()?;
                let writer = String::new();
                event.content = EventContent::File { version, writer };
            }
            field::EVENT_SUMMARY => event.content = EventContent::Values(read_summary(value.message()?, plugins)?),
            field::EVENT_SESSION_LOG => {
                let status = integer_of(value.message()?, field::SESSION_LOG_STATUS)?;
                event.content = match status {
                    SESSION_START => EventContent::SessionStart,
                    _ => EventContent::Other,
                };
            }
            field::EVENT_SOURCE => {
                if let Some(name) = last(value.message()?, field::SOURCE_WRITER)? {
                    writer = name.text()?;
                }
            }
            _ => {}
        }
    }
    if let EventContent::File { writer: name, .. } = &mut event.content {
        *name = writer;
    }
    Ok(event)
}

fn read_summary(
    summary: Fields<'_>,
    plugins: &mut HashMap<String, Plugin>,
) -> Result<Vec<TaggedValue>, MalformedMessage> {
    let mut values = Vec::new();
    for item in summary {
        let (number, value) = item?;
        if number == u64::from(field::SUMMARY_VALUE) {
            values.push(read_value(value.message()?, plugins)?);
        }
    }
    Ok(values)
}

fn read_value(fields: Fields<'_>, plugins: &mut HashMap<String, Plugin>) -> Result<TaggedValue, MalformedMessage> {
    let (mut tag, mut simple, mut tensor, mut metadata) = (String::new(), None, None, None);
    for item in fields {
        let (number, value) = item?;
        match u32::try_from(number).unwrap_or_default() {
            field::VALUE_TAG => tag = value.text()?,
            field::VALUE_SIMPLE => simple = Some(MetricValue::F32(value.float()?)),
            field::VALUE_TENSOR => tensor = Some(value),
            field::VALUE_METADATA => metadata = Some(read_plugin(value.message()?)?),
            _ => {}
        }
    }
    let (name, content) = metadata.unwrap_or_default();
    if !plugins.contains_key(&tag) {
        let plugin = match name {
            SCALARS => Plugin::Scalars,
            TEXT => Plugin::Text,
            _ => Plugin::Other,
        };
        plugins.insert(tag.clone(), plugin);
    }
    let plugin = plugins.get(&tag).copied();
    let value = match (simple, tensor) {
        (Some(number), _) => TagContent::Scalar(number),
        _ if tag == HPARAMS_START_TAG => read_start(content)?,
        _ if tag == HPARAMS_END_TAG => read_end(content)?,
        (None, Some(tensor)) => read_tensor(tensor.message()?, plugin)?,
        _ => TagContent::Other,
    };
    Ok(TaggedValue { tag, value })
}

/// Returns the name and the content of the plugin data.
fn read_plugin(metadata: Fields<'_>) -> Result<(&str, &[u8]), MalformedMessage> {
    let mut plugin = ("", &[][..]);
    let Some(data) = last(metadata, field::METADATA_PLUGIN)? else {
        return Ok(plugin);
    };
    for item in data.message()? {
        let (number, value) = item?;
        match u32::try_from(number).unwrap_or_default() {
            // A name that is no text is the name of no plugin.
            field::PLUGIN_NAME => plugin.0 = std::str::from_utf8(value.bytes()?).unwrap_or_default(),
            field::PLUGIN_CONTENT => plugin.1 = value.bytes()?,
            _ => {}
        }
    }
    Ok(plugin)
}

fn read_tensor(fields: Fields<'_>, plugin: Option<Plugin>) -> Result<TagContent, MalformedMessage> {
    let (mut kind, mut number, mut texts) = (0, None, Vec::new());
    let mut bytes: &[u8] = &[];
    for item in fields {
        let (field_number, value) = item?;
        match u32::try_from(field_number).unwrap_or_default() {
            field::TENSOR_TYPE => kind = value.integer()? as u64,
            field::TENSOR_CONTENT => bytes = value.bytes()?,
            // Numbers are packed, or each is a field.
            field::TENSOR_FLOATS => {
                number = match value {
                    FieldValue::Bytes(bytes) => first_float(bytes),
                    one => Some(one.float()?.into()),
                };
            }
            field::TENSOR_DOUBLES => {
                number = match value {
                    FieldValue::Bytes(bytes) => first_double(bytes),
                    one => Some(one.double()?.into()),
                };
            }
            field::TENSOR_TEXTS => texts.push(String::from_utf8_lossy(value.bytes()?)),
            _ => {}
        }
    }
    let in_bytes = match kind {
        DT_FLOAT => first_float(bytes),
        DT_DOUBLE => first_double(bytes),
        _ => None,
    };
    Ok(match (plugin, number.or(in_bytes)) {
        (Some(Plugin::Scalars), Some(number)) => TagContent::Scalar(number),
        (Some(Plugin::Text), _) if !texts.is_empty() => TagContent::Text(texts.join("\n")),
        _ => TagContent::Other,
    })
}

fn first_float(bytes: &[u8]) -> Option<MetricValue> {
    bytes.first_chunk().map(|bytes| f32::from_le_bytes(*bytes).into())
}

fn first_double(bytes: &[u8]) -> Option<MetricValue> {
    bytes.first_chunk().map(|bytes| f64::from_le_bytes(*bytes).into())
}

fn read_start(content: &[u8]) -> Result<TagContent, MalformedMessage> {
    let mut values = Map::new();
    let Some(start) = last(Fields::of(content), field::HPARAMS_START)? else {
        return Ok(TagContent::Other);
    };
    for item in start.message()? {
        let (number, entry) = item?;
        if number == u64::from(field::START_HPARAMS) {
            let name = last(entry.message()?, field::ENTRY_KEY)?;
            let value = last(entry.message()?, field::ENTRY_VALUE)?;
            if let (Some(name), Some(value)) = (name, value) {
                values.insert(name.text()?, read_json(value.message()?)?);
            }
        }
    }
    Ok(TagContent::HyperParameters(values))
}

fn read_json(fields: Fields<'_>) -> Result<Value, MalformedMessage> {
    let mut json = Value::Null;
    for item in fields {
        let (number, value) = item?;
        json = match u32::try_from(number).unwrap_or_default() {
            field::JSON_NUMBER => json_number(value.double()?),
            field::JSON_TEXT => value.text()?.into(),
            field::JSON_BOOL => (value.integer()? != 0).into(),
            _ => json,
        };
    }
    Ok(json)
}

/// Returns a number as JSON, an integer as such: the file has only doubles.
fn json_number(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.fract() == 0.0 && number.abs() < EXACT {
        true => (number as i64).into(),
        false => number.into(),
    }
}

fn read_end(content: &[u8]) -> Result<TagContent, MalformedMessage> {
    let Some(end) = last(Fields::of(content), field::HPARAMS_END)? else {
        return Ok(TagContent::Other);
    };
    let status = SessionStatus::from_number(integer_of(end.message()?, field::END_STATUS)?);
    let time = last(end.message()?, field::END_TIME)?;
    let time = time.map_or(Ok(0.0), FieldValue::double)?;
    Ok(TagContent::End { status, time })
}

/// Returns the value of a field that occurs once; the last one if there are several.
fn last(message: Fields<'_>, wanted: u32) -> Result<Option<FieldValue<'_>>, MalformedMessage> {
    let mut found = None;
    for item in message {
        let (number, value) = item?;
        if number == u64::from(wanted) {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Returns an integer, which is left out if it is 0.
fn integer_of(message: Fields<'_>, wanted: u32) -> Result<i64, MalformedMessage> {
    last(message, wanted)?.map_or(Ok(0), FieldValue::integer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::append_record;
    use crate::message::MessageWriter;

    fn read_message(write: impl FnOnce(&mut MessageWriter<'_>)) -> Result<Option<Event>, EventReadError> {
        let mut bytes = Vec::new();
        append_record(&mut bytes, |bytes| write(&mut MessageWriter(bytes)));
        EventReader::new(&*bytes).next_event()
    }

    /// Returns the content of a tensor that the plugin `scalars` wrote.
    fn read_scalar(kind: u64, write: impl Fn(&mut MessageWriter<'_>)) -> TagContent {
        let event = read_message(|event| {
            event.message(field::EVENT_SUMMARY, |summary| {
                summary.message(field::SUMMARY_VALUE, |value| {
                    value.text(field::VALUE_TAG, "loss");
                    value.message(field::VALUE_METADATA, |metadata| {
                        metadata.message(field::METADATA_PLUGIN, |plugin| {
                            plugin.text(field::PLUGIN_NAME, SCALARS)
                        });
                    });
                    value.message(field::VALUE_TENSOR, |tensor| {
                        tensor.integer(field::TENSOR_TYPE, kind);
                        write(tensor);
                    });
                });
            });
        });
        match event.unwrap().unwrap().content {
            EventContent::Values(mut values) => values.remove(0).value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_are_read_in_each_form_of_a_tensor() {
        let float = TagContent::Scalar(MetricValue::F32(0.1));
        let packed = 0.1_f32.to_le_bytes();
        assert_eq!(
            read_scalar(DT_FLOAT, |tensor| tensor.float(field::TENSOR_FLOATS, 0.1)),
            float
        );
        assert_eq!(
            read_scalar(DT_FLOAT, |tensor| tensor.bytes(field::TENSOR_FLOATS, &packed)),
            float
        );
        assert_eq!(
            read_scalar(DT_FLOAT, |tensor| tensor.bytes(field::TENSOR_CONTENT, &packed)),
            float
        );
        let double = TagContent::Scalar(MetricValue::Float(0.1));
        let packed = 0.1_f64.to_le_bytes();
        assert_eq!(
            read_scalar(DT_DOUBLE, |tensor| tensor.double(field::TENSOR_DOUBLES, 0.1)),
            double
        );
        assert_eq!(
            read_scalar(DT_DOUBLE, |tensor| tensor.bytes(field::TENSOR_DOUBLES, &packed)),
            double
        );
        assert_eq!(
            read_scalar(DT_DOUBLE, |tensor| tensor.bytes(field::TENSOR_CONTENT, &packed)),
            double
        );
        assert_eq!(
            read_scalar(DT_DOUBLE, |tensor| tensor.bytes(field::TENSOR_CONTENT, &[1])),
            TagContent::Other
        );
    }

    #[test]
    fn a_message_of_another_form_is_a_damage() {
        let error = read_message(|event| event.text(field::EVENT_TIME, "now")).unwrap_err();
        assert_eq!(error.to_string(), "the file is damaged at byte 0");
        let unknown = read_message(|event| event.text(999, "new")).unwrap().unwrap();
        assert_eq!(unknown.content, EventContent::Other);
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), field in 1_u32..12) {
            let _ = read_message(|event| event.0.extend_from_slice(&bytes));
            let _ = read_message(|event| event.bytes(field, &bytes));
            let _ = read_message(|event| {
                event.message(field::EVENT_SUMMARY, |summary| {
                    summary.message(field::SUMMARY_VALUE, |value| value.bytes(field, &bytes));
                });
            });
        }
    }
}
