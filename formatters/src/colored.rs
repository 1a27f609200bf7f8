//! The colored line.

use colored::Color;
use logcore::log::Level;
use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

use crate::escape::{escape_line, escape_message};
use crate::keywords;
use crate::plain::{INDENT, padded, push_fields, push_rank};
use crate::time_writer::TimeWriter;

/// The line of [`Plain`](crate::Plain) in colors: each level has its color, and keywords such as
/// Starting, Complete and Failed are highlighted.
///
/// Without [`Style::color`], the output is the plain line.
///
/// ```
/// use logcore::{Formatter, Record, Style};
/// use logcore_formatters::{Colored, Plain};
///
/// let record = Record::new(logcore::log::Level::Info, "trainer", "Loading data");
/// let (mut plain, mut colored, mut style) = (String::new(), String::new(), Style::default());
/// Plain::default().format(&record, &style, &mut plain);
/// style.color = true;
/// Colored::default().format(&record, &style, &mut colored);
/// assert!(colored.contains("\x1b[") && !plain.contains("\x1b["));
/// ```
#[derive(Debug, Default)]
pub struct Colored {
    clock: TimeWriter,
    message: String,
}

impl Colored {
    pub(crate) fn build(_: crate::FormatterOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Colored {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        let color = ColorWriter(style.color);
        color.wrapped(DIM, out, |out| self.clock.write(record.time(), style, out));
        color.separator(out);
        color.wrapped(&level_code(record.level()), out, |out| {
            out.push_str(padded(record.level()))
        });
        color.separator(out);
        color.wrapped(&Color::Cyan.to_fg_str(), out, |out| {
            escape_line(record.display_name(), out)
        });
        color.separator(out);
        color.wrapped(&Color::Magenta.to_fg_str(), out, |out| push_rank(style, out));
        self.message.clear();
        escape_message(record.message(), INDENT, &mut self.message);
        self.push_message(record.level(), style, out);
        color.wrapped(DIM, out, |out| push_fields(record, out));
        out.push('\n');
    }
}

impl Colored {
    /// Appends the escaped message, line by line. No color code spans a line end.
    fn push_message(&self, level: Level, style: &Style, out: &mut String) {
        let color = ColorWriter(style.color);
        for (i, line) in self.message.split('\n').enumerate() {
            if i > 0 {
                out.push('\n');
            }
            match level {
                _ if !style.color => out.push_str(line),
                // The whole message has the color of its level, so keywords need no color.
                Level::Error | Level::Warn => {
                    color.wrapped(&level_color(level).to_fg_str(), out, |out| out.push_str(line))
                }
                _ if style.keywords => keywords::highlight(line, out, |code, word, out| {
                    color.wrapped(code, out, |out| out.push_str(word));
                }),
                _ => out.push_str(line),
            }
        }
    }
}

/// Code of dim text, for times, separators and fields.
const DIM: &str = "2";

/// Returns the color of a level.
fn level_color(level: Level) -> Color {
    match level {
        Level::Error => Color::Red,
        Level::Warn => Color::Yellow,
        Level::Info => Color::Green,
        Level::Debug => Color::Blue,
        Level::Trace => Color::Magenta,
    }
}

/// Returns the code for the name of a level: its color, and bold for errors.
fn level_code(level: Level) -> String {
    let bold = if level == Level::Error { "1;" } else { "" };
    format!("{bold}{}", level_color(level).to_fg_str())
}

/// Writes color codes around text, if color is wanted.
///
/// The crate `colored` provides the codes. Its own switch applies to the whole process, but here
/// each sink decides.
struct ColorWriter(bool);

impl ColorWriter {
    /// Appends the text that `write` appends, inside of a color code. Appends no code around an
    /// empty text.
    fn wrapped(&self, code: &str, out: &mut String, write: impl FnOnce(&mut String)) {
        if !self.0 {
            write(out);
            return;
        }
        let start = out.len();
        out.push_str("\x1b[");
        out.push_str(code);
        out.push('m');
        let text = out.len();
        write(out);
        if out.len() == text {
            out.truncate(start);
        } else {
            out.push_str("\x1b[0m");
        }
    }

    fn separator(&self, out: &mut String) {
        self.wrapped(DIM, out, |out| out.push_str(" | "));
    }
}

logcore::register_formatter!("colored", Colored::build);
