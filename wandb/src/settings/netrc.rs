//! Passwords by machine, in the form that `ftp` brought up.

/// The password of `machine`, or that of the `default` entry.
pub(crate) fn password(text: &str, machine: &str) -> Option<String> {
    let mut tokens = tokens(text).into_iter();
    let mut here = None;
    let mut fallback = None;
    // Whose entry the tokens are of.
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
    here.or(fallback)
}

/// Words, with comments and macros left out and quotes taken off.
fn tokens(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut in_macro = false;
    for line in text.lines() {
        if in_macro {
            // A macro ends with an empty line.
            in_macro = !line.trim().is_empty();
            continue;
        }
        for word in line.split_whitespace() {
            if word.starts_with('#') && all.last().is_none_or(|last| last != "password") {
                break;
            }
            if word == "macdef" {
                in_macro = true;
                break;
            }
            let word = word
                .strip_prefix('"')
                .and_then(|word| word.strip_suffix('"'))
                .unwrap_or(word);
            all.push(word.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_found_by_machine() {
        let text = "# mine\nmachine a.org\n  login user\n  password one\nmachine b.org:8080 login x password two\n\
                    macdef init\nmachine c.org password no\n\nmachine c.org password \"three\"\n";
        assert_eq!(password(text, "a.org").as_deref(), Some("one"));
        assert_eq!(password(text, "b.org:8080").as_deref(), Some("two"));
        assert_eq!(password(text, "c.org").as_deref(), Some("three"));
        assert_eq!(password(text, "b.org"), None);
        assert_eq!(password("default login u password d", "any").as_deref(), Some("d"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(machine|default|login|password|macdef|#|\"|a| |\n){0,20}") {
            let _ = password(&text, "a");
        }
    }
}
