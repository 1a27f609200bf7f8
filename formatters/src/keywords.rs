//! Highlighted keywords: words about the state of a run.

use std::sync::LazyLock;

use colored::Color;

/// Keywords by color. They match whole words, with a small or a capital first letter.
const KEYWORDS: [(Color, &[&str]); 4] = [
    (
        Color::Green,
        &[
            "complete",
            "completed",
            "done",
            "finished",
            "saved",
            "succeeded",
            "success",
            "successful",
            "successfully",
        ],
    ),
    (
        Color::Cyan,
        &[
            "downloading",
            "evaluating",
            "initializing",
            "loading",
            "processing",
            "resuming",
            "saving",
            "started",
            "starting",
            "training",
            "validating",
        ],
    ),
    (
        Color::Red,
        &[
            "aborted",
            "crashed",
            "error",
            "exception",
            "failed",
            "failure",
            "invalid",
            "nan",
        ],
    ),
    (
        Color::Yellow,
        &[
            "deprecated",
            "interrupted",
            "missing",
            "retrying",
            "skipped",
            "skipping",
            "warning",
        ],
    ),
];

/// Appends `line`. Calls `paint` with color code and text for each keyword.
pub(crate) fn highlight(line: &str, out: &mut String, mut paint: impl FnMut(&str, &str, &mut String)) {
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(
            from.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(from.len()),
        );
        out.push_str(before);
        match color_code(word) {
            Some(code) => paint(code, word, out),
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
}

/// Returns the color code of a keyword, or `None` for any other word.
fn color_code(word: &str) -> Option<&'static str> {
    static WORDS: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
        let mut words: Vec<_> = KEYWORDS
            .iter()
            .flat_map(|(color, words)| words.iter().map(|word| (*word, format!("1;{}", color.to_fg_str()))))
            .collect();
        words.sort_unstable();
        words
    });
    // The longest keyword has 12 letters.
    if word.len() > 12 || !word.is_char_boundary(1) {
        return None;
    }
    let (first, rest) = word.split_at(1);
    let at = WORDS
        .binary_search_by(|(keyword, _)| {
            keyword[..1]
                .cmp(&first.to_ascii_lowercase())
                .then_with(|| keyword[1..].cmp(rest))
        })
        .ok()?;
    Some(&WORDS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highlight_matches_whole_words_with_a_small_or_capital_first_letter() {
        let mut out = String::new();
        highlight(
            "Starting: failed_once, done (restarting, Färben) nan! FAILED",
            &mut out,
            |_, word, out| {
                out.push('<');
                out.push_str(word);
                out.push('>');
            },
        );
        assert_eq!(
            out,
            "<Starting>: failed_once, <done> (restarting, Färben) <nan>! FAILED"
        );
    }

    #[test]
    fn color_code_finds_every_keyword() {
        for (color, words) in KEYWORDS {
            for word in words {
                assert!(color_code(word).unwrap().ends_with(&*color.to_fg_str()), "{word}");
            }
        }
    }
}
