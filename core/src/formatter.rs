//! The trait that turns records into text.

use crate::Record;

/// The text form of records: plain lines, colored lines, JSON, logfmt.
///
/// A formatter appends one whole record, with the line end, to the caller's buffer. It obeys two
/// rules:
///
/// - No color codes unless [`Style::color`] asks for them.
/// - No part of a message may look like another record: escape line ends, or indent the lines after
///   the first.
///
/// Text sinks use a formatter by name (`sinks.file.formatter = "bare"`) once
/// [`register_formatter!`](crate::register_formatter) has registered it.
///
/// ```
/// use logcore::{Formatter, Record, Style};
///
/// struct Bare;
///
/// impl Formatter for Bare {
///     fn format(&mut self, record: &Record<'_>, _: &Style, out: &mut String) {
///         out.push_str(&record.message().escape_debug().to_string());
///         out.push('\n');
///     }
/// }
///
/// let mut out = String::new();
/// let record = Record::new(logcore::log::Level::Info, "trainer", "two\nlines");
/// Bare.format(&record, &Style::default(), &mut out);
/// assert_eq!(out, "two\\nlines\n");
/// ```
pub trait Formatter: Send {
    /// Appends `record` to `out`, in the given style.
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String);
}

/// The wishes of a sink for the text form of a record.
///
/// ```
/// use logcore::Style;
///
/// let mut style = Style::default();
/// (style.utc, style.millis) = (true, true);
/// assert!(!style.color);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Style {
    /// `true` if the output is a terminal that understands color codes.
    pub color: bool,
    /// `true` if words such as Starting, Complete and Failed are highlighted. Needs
    /// [`color`](Self::color).
    pub keywords: bool,
    /// `true` if times are in UTC instead of local time.
    pub utc: bool,
    /// `true` if times have milliseconds.
    pub millis: bool,
    /// Rank of this process, if several processes write to the same place. Text formatters put
    /// `[rank 3] ` before the message.
    pub rank: Option<u32>,
}
