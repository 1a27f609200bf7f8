//! The plain line.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::SystemTime;

use logcore::log::Level;
use logcore::{BuildContext, ConfigError, FieldValue, Formatter, Record, Style};

use crate::escape::{escape_line, escape_message, escape_value};
use crate::time_writer::{TimeWriter, millisecond_of};

/// One line of columns per record: time, level, name, message, and fields.
///
/// ```text
/// 2026-11-23 14:48:15.123 | INFO  | my_module | Starting process... | key=value other=2
/// ```
///
/// Control characters are escaped, and lines of a message after the first are indented. So no
/// message can look like another record.
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
    clock: TimeWriter,
    columns: CachedColumns,
}

/// The columns before the message, as the last record had them: a millisecond may have thousands of
/// records.
#[derive(Debug, Default)]
struct CachedColumns {
    text: String,
    /// The records that have these columns, apart from those of another name.
    of: Option<(Range<SystemTime>, Level, Style)>,
    name: String,
}

impl Plain {
    pub(crate) fn build(_: crate::FormatterOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Plain {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        if !self.columns.fit(record, style) {
            self.columns.write(record, style, &mut self.clock);
        }
        out.push_str(&self.columns.text);
        match record.has_plain_message() {
            true => out.push_str(record.message()),
            false => escape_message(record.message(), INDENT, out),
        }
        push_fields(record, out);
        out.push('\n');
    }
}

impl CachedColumns {
    /// Returns `true` if a record has the columns in the cache.
    #[inline]
    fn fit(&self, record: &Record<'_>, style: &Style) -> bool {
        self.of.as_ref().is_some_and(|(millisecond, level, of_style)| {
            millisecond.contains(&record.time()) && *level == record.level() && of_style == style
        }) && self.name == record.display_name()
    }

    /// Writes the columns of a record.
    fn write(&mut self, record: &Record<'_>, style: &Style, clock: &mut TimeWriter) {
        self.of = millisecond_of(record.time()).map(|millisecond| (millisecond, record.level(), *style));
        record.display_name().clone_into(&mut self.name);
        self.text.clear();
        clock.write(record.time(), style, &mut self.text);
        self.text.push_str(" | ");
        self.text.push_str(padded(record.level()));
        self.text.push_str(" | ");
        escape_line(record.display_name(), &mut self.text);
        self.text.push_str(" | ");
        push_rank(style, &mut self.text);
    }
}

/// Indentation of the lines of a message after the first.
pub(crate) const INDENT: &str = "    ";

/// Returns the name of a level, padded to five characters.
pub(crate) fn padded(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN ",
        Level::Info => "INFO ",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

/// Appends `[rank 3] `, if the style has a rank.
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
            // JSON has a clear end. Quotes around it would make it hard to read.
            FieldValue::Json(json) => escape_line(json, out),
            value => escape_value(&value.to_string(), out),
        }
    }
}

logcore::register_formatter!("plain", Plain::build);
