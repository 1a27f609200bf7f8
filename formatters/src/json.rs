use logcore::escape::escape_json;
use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

/// One JSON object a record: `time` (seconds since 1970), `level`, `logger`, `target`, `message`, `fields`.
///
/// Always valid JSON on one line. Characters that some readers end a line at, some terminals obey or nobody sees are escaped,
/// too.
///
/// ```
/// use logcore::{Formatter, Record, Style};
/// use logcore_formatters::Json;
///
/// let mut out = String::new();
/// let record = Record::new(logcore::log::Level::Warn, "trainer", "two\nlines");
/// Json::default().format(&record, &Style::default(), &mut out);
/// assert!(out.ends_with("\"level\":\"WARN\",\"logger\":\"trainer\",\"target\":\"trainer\",\"message\":\"two\\nlines\"}\n"));
/// ```
#[derive(Debug, Default)]
pub struct Json {
    bytes: Vec<u8>,
}

impl Json {
    pub(crate) fn build(_: crate::NoOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Json {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        self.bytes.clear();
        // Neither the record nor a vector has a way to fail; were it otherwise, half a line would be worse than none.
        if serde_json::to_writer(&mut self.bytes, record).is_err() {
            return;
        }
        if let Some(rank) = style.rank {
            // What closes the object is its last byte.
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
    fn what_a_terminal_obeys_or_a_reader_ends_a_line_at_is_escaped() {
        let evil = "\u{7f}\u{85}\u{9b}2J\u{2028}\u{2029}\u{202e}\u{200b}\u{1b}\r\n°";
        let mut out = String::new();
        Json::default().format(&Record::new(Level::Info, evil, evil), &Style::default(), &mut out);
        assert!(!out.trim_end_matches('\n').contains(logcore::escape::needs_escape));
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["message"], evil);
        assert_eq!(read["logger"], evil);
    }
}
