//! Names of metrics with `*` for any characters.

/// Returns `true` if the whole name matches the pattern.
pub(super) fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let mut rest = rest;
    // The first place of each part is the best one: it leaves most to the parts behind.
    while let Some((part, behind)) = rest.split_once('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
        rest = behind;
    }
    name.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tries every length for each `*`.
    fn matches_slowly(pattern: &str, name: &str) -> bool {
        match (pattern.chars().next(), name.chars().next()) {
            (None, first) => first.is_none(),
            (Some('*'), first) => {
                matches_slowly(&pattern[1..], name)
                    || first.is_some_and(|first| matches_slowly(pattern, &name[first.len_utf8()..]))
            }
            (Some(wanted), Some(first)) => {
                wanted == first && matches_slowly(&pattern[wanted.len_utf8()..], &name[first.len_utf8()..])
            }
            (Some(_), None) => false,
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("loss", "loss", true),
            ("loss", "loss2", false),
            ("*", "", true),
            ("*/loss", "val/loss", true),
            ("*/loss", "loss", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_if_every_length_were_tried(pattern in "[aä*]{0,6}", name in "[aä]{0,7}") {
            prop_assert_eq!(matches_pattern(&pattern, &name), matches_slowly(&pattern, &name));
        }
    }
}
