//! The JSON line.

use logcore::escape::escape_json;
use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

/// One JSON object per record: `time` (seconds since 1970), `level`, `logger`, `target`, `message`,
/// `fields`.
///
/// The output is valid JSON on one line. It also escapes characters that end a line for some
/// readers, that terminals obey, or that are invisible.
///
/// ```
/// use logcore::{Formatter, Record, Style};
/// use logcore_formatters::Json;
///
/// let mut out = String::new();
/// let record = Record::new(logcore::log::Level::Warn, "trainer", "two\nlines");
/// Json::default().format(&record, &Style::default(), &mut out);
/// assert!(out.contains(r#""level":"WARN","logger":"trainer","target":"trainer","message":"two\nlines""#));
/// assert_eq!(out.lines().count(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Json {
    bytes: Vec<u8>,
}

impl Json {
    pub(crate) fn build(_: crate::FormatterOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Json {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        self.bytes.clear();
        // Cannot fail. If it did, no line would be better than half a line.
        if serde_json::to_writer(&mut self.bytes, record).is_err() {
            return;
        }
        if let Some(rank) = style.rank {
            // Inserts the rank before the closing brace.
            self.bytes.pop();
            self.bytes.extend_from_slice(format!(",\"rank\":{rank}}}").as_bytes());
        }
        out.push_str(&escape_json(&String::from_utf8_lossy(&self.bytes)));
        out.push('\n');
    }
}

logcore::register_formatter!("json", Json::build);

#[cfg(test)]
mod tests {
    use logcore::log::Level;

    use super::*;

    #[test]
    fn json_escapes_control_characters_and_line_separators() {
        let hostile = "\u{7f}\u{85}\u{9b}2J\u{2028}\u{2029}\u{202e}\u{200b}\u{1b}\r\n°";
        let mut out = String::new();
        Json::default().format(&Record::new(Level::Info, hostile, hostile), &Style::default(), &mut out);
        assert!(!out.trim_end_matches('\n').contains(logcore::escape::needs_escape));
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["message"], hostile);
        assert_eq!(read["logger"], hostile);
    }
}
