//! Text of others, made harmless: what a terminal obeys, what changes the order of what is read, and what nobody sees becomes
//! visible.
//!
//! | characters | in text files | on terminals |
//! |---|---|---|
//! | control characters (C0, DEL, C1) and the line separators U+2028 and U+2029 | escaped | escaped |
//! | bidirectional marks, overrides and isolates | escaped | escaped |
//! | whatever else Unicode leaves out of sight: zero-width characters, soft hyphens, fillers, tags, variation selectors | kept | escaped |
//!
//! Joiners and variation selectors stay where they make an emoji of characters that are emoji themselves: 👩‍🚀, ❤️, 1️⃣. The flags
//! that are made of tags (England, Scotland, Wales) are shown as the flag they begin with and the codes of their tags, because
//! tags can spell any hidden text.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Where a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// In a file: what is merely invisible stays as it is.
    File,
    /// On a terminal.
    Terminal,
}

/// `text` as one line for a terminal.
///
/// ```
/// use logcore::escape::to_one_line;
///
/// assert_eq!(to_one_line("acc\u{1b}]52;c;ZQ==\u{7}\n"), r"acc\x1b]52;c;ZQ==\x07\n");
/// assert_eq!(to_one_line("user\u{202e}txt.exe \u{200b}"), r"user\u{202e}txt.exe \u{200b}");
/// assert_eq!(to_one_line("Größe → 模型 👩‍🚀 ❤️"), "Größe → 模型 👩‍🚀 ❤️");
/// ```
pub fn to_one_line(text: &str) -> Cow<'_, str> {
    rewritten(text, |out| escape(text, Medium::Terminal, out, push_line_end))
}

/// The same, of no more than `most` characters: what is too long ends in `…`.
///
/// ```
/// use logcore::escape::to_short_line;
///
/// assert_eq!(to_short_line("a\nb", 10), r"a\nb");
/// assert_eq!(to_short_line("abcdef", 4), "abc…");
/// ```
pub fn to_short_line(text: &str, most: usize) -> Cow<'_, str> {
    // No character becomes shorter by being escaped.
    let needed = text.char_indices().nth(most + 1).map_or(text, |(end, _)| &text[..end]);
    let line = to_one_line(needed);
    match line.char_indices().nth(most) {
        None => line,
        Some(_) => Cow::Owned(line.chars().take(most.saturating_sub(1)).chain(['…']).collect()),
    }
}

/// Hands on what is written to it as one harmless line: `Display` of an error writes through it.
///
/// ```
/// use std::fmt::{self, Display, Write as _};
///
/// struct Missing(String);
///
/// impl Display for Missing {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         write!(logcore::escape::EscapingFormatter(f), "{} is not there", self.0)
///     }
/// }
///
/// assert_eq!(Missing("\u{1b}[2J".to_owned()).to_string(), r"\x1b[2J is not there");
/// ```
pub struct EscapingFormatter<'a, 'f>(pub &'a mut fmt::Formatter<'f>);

impl fmt::Write for EscapingFormatter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&to_one_line(text))
    }
}

/// Appends `text` without its harmful characters; `line_end` writes what stands for a line feed.
pub fn escape(text: &str, medium: Medium, out: &mut String, mut line_end: impl FnMut(&mut String)) {
    escape_but(text, medium, out, |rest, out| match rest.starts_with('\n') {
        true => {
            line_end(out);
            1
        }
        false => 0,
    });
}

/// `text`, in which line feeds and codes of color and weight (`ESC [ … m`) are ours; every other code and all that is harmful is
/// made visible. The last look at what goes to a terminal, whoever has written it.
///
/// ```
/// use logcore::escape::escape_except_styles;
///
/// assert_eq!(escape_except_styles("\u{1b}[1;32mok\u{1b}[0m\n"), "\u{1b}[1;32mok\u{1b}[0m\n");
/// assert_eq!(escape_except_styles("\u{1b}[2J\u{1b}]0;title\u{7}"), r"\x1b[2J\x1b]0;title\x07");
/// ```
pub fn escape_except_styles(text: &str) -> Cow<'_, str> {
    rewritten(text, |out| {
        escape_but(text, Medium::Terminal, out, |rest, out| {
            let kept = if rest.starts_with('\n') { 1 } else { style_length(rest) };
            out.push_str(&rest[..kept]);
            kept
        });
    })
}

/// A JSON text in which what is harmful is written as `\\u202e`, so that every reader of JSON gives it back as it was.
///
/// ```
/// use logcore::escape::escape_json;
///
/// assert_eq!(escape_json("{\"a\":\"\u{202e}\u{e0041}\"}"), r#"{"a":"\u202e\udb40\udc41"}"#);
/// ```
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // White space between the parts of a document is no part of a text.
    let is_text = |c: char| needs_escape(c) && c != '\n';
    if !json.bytes().fold(false, |found, byte| found | (byte >= 0x7f)) || !json.contains(is_text) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match is_text(c) {
            true => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal obeys `c`, or a reader does not see it, or sees what stands beside it in another order.
pub fn needs_escape(c: char) -> bool {
    may_mislead(c) || is_invisible(c)
}

/// The text that `write` appends; `text` itself where that is the same.
fn rewritten(text: &str, write: impl FnOnce(&mut String)) -> Cow<'_, str> {
    if Medium::Terminal.is_clean(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    write(&mut out);
    Cow::Owned(out)
}

fn push_line_end(out: &mut String) {
    out.push_str("\\n");
}

/// Escapes what is harmful, but leaves to `special` what it takes: it is given the text from a harmful character on, and
/// says how many bytes it has written something for.
fn escape_but(text: &str, medium: Medium, out: &mut String, mut special: impl FnMut(&str, &mut String) -> usize) {
    if medium.is_clean(text) {
        out.push_str(text);
        return;
    }
    let mut clean_from = 0;
    let mut before = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map(|(_, c)| *c);
        // The characters that `special` has taken are behind us.
        if at < clean_from || !medium.needs_escape(before.replace(c), c, after) {
            continue;
        }
        out.push_str(&text[clean_from..at]);
        let taken = special(&text[at..], out);
        if taken == 0 {
            push_code(c, out);
        }
        clean_from = at + taken.max(c.len_utf8());
    }
    out.push_str(&text[clean_from..]);
}

fn push_code(c: char, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match c {
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        '\r' => out.write_str("\\r"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// How many bytes of a code of color or weight `text` begins with.
fn style_length(text: &str) -> usize {
    let Some(code) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let end = code.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'));
    match end {
        Some(end) if code.as_bytes()[end] == b'm' => 2 + end + 1,
        _ => 0,
    }
}

impl Medium {
    /// Whether nothing in `text` can matter. Looks only at the bytes that can begin such a character: C1 and the soft hyphen
    /// are C2, U+061C is D8 9C, U+200E to U+2069 are E2.
    fn is_clean(self, text: &str) -> bool {
        // Without a way out of the loop the compiler looks at many bytes at once, and nearly every text has none of these.
        let found = match self {
            Self::File => |found, byte: u8| found | (byte < 0x20) | matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2),
            Self::Terminal => |found, byte: u8| found | !matches!(byte, 0x20..0x7f),
        };
        !text.bytes().fold(false, found)
    }

    fn needs_escape(self, before: Option<char>, c: char, after: Option<char>) -> bool {
        match self {
            Self::File => may_mislead(c),
            Self::Terminal => needs_escape(c) && !joins_emoji(before, c, after),
        }
    }
}

/// Control characters, line separators, and what changes the direction of the text.
fn may_mislead(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Unicode's Default_Ignorable_Code_Point, and the marks of annotations.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether `c` makes one emoji of its neighbours.
fn joins_emoji(before: Option<char>, c: char, after: Option<char>) -> bool {
    let is_emoji = |c: Option<char>| c.is_some_and(is_emoji);
    match c {
        '\u{200d}' => (is_emoji(before) || before == Some('\u{fe0f}')) && is_emoji(after),
        '\u{fe0e}' | '\u{fe0f}' => {
            let is_key = matches!(before, Some('0'..='9' | '#' | '*')) && after == Some('\u{20e3}');
            is_emoji(before) || is_key
        }
        _ => false,
    }
}

/// The blocks that emoji come from.
fn is_emoji(c: char) -> bool {
    matches!(
        c,
        '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' | '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | 'Ⓜ'
            | '\u{25a0}'..='\u{27bf}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '〰' | '〽' | '㊗' | '㊙'
            | '\u{1f000}'..='\u{1faff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn emoji_stay_and_what_hides_among_them_does_not() {
        for kept in [
            "👩‍🚀",
            "👨‍👩‍👧‍👦",
            "❤️",
            "🏳️‍🌈",
            "1️⃣",
            "👁️‍🗨️",
            "👍🏽",
            "☎︎",
            "🇩🇪",
            "ä ß — … ✓ ▁▂ 日本語",
        ] {
            assert_eq!(to_one_line(kept), kept);
        }
        for (text, shown) in [
            ("a\u{200d}b", r"a\u{200d}b"),
            ("❤\u{fe0f}\u{fe0f}", "❤\u{fe0f}\\u{fe0f}"),
            ("a\u{fe0f}", r"a\u{fe0f}"),
            ("1\u{fe0f}2", r"1\u{fe0f}2"),
            ("🏴\u{e0067}\u{e007f}", r"🏴\u{e0067}\u{e007f}"),
            (
                "\u{ad}\u{feff}\u{2060}\u{61c}\u{9b}2J",
                r"\u{ad}\u{feff}\u{2060}\u{61c}\u{9b}2J",
            ),
        ] {
            assert_eq!(to_one_line(text), shown);
        }
    }

    #[test]
    fn a_file_keeps_what_is_merely_invisible() {
        let mut out = String::new();
        escape(
            "a\u{200b}\u{ad}b\u{202e}\u{2069}\u{85}\n",
            Medium::File,
            &mut out,
            |out| out.push('|'),
        );
        assert_eq!(out, "a\u{200b}\u{ad}b\\u{202e}\\u{2069}\\u{85}|");
    }

    #[test]
    fn only_whole_styles_pass() {
        for kept in ["\u{1b}[m", "\u{1b}[0m", "\u{1b}[38;5;1m", "\u{1b}[4:3mx"] {
            assert_eq!(escape_except_styles(kept), kept);
        }
        for text in [
            "\u{1b}",
            "\u{1b}[",
            "\u{1b}[1",
            "\u{1b}[1;",
            "\u{1b}[?25l",
            "\u{1b}[1K",
            "\u{1b}[1\u{1b}[m2",
        ] {
            assert!(escape_except_styles(text).starts_with("\\x1b"), "{text:?}");
        }
    }

    /// Texts in which every second character is one of those that matter.
    fn hostile() -> impl Strategy<Value = String> {
        let special: Vec<char> = (0..=0x0e_0fff)
            .filter_map(char::from_u32)
            .filter(|c| needs_escape(*c))
            .collect();
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            prop::sample::select(special).prop_map(String::from),
            prop::sample::select(vec![
                "\u{1b}[31m",
                "\u{1b}[",
                "\u{1b}]0;",
                "👩\u{200d}🚀",
                "❤\u{fe0f}",
                "1\u{fe0f}\u{20e3}",
                "m"
            ])
            .prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    /// Whether a terminal sees nothing but characters: emoji are made of visible ones.
    fn is_harmless(text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        (0..chars.len()).all(|i| {
            let at = |i: usize| chars.get(i).copied();
            let joined = joins_emoji(i.checked_sub(1).and_then(at), chars[i], at(i + 1));
            !needs_escape(chars[i]) || joined
        })
    }

    proptest! {
        #[test]
        fn one_line_is_one_harmless_line(text in hostile()) {
            let line = to_one_line(&text);
            prop_assert!(is_harmless(&line), "{line:?}");
            prop_assert_eq!(&to_one_line(&line), &line);
            prop_assert!(line.chars().count() >= text.chars().count());
        }

        #[test]
        fn a_short_line_is_harmless_and_short(text in hostile(), most in 1..20_usize) {
            let line = to_short_line(&text, most);
            prop_assert!(line.chars().count() <= most);
            prop_assert!(!line.chars().any(char::is_control));
        }

        #[test]
        fn nothing_but_styles_and_line_ends_passes(text in hostile()) {
            let shown = escape_except_styles(&text);
            let mut rest = &*shown;
            let mut plain = String::new();
            while let Some((before, code)) = rest.split_once('\u{1b}') {
                plain.push_str(before);
                let code = code.strip_prefix('[').unwrap();
                let (digits, behind) = code.split_once('m').unwrap();
                prop_assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')));
                rest = behind;
                plain.push('m');
            }
            plain.push_str(rest);
            prop_assert!(plain.split('\n').all(|line| line.chars().all(|c| !c.is_control())));
            prop_assert_eq!(&escape_except_styles(&shown), &shown);
        }

        #[test]
        fn json_stays_what_it_was(text in hostile()) {
            let json = serde_json::to_string(&text).unwrap();
            let shown = escape_json(&json);
            prop_assert!(!shown.chars().any(needs_escape));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }

        #[test]
        fn a_file_has_no_codes_and_no_overrides(text in hostile()) {
            let mut out = String::new();
            escape(&text, Medium::File, &mut out, push_line_end);
            prop_assert!(!out.chars().any(may_mislead));
        }
    }
}
