//! Watching config files: the loggers take over levels that change in a file.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use logcore::WatchedLevels;
use logcore_pipeline::print_notice;

/// Time between two looks at a file. A change counts when two looks agree, so that a half-written
/// file is never read.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Longest config file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The calls of a file watcher.
#[derive(Clone, Copy)]
pub(crate) struct WatchHooks {
    /// Returns `true` while the config of some logger has the file watched.
    pub(crate) is_watched: fn(&Path) -> bool,
    /// Takes the levels that have changed in the file.
    pub(crate) on_change: fn(&Path, &WatchedLevels),
}

/// Starts a thread that watches a file until no logger's config names the file. The present content
/// counts as known.
pub(crate) fn spawn(file: &Path, hooks: WatchHooks) {
    let content = read(file);
    let watcher = FileWatcher {
        // A missing or invalid file has no levels.
        levels: WatchedLevels::from_file(file).unwrap_or_default(),
        applied: content.clone(),
        seen: content,
        file: file.to_owned(),
        hooks,
    };
    let started = thread::Builder::new()
        .name("logcore-watch".to_owned())
        .spawn(move || watcher.run());
    if let Err(error) = started {
        print_notice(
            &format!("watched file {}", file.display()),
            &format!("cannot watch {}: cannot start a thread: {error}", file.display()),
        );
    }
}

/// Returns the content of a file; `None` if it cannot be read.
fn read(file: &Path) -> Option<Vec<u8>> {
    logcore::files::read(file, MAX_BYTES).ok()
}

struct FileWatcher {
    file: PathBuf,
    hooks: WatchHooks,
    levels: WatchedLevels,
    /// Content of the file when its levels were last read.
    applied: Option<Vec<u8>>,
    /// Content of the file at the last look.
    seen: Option<Vec<u8>>,
}

impl FileWatcher {
    fn run(mut self) {
        loop {
            thread::sleep(LOOK_INTERVAL);
            if !(self.hooks.is_watched)(&self.file) {
                return;
            }
            let now = read(&self.file);
            if now != self.seen {
                self.seen = now;
            } else if self.seen != self.applied {
                self.applied.clone_from(&self.seen);
                self.apply();
            }
        }
    }

    fn apply(&mut self) {
        match WatchedLevels::from_file(&self.file) {
            Ok(levels) => {
                let changed = levels.clone().changed_since(&self.levels);
                self.levels = levels;
                (self.hooks.on_change)(&self.file, &changed);
            }
            Err(error) => {
                print_notice(
                    &format!("watched file {}", self.file.display()),
                    &format!(
                        "the levels stay as they are, because {} has changed and {error}",
                        self.file.display()
                    ),
                );
            }
        }
    }
}
