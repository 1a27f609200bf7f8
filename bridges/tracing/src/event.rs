//! An event as a record, and as metrics.

use std::fmt;

use log::Record;
use logcore::MetricValue;
use tracing_core::field::{Field, Visit};
use tracing_core::{Event, Level, Metadata};

use crate::field::{FieldList, FieldSink, FieldValue, FieldVisitor, with_scratch};
use crate::layer::{EventReceiver, GiveRecord};
use crate::span::SpanFields;

/// The field that holds the text of an event.
const MESSAGE: &str = "message";
/// A field of an event with this prefix is a metric.
const METRIC: &str = "metric.";
/// The step of an event's metrics.
const STEP: &str = "step";
/// The target of events that `tracing-log` makes of records of `log`, and the fields with what the
/// record had.
const LOG_TARGET: &str = "log";
const LOGGED_TARGET: &str = "log.target";
const LOGGED_MODULE: &str = "log.module_path";
const LOGGED_FILE: &str = "log.file";
const LOGGED_LINE: &str = "log.line";

/// Gives the metrics and the record of an event.
pub(crate) fn give<R: EventReceiver>(receiver: &R, event: &Event<'_>, span: Option<&SpanFields>) {
    let metadata = event.metadata();
    let fields = metadata.fields();
    let message = Message { event };
    let receive = |target: &str, give: &GiveRecord<'_>| {
        let level = log_level(metadata.level());
        receiver.receive_record(&log::Metadata::builder().level(level).target(target).build(), give);
    };
    let has_metrics = fields.iter().any(|field| field.name().starts_with(METRIC));
    if !has_metrics && metadata.target() != LOG_TARGET {
        return receive(metadata.target(), &|take| {
            with_fields(event, |fields| {
                fields.add_span(span);
                take(&fields.record(metadata, format_args!("{message}")));
            });
        });
    }
    with_fields(event, |read| {
        if !read.metrics.is_empty() {
            receiver.receive_metrics(read.own.unsigned(STEP), &read.metrics);
        }
        // Metrics alone are nothing for people to read, and a metric may be `None`.
        let is_of_metrics = !read.metrics.is_empty() || (has_metrics && read.own.len() == 0);
        if is_of_metrics && fields.field(MESSAGE).is_none() {
            return;
        }
        read.add_span(span);
        let target = read.logged.text(LOGGED_TARGET).unwrap_or(metadata.target());
        receive(target, &|take| take(&read.record(metadata, format_args!("{message}"))));
    });
}

/// Calls `work` with the fields of an event.
fn with_fields(event: &Event<'_>, work: impl FnOnce(&mut EventFields<'_>)) {
    with_scratch(|own| {
        let mut fields = EventFields {
            own,
            metrics: Vec::new(),
            logged: FieldList::default(),
            is_of_log: event.metadata().target() == LOG_TARGET,
        };
        event.record(&mut FieldVisitor(&mut fields));
        work(&mut fields);
    });
}

pub(crate) fn log_level(level: &Level) -> log::Level {
    match *level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        _ => log::Level::Trace,
    }
}

/// The fields of an event, sorted by their use.
struct EventFields<'a> {
    own: &'a mut FieldList,
    metrics: Vec<(&'static str, MetricValue)>,
    /// The fields of a record of `log` that became the event.
    logged: FieldList,
    is_of_log: bool,
}

impl EventFields<'_> {
    fn add_span(&mut self, span: Option<&SpanFields>) {
        if let Some(span) = span {
            span.add_to(self.own, |_| false);
        }
    }

    fn record<'r>(&'r self, metadata: &'r Metadata<'static>, message: fmt::Arguments<'r>) -> Record<'r> {
        let mut record = Record::builder();
        record
            .level(log_level(metadata.level()))
            .args(message)
            .key_values(&*self.own);
        match self.logged.text(LOGGED_TARGET) {
            Some(target) => record
                .target(target)
                .module_path(self.logged.text(LOGGED_MODULE))
                .file(self.logged.text(LOGGED_FILE))
                .line(
                    self.logged
                        .unsigned(LOGGED_LINE)
                        .and_then(|line| u32::try_from(line).ok()),
                ),
            None => record
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line()),
        };
        record.build()
    }
}

impl FieldSink for EventFields<'_> {
    fn take(&mut self, name: &'static str, value: FieldValue) {
        if let Some(metric) = name.strip_prefix(METRIC).filter(|metric| !metric.is_empty()) {
            let number = match value {
                FieldValue::Int(value) => MetricValue::Int(value),
                FieldValue::UInt(value) => MetricValue::UInt(value),
                FieldValue::Float(value) => MetricValue::Float(value),
                FieldValue::Bool(value) => MetricValue::UInt(value.into()),
                FieldValue::Text(_) => return,
            };
            self.metrics.push((metric, number));
            self.own.push(metric, value);
        } else if self.is_of_log && name.starts_with("log.") {
            self.logged.push(name, value);
        } else if name != MESSAGE {
            self.own.push(name, value);
        }
    }

    fn take_written(&mut self, name: &'static str, write: &mut dyn FnMut(&mut dyn fmt::Write) -> fmt::Result) {
        if self.is_of_log && name.starts_with("log.") {
            self.logged.push_written(name, write);
        } else if name != MESSAGE {
            self.own.push_written(name, write);
        }
    }
}

/// The text of an event, written straight to where the text goes.
struct Message<'a> {
    event: &'a Event<'a>,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = MessageWriter { out: f, result: Ok(()) };
        self.event.record(&mut writer);
        writer.result
    }
}

struct MessageWriter<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    result: fmt::Result,
}

impl Visit for MessageWriter<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.result = self.out.write_str(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            self.result = write!(self.out, "{value:?}");
        }
    }

    // Numbers would be formatted by the default of these, to no use.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write_number(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write_number(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write_number(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write_number(field, &value);
    }
}

impl MessageWriter<'_, '_> {
    fn write_number(&mut self, field: &Field, value: &dyn fmt::Display) {
        if field.name() == MESSAGE {
            self.result = write!(self.out, "{value}");
        }
    }
}
