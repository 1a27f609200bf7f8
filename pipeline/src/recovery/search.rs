//! Finds the names of rings beneath a log directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use logcore::FileRank;
use logcore::kill_point::kill_point;

use super::found_ring::{open_own_file, remove_unfinished};
use super::outcome::KilledRun;
use super::recover::KilledRunHook;
use crate::ring::entry::{entries_of, parse_entry, ring_of_entry};
use crate::ring::file::{is_ring_name, is_unfinished_name, rank_of, unfinished_path};

/// Longer than any entry.
const MAX_ENTRY_BYTES: u64 = 16 << 10;

/// The names of rings beneath a log directory, and the entries that lead to some of them.
pub(super) struct FoundNames {
    pub(super) names: BTreeSet<PathBuf>,
    entries: Vec<FoundEntry>,
}

/// An entry of a process that is not just making the name.
struct FoundEntry {
    path: PathBuf,
    /// The path of the name; `None` if the process died before the entry was complete.
    name: Option<PathBuf>,
}

impl FoundNames {
    /// Looks for names of these ranks in the folder and where its entries lead; `everywhere` also
    /// in all folders that lie in the folder. Removes what processes have left that died before
    /// their name was complete.
    pub(super) fn search(folder: &Path, everywhere: bool, wanted: &dyn Fn(FileRank) -> bool) -> Self {
        let mut names = BTreeSet::new();
        find_names(folder, wanted, &mut names);
        if everywhere {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                // Not through a link.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    find_names(&entry.path(), wanted, &mut names);
                }
            }
        }
        let entries = find_entries(folder, wanted);
        let led_to = entries.iter().filter_map(|entry| entry.name.as_ref());
        names.extend(led_to.filter(|name| may_be_there(name)).cloned());
        Self { names, entries }
    }

    /// Removes the entries without a name: the ring has been delivered, or was never made.
    pub(super) fn remove_used_entries(&self, note_killed: &KilledRunHook<'_>) {
        for entry in &self.entries {
            if let Some(name) = entry.name.as_ref().filter(|name| !self.names.contains(*name))
                && let (Some(folder), Some((pid, rank))) = (name.parent(), entry.process())
            {
                // Before the ring was made, or after it was delivered.
                note_killed(&KilledRun::new(folder, pid, rank));
            }
            entry.remove_if_used();
        }
    }
}

impl FoundEntry {
    /// Returns the id and the rank of the process.
    fn process(&self) -> Option<(u64, FileRank)> {
        let name = self.path.file_name()?.to_str()?;
        let pid = name.split_once('-')?.0.parse().ok()?;
        Some((pid, rank_of(name)))
    }

    fn remove_if_used(&self) {
        // The process may just be making the name.
        let Ok(Some(file)) = open_own_file(&self.path) else {
            return;
        };
        if file.try_lock().is_err() {
            return;
        }
        if let Some(name) = &self.name {
            remove_unfinished(&unfinished_path(name));
            if may_be_there(name) || may_be_there(&unfinished_path(name)) {
                return;
            }
        }
        kill_point("entry used");
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns `false` if there is surely no such file. In a folder that nobody may enter, there may be
/// one.
fn may_be_there(path: &Path) -> bool {
    use ErrorKind::{InvalidFilename, NotADirectory, NotFound};

    let gone = |error: io::Error| matches!(error.kind(), NotFound | NotADirectory | InvalidFilename);
    !path.symlink_metadata().is_err_and(gone)
}

/// Adds the paths of names that lie in a folder.
fn find_names(folder: &Path, wanted: &dyn Fn(FileRank) -> bool, names: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if is_ring_name(name) && wanted(rank_of(name)) {
            names.insert(entry.path());
        } else if is_unfinished_name(name) && wanted(rank_of(name)) {
            // A process that starts at this moment may not have locked its file yet, but has
            // another rank.
            remove_unfinished(&entry.path());
        }
    }
}

/// Returns the entries of this user.
fn find_entries(root: &Path, wanted: &dyn Fn(FileRank) -> bool) -> Vec<FoundEntry> {
    let Some(folder) = entries_of(root) else {
        return Vec::new();
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str().filter(|name| wanted(rank_of(name)))?;
        let ring = ring_of_entry(name)?;
        let file = open_own_file(&entry.path()).ok()??;
        // A process that holds the lock is alive, and has no name yet.
        file.try_lock().ok()?;
        let name = read_entry(&file).map(|run| root.join(run)).map(|run| run.join(ring));
        let path = entry.path();
        // A link would lead out of the root.
        let is_beneath = name
            .as_ref()
            .and_then(|name| name.parent())
            .is_none_or(|run| !run.is_symlink());
        is_beneath.then_some(FoundEntry { path, name })
    });
    found.collect()
}

fn read_entry(file: &File) -> Option<PathBuf> {
    let mut text = Vec::new();
    file.take(MAX_ENTRY_BYTES).read_to_end(&mut text).ok()?;
    parse_entry(&text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_surely_gone_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").unwrap();
        // An error that root meets, too, unlike a folder that is closed.
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        for (name, expected) in [
            ("file", true),
            ("loop", true),
            ("loop/ring", true),
            ("ring", false),
            ("file/ring", false),
            (&"x".repeat(300), false),
        ] {
            assert_eq!(may_be_there(&path(name)), expected, "{name}");
        }
    }
}
