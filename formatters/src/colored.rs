use colored::Color;
use logcore::log::Level;
use logcore::{BuildContext, ConfigError, Formatter, Record, Style};

use crate::clock::Clock;
use crate::escape::{escape_line, escape_message};
use crate::keywords;
use crate::plain::{INDENT, padded, push_fields, push_rank};

/// The line of [`Plain`](crate::Plain) in colors, where the sink asks for them: the level in its own, and words such as
/// Starting, Complete and Failed highlighted. Without color it is the plain line to the byte.
#[derive(Debug, Default)]
pub struct Colored {
    clock: Clock,
    message: String,
}

impl Colored {
    pub(crate) fn build(_: crate::NoOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Formatter for Colored {
    fn format(&mut self, record: &Record<'_>, style: &Style, out: &mut String) {
        let paint = Paint(style.color);
        paint.wrapped(DIM, out, |out| {
            self.clock.write(record.time(), style.utc, style.millis, out)
        });
        paint.separator(out);
        paint.wrapped(&level_code(record.level()), out, |out| {
            out.push_str(padded(record.level()))
        });
        paint.separator(out);
        paint.wrapped(&Color::Cyan.to_fg_str(), out, |out| {
            escape_line(record.display_name(), out)
        });
        paint.separator(out);
        paint.wrapped(&Color::Magenta.to_fg_str(), out, |out| push_rank(style, out));
        self.message.clear();
        escape_message(record.message(), INDENT, &mut self.message);
        self.push_message(record.level(), style, out);
        paint.wrapped(DIM, out, |out| push_fields(record, out));
        out.push('\n');
    }
}

impl Colored {
    fn push_message(&self, level: Level, style: &Style, out: &mut String) {
        let paint = Paint(style.color);
        for (i, line) in self.message.split('\n').enumerate() {
            if i > 0 {
                out.push('\n');
            }
            match level {
                _ if !style.color => out.push_str(line),
                // A grave message is seen by its own color; words in it need none of theirs.
                Level::Error | Level::Warn => {
                    paint.wrapped(&level_colour(level).to_fg_str(), out, |out| out.push_str(line))
                }
                _ if style.keywords => keywords::highlight(line, out, |code, word, out| {
                    paint.wrapped(code, out, |out| out.push_str(word));
                }),
                _ => out.push_str(line),
            }
        }
    }
}

const DIM: &str = "2";

fn level_colour(level: Level) -> Color {
    match level {
        Level::Error => Color::Red,
        Level::Warn => Color::Yellow,
        Level::Info => Color::Green,
        Level::Debug => Color::Blue,
        Level::Trace => Color::Magenta,
    }
}

fn level_code(level: Level) -> String {
    let bold = if level == Level::Error { "1;" } else { "" };
    format!("{bold}{}", level_colour(level).to_fg_str())
}

/// Puts codes around text, if color is wanted. The codes are written by hand around the names of `colored`, because that
/// crate's own switch is one for the whole process, and here each sink decides.
struct Paint(bool);

impl Paint {
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
