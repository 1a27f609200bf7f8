//! Levels by target.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use log::{Level, LevelFilter};

use crate::ConfigError;
use crate::config::parse_level;

/// Levels by target: `info,hyper=warn,my_app::data=debug`.
///
/// The part with the longest matching target decides. A level without a target applies to all other
/// targets.
///
/// For a target that a part names, the level of that part replaces the levels of all sinks that are
/// not off, in both directions: `my_app::data=trace` brings all records of the target, `hyper=off`
/// none. A level without a target is only a limit: the other records must pass it and the levels of
/// the sinks. A logger also takes records from the targets that its directives name, even if they
/// lie outside the logger's name.
///
/// ```
/// use logcore::Directives;
/// use logcore::log::Level;
///
/// let directives: Directives = "info,hyper=warn,my_app::data=debug".parse().unwrap();
/// assert!(directives.allows("my_app::data::loader", Level::Debug));
/// assert!(directives.allows("my_app.data", Level::Debug));
/// assert!(!directives.allows("my_app", Level::Debug));
/// assert!(!directives.allows("hyper::client", Level::Info));
/// assert!(directives.allows("hyperopt", Level::Info));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    default: Option<LevelFilter>,
    /// Levels by target, the longest target first.
    targets: Vec<(String, LevelFilter)>,
}

impl Directives {
    /// Returns `true` if a record with this target and level passes.
    #[must_use]
    pub fn allows(&self, target: &str, level: Level) -> bool {
        self.limit(target).is_none_or(|limit| level <= limit)
    }

    /// Returns the level of the part that matches `target`, or `None` if no part matches.
    ///
    /// ```
    /// use logcore::Directives;
    /// use logcore::log::LevelFilter;
    ///
    /// let directives: Directives = "info,hyper=warn".parse().unwrap();
    /// assert_eq!(directives.explicit_level("hyper::client"), Some(LevelFilter::Warn));
    /// assert_eq!(directives.explicit_level("trainer"), None);
    /// ```
    #[must_use]
    pub fn explicit_level(&self, target: &str) -> Option<LevelFilter> {
        self.targets
            .iter()
            .find(|(name, _)| is_under(target, name))
            .map(|(_, level)| *level)
    }

    /// Returns the level of all targets that no part names; `None` if the directives have none.
    ///
    /// ```
    /// use logcore::Directives;
    /// use logcore::log::LevelFilter;
    ///
    /// let directives: Directives = "info,hyper=warn".parse().unwrap();
    /// assert_eq!(directives.default_level(), Some(LevelFilter::Info));
    /// ```
    #[must_use]
    pub fn default_level(&self) -> Option<LevelFilter> {
        self.default
    }

    /// Returns the most verbose level of a target; `None` without targets.
    ///
    /// ```
    /// use logcore::Directives;
    /// use logcore::log::LevelFilter;
    ///
    /// let directives: Directives = "trace,hyper=warn,my_app::data=debug".parse().unwrap();
    /// assert_eq!(directives.highest_target_level(), Some(LevelFilter::Debug));
    /// ```
    #[must_use]
    pub fn highest_target_level(&self) -> Option<LevelFilter> {
        self.targets.iter().map(|(_, level)| *level).max()
    }

    /// Returns the targets with their levels, the longest target first.
    pub fn targets(&self) -> impl Iterator<Item = (&str, LevelFilter)> {
        self.targets.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// Returns `true` if every record passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.targets.is_empty()
    }

    /// Adds the levels of `others` for targets that have none of their own here.
    ///
    /// ```
    /// use logcore::Directives;
    ///
    /// let own: Directives = "info,hyper=debug".parse().unwrap();
    /// let others: Directives = "warn,hyper=off,hyper::client=warn".parse().unwrap();
    /// assert_eq!(own.or(&others), "info,hyper=debug,hyper::client=warn".parse().unwrap());
    /// ```
    #[must_use]
    pub fn or(mut self, others: &Self) -> Self {
        self.default = self.default.or(others.default);
        for (target, level) in &others.targets {
            if !self.targets.iter().any(|(own, _)| is_same_name(own, target)) {
                self.targets.push((target.clone(), *level));
            }
        }
        self.sort();
        self
    }

    /// Puts the longest targets first.
    fn sort(&mut self) {
        self.targets
            .sort_by_cached_key(|(target, _)| std::cmp::Reverse(canonical_name(target).len()));
    }

    fn limit(&self, target: &str) -> Option<LevelFilter> {
        self.explicit_level(target).or(self.default)
    }
}

impl FromStr for Directives {
    type Err = ConfigError;

    /// # Errors
    ///
    /// If a level is unknown, a target is empty, or a target occurs twice.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = |remedy: String| ConfigError::new("directives", text, remedy);
        let mut directives = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) = match part.split_once('=') {
                Some((target, level)) => (Some(target.trim()), level.trim()),
                None => (None, part),
            };
            let level = parse_level(level).ok_or_else(|| {
                refuse(format!(
                    "unknown level `{level}`; use the form `info,hyper=warn,my_app::data=debug`"
                ))
            })?;
            match target {
                None if directives.default.replace(level).is_some() => {
                    return Err(refuse("two levels without a target; keep one".to_owned()));
                }
                None => {}
                Some("") => return Err(refuse(format!("no target before the `=` in `{part}`"))),
                Some(target) if directives.targets.iter().any(|(other, _)| is_same_name(other, target)) => {
                    return Err(refuse(format!("target `{target}` occurs twice; keep one")));
                }
                Some(target) => directives.targets.push((target.to_owned(), level)),
            }
        }
        directives.sort();
        Ok(directives)
    }
}

impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(level) = self.default {
            write!(f, "{level}")?;
            separator = ",";
        }
        for (target, level) in &self.targets {
            write!(f, "{separator}{target}={level}")?;
            separator = ",";
        }
        Ok(())
    }
}

/// Returns `true` if `target` is `name` or lies under it.
///
/// Only whole parts count. The separators `.` and `::` are equal, and so are `-` and `_`, because
/// the package `my-app` is the crate `my_app`.
///
/// ```
/// assert!(logcore::is_under("my_app::data", "my_app"));
/// assert!(logcore::is_under("my_app::data", "my-app.data"));
/// assert!(!logcore::is_under("my_application", "my_app"));
/// assert!(!logcore::is_under("my_app", "my"));
/// assert!(!logcore::is_under("my_app", "my_app::data"));
/// ```
#[must_use]
pub fn is_under(target: &str, name: &str) -> bool {
    let (target, name) = (target.as_bytes(), name.as_bytes());
    if target == name {
        return true;
    }
    // The first difference decides nearly every pair. Only a difference at a separator, or between
    // `-` and `_`, needs the slow comparison by parts.
    let same = target.iter().zip(name).take_while(|(a, b)| a == b).count();
    match (target.get(same), name.get(same)) {
        (None, _) => false,
        (Some(b'.' | b':'), _) | (_, Some(b'.' | b':')) => is_under_by_parts(target, name),
        (Some(b'-' | b'_'), Some(b'-' | b'_')) => is_under_by_parts(target, name),
        (Some(_), _) => false,
    }
}

/// Returns the canonical form of all names that [`is_under`] treats as equal: `my_app.data` for
/// `my-app::data`.
///
/// ```
/// assert_eq!(logcore::canonical_name("my-app::data"), "my_app.data");
/// ```
#[must_use]
pub fn canonical_name(name: &str) -> Cow<'_, str> {
    match name.contains(['-', ':']) {
        true => Cow::Owned(name.replace("::", ".").replace('-', "_")),
        false => Cow::Borrowed(name),
    }
}

/// Returns `true` for two spellings of one name.
///
/// ```
/// assert!(logcore::is_same_name("my-app", "my_app"));
/// assert!(!logcore::is_same_name("my-app", "my.app"));
/// ```
#[must_use]
pub fn is_same_name(one: &str, other: &str) -> bool {
    one == other || canonical_name(one) == canonical_name(other)
}

fn is_under_by_parts(mut target: &[u8], mut name: &[u8]) -> bool {
    loop {
        match (split_separator(name), split_separator(target)) {
            (Some(name_rest), Some(target_rest)) => (name, target) = (name_rest, target_rest),
            (Some(_), None) => return false,
            (None, at_separator) => match (name.first(), target.first()) {
                (None, None) => return true,
                (None, Some(_)) => return at_separator.is_some(),
                (Some(wanted), Some(found))
                    if at_separator.is_none() && without_dash(*wanted) == without_dash(*found) =>
                {
                    (name, target) = (&name[1..], &target[1..]);
                }
                _ => return false,
            },
        }
    }
}

fn without_dash(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

fn split_separator(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"::").or_else(|| text.strip_prefix(b"."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_directives_are_refused() {
        for wrong in [
            "loud",
            "hyper=loud",
            "=info",
            "a=info,a=warn",
            "a-b::c=info,a_b.c=warn",
            "info,debug",
        ] {
            let error = wrong.parse::<Directives>().unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("directives", wrong));
        }
    }

    #[test]
    fn empty_directives_pass_every_record() {
        let none: Directives = " , ".parse().unwrap();
        assert!(none.is_empty());
        assert!(none.allows("any", Level::Trace));
    }

    proptest! {
        #[test]
        fn displayed_directives_parse_to_the_same(
            parts in prop::collection::btree_map("[a-z]{1,3}(::[a-z]{1,3}){0,2}", 0_usize..6, 0..6),
        ) {
            let levels = ["off", "ERROR", "warning", "Info", "debug", "trace"];
            let text: Vec<_> = parts.iter().map(|(target, at)| format!("{target}={}", levels[*at])).collect();
            let directives: Directives = text.join(",").parse().unwrap();
            prop_assert_eq!(&directives.to_string().parse::<Directives>().unwrap(), &directives);
        }

        #[test]
        fn is_under_compares_whole_parts(
            target in "[a_-]{0,2}((::|\\.)[a_-]{0,2}){0,3}",
            name in "[a_-]{0,2}((::|\\.)[a_-]{0,2}){0,3}",
        ) {
            let split = |text: &str| -> Vec<String> {
                text.replace("::", ".").replace('-', "_").split('.').map(str::to_owned).collect()
            };
            prop_assert_eq!(is_under(&target, &name), split(&target).starts_with(&split(&name)));
            prop_assert_eq!(canonical_name(&target) == canonical_name(&name), split(&target) == split(&name));
        }

        #[test]
        fn deepest_target_decides_in_every_spelling(dashes in any::<u8>(), colons in any::<u8>()) {
            // Colons make a name longer but not deeper.
            let spell = |parts: &[&str], at: usize| {
                let separator = if colons >> at & 1 == 1 { "::" } else { "." };
                let text = parts.join(separator);
                if dashes >> at & 1 == 1 { text.replace('_', "-") } else { text }
            };
            let (outer, inner, target) = (["a_b", "c", "d"], ["a_b", "c", "d", "e"], ["a_b", "c", "d", "e", "f"]);
            let text = format!("{}=off,{}=debug", spell(&outer, 0), spell(&inner, 1));
            let directives: Directives = text.parse().unwrap();
            prop_assert!(directives.allows(&spell(&target, 2), Level::Debug), "{}", text);
            prop_assert!(!directives.allows(&spell(&outer, 3), Level::Error), "{}", text);
        }
    }
}
