//! Escaping of messages, names and values for text lines.

use logcore::escape::{Medium, escape};

/// Appends `text` on one line, escaped for a file. The console sink also escapes invisible
/// characters.
pub(crate) fn escape_line(text: &str, out: &mut String) {
    escape(text, Medium::File, out, |out| out.push_str("\\n"));
}

/// Appends a message of several lines, escaped for a file, with `indent` before each line after the
/// first. Drops line ends at the end.
pub(crate) fn escape_message(message: &str, indent: &str, out: &mut String) {
    escape(message.trim_end_matches('\n'), Medium::File, out, |out| {
        out.push('\n');
        out.push_str(indent);
    });
}

/// Appends the value of a field, in quotes if it is not a single word.
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
            // The byte before the part is the separator.
            let separator = part.as_ptr() as usize - value.as_ptr() as usize - 1;
            out.push('\\');
            out.push(char::from(value.as_bytes()[separator]));
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
    fn escape_value_quotes_values_that_are_not_words() {
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
        fn escape_leaves_no_harmful_characters(
            text in "(\\PC|\\pC|[\n\r\t\u{2028}\u{2029}\u{85}\u{202e}\u{2066}äé]){0,40}",
        ) {
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
