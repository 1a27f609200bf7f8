//! The variable `RUST_LOG`: levels for programs that have no directives of logcore.

use std::collections::BTreeMap;
use std::env;

use logcore::log::LevelFilter;
use logcore::{Directives, LogConfig, canonical_name};
use logcore_pipeline::print_notice;

/// Takes the levels of `RUST_LOG` over into a config without directives: targets become
/// directives, and the level without a target becomes the console's if that is the default.
///
/// Returns the level up to which the console now takes records of foreign targets, beyond the
/// config's `foreign_level`; off without one.
pub(crate) fn heed_rust_log(config: &mut LogConfig) -> LevelFilter {
    if !config.heed_rust_log || !config.directives.trim().is_empty() {
        return LevelFilter::Off;
    }
    let Some(value) = env::var_os("RUST_LOG") else {
        return LevelFilter::Off;
    };
    let read = RustLog::read(&value.to_string_lossy());
    if !read.skipped.is_empty() {
        print_notice(
            "RUST_LOG",
            &format!(
                "cannot read these parts of RUST_LOG, and does without them: {}; use the form \
                 `info,hyper=warn,my_app::data=debug`",
                read.skipped.join(", ")
            ),
        );
    }
    config.directives = read.directives();
    match read.level {
        Some(level) if config.console_level == LogConfig::default().console_level => {
            config.console_level = level;
            level
        }
        _ => LevelFilter::Off,
    }
}

/// The parts of the variable.
#[derive(Debug, Default)]
struct RustLog {
    /// The last level without a target.
    level: Option<LevelFilter>,
    /// Target and level by the canonical name of the target; the last one counts.
    targets: BTreeMap<String, (String, String)>,
    skipped: Vec<String>,
}

impl RustLog {
    fn read(text: &str) -> Self {
        let mut read = Self::default();
        for part in split_parts(text) {
            if read.add(part).is_none() {
                read.skipped.push(format!("`{part}`"));
            }
        }
        read
    }

    /// Adds a part; `None` if it cannot be read.
    fn add(&mut self, part: &str) -> Option<()> {
        if part.contains(['[', ']', '{', '}', '/']) {
            return None;
        }
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (target.trim(), level.trim()),
            None => match parse_level(part) {
                Some(level) => {
                    self.level = Some(level);
                    return Some(());
                }
                None => (part, "trace"),
            },
        };
        // An empty level means all, as for `env_logger`.
        let level = if level.is_empty() { "trace" } else { level };
        parse_level(level).filter(|_| !target.is_empty() && !target.contains(char::is_whitespace))?;
        let key = canonical_name(target).into_owned();
        self.targets.insert(key, (target.to_owned(), level.to_owned()));
        Some(())
    }

    fn directives(&self) -> String {
        let parts = self.targets.values().map(|(target, level)| format!("{target}={level}"));
        parts.collect::<Vec<_>>().join(",")
    }
}

/// Splits a text at its commas, but not at those within brackets.
fn split_parts(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let parts = text.split(move |character: char| {
        match character {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth <= 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// Parses a level by the one parser of levels.
fn parse_level(text: &str) -> Option<LevelFilter> {
    text.parse::<Directives>().ok()?.default_level()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_become_directives_and_the_last_part_of_a_kind_counts() {
        let read = RustLog::read("warn, hyper=info,my-app,tower=,debug,my_app=error,off=trace");
        assert_eq!(read.level, Some(LevelFilter::Debug));
        assert_eq!(read.directives(), "hyper=info,my_app=error,off=trace,tower=trace");
        assert!(read.skipped.is_empty(), "{:?}", read.skipped);
    }

    #[test]
    fn parts_of_other_loggers_are_skipped_whole() {
        let read = RustLog::read("a[span{x=1,y=2}]=info,b=loud,=warn,c/regex,d=debug,two words");
        let skipped = [
            "`a[span{x=1,y=2}]=info`",
            "`b=loud`",
            "`=warn`",
            "`c/regex`",
            "`two words`",
        ];
        assert_eq!(read.skipped, skipped);
        assert_eq!((read.level, &*read.directives()), (None, "d=debug"));
    }

    proptest! {
        #[test]
        fn every_text_gives_valid_directives(text in "[a-c=,:._/\\[\\]{}-]{0,12}|(warn|a|b=|,|=off| |\\PC){0,6}") {
            let read = RustLog::read(&text);
            let directives: Result<Directives, _> = read.directives().parse();
            prop_assert!(directives.is_ok(), "{} {:?}", read.directives(), directives);
        }
    }
}
