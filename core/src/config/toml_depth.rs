//! How deep a TOML text is nested. Its parser calls itself for each level, and a stack has an end.

/// Deeper is no config.
pub(super) const DEEPEST: usize = 64;

/// How many brackets are open at once, or how many dots a key has. Where the text is no TOML, up to there.
pub(super) fn depth(text: &str) -> usize {
    let (mut open, mut dots, mut deepest) = (0_usize, 0, 0);
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match first {
            b'"' | b'\'' => rest = behind_string(*first, behind),
            b'#' => rest = behind_line(behind),
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

fn behind_string(quote: u8, text: &[u8]) -> &[u8] {
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

fn behind_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.map_or(&[], |end| &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_dots_count_where_they_are_no_text() {
        for (text, expected) in [
            ("a = 1\nb = 2.5\n[c]\nd = [0.1, 0.2, 0.3]", 1),
            ("[a.b.c]\nd.e.f.g = 1", 3),
            ("a = [[1], [2, [3]]]", 3),
            ("a = { b = [{ c = 1 }] }", 3),
            ("a = \"[[[\\\"[\" # [[[\nb = '[[\\'", 0),
            ("a = \"\"\"[\"\"[\n[\\\"\"\"\"\nb = '''[[\n''[''' ", 0),
            // What closes in a text closes nothing.
            ("a = [\"]\", [\"]\", ['''\n]''', [", 4),
            ("a = \"", 0),
            ("a = \"\\", 0),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }
}
