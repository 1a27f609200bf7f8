//! Parses netrc files.

/// Returns the password of `machine`, or else of the `default` entry; and `true` if the entry is of
/// `machine`.
pub(crate) fn password(text: &str, machine: &str) -> Option<(String, bool)> {
    let mut tokens = tokens(text).into_iter();
    let mut here = None;
    let mut fallback = None;
    // `Some(Some(true))` in the entry of `machine`, `Some(Some(false))` in the default entry.
    let mut entry = None;
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "machine" => entry = tokens.next().map(|name| (name == machine).then_some(true)),
            "default" => entry = Some(Some(false)),
            "password" => {
                let password = tokens.next();
                match entry {
                    Some(Some(true)) if here.is_none() => here = password,
                    Some(Some(false)) if fallback.is_none() => fallback = password,
                    _ => {}
                }
            }
            "login" | "account" => drop(tokens.next()),
            _ => {}
        }
    }
    here.map(|password| (password, true))
        .or(fallback.map(|password| (password, false)))
}

/// Splits a file into words. Comments and macros are skipped, quotes removed.
fn tokens(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut in_macro = false;
    // `true` if the next word is a value, even if it looks like a keyword or a comment.
    let mut value_next = false;
    for line in text.lines() {
        if in_macro {
            // A macro ends with an empty line.
            in_macro = !line.trim().is_empty();
            continue;
        }
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            if !value_next && rest.starts_with('#') {
                break;
            }
            let (word, after) = word(rest);
            rest = after.trim_start();
            if !value_next && word == "macdef" {
                in_macro = true;
                break;
            }
            value_next = !value_next && matches!(word.as_str(), "machine" | "login" | "account" | "password");
            all.push(word);
        }
    }
    all
}

/// Returns the first word of a line, which may be quoted, and the rest of the line.
fn word(line: &str) -> (String, &str) {
    let Some(quoted) = line.strip_prefix('"') else {
        let end = line.find(char::is_whitespace).unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        return (word.to_owned(), rest);
    };
    let mut word = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => word.extend(letters.next()),
            other => word.push(other),
        }
    }
    (word, letters.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn password(text: &str, machine: &str) -> Option<String> {
        super::password(text, machine).map(|(password, _)| password)
    }

    #[test]
    fn entries_are_found_by_machine() {
        let text = "# mine\nmachine a.org\n  login user\n  password one\nmachine b.org:8080 login x password two\n\
                    macdef init\nmachine c.org password no\n\nmachine c.org password \"three\"\n";
        assert_eq!(password(text, "a.org").as_deref(), Some("one"));
        assert_eq!(password(text, "b.org:8080").as_deref(), Some("two"));
        assert_eq!(password(text, "c.org").as_deref(), Some("three"));
        assert_eq!(password(text, "b.org"), None);
        let with_default = "machine a password own default login u password d";
        let own = super::password(with_default, "a");
        assert_eq!(own, Some(("own".to_owned(), true)));
        assert_eq!(super::password(with_default, "any"), Some(("d".to_owned(), false)));
    }

    #[test]
    fn quotes_hold_spaces_and_values_may_look_like_words_of_the_format() {
        let text =
            r#"machine a login "x y" password "p \"q\" r" machine b login #l password macdef machine c password #p"#;
        assert_eq!(password(text, "a").as_deref(), Some(r#"p "q" r"#));
        assert_eq!(password(text, "b").as_deref(), Some("macdef"));
        assert_eq!(password(text, "c").as_deref(), Some("#p"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(machine|default|login|password|macdef|#|\"|\\\\|a|ü| |\n){0,30}|\\PC*") {
            let _ = super::password(&text, "a");
        }
    }
}
