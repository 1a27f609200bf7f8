//! The events of a file, as bytes.
//!
//! The messages are those of `event.proto`, `summary.proto`, `tensor.proto` and the `api.proto` and
//! `plugin_data.proto` of the plugin `hparams`, as TensorBoard 2.21 has them. All of the readers in
//! use show a scalar that is a `simple_value`; its default server leaves out tensors of doubles.

use logcore::MetricValue;
use serde_json::{Map, Value};

use crate::framing::append_record;
use crate::hyper_parameters::{flatten, table};
use crate::message::MessageWriter;

/// The field numbers of the messages.
pub(crate) mod field {
    pub(crate) const EVENT_TIME: u32 = 1;
    pub(crate) const EVENT_STEP: u32 = 2;
    pub(crate) const EVENT_FILE_VERSION: u32 = 3;
    pub(crate) const EVENT_SUMMARY: u32 = 5;
    pub(crate) const EVENT_SESSION_LOG: u32 = 7;
    pub(crate) const EVENT_SOURCE: u32 = 10;
    pub(crate) const SOURCE_WRITER: u32 = 1;
    pub(crate) const SESSION_LOG_STATUS: u32 = 1;
    pub(crate) const SUMMARY_VALUE: u32 = 1;
    pub(crate) const VALUE_TAG: u32 = 1;
    pub(crate) const VALUE_SIMPLE: u32 = 2;
    pub(crate) const VALUE_TENSOR: u32 = 8;
    pub(crate) const VALUE_METADATA: u32 = 9;
    pub(crate) const METADATA_PLUGIN: u32 = 1;
    pub(crate) const METADATA_DATA_CLASS: u32 = 4;
    pub(crate) const PLUGIN_NAME: u32 = 1;
    pub(crate) const PLUGIN_CONTENT: u32 = 2;
    pub(crate) const TENSOR_TYPE: u32 = 1;
    pub(crate) const TENSOR_SHAPE: u32 = 2;
    pub(crate) const TENSOR_CONTENT: u32 = 4;
    pub(crate) const TENSOR_FLOATS: u32 = 5;
    pub(crate) const TENSOR_DOUBLES: u32 = 6;
    pub(crate) const TENSOR_TEXTS: u32 = 8;
    pub(crate) const SHAPE_DIMENSION: u32 = 2;
    pub(crate) const DIMENSION_SIZE: u32 = 1;
    pub(crate) const HPARAMS_START: u32 = 3;
    pub(crate) const HPARAMS_END: u32 = 4;
    pub(crate) const START_HPARAMS: u32 = 1;
    pub(crate) const START_TIME: u32 = 5;
    pub(crate) const END_STATUS: u32 = 1;
    pub(crate) const END_TIME: u32 = 2;
    pub(crate) const ENTRY_KEY: u32 = 1;
    pub(crate) const ENTRY_VALUE: u32 = 2;
    pub(crate) const JSON_NUMBER: u32 = 2;
    pub(crate) const JSON_TEXT: u32 = 3;
    pub(crate) const JSON_BOOL: u32 = 4;
}

/// Types of tensors.
pub(crate) const DT_FLOAT: u64 = 1;
pub(crate) const DT_DOUBLE: u64 = 2;
pub(crate) const DT_STRING: u64 = 7;
/// The class of data that is read whole, such as text, and not sampled as numbers.
const DATA_CLASS_TENSOR: u64 = 2;
/// The class of data whose items are large, such as images.
const DATA_CLASS_BLOBS: u64 = 3;
/// The mark that a process has begun: readers forget what earlier files have from this step on.
pub(crate) const SESSION_START: i64 = 1;
const VERSION: &str = "brain.Event:2";
/// The name of the writer in the first event.
const WRITER: &str = "logcore";

/// Names of the plugins of TensorBoard, and of their tags.
pub(crate) const SCALARS: &str = "scalars";
pub(crate) const TEXT: &str = "text";
pub(crate) const IMAGES: &str = "images";
pub(crate) const HISTOGRAMS: &str = "histograms";
pub(crate) const HPARAMS: &str = "hparams";
pub(crate) const HPARAMS_START_TAG: &str = "_hparams_/session_start_info";
pub(crate) const HPARAMS_END_TAG: &str = "_hparams_/session_end_info";

/// The tags of texts.
pub(crate) const CONFIG_TAG: &str = "text/config";
pub(crate) const RECORDS_TAG: &str = "text/log";

/// Events as the bytes of a file.
///
/// ```
/// use logcore::MetricValue;
/// use logcore_tensorboard::{EventBuffer, EventContent, EventReader};
///
/// let mut events = EventBuffer::default();
/// events.begin_file(10.0);
/// events.scalars(11.5, 3, [("loss", MetricValue::Float(0.5))]);
///
/// let mut reader = EventReader::new(events.bytes());
/// reader.next_event()?;
/// let event = reader.next_event()?.unwrap();
/// assert_eq!((event.step, event.time), (3, 11.5));
/// assert!(matches!(&event.content, EventContent::Values(values) if values[0].tag == "loss"));
/// # Ok::<(), logcore_tensorboard::EventReadError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventBuffer {
    bytes: Vec<u8>,
}

/// The state in which a run ended, as the HPARAMS page of TensorBoard shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionStatus {
    /// The run did what it should.
    Success,
    /// The run failed, was interrupted or was killed.
    Failure,
}

impl SessionStatus {
    const SUCCESS: i64 = 1;
    const FAILURE: i64 = 2;

    fn number(self) -> u64 {
        match self {
            Self::Success => Self::SUCCESS as u64,
            Self::Failure => Self::FAILURE as u64,
        }
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        match number {
            Self::SUCCESS => Some(Self::Success),
            Self::FAILURE => Some(Self::Failure),
            _ => None,
        }
    }
}

impl EventBuffer {
    /// Returns the bytes of all events.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all events, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds the event with which a file begins. Times are in seconds since 1970.
    pub fn begin_file(&mut self, time: f64) {
        self.event(time, 0, |event| {
            event.text(field::EVENT_FILE_VERSION, VERSION);
            event.message(field::EVENT_SOURCE, |source| source.text(field::SOURCE_WRITER, WRITER));
        });
    }

    /// Adds the mark that a process begins to log at a step.
    pub fn begin_session(&mut self, time: f64, step: u64) {
        self.event(time, step, |event| {
            event.message(field::EVENT_SESSION_LOG, |log| {
                log.integer(field::SESSION_LOG_STATUS, SESSION_START as u64);
            });
        });
    }

    /// Adds the values of one step. TensorBoard's numbers have single precision, so that digits
    /// beyond the seventh are lost, and numbers beyond 3.4e38 are infinite.
    pub fn scalars<N: AsRef<str>>(&mut self, time: f64, step: u64, values: impl IntoIterator<Item = (N, MetricValue)>) {
        self.summary(time, step, |summary| {
            for (name, value) in values {
                summary.message(field::SUMMARY_VALUE, |tagged| {
                    tagged.text(field::VALUE_TAG, name.as_ref());
                    tagged.float(field::VALUE_SIMPLE, single(value));
                });
            }
        });
    }

    /// Adds a text, which TensorBoard shows as Markdown.
    pub fn text(&mut self, time: f64, step: u64, tag: &str, text: &str) {
        self.summary(time, step, |summary| {
            summary.message(field::SUMMARY_VALUE, |tagged| {
                tagged.text(field::VALUE_TAG, tag);
                put_metadata(tagged, TEXT, &[], DATA_CLASS_TENSOR);
                put_tensor(tagged, DT_STRING, &[1], |tensor| tensor.text(field::TENSOR_TEXTS, text));
            });
        });
    }

    /// Adds an image: the bytes of a PNG or JPEG file, and its size in pixels.
    pub fn image(&mut self, time: f64, step: u64, tag: &str, size: [u64; 2], file: &[u8]) {
        self.summary(time, step, |summary| {
            summary.message(field::SUMMARY_VALUE, |tagged| {
                tagged.text(field::VALUE_TAG, tag);
                put_metadata(tagged, IMAGES, &[], DATA_CLASS_BLOBS);
                put_tensor(tagged, DT_STRING, &[3], |tensor| {
                    for pixels in size {
                        tensor.text(field::TENSOR_TEXTS, &pixels.to_string());
                    }
                    tensor.bytes(field::TENSOR_TEXTS, file);
                });
            });
        });
    }

    /// Adds a histogram: the number of values in each range, and the limits of the ranges, one
    /// more.
    pub fn histogram(&mut self, time: f64, step: u64, tag: &str, counts: &[u64], edges: &[f64]) {
        let ranges = counts.iter().zip(edges.windows(2));
        let content: Vec<u8> = ranges
            .flat_map(|(count, range)| [range[0], range[1], *count as f64])
            .flat_map(f64::to_le_bytes)
            .collect();
        self.summary(time, step, |summary| {
            summary.message(field::SUMMARY_VALUE, |tagged| {
                tagged.text(field::VALUE_TAG, tag);
                put_metadata(tagged, HISTOGRAMS, &[], DATA_CLASS_TENSOR);
                put_tensor(tagged, DT_DOUBLE, &[counts.len() as u64, 3], |tensor| {
                    tensor.bytes(field::TENSOR_CONTENT, &content);
                });
            });
        });
    }

    /// Adds hyper-parameters for the page HPARAMS, nested ones as `model.width`. TensorBoard shows
    /// the first ones of a run.
    pub fn hyper_parameters(&mut self, started: f64, config: &Map<String, Value>) {
        let mut content = Vec::new();
        MessageWriter(&mut content).message(field::HPARAMS_START, |start| {
            for (name, value) in &flatten(config) {
                start.message(field::START_HPARAMS, |entry| {
                    entry.text(field::ENTRY_KEY, name);
                    entry.message(field::ENTRY_VALUE, |json| put_json(json, value));
                });
            }
            start.double(field::START_TIME, started);
        });
        self.hparams(started, HPARAMS_START_TAG, &content);
    }

    /// Adds hyper-parameters as a table for the page TEXT, in place of an earlier one.
    pub fn config_table(&mut self, started: f64, config: &Map<String, Value>) {
        self.text(started, 0, CONFIG_TAG, &table(&flatten(config)));
    }

    /// Adds the end of the run.
    pub fn end_session(&mut self, time: f64, status: SessionStatus) {
        let mut content = Vec::new();
        MessageWriter(&mut content).message(field::HPARAMS_END, |end| {
            end.integer(field::END_STATUS, status.number());
            end.double(field::END_TIME, time);
        });
        self.hparams(time, HPARAMS_END_TAG, &content);
    }

    /// Adds data of the plugin `hparams`, which are in the metadata of an empty tensor.
    fn hparams(&mut self, time: f64, tag: &str, content: &[u8]) {
        self.summary(time, 0, |summary| {
            summary.message(field::SUMMARY_VALUE, |tagged| {
                tagged.text(field::VALUE_TAG, tag);
                put_metadata(tagged, HPARAMS, content, DATA_CLASS_TENSOR);
                put_tensor(tagged, DT_FLOAT, &[0], |_| {});
            });
        });
    }

    fn summary(&mut self, time: f64, step: u64, write: impl FnOnce(&mut MessageWriter<'_>)) {
        self.event(time, step, |event| event.message(field::EVENT_SUMMARY, write));
    }

    fn event(&mut self, time: f64, step: u64, write: impl FnOnce(&mut MessageWriter<'_>)) {
        append_record(&mut self.bytes, |bytes| {
            let mut event = MessageWriter(bytes);
            event.double(field::EVENT_TIME, time);
            // The field has a sign. A step beyond 2^63 has no other form.
            event.integer(field::EVENT_STEP, step.min(i64::MAX as u64));
            write(&mut event);
        });
    }
}

/// Returns the number in single precision; an infinity if it is too great.
fn single(value: MetricValue) -> f32 {
    match value {
        MetricValue::F32(value) => value,
        value => value.as_f64() as f32,
    }
}

fn put_metadata(tagged: &mut MessageWriter<'_>, plugin: &str, content: &[u8], class: u64) {
    tagged.message(field::VALUE_METADATA, |metadata| {
        metadata.message(field::METADATA_PLUGIN, |data| {
            data.text(field::PLUGIN_NAME, plugin);
            data.bytes(field::PLUGIN_CONTENT, content);
        });
        metadata.integer(field::METADATA_DATA_CLASS, class);
    });
}

/// Writes a tensor with a size in each dimension.
fn put_tensor(tagged: &mut MessageWriter<'_>, kind: u64, sizes: &[u64], write: impl FnOnce(&mut MessageWriter<'_>)) {
    tagged.message(field::VALUE_TENSOR, |tensor| {
        tensor.integer(field::TENSOR_TYPE, kind);
        tensor.message(field::TENSOR_SHAPE, |shape| {
            for size in sizes {
                shape.message(field::SHAPE_DIMENSION, |dimension| {
                    dimension.integer(field::DIMENSION_SIZE, *size);
                });
            }
        });
        write(tensor);
    });
}

fn put_json(json: &mut MessageWriter<'_>, value: &Value) {
    match value {
        Value::Bool(value) => json.integer(field::JSON_BOOL, u64::from(*value)),
        Value::Number(value) => json.double(field::JSON_NUMBER, value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => json.text(field::JSON_TEXT, value),
        // The page has no column for others.
        other => json.text(field::JSON_TEXT, &other.to_string()),
    }
}
