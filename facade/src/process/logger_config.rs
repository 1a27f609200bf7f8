//! Changes that the registry makes to a config before it opens a logger.

use std::path::PathBuf;

use logcore::escape::to_one_line;
use logcore::{ConfigError, LogConfig};

/// Returns the config with absolute paths, so that a later change of the working folder does not
/// matter.
pub(crate) fn with_absolute_paths(mut config: LogConfig) -> Result<LogConfig, ConfigError> {
    let make_absolute = |field: &str, path: &mut PathBuf| {
        *path = std::path::absolute(&*path).map_err(|error| {
            let remedy = format!("the working folder is not known ({error}); write a path that begins with `/`");
            ConfigError::new(field, path.display(), remedy)
        })?;
        Ok(())
    };
    make_absolute("log_dir", &mut config.log_dir)?;
    if let Some(file) = &mut config.watch_file {
        make_absolute("watch_file", file)?;
    }
    Ok(config)
}

/// Returns the config with another name.
pub(crate) fn with_name(config: &LogConfig, name: &str) -> LogConfig {
    LogConfig {
        name: name.to_owned(),
        ..config.clone()
    }
}

/// Returns the config without anything that touches the disk.
pub(crate) fn without_files(config: LogConfig) -> LogConfig {
    LogConfig {
        name: config.name,
        console_level: config.console_level,
        enable_console: config.enable_console,
        enable_file: false,
        rank: config.rank,
        world_size: config.world_size,
        rank_files: config.rank_files,
        other_ranks_level: config.other_ranks_level,
        // This sink is on unless the config turns it off.
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..LogConfig::default()
    }
}

/// Returns the name with control characters escaped, so that it fits in a line of text. The empty
/// name becomes `root`.
pub(crate) fn printable_name(name: &str) -> String {
    if name.is_empty() {
        return "root".to_owned();
    }
    to_one_line(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printable_name_is_never_empty_and_has_no_control_characters() {
        assert_eq!(printable_name(""), "root");
        assert_eq!(printable_name("my.module"), "my.module");
        assert!(!printable_name("a\nb\u{1b}").contains(char::is_control));
    }

    #[test]
    fn absolute_paths_begin_at_the_root() {
        let config = LogConfig {
            watch_file: Some("levels.toml".into()),
            ..LogConfig::default()
        };
        let config = with_absolute_paths(config).unwrap();
        assert!(config.log_dir.is_absolute() && config.watch_file.unwrap().is_absolute());
    }
}
