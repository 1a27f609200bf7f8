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
