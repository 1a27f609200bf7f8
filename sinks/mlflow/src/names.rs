//! Names that MLflow accepts.
//!
//! MLflow refuses a whole batch for one bad name. Its rule is in `mlflow/utils/validation.py`:
//! letters, digits, `_`, `-`, `.`, space, `:` and `/`, as a path in its shortest form, of at most
//! 250 characters.

use sha2::{Digest as _, Sha256};

/// Most characters of a name.
const LONGEST: usize = 250;
/// Characters of the hash that replaces the end of a longer name.
const HASH: usize = 16;

/// Returns the name under which MLflow has a metric, a param or a tag. Equal results have equal
/// names, but for a hash of 64 bits at the end of long ones.
///
/// A character that MLflow refuses becomes `_x<hexadecimal code>_`. So does the underscore of a
/// name that has such a text already.
pub(crate) fn clean_name(name: &str) -> String {
    clean(name, char::is_alphanumeric)
}

/// As [`clean_name`], for a server that has refused the result: only ASCII letters and digits stay.
pub(crate) fn to_ascii_name(name: &str) -> String {
    clean(name, |character| character.is_ascii_alphanumeric())
}

fn clean(name: &str, is_letter: impl Fn(char) -> bool) -> String {
    let mut clean = String::with_capacity(name.len());
    for (number, segment) in name.split('/').enumerate() {
        // The slash before an empty segment, at the beginning or the end is no separator for
        // MLflow.
        if number > 0 {
            clean.push('/');
        }
        match segment {
            "" => clean.push_str(EMPTY),
            "." | ".." => segment.chars().for_each(|dot| push_code(dot, &mut clean)),
            EMPTY => {
                push_code('_', &mut clean);
                clean.push_str(&EMPTY[1..]);
            }
            segment => push_segment(segment, &is_letter, &mut clean),
        }
    }
    shorten(clean, name)
}

/// Stands for a segment without characters.
const EMPTY: &str = "_x_";

fn push_segment(segment: &str, is_letter: &impl Fn(char) -> bool, clean: &mut String) {
    for (at, character) in segment.char_indices() {
        let is_plain = match character {
            '_' => !begins_code(&segment[at..]),
            '-' | '.' | ' ' | ':' => true,
            other => is_letter(other),
        };
        match is_plain {
            true => clean.push(character),
            false => push_code(character, clean),
        }
    }
}

/// Returns `true` if a text begins as the code of a character does.
fn begins_code(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("_x") else {
        return false;
    };
    let after = rest.trim_start_matches(|digit: char| matches!(digit, '0'..='9' | 'a'..='f'));
    after.len() < rest.len() && after.starts_with('_')
}

fn push_code(character: char, clean: &mut String) {
    use std::fmt::Write as _;
    let _ = write!(clean, "_x{:x}_", u32::from(character));
}

fn shorten(clean: String, name: &str) -> String {
    if clean.chars().count() <= LONGEST {
        return clean;
    }
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    // No slash stands before the hash, where MLflow would take the rest for another folder.
    let start: String = clean.chars().take(LONGEST - HASH - 1).collect();
    format!("{}_{}", start.trim_end_matches('/'), &hash[..HASH])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// The rule of MLflow, for names of ASCII.
    fn is_accepted(name: &str) -> bool {
        let has_form = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-. :/".contains(c));
        let is_short = !name.is_empty() && name.chars().count() <= 250;
        has_form && is_short && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
    }

    #[test]
    fn a_good_name_stays() {
        for name in [
            "metrics/loss",
            "a b:c",
            "learning-rate.0",
            "my_x",
            "größe/_x_y",
            ".a/..b",
        ] {
            assert_eq!(clean_name(name), name);
        }
    }

    #[test]
    fn bad_characters_and_paths_are_encoded() {
        for (name, clean) in [
            ("top@1", "top_x40_1"),
            ("/a//b/", "_x_/a/_x_/b/_x_"),
            ("../a/.", "_x2e__x2e_/a/_x2e_"),
            ("", "_x_"),
            ("_x40_", "_x5f_x40_"),
            ("_x_", "_x5f_x_"),
            ("100%", "100_x25_"),
        ] {
            assert_eq!(clean_name(name), clean, "{name}");
        }
    }

    proptest! {
        /// MLflow accepts all names, and no two names become one.
        #[test]
        fn names_are_accepted_and_stay_different(names in prop::collection::vec("[a@_x4/.é\\PC]{0,9}|_x[0-9a-f]{0,3}_?", 1..40)) {
            let mut seen = HashMap::new();
            for name in names {
                let clean = to_ascii_name(&name);
                prop_assert!(is_accepted(&clean), "{name:?}: {clean:?}");
                let earlier = seen.entry(clean.clone()).or_insert_with(|| name.clone());
                prop_assert_eq!(&*earlier, &name, "both are {}", clean);
            }
        }

        #[test]
        fn long_names_are_accepted_and_stay_different(name in "[a/@]{200,400}", end in "[a-z]{1,3}") {
            let (one, other) = (to_ascii_name(&name), to_ascii_name(&format!("{name}{end}")));
            prop_assert!(is_accepted(&one) && is_accepted(&other));
            prop_assert_ne!(one, other);
        }
    }
}
