//! Text of others, made harmless for a line of ours.

use logcore::escape::{Medium, escape};

/// Appends `text` on one line: control characters, line separators and what changes the direction of text are escaped, as
/// [`logcore::escape`] has it for files. A terminal's owner makes the rest visible.
///
/// ```
/// let mut out = String::new();
/// logcore_formatters::escape_line("two\nlines\t\u{1b}[31m", &mut out);
/// assert_eq!(out, r"two\nlines\t\x1b[31m");
/// ```
pub fn escape_line(text: &str, out: &mut String) {
    escape(text, Medium::File, out, |out| out.push_str("\\n"));
}

/// Appends a message: like [`escape_line`], but what follows a line end stands on a line of its own, behind `indent`.
/// Line ends at the end are left out.
pub(crate) fn escape_message(message: &str, indent: &str, out: &mut String) {
    escape(message.trim_end_matches('\n'), Medium::File, out, |out| {
        out.push('\n');
        out.push_str(indent);
    });
}

/// Appends the value of a field, in quotes where it would not be read back as one word.
pub(crate) fn escape_value(value: &str, out: &mut String) {
    let plain = !value.is_empty()
        && !value
            .chars()
            .any(|c| c.is_whitespace() || matches!(c, '"' | '=' | '|' | '\\'));
    if plain {
        escape_line(value, out);
        return;
    }
    out.push('"');
    for (i, part) in value.split(['"', '\\']).enumerate() {
        if i > 0 {
            // What separated the parts is the byte before this one.
            let at = part.as_ptr() as usize - value.as_ptr() as usize - 1;
            out.push('\\');
            out.push(char::from(value.as_bytes()[at]));
        }
        escape_line(part, out);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_quoted_only_where_they_must_be() {
        for (value, shown) in [
            ("0.1", "0.1"),
            ("two words", "\"two words\""),
            ("", "\"\""),
            ("a=b", "\"a=b\""),
            (r#"say "hi" \ "#, r#""say \"hi\" \\ ""#),
            ("x\ny", "\"x\\ny\""),
        ] {
            let mut out = String::new();
            escape_value(value, &mut out);
            assert_eq!(out, shown);
        }
    }

    fn needs_escape(c: char) -> bool {
        c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in "(\\PC|\\pC|[\n\r\t\u{2028}\u{2029}\u{85}\u{202e}\u{2066}äé]){0,40}") {
            let mut out = String::new();
            escape_line(&text, &mut out);
            prop_assert!(!out.chars().any(needs_escape));
            let mut out = String::new();
            escape_message(&text, "    ", &mut out);
            prop_assert!(out.lines().skip(1).all(|line| line.starts_with("    ")));
            prop_assert!(!out.replace('\n', "").chars().any(needs_escape));
        }
    }
}
