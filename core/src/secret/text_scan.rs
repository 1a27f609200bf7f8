//! Detection of secrets in texts: URLs with passwords, arguments, headers, and keys with a known
//! prefix.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use super::HIDDEN;
use super::names::{is_certain_secret_name, is_secret_name, is_signature};
use crate::Redaction;

/// Returns `text` with `***` in place of secrets:
///
/// - the password in a URL (`postgres://user:***@host/db`), and URL parameters that are secrets or
///   signatures;
/// - the value after a secret name and `=` or `:`, or after an option (`--api-key=***`,
///   `--password ***`);
/// - the word after `Bearer` and `Basic`;
/// - keys with a known prefix, see [`Redaction`].
pub(crate) fn hide_in_text(text: &str) -> Cow<'_, str> {
    static KEYS: LazyLock<Option<Redaction>> = LazyLock::new(|| Redaction::new(&["api_keys"]).ok());
    let mut hidden: Vec<Range<usize>> = Vec::new();
    if text.contains('@') {
        find_passwords(text, &mut hidden);
    }
    if text.contains(['=', ':']) {
        find_assigned_values(text, &mut hidden);
    }
    if text.contains(' ') {
        find_values_after_words(text, &mut hidden);
    }
    let shown = replace_ranges(text, hidden);
    match (&*KEYS, shown) {
        (Some(keys), Cow::Borrowed(text)) => keys.hide(text),
        (Some(keys), Cow::Owned(text)) => Cow::Owned(keys.hide(&text).into_owned()),
        (None, shown) => shown,
    }
}

/// Returns `true` if the argument is an option whose value, the next argument, is a secret.
pub(super) fn is_secret_option(argument: &str) -> bool {
    argument.starts_with('-') && !argument.contains(['=', ' ']) && is_secret_name(argument)
}

/// Returns `true` for a special token of a tokenizer, such as `<pad>`, which is never a secret.
pub(super) fn is_special_token(value: &str) -> bool {
    [('<', '>'), ('[', ']')]
        .iter()
        .any(|(open, close)| value.len() < 40 && value.starts_with(*open) && value.ends_with(*close))
}

/// Finds the passwords in URLs: `scheme://user:password@host`, with or without a scheme.
fn find_passwords(text: &str, hidden: &mut Vec<Range<usize>>) {
    for (start, word) in words(text) {
        let word_start = start;
        let (scheme, address) = match word.find("://") {
            Some(at) => (&word[..at], &word[at + 3..]),
            None => ("", word),
        };
        let start = start + word.len() - address.len();
        let authority = &address[..address.find(['/', '?', '#']).unwrap_or(address.len())];
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let at = match authority.rfind('@') {
            Some(at) => at,
            // A password may contain a slash: the text after the colon is not a port.
            None if port.is_some_and(|port| !port.is_empty() && !port.bytes().all(|byte| byte.is_ascii_digit())) => {
                match address.rfind('@') {
                    Some(at) => at,
                    None => continue,
                }
            }
            None => continue,
        };
        let is_digest = address[at..].starts_with("@sha256:") || address[at..].starts_with("@sha512:");
        match address[..at].find(':') {
            Some(colon) if colon + 1 < at && !is_digest && &address[..colon] != "mailto" => {
                hidden.push(start + colon + 1..start + at);
            }
            // A user name without a password is a token in http URLs.
            None if at > 0 && scheme.trim_start_matches("git+").starts_with("http") => hidden.push(start..start + at),
            _ => debug_assert!(word_start <= start),
        }
    }
}

/// Finds the values after a secret name and `=` or `:`.
fn find_assigned_values(text: &str, hidden: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices(['=', ':']) {
        let sign = text.as_bytes()[at];
        let doubled = |byte: Option<&u8>| matches!(byte, Some(b'=' | b':' | b'!' | b'<' | b'>'));
        if doubled(text.as_bytes().get(at + 1)) || (at > 0 && doubled(text.as_bytes().get(at - 1))) {
            continue;
        }
        let (before, name) = name_before(&text[..at]);
        let in_query = before.ends_with(['?', '&']);
        let is_option = name.starts_with('-') || before.ends_with('-');
        if name.is_empty() || !(is_secret_name(name) || (in_query && is_signature(name))) {
            continue;
        }
        let value = value_range(text, at + 1, in_query);
        let shown = &text[value.clone()];
        let is_number = shown.parse::<f64>().is_ok() && super::names::is_plural(name);
        let is_sure = is_option || sign == b'=' || is_certain_secret_name(name) || looks_random(shown);
        if is_sure
            && !is_number
            && !is_special_token(shown)
            && !matches!(shown, "" | "true" | "false" | "null" | "None")
        {
            hidden.push(value);
        }
    }
}

/// Finds the words after `Bearer`, and after an option with a secret name.
fn find_values_after_words(text: &str, hidden: &mut Vec<Range<usize>>) {
    let mut words = words(text).peekable();
    while let Some((_, word)) = words.next() {
        let Some((start, next)) = words.peek() else { return };
        let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        let is_secret = match is_secret_option(word) {
            true => !next.starts_with('-'),
            false => is_scheme && (looks_random(next) || next.len() >= 20),
        };
        if is_secret {
            hidden.push(*start..start + next.len());
        }
    }
}

/// Splits the name at the end of `text`, without quotes, from the text before.
fn name_before(text: &str) -> (&str, &str) {
    let named = text.trim_end_matches([' ', '\t']);
    let named = named
        .strip_suffix(['"', '\''])
        .map_or(named, |inner| inner.trim_end_matches('\\'));
    // Names have at most 80 characters.
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let start = named
        .char_indices()
        .rev()
        .take(80)
        .take_while(|(_, c)| is_part(*c))
        .last();
    let start = start.map_or(named.len(), |(start, _)| start);
    (&named[..start], &named[start..])
}

/// Returns the range of the value that begins at `from`, after blanks and a quote.
fn value_range(text: &str, from: usize, in_query: bool) -> Range<usize> {
    let rest = &text[from..];
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let quoted = rest[blanks..].trim_start_matches('\\');
    let start = from + rest.len() - quoted.len();
    if let Some(quote) = quoted.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = &quoted[1..];
        let end = inner.find(quote).unwrap_or(inner.len());
        return start + 1..start + 1 + end;
    }
    let value = &text[start..];
    let line = &value[..value.find(['\n', '\r', '"', '\'']).unwrap_or(value.len())];
    let word = |line: &str| line.find(char::is_whitespace).unwrap_or(line.len());
    let first = &line[..word(line)];
    let end = match first {
        _ if in_query => line
            .find(|c: char| matches!(c, '&' | '#') || c.is_whitespace())
            .unwrap_or(line.len()),
        // The value of a header may begin with a scheme, or have several parts.
        _ if is_scheme(first) => {
            let behind = line[first.len()..].trim_start();
            line.len() - behind.len() + word(behind)
        }
        first if first.ends_with(';') => line.len(),
        first => first.len(),
    };
    start..start + end
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "digest", "negotiate", "token", "apikey"]
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Returns `true` if a word is unlikely to be a word of a language.
fn looks_random(word: &str) -> bool {
    word.len() >= 8 && word.contains(|c: char| c.is_ascii_digit()) && word.contains(char::is_alphabetic)
}

/// Splits a text into words and their positions, without quotes and brackets.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '(' | ')'))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn replace_ranges(text: &str, mut hidden: Vec<Range<usize>>) -> Cow<'_, str> {
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    hidden.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for range in hidden {
        // A range that overlaps the previous range is hidden already.
        if range.start >= from {
            shown.push_str(&text[from..range.start]);
            shown.push_str(HIDDEN);
        }
        from = from.max(range.end);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hide_in_text_hides_secrets() {
        for (text, shown) in [
            ("postgres://user:S3CR3T@host/db", "postgres://user:***@host/db"),
            (
                "postgres://user:S3/CR@3T@host:5432/db",
                "postgres://user:***@host:5432/db",
            ),
            (
                "see https://S3CR3T@github.com/a.git now",
                "see https://***@github.com/a.git now",
            ),
            ("redis://:S3CR3T@host:6379", "redis://:***@host:6379"),
            ("proxy=user:S3CR3T@proxy:3128", "proxy=user:***@proxy:3128"),
            ("https://h/p?sv=1&sig=S3CR3T&se=2", "https://h/p?sv=1&sig=***&se=2"),
            ("https://h/p?token=S3CR3T#top", "https://h/p?token=***#top"),
            ("https://h/?X-Amz-Signature=S3CR3T", "https://h/?X-Amz-Signature=***"),
            ("--api-key=S3CR3T", "--api-key=***"),
            (
                "train --lr 0.1 --api-key S3CR3T --epochs 3",
                "train --lr 0.1 --api-key *** --epochs 3",
            ),
            (
                "docker run -e HF_TOKEN=S3CR3T image",
                "docker run -e HF_TOKEN=*** image",
            ),
            ("Authorization: Bearer S3CR3T", "Authorization: ***"),
            (
                "curl -H 'Authorization: Bearer S3CR3T' https://h",
                "curl -H 'Authorization: ***' https://h",
            ),
            ("X-Api-Key: S3CR3T", "X-Api-Key: ***"),
            ("Cookie: a=S3CR3T; b=S3CR3T", "Cookie: ***"),
            ("sent Bearer S3CR3T-0123", "sent Bearer ***"),
            (r#"{"api_key":"S3CR3T","lr":0.1}"#, r#"{"api_key":"***","lr":0.1}"#),
            (r#"{\"api_key\": \"S3CR3T\"}"#, r#"{\"api_key\": \"***"}"#),
            ("api_key = \"S3CR3T word\"\nlr = 1", "api_key = \"***\"\nlr = 1"),
            ("Server=h;Password=S3CR3T;", "Server=h;Password=***"),
            (
                "AccountName=a;AccountKey=S3CR3T==;EndpointSuffix=b",
                "AccountName=a;AccountKey=***",
            ),
            ("token: S3CR3T012345", "token: ***"),
            ("key hf_0123456789abcdefgh", "key ***"),
        ] {
            assert_eq!(hide_in_text(text), shown, "{text}");
            assert!(!hide_in_text(text).contains("S3CR3T"));
        }
    }

    #[test]
    fn hide_in_text_keeps_other_texts() {
        for text in [
            "https://host:8080/path?step=3&tokens=5",
            "ssh://git@github.com/a.git",
            "git@github.com:a/b.git",
            "mailto:bob@example.org",
            "image:tag@sha256:0123456789abcdef",
            "The answer key: choose the next token: <pad>",
            "num_keys=4 pad_token=<pad> max_tokens=2048",
            "--max-tokens 2048 --pad-token <pad>",
            "--use-auth-token=true",
            "basic block, bearer of news",
            "key == value, a != b, token::Kind",
            "12:30:05 loss=0.5 lr=1e-4",
            "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
            "",
            "@:=",
        ] {
            assert_eq!(hide_in_text(text), text);
        }
    }
}
