use std::fmt::Write as _;

use logcore::{BuildContext, ConfigError, FieldValue, Formatter, Record, Style};

use crate::clock::Clock;
use crate::escape::{escape_line, escape_message, escape_value};

/// `2026-11-23 14:48:15.123 | INFO  | my_module | Starting process... | key=value other=2`
///
/// Control characters are escaped, and the lines after the first of a message are indented, so that no message can pass
/// for a record of its own.
///
/// ```
/// use logcore::{Formatter, Record, Style};
/// use logcore_formatters::Plain;
/// use std::time::UNIX_EPOCH;
///
/// let record = Record::at(UNIX_EPOCH, logcore::log::Level::Info, "trainer", "one\ntwo");
/// let mut style = Style::default();
/// style.utc = true;
/// let mut out = String::new();
/// Plain::default().format(&record, &style, &mut out);
/// assert_eq!(out, "1970-01-01 00:00:00 | INFO  | trainer | one\n    two\n");
/// ```
#[derive(Debug, Default)]
pub struct Plain {
    clock: Clock,
}

impl Plain {
    pub(crate) fn build(_: crate::NoOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Plain {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        self.clock.write(record.time(), style.utc, style.millis, out);
        out.push_str(" | ");
        out.push_str(padded(record.level()));
        out.push_str(" | ");
        escape_line(record.display_name(), out);
        out.push_str(" | ");
        push_rank(style, out);
        escape_message(record.message(), INDENT, out);
        push_fields(record, out);
        out.push('\n');
    }
}

/// What stands before the lines of a message after its first.
pub(crate) const INDENT: &str = "    ";

/// A level's name, as wide as the widest.
pub(crate) fn padded(level: logcore::log::Level) -> &'static str {
    use logcore::log::Level::{Debug, Error, Info, Trace, Warn};
    match level {
        Error => "ERROR",
        Warn => "WARN ",
        Info => "INFO ",
        Debug => "DEBUG",
        Trace => "TRACE",
    }
}

/// Appends `[rank 3] `, if the message is to be marked.
pub(crate) fn push_rank(style: &Style, out: &mut String) {
    if let Some(rank) = style.rank {
        // Writing to a string cannot fail.
        let _ = write!(out, "[rank {rank}] ");
    }
}

/// Appends ` | key=value other=2`, if there are fields.
pub(crate) fn push_fields(record: &Record<'_>, out: &mut String) {
    for (i, (name, value)) in record.fields().enumerate() {
        out.push_str(if i == 0 { " | " } else { " " });
        escape_value(name, out);
        out.push('=');
        match value {
            // Its quotes and brackets say where it ends, and quotes around them would make it hard to read.
            FieldValue::Json(json) => escape_line(json, out),
            value => escape_value(&value.to_string(), out),
        }
    }
}

logcore::register_formatter!("plain", Plain::build);
