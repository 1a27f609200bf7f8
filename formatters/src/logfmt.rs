//! The logfmt line.

use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

use crate::escape::escape_value;
use crate::time_writer::TimeWriter;

/// One line of `name=value` pairs per record, for tools that read
/// [logfmt](https://brandur.org/logfmt).
///
/// ```
/// use logcore::{FieldValue, Formatter, Record, Style};
/// use logcore_formatters::Logfmt;
/// use std::time::UNIX_EPOCH;
///
/// let fields = [("lr", FieldValue::Float(0.1))];
/// let record = Record::at(UNIX_EPOCH, logcore::log::Level::Info, "trainer", "epoch done").with_fields(&fields);
/// let (mut out, mut style) = (String::new(), Style::default());
/// style.utc = true;
/// Logfmt::default().format(&record, &style, &mut out);
/// assert!(out.starts_with("time=1970-01-01T00:00:00.000+00:00 level=info logger=trainer target=trainer"));
/// assert!(out.ends_with("msg=\"epoch done\" lr=0.1\n"));
/// ```
#[derive(Debug, Default)]
pub struct Logfmt {
    clock: TimeWriter,
}

impl Logfmt {
    pub(crate) fn build(_: crate::FormatterOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Logfmt {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        out.push_str("time=");
        self.clock.write_rfc3339(record.time(), style, out);
        out.push_str(" level=");
        out.push_str(&record.level().as_str().to_ascii_lowercase());
        for (name, value) in [
            ("logger", record.logger()),
            ("target", record.target()),
            ("msg", record.message()),
        ] {
            out.push(' ');
            out.push_str(name);
            out.push('=');
            escape_value(value, out);
        }
        if let Some(rank) = style.rank {
            out.push_str(" rank=");
            out.push_str(&rank.to_string());
        }
        for (name, value) in record.unique_fields(&RESERVED) {
            out.push(' ');
            escape_value(&name, out);
            out.push('=');
            escape_value(&value.to_string(), out);
        }
        out.push('\n');
    }
}

/// Names that the line itself uses. A field of such a name has a `_` appended.
const RESERVED: [&str; 6] = ["time", "level", "logger", "target", "msg", "rank"];

logcore::register_formatter!("logfmt", Logfmt::build);
