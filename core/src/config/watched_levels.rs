use std::fmt;
use std::path::Path;

use log::LevelFilter;

use super::LogConfig;
use crate::ConfigError;

/// The levels that a config file names, which may change while a run goes on; see [`LogConfig::watch_file`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("logging.toml");
/// use logcore::WatchedLevels;
/// use logcore::log::LevelFilter;
///
/// std::fs::write(&path, "console_level = \"debug\"\n").unwrap();
/// let levels = WatchedLevels::from_file(&path).unwrap();
/// assert_eq!((levels.console_level, levels.file_level), (Some(LevelFilter::Debug), None));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchedLevels {
    /// `console_level`, if the file names it.
    pub console_level: Option<LevelFilter>,
    /// `file_level`, if the file names it.
    pub file_level: Option<LevelFilter>,
    /// `directives`, if the file names them.
    pub directives: Option<String>,
}

impl WatchedLevels {
    /// Reads the levels of a config file.
    ///
    /// # Errors
    ///
    /// Those of [`LogConfig::from_file`]: a file that is no config as a whole has no levels either.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (config, named) = LogConfig::read_file(path.as_ref())?;
        let named = |field: &str| named.iter().any(|name| name == field);
        Ok(Self {
            console_level: named("console_level").then_some(config.console_level),
            file_level: named("file_level").then_some(config.file_level),
            directives: named("directives").then_some(config.directives),
        })
    }

    /// Puts what is named here into a config.
    pub fn apply_to(&self, config: &mut LogConfig) {
        if let Some(level) = self.console_level {
            config.console_level = level;
        }
        if let Some(level) = self.file_level {
            config.file_level = level;
        }
        if let Some(directives) = &self.directives {
            config.directives.clone_from(directives);
        }
    }

    /// What is named here and was not, or was different, in `before`.
    #[must_use]
    pub fn changed_since(self, before: &Self) -> Self {
        Self {
            console_level: self
                .console_level
                .filter(|_| self.console_level != before.console_level),
            file_level: self.file_level.filter(|_| self.file_level != before.file_level),
            directives: self.directives.clone().filter(|_| self.directives != before.directives),
        }
    }
}

/// As the lines of a file: `console_level = DEBUG, directives = "hyper=warn"`.
impl fmt::Display for WatchedLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let console = self.console_level.map(|level| format!("console_level = {level}"));
        let file = self.file_level.map(|level| format!("file_level = {level}"));
        let directives = self.directives.as_ref().map(|text| format!("directives = {text:?}"));
        let named: Vec<String> = [console, file, directives].into_iter().flatten().collect();
        f.write_str(&named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_file_names_and_has_changed_is_laid_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            WatchedLevels::from_file(&path)
        };
        let before = read(r#"{"console_level": "warn", "file_level": "info"}"#).unwrap();
        let after = read(r#"{"console_level": "warn", "directives": "a=off", "name": "x"}"#).unwrap();
        let changed = after.changed_since(&before);
        assert_eq!(changed.to_string(), r#"directives = "a=off""#);
        let mut config = LogConfig::default();
        changed.apply_to(&mut config);
        let expected = LogConfig {
            directives: "a=off".into(),
            ..LogConfig::default()
        };
        assert_eq!(config, expected);
        for broken in [
            "{",
            r#"{"console_level": "loud"}"#,
            r#"{"consol_level": "warn"}"#,
            r#"{"directives": "a=b"}"#,
        ] {
            read(broken).unwrap_err();
        }
    }

    #[test]
    fn a_watched_file_lies_beside_the_one_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.toml");
        std::fs::write(&path, "watch_file = \"logging.toml\"\n").unwrap();
        assert_eq!(LogConfig::from_file(&path).unwrap().watch_file, Some(path));
    }
}
