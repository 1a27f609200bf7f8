//! The text of one write to a terminal. It is also the last filter: of the control codes that a
//! formatter or a bar has left in the text, only those of color reach the terminal.
//!
//! While there are bars, the cursor is at the beginning of an empty line above them. So the bars
//! can be erased without knowing how many rows they take, which changes when the window is made
//! narrower. And a line that the program itself prints appears above them, complete.

use logcore::escape::escape_except_styles;

/// Erases the line of the cursor, and then, from its second column on, everything below.
///
/// An erase from the first column of the first row would be a cleared screen for tmux, which puts
/// such a screen into its history (`scroll-on-clear`): each frame would be kept there.
const ERASE_BARS: &str = "\r\x1b[K\x1b[C\x1b[J\r";

/// Returns the text that erases the old bars, if there are any, and writes lines and new bars.
pub(crate) fn frame(erase: bool, lines: &str, bars: &[String]) -> String {
    let mut out = String::with_capacity(lines.len() + 256);
    if erase {
        out.push_str(ERASE_BARS);
    }
    out.push_str(&escape_except_styles(lines));
    for bar in bars {
        out.push('\n');
        out.push_str(&escape_except_styles(bar));
    }
    if !bars.is_empty() {
        out.push_str(&format!("\x1b[{}A\r", bars.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_returns_the_cursor_to_the_line_above_the_bars() {
        let bars = ["one".to_owned(), "two".to_owned()];
        assert_eq!(frame(false, "line\n", &bars), "line\n\none\ntwo\x1b[2A\r");
        assert_eq!(frame(true, "", &[]), "\r\x1b[K\x1b[C\x1b[J\r");
    }

    #[test]
    fn frame_keeps_colors_and_escapes_other_codes() {
        assert_eq!(
            frame(false, "\x1b[31mred\x1b[0m \x1b[2J\n", &[]),
            "\x1b[31mred\x1b[0m \\x1b[2J\n"
        );
    }
}
