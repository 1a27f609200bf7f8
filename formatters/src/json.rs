use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

/// One JSON object a record: `time` (seconds since 1970), `level`, `logger`, `target`, `message`, `fields`.
///
/// Always valid JSON on one line. U+2028 and U+2029 are escaped, too, because some readers end a line at them.
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
        let line = String::from_utf8_lossy(&self.bytes);
        let mut rest = &*line;
        while let Some(at) = rest.find(['\u{2028}', '\u{2029}']) {
            out.push_str(&rest[..at]);
            out.push_str(if rest[at..].starts_with('\u{2028}') {
                "\\u2028"
            } else {
                "\\u2029"
            });
            rest = &rest[at + '\u{2028}'.len_utf8()..];
        }
        out.push_str(rest);
        out.push('\n');
    }
}

logcore::register_formatter!("json", Json::build);
