use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

use crate::clock::Clock;
use crate::escape::escape_value;

/// `time=2026-11-23T14:48:15.123+01:00 level=info logger=my_module target=my_module msg="Starting process..." key=value`
///
/// Always one line.
#[derive(Debug, Default)]
pub struct Logfmt {
    clock: Clock,
}

impl Logfmt {
    pub(crate) fn build(_: crate::NoOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Logfmt {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        out.push_str("time=");
        self.clock.write_rfc3339(record.time(), style.utc, out);
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

/// The line's own names, which no field may have again.
const RESERVED: [&str; 6] = ["time", "level", "logger", "target", "msg", "rank"];

logcore::register_formatter!("logfmt", Logfmt::build);
