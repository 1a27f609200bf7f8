//! The levels that a watched config file may change during a run.

use std::fmt;
use std::path::Path;

use log::LevelFilter;

use super::LogConfig;
use crate::ConfigError;

/// The levels in a config file, which may change during a run; see [`LogConfig::watch_file`].
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
    /// The field `console_level`, if the file sets it.
    pub console_level: Option<LevelFilter>,
    /// The field `file_level`, if the file sets it.
    pub file_level: Option<LevelFilter>,
    /// The field `directives`, if the file sets it.
    pub directives: Option<String>,
}

impl WatchedLevels {
    /// Reads the levels of a config file.
    ///
    /// # Errors
    ///
    /// Those of [`LogConfig::from_file`]. An error in any field makes the whole file invalid.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (config, fields) = LogConfig::read_file(path.as_ref())?;
        let is_set = |field: &str| fields.iter().any(|name| name == field);
        Ok(Self {
            console_level: is_set("console_level").then_some(config.console_level),
            file_level: is_set("file_level").then_some(config.file_level),
            directives: is_set("directives").then_some(config.directives),
        })
    }

    /// Sets the levels in a config.
    ///
    /// ```
    /// use logcore::{LogConfig, WatchedLevels};
    ///
    /// let mut levels = WatchedLevels::default();
    /// levels.directives = Some("hyper=warn".to_owned());
    /// let mut config = LogConfig::default();
    /// levels.apply_to(&mut config);
    /// assert_eq!(config.directives, "hyper=warn");
    /// ```
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

    /// Returns the levels that `before` lacks, or has with another value.
    ///
    /// ```
    /// use logcore::WatchedLevels;
    /// use logcore::log::LevelFilter;
    ///
    /// let mut before = WatchedLevels::default();
    /// before.file_level = Some(LevelFilter::Info);
    /// let mut after = before.clone();
    /// after.console_level = Some(LevelFilter::Debug);
    /// assert_eq!(after.changed_since(&before).to_string(), "console_level = DEBUG");
    /// ```
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

/// Formats the levels as in a file: `console_level = DEBUG, directives = "hyper=warn"`.
impl fmt::Display for WatchedLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let console = self.console_level.map(|level| format!("console_level = {level}"));
        let file = self.file_level.map(|level| format!("file_level = {level}"));
        let directives = self.directives.as_ref().map(|text| format!("directives = {text:?}"));
        let fields: Vec<String> = [console, file, directives].into_iter().flatten().collect();
        f.write_str(&fields.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_since_keeps_only_fields_that_the_file_sets_and_changed() {
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
    fn watch_file_is_relative_to_the_folder_of_the_config_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logging.toml");
        std::fs::write(&path, "watch_file = \"logging.toml\"\n").unwrap();
        assert_eq!(LogConfig::from_file(&path).unwrap().watch_file, Some(path));
    }
}
