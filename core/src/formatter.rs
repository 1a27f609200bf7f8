use crate::Record;

/// How a record becomes text.
///
/// A formatter appends to the caller's buffer, one record whole, with the line end. It never adds color that was not
/// asked for, and lets no text of a message pass for a record of its own.
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

/// What the sink wants of the formatter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Style {
    /// Color codes are wanted: the output is a terminal that understands them.
    pub color: bool,
    /// Words such as Starting, Complete and Failed are to be highlighted (where there is color).
    pub keywords: bool,
    /// Times are to be in UTC instead of local time.
    pub utc: bool,
    /// Times are to have milliseconds.
    pub millis: bool,
    /// Several processes write to the same place, and this is the rank of the one that does here: text formatters put
    /// `[rank 3] ` before the message.
    pub rank: Option<u32>,
}
