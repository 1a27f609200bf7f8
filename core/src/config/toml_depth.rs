//! The nesting depth of a TOML text. The TOML parser is recursive, so a deep text would overflow
//! the stack.

/// Deepest nesting that a config may have.
pub(super) const MAX_DEPTH: usize = 64;

/// Returns the largest number of open brackets or of dots in a key. In invalid TOML, the scan ends
/// at the first unterminated string.
pub(super) fn nesting_depth(text: &str) -> usize {
    let (mut open, mut dots, mut deepest) = (0_usize, 0, 0);
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'"' | b'\'' => rest = skip_string(*first, tail),
            b'#' => rest = skip_line(tail),
            b'[' | b'{' => (open, dots) = (open + 1, 0),
            b']' | b'}' => (open, dots) = (open.saturating_sub(1), 0),
            b'.' => dots += 1,
            b'=' | b',' | b'\n' => dots = 0,
            _ => {}
        }
        deepest = deepest.max(open).max(dots);
    }
    deepest
}

fn skip_string(quote: u8, text: &[u8]) -> &[u8] {
    let quotes = [quote; 3];
    let (mut rest, end) = match text.strip_prefix(&quotes[..2]) {
        Some(rest) => (rest, &quotes[..]),
        None => (text, &quotes[..1]),
    };
    while !rest.is_empty() && !rest.starts_with(end) {
        let escaped = quote == b'"' && rest[0] == b'\\';
        rest = rest.get(1 + usize::from(escaped)..).unwrap_or_default();
    }
    rest.get(end.len()..).unwrap_or_default()
}

fn skip_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.map_or(&[], |end| &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_depth_counts_brackets_and_dots_outside_strings() {
        for (text, expected) in [
            ("a = 1\nb = 2.5\n[c]\nd = [0.1, 0.2, 0.3]", 1),
            ("[a.b.c]\nd.e.f.g = 1", 3),
            ("a = [[1], [2, [3]]]", 3),
            ("a = { b = [{ c = 1 }] }", 3),
            ("a = \"[[[\\\"[\" # [[[\nb = '[[\\'", 0),
            ("a = \"\"\"[\"\"[\n[\\\"\"\"\"\nb = '''[[\n''[''' ", 0),
            // A bracket in a string closes nothing.
            ("a = [\"]\", [\"]\", ['''\n]''', [", 4),
            ("a = \"", 0),
            ("a = \"\\", 0),
        ] {
            assert_eq!(nesting_depth(text), expected, "{text}");
        }
    }
}
