//! The names of event files, and the files of a folder.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Begins the name of an event file. TensorBoard looks for the second word.
const PREFIX: &str = "events.out.tfevents.";
/// The run in the name, if it has no id.
const NO_RUN: &str = "logcore";

/// The name of an event file: `events.out.tfevents.1763909295.k3v9q2ab.4711.2.0` for a run, a
/// process and the second attempt of the run.
///
/// ```
/// use logcore_tensorboard::EventFileName;
///
/// let name = EventFileName::new("k3v9q2ab", 2, 1763909295);
/// assert!(name.to_string().starts_with("events.out.tfevents.1763909295.k3v9q2ab."));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFileName {
    /// TensorBoard reads files in the order of their names, so that a later file has a greater
    /// number.
    seconds: u64,
    run: String,
    process: u32,
    attempt: u32,
    number: u32,
}

impl EventFileName {
    /// Creates the name of a file of this process that begins at `seconds` since 1970.
    #[must_use]
    pub fn new(run: &str, attempt: u32, seconds: u64) -> Self {
        let plain = |character: char| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
            _ => '_',
        };
        Self {
            seconds,
            run: match run {
                "" => NO_RUN.to_owned(),
                run => run.chars().map(plain).collect(),
            },
            process: std::process::id(),
            attempt,
            number: 0,
        }
    }

    /// Creates the name of a file that readers take for newer than all files in the folder.
    pub(crate) fn newest_in(folder: &Path, run: &str, attempt: u32, seconds: u64) -> Self {
        let existing = files_in(folder).into_iter().map(|name| name.seconds.saturating_add(1));
        Self::new(run, attempt, existing.fold(seconds, u64::max))
    }

    /// Creates the name of a file that continues this one, newer than all files in the folder.
    pub(crate) fn newer_in(&self, folder: &Path) -> Self {
        Self::newest_in(folder, &self.run, self.attempt, self.seconds)
    }

    /// Returns the name for a file beside one that others have made under this name.
    pub(crate) fn next(&self) -> Self {
        let number = self.number.saturating_add(1);
        Self { number, ..self.clone() }
    }

    /// Returns `true` if both files are of the same run.
    pub(crate) fn is_of_run(&self, other: &Self) -> bool {
        self.run == other.run
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.rsplitn(4, '.');
        let (number, attempt, process) = (parts.next()?, parts.next()?, parts.next()?);
        let (seconds, run) = parts.next()?.split_once('.')?;
        Some(Self {
            seconds: seconds.parse().ok()?,
            run: run.to_owned(),
            process: process.parse().ok()?,
            attempt: attempt.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for EventFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seconds,
            run,
            process,
            attempt,
            number,
        } = self;
        // Ten digits until the year 2286, so that the order of names is that of times.
        write!(f, "{PREFIX}{seconds:010}.{run}.{process}.{attempt}.{number}")
    }
}

/// Returns the names of the event files of logcore in a folder; none if there is no folder.
pub(crate) fn files_in(folder: &Path) -> Vec<EventFileName> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| EventFileName::parse(entry.file_name().to_str()?))
        .collect()
}

/// Returns the name of the folder of a logger's files within that of the run; `None` for the logger
/// that names the run, whose files are in the folder itself.
///
/// ```
/// use logcore_tensorboard::logger_folder;
///
/// assert_eq!(logger_folder("trainer", "trainer"), None);
/// assert_eq!(logger_folder("trainer", "app::eval").unwrap(), "app.eval");
/// ```
#[must_use]
pub fn logger_folder(run_name: &str, logger: &str) -> Option<String> {
    (run_name != logger).then(|| folder_of(logger))
}

/// Returns a plain name for the folder of a logger.
///
/// Two loggers never share a folder: names that differ only in their separators (`a::b`, `a.b`) are
/// those of one logger.
fn folder_of(logger: &str) -> String {
    const MAX_NAME: usize = 64;
    let dotted = logger.replace("::", ".");
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let name: String = dotted.chars().map(plain).take(MAX_NAME).collect();
    let name = name.trim_start_matches('.');
    match name == dotted && !name.is_empty() {
        true => dotted,
        false => format!("{name}-{:08x}", crc32c::crc32c(logger.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for run in ["k3v9q2ab", "my.run-3", "", "../../etc/passwd"] {
            let name = EventFileName::new(run, 2, 1_763_909_295).next();
            assert_eq!(EventFileName::parse(&name.to_string()), Some(name.clone()));
            assert!(!name.to_string().contains('/'), "{name}");
        }
        for foreign in [
            "events.out.tfevents.1.host",
            "events.out.tfevents.x.a.1.1.1",
            "run.json",
        ] {
            assert_eq!(EventFileName::parse(foreign), None);
        }
    }

    #[test]
    fn a_later_file_has_a_greater_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut newest = EventFileName::newest_in(folder.path(), "a", 1, 999_999_999);
        for _ in 0..3 {
            fs::write(folder.path().join(newest.to_string()), "").unwrap();
            // The clock may have been set back.
            let next = EventFileName::newest_in(folder.path(), "a", 1, 5);
            assert!(next.to_string() > newest.to_string());
            newest = next;
        }
    }

    #[test]
    fn folders_of_loggers_are_plain_and_differ() {
        assert_eq!(folder_of("trainer"), "trainer");
        assert_eq!(
            (&*folder_of("app::eval"), &*folder_of("app.eval")),
            ("app.eval", "app.eval")
        );
        let strange = [
            "a/b",
            "a_b",
            "../a",
            "a",
            "",
            "..",
            "a\0b",
            "ä",
            &"x".repeat(99),
            &"x".repeat(98),
        ];
        let folders: std::collections::BTreeSet<_> = strange.iter().map(|name| folder_of(name)).collect();
        assert_eq!(folders.len(), strange.len());
        for folder in folders {
            assert!(
                folder.len() < 80 && !folder.starts_with('.') && !folder.contains(['/', '\0']),
                "{folder}"
            );
        }
    }
}
