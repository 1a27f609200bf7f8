//! Patterns of files that are not uploaded.

use glob::{MatchOptions, Pattern};
use logcore::ConfigError;

/// Patterns of files of a run that are not uploaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct IgnoreGlobs(Vec<Pattern>);

/// The rules of the official client: `*` does not cross `/`.
const RULES: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl IgnoreGlobs {
    /// Parses a comma-separated list of patterns.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self, ConfigError> {
        let patterns = text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        let read = patterns.map(|pattern| {
            Pattern::new(pattern).map_err(|error| {
                let remedy = format!("write patterns such as `*.ckpt,media/*/*` ({error})");
                ConfigError::new(field, pattern, remedy)
            })
        });
        Ok(Self(read.collect::<Result<_, _>>()?))
    }

    /// Returns `true` if a pattern matches this path beneath `files/`.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches_with(path, RULES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        let ignored = IgnoreGlobs::parse("i", "*.ckpt, output.log,media/images/*,").unwrap();
        for path in ["a.ckpt", ".ckpt", "output.log", "media/images/x.png"] {
            assert!(ignored.matches(path), "{path}");
        }
        for path in ["a/b.ckpt", "output.log.1", "media/images/a/x.png", "media/html/x", ""] {
            assert!(!ignored.matches(path), "{path}");
        }
        assert!(!IgnoreGlobs::default().matches("a"));
        assert_eq!(IgnoreGlobs::parse("i", "[a").unwrap_err().field, "i");
    }
}
