//! Config files whose levels are taken over when they change.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use logcore::WatchedLevels;
use logcore_pipeline::print_notice;

use crate::manager::LogManager;

/// A file is looked at so often, and believed when two looks agree: nobody shall read half of what an editor writes.
const LOOK: Duration = Duration::from_millis(500);

/// Watches a file, on a thread of its own, for as long as some logger's config names it. What is in it now is known already.
pub(crate) fn watch(file: &Path) {
    let watcher = Watcher {
        // One that is not there, or no config, has no levels yet.
        levels: WatchedLevels::from_file(file).unwrap_or_default(),
        believed: read(file),
        seen: read(file),
        file: file.to_owned(),
    };
    let started = thread::Builder::new()
        .name("logcore-watch".to_owned())
        .spawn(move || watcher.run());
    if let Err(error) = started {
        print_notice(
            &format!("watched file {}", file.display()),
            &format!("{} is not watched: there is no thread for it: {error}", file.display()),
        );
    }
}

/// A longer file is no config.
const LONGEST: u64 = 1 << 20;

/// The bytes of a file; `None` if it cannot be read, or is no file.
fn read(file: &Path) -> Option<Vec<u8>> {
    logcore_files::read(file, LONGEST).ok()
}

struct Watcher {
    file: PathBuf,
    levels: WatchedLevels,
    /// What the file held when its levels were read, and at the last look; `None` if it could not be read.
    believed: Option<Vec<u8>>,
    seen: Option<Vec<u8>>,
}

impl Watcher {
    fn run(mut self) {
        loop {
            thread::sleep(LOOK);
            if !LogManager::get_instance().watches(&self.file) {
                return;
            }
            let now = read(&self.file);
            if now != self.seen {
                self.seen = now;
            } else if self.seen != self.believed {
                self.believed.clone_from(&self.seen);
                self.take_over();
            }
        }
    }

    fn take_over(&mut self) {
        match WatchedLevels::from_file(&self.file) {
            Ok(levels) => {
                let changed = levels.clone().changed_since(&self.levels);
                self.levels = levels;
                LogManager::get_instance().take_over(&self.file, &changed);
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
