//! Patterns for names of metrics.

/// A pattern in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePattern {
    parts: Vec<String>,
}

impl NamePattern {
    pub(crate) fn new(pattern: &str) -> Self {
        Self {
            parts: pattern.split('*').map(str::to_owned).collect(),
        }
    }

    /// Returns `true` if the pattern is the whole name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return name == first;
        };
        let Some(mut name) = name.strip_prefix(&**first) else {
            return false;
        };
        for part in middle {
            match name.split_once(&**part) {
                Some((_, after)) => name = after,
                None => return false,
            }
        }
        name.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, matches) in [
            ("memory/*", "memory/gpu0_allocated_gb", true),
            ("memory/*", "metrics/memory/a", false),
            ("*", "anything", true),
            ("loss", "loss", true),
            ("loss", "val/loss", false),
            ("*/loss", "val/loss", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("xy*yx", "xyx", false),
            ("", "", true),
        ] {
            assert_eq!(NamePattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }
}
