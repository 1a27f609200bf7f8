//! The text of one write to a terminal. It is also the last filter: of the control codes that a formatter or a bar has left in
//! the text, only those of color reach the terminal.
//!
//! While there are bars, the cursor is at the beginning of an empty line above them. So the bars can be erased without knowing
//! how many rows they take, which changes when the window is made narrower. And a line that the program itself prints appears
//! above them, complete.

use logcore::escape::escape_except_styles;

/// Returns the text that erases the old bars, if there are any, and writes lines and new bars.
pub(crate) fn frame(erase: bool, lines: &str, bars: &[String]) -> String {
    let mut out = String::with_capacity(lines.len() + 256);
    if erase {
        out.push_str("\r\x1b[J");
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
