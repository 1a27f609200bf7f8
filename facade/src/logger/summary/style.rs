//! Styles of the closing summary.

/// Styles text if color is wanted.
#[derive(Clone, Copy)]
pub(super) struct AnsiStyle(pub(super) bool);

impl AnsiStyle {
    /// Returns the text in the style of an SGR code; an empty code changes nothing.
    pub(super) fn styled(self, code: &str, text: &str) -> String {
        match self.0 && !code.is_empty() && !text.trim().is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
