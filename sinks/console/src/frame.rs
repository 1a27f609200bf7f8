//! The text that is written to a terminal at once, and the last look at it: whatever a formatter, a bar or the last word has
//! left in it, the terminal gets no codes but those of color and those that are written here.
//!
//! While there are bars, the cursor stands at the beginning of an empty line above them. So they can be erased without
//! knowing how many rows they take, which a terminal that was made narrower has changed; and a line that the program prints
//! by itself stands above them, whole.

use logcore::escape::escape_except_styles;

/// Clears what stands below the cursor, if bars were drawn there; then lines, then bars.
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
