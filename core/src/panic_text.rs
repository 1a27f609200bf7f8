//! The text of a panic's record: one line for people, and the whole backtrace behind it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The target of the records of panics.
pub const PANIC_TARGET: &str = "panic";

/// Separates the message from the backtrace. Rust's own panic messages have this line, too.
const SEPARATOR: &str = "\nstack backtrace:\n";

/// The backtrace that people want to see with a panic, by `RUST_BACKTRACE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacktraceStyle {
    /// No backtrace.
    None,
    /// The frames of the program.
    Short,
    /// All frames.
    Full,
}

impl BacktraceStyle {
    /// Reads the value of `RUST_BACKTRACE`.
    #[must_use]
    pub fn read(value: Option<&str>) -> Self {
        match value {
            None | Some("0") => Self::None,
            Some("full") => Self::Full,
            Some(_) => Self::Short,
        }
    }

    /// Returns the message of a panic's record with this backtrace.
    ///
    /// ```
    /// use logcore::panic_text::{BacktraceStyle, panic_text};
    ///
    /// let text = panic_text("thread `main` panicked at src/main.rs:3:5: no data", "   0: main\n");
    /// assert_eq!(BacktraceStyle::None.shorten(&text), "thread `main` panicked at src/main.rs:3:5: no data");
    /// assert_eq!(BacktraceStyle::Full.shorten(&text), text);
    /// ```
    #[must_use]
    pub fn shorten(self, text: &str) -> Cow<'_, str> {
        let Some((message, backtrace)) = text.rsplit_once(SEPARATOR) else {
            return text.into();
        };
        match self {
            Self::None => message.into(),
            Self::Short => panic_text(message, &short_backtrace(backtrace)).into(),
            Self::Full => text.into(),
        }
    }
}

/// Joins the message of a panic with a backtrace.
#[must_use]
pub fn panic_text(message: &str, backtrace: &str) -> String {
    format!("{message}{SEPARATOR}{}", backtrace.trim_end())
}

/// Returns the frames between the marks that Rust puts around the code of a program, counted from
/// 0; all frames if they have no names.
fn short_backtrace(backtrace: &str) -> String {
    let mut frames: Vec<String> = Vec::new();
    for line in backtrace.lines() {
        match (line.trim_start().split_once(": "), frames.last_mut()) {
            (Some((number, name)), _) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                frames.push(name.to_owned());
            }
            (_, Some(frame)) => {
                let _ = write!(frame, "\n{line}");
            }
            (_, None) => {}
        }
    }
    let first = frames
        .iter()
        .rposition(|frame| frame.contains("__rust_end_short_backtrace"));
    let frames = &frames[first.map_or(0, |first| first + 1)..];
    let last = frames
        .iter()
        .position(|frame| frame.contains("__rust_begin_short_backtrace"));
    let frames = &frames[..last.unwrap_or(frames.len())];
    let lines = frames
        .iter()
        .enumerate()
        .map(|(number, frame)| format!("{number:4}: {frame}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_form_has_the_frames_of_the_program() {
        let backtrace = "   0: facade::process::panic_hook::log_panic\n             at ./a.rs:1:2\n   \
                         1: std::sys::backtrace::__rust_end_short_backtrace\n   2: core::panicking::panic_fmt\n   \
                         3: app::train\n             at ./src/main.rs:7:5\n   \
                         4: std::sys::backtrace::__rust_begin_short_backtrace\n   5: std::rt::lang_start\n";
        let text = panic_text("thread `x` panicked at src/main.rs:7:5: left\n  right: 2", backtrace);
        assert_eq!(
            BacktraceStyle::Short.shorten(&text),
            "thread `x` panicked at src/main.rs:7:5: left\n  right: 2\nstack backtrace:\n   0: core::panicking::panic_fmt\n   \
             1: app::train\n             at ./src/main.rs:7:5"
        );
        assert_eq!(BacktraceStyle::None.shorten("no backtrace"), "no backtrace");
    }

    #[test]
    fn style_is_that_of_the_standard_library() {
        use BacktraceStyle::{Full, None, Short};
        for (value, style) in [
            (Option::None, None),
            (Some("0"), None),
            (Some("1"), Short),
            (Some("full"), Full),
        ] {
            assert_eq!(BacktraceStyle::read(value), style);
        }
    }
}
