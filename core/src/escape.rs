//! Escaping of untrusted text for terminals, text files and JSON.
//!
//! A message may contain anything: codes that a terminal obeys, characters that reorder the text
//! around them, characters that nobody sees. The functions of this module make such characters
//! visible, as `\x1b` or `\u{202e}`.
//!
//! | characters | in text files | on terminals |
//! |---|---|---|
//! | control characters (C0, DEL, C1), line separators U+2028 and U+2029 | escaped | escaped |
//! | bidirectional marks, overrides and isolates | escaped | escaped |
//! | other invisible characters: zero-width, soft hyphens, fillers, tags, variation selectors | kept | escaped |
//!
//! Joiners and variation selectors stay inside an emoji: 👩‍🚀, ❤️, 1️⃣. Flags that consist of tags
//! (England, Scotland, Wales) become a black flag and escaped tags, because tags can spell any
//! hidden text.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::text::is_printable_ascii;

/// The medium that shows a text; see the [module](self) for the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Medium {
    /// A text file.
    File,
    /// A terminal.
    Terminal,
}

/// Escapes `text` to one line for a terminal.
///
/// ```
/// use logcore::escape::to_one_line;
///
/// assert_eq!(to_one_line("acc\u{1b}]52;c;ZQ==\u{7}\n"), r"acc\x1b]52;c;ZQ==\x07\n");
/// assert_eq!(to_one_line("user\u{202e}txt.exe \u{200b}"), r"user\u{202e}txt.exe \u{200b}");
/// assert_eq!(to_one_line("Größe → 模型 👩‍🚀 ❤️"), "Größe → 模型 👩‍🚀 ❤️");
/// ```
#[must_use]
pub fn to_one_line(text: &str) -> Cow<'_, str> {
    rewrite(text, |out| escape(text, Medium::Terminal, out, push_line_end))
}

/// Escapes `text` to one line of at most `max_chars` characters. A longer line ends in `…`.
///
/// ```
/// use logcore::escape::to_short_line;
///
/// assert_eq!(to_short_line("a\nb", 10), r"a\nb");
/// assert_eq!(to_short_line("abcdef", 4), "abc…");
/// ```
#[must_use]
pub fn to_short_line(text: &str, max_chars: usize) -> Cow<'_, str> {
    // Escaping makes no character shorter.
    let needed = text
        .char_indices()
        .nth(max_chars + 1)
        .map_or(text, |(end, _)| &text[..end]);
    let line = to_one_line(needed);
    match line.char_indices().nth(max_chars) {
        None => line,
        Some(_) => Cow::Owned(line.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect()),
    }
}

/// A writer that escapes to one line, for `Display` implementations of errors.
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

impl fmt::Debug for EscapingFormatter<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EscapingFormatter").finish_non_exhaustive()
    }
}

impl fmt::Write for EscapingFormatter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&to_one_line(text))
    }
}

/// Appends `text` with its harmful characters escaped. `line_end` writes the replacement of a line
/// feed.
///
/// ```
/// use logcore::escape::{Medium, escape};
///
/// let mut out = String::new();
/// escape("one\ntwo\u{1b}", Medium::File, &mut out, |out| out.push_str("\n    "));
/// assert_eq!(out, "one\n    two\\x1b");
/// ```
#[inline]
pub fn escape(text: &str, medium: Medium, out: &mut String, mut line_end: impl FnMut(&mut String)) {
    if medium.is_clean(text) {
        return out.push_str(text);
    }
    escape_unless(text, medium, out, |rest, out| match rest.starts_with('\n') {
        true => {
            line_end(out);
            1
        }
        false => 0,
    });
}

/// Escapes `text` for a terminal, except line feeds and codes for color and weight (`ESC [ … m`).
///
/// The console sink passes everything through this function before it writes to the terminal.
///
/// ```
/// use logcore::escape::escape_except_styles;
///
/// assert_eq!(escape_except_styles("\u{1b}[1;32mok\u{1b}[0m\n"), "\u{1b}[1;32mok\u{1b}[0m\n");
/// assert_eq!(escape_except_styles("\u{1b}[2J\u{1b}]0;title\u{7}"), r"\x1b[2J\x1b]0;title\x07");
/// ```
#[must_use]
pub fn escape_except_styles(text: &str) -> Cow<'_, str> {
    rewrite(text, |out| {
        escape_unless(text, Medium::Terminal, out, |rest, out| {
            let kept = if rest.starts_with('\n') { 1 } else { style_length(rest) };
            out.push_str(&rest[..kept]);
            kept
        });
    })
}

/// Escapes harmful characters of a JSON document as `\\u202e`. Parsing the result returns the
/// original texts.
///
/// ```
/// use logcore::escape::escape_json;
///
/// assert_eq!(escape_json("{\"a\":\"\u{202e}\u{e0041}\"}"), r#"{"a":"\u202e\udb40\udc41"}"#);
/// ```
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // A line feed can only be white space between the parts of a document.
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

/// Returns `true` for characters that a terminal obeys, that reorder the text around them, or that
/// are invisible.
///
/// ```
/// use logcore::escape::needs_escape;
///
/// assert!(needs_escape('\u{202e}') && needs_escape('\u{200b}'));
/// assert!(!needs_escape('ä'));
/// ```
#[must_use]
pub fn needs_escape(c: char) -> bool {
    may_mislead(c) || is_invisible(c)
}

/// Returns the text that `write` appends, or `text` itself if nothing needs escaping.
fn rewrite(text: &str, write: impl FnOnce(&mut String)) -> Cow<'_, str> {
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

/// Escapes harmful characters, except those that `replace` handles.
///
/// `replace` receives the rest of the text from a harmful character on. It appends a replacement,
/// and returns the number of bytes that it replaced; 0 if none.
#[cold]
fn escape_unless(text: &str, medium: Medium, out: &mut String, mut replace: impl FnMut(&str, &mut String) -> usize) {
    let mut clean_from = 0;
    let mut before = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map(|(_, c)| *c);
        // Skips the characters that `replace` replaced.
        if at < clean_from || !medium.needs_escape(before.replace(c), c, after) {
            continue;
        }
        out.push_str(&text[clean_from..at]);
        let replaced = replace(&text[at..], out);
        if replaced == 0 {
            push_code(c, out);
        }
        clean_from = at + replaced.max(c.len_utf8());
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

/// Returns the length of the code for color or weight at the start of `text`; 0 if there is none.
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
    /// Returns `true` if no character of `text` can need escaping.
    #[inline]
    fn is_clean(self, text: &str) -> bool {
        is_printable_ascii(text.as_bytes()) || self == Self::File && !has_harmful_byte(text)
    }

    fn needs_escape(self, before: Option<char>, c: char, after: Option<char>) -> bool {
        match self {
            Self::File => may_mislead(c),
            Self::Terminal => needs_escape(c) && !joins_emoji(before, c, after),
        }
    }
}

/// Returns `true` if a file may need a character of `text` escaped.
///
/// Looks only at the first bytes of such characters: C2 for C1 and the soft hyphen, D8 for U+061C,
/// E2 for U+200E to U+2069.
fn has_harmful_byte(text: &str) -> bool {
    // A loop without an exit is vectorized, and nearly every text is clean.
    let is_harmful = |byte| byte < 0x20 || matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2);
    text.bytes().fold(false, |found, byte| found | is_harmful(byte))
}

/// Returns `true` for control characters, line separators, and characters that change the direction
/// of text.
fn may_mislead(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Returns `true` for Unicode's Default_Ignorable_Code_Point, and for annotation marks.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns `true` if `c` joins its neighbors to one emoji.
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

/// Returns `true` for characters of the Unicode blocks with emoji.
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
    fn to_one_line_keeps_emoji_and_escapes_hidden_characters() {
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
    fn escape_for_a_file_keeps_invisible_characters() {
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
    fn escape_except_styles_keeps_only_complete_styles() {
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

    /// Texts in which every second character needs escaping.
    fn hostile_text() -> impl Strategy<Value = String> {
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

    /// Returns `true` if no character needs escaping, except inside of emoji.
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
        fn to_one_line_returns_one_harmless_line(text in hostile_text()) {
            let line = to_one_line(&text);
            prop_assert!(is_harmless(&line), "{line:?}");
            prop_assert_eq!(&to_one_line(&line), &line);
            prop_assert!(line.chars().count() >= text.chars().count());
        }

        #[test]
        fn to_short_line_returns_a_harmless_short_line(text in hostile_text(), max_chars in 1..20_usize) {
            let line = to_short_line(&text, max_chars);
            prop_assert!(line.chars().count() <= max_chars);
            prop_assert!(!line.chars().any(char::is_control));
        }

        #[test]
        fn escape_except_styles_passes_only_styles_and_line_ends(text in hostile_text()) {
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
        fn escape_json_keeps_the_parsed_value(text in hostile_text()) {
            let json = serde_json::to_string(&text).unwrap();
            let shown = escape_json(&json);
            prop_assert!(!shown.chars().any(needs_escape));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }

        #[test]
        fn escape_for_a_file_leaves_no_codes_and_overrides(text in hostile_text()) {
            let mut out = String::new();
            escape(&text, Medium::File, &mut out, push_line_end);
            prop_assert!(!out.chars().any(may_mislead));
        }
    }
}
