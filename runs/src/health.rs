//! The health of a run, as its files tell it: events, incident files, and how far each rank is.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use logcore::files::{EntryKind, Folder};
use logcore_health::event::{Events, read_events};
use logcore_health::slot::{RankState, SlotFolder};
use logcore_health::{EVENTS_FILE, INCIDENTS_FOLDER};

use crate::{RunError, StoredRun};

/// Most incident files that are listed. A run writes at most 100 for its rules.
const MAX_INCIDENTS: usize = 1000;

impl StoredRun {
    /// Reads the events of all ranks, sorted by time. A run without events has none.
    ///
    /// At most 64 MiB and 100,000 events are read. Their texts come from the program, or from the
    /// stranger who sent the folder: escape them before a terminal or a page shows them.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// let line = r#"{"time":2,"step":7,"kind":"rule","level":"warn","rank":0,"attempt":1,"text":"loss is NaN"}"#;
    /// fs::write(folder.path().join("events.jsonl"), format!("{line}\n")).unwrap();
    /// fs::write(folder.path().join("run.json"), "{}").unwrap();
    /// let read = StoredRun::open(folder.path())?.events();
    /// assert_eq!((read.events[0].step, &*read.events[0].text), (Some(7), "loss is NaN"));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        read_events(&self.dir)
    }

    /// Returns the files with events, by rank, for readers that follow them.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::write(folder.path().join("events.rank3.jsonl"), "").unwrap();
    /// fs::write(folder.path().join("run.json"), "{}").unwrap();
    /// let files = StoredRun::open(folder.path())?.event_files()?;
    /// assert_eq!(files.keys().copied().collect::<Vec<_>>(), [3]);
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn event_files(&self) -> Result<BTreeMap<u32, PathBuf>, RunError> {
        self.files_of(EVENTS_FILE)
    }

    /// Returns the names of the files in `incidents/`, with their sizes in bytes: those of rules by
    /// their steps, then the reports of stalls. At most 1,000 are returned. A run without the
    /// folder has none.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::create_dir(folder.path().join("incidents")).unwrap();
    /// for name in ["stall-1790000000.txt", "1200-spike.json", "90-nan.json"] {
    ///     fs::write(folder.path().join("incidents").join(name), "{}").unwrap();
    /// }
    /// fs::write(folder.path().join("run.json"), "{}").unwrap();
    /// let incidents = StoredRun::open(folder.path())?.incidents()?;
    /// assert_eq!(incidents[0], ("90-nan.json".to_owned(), 2));
    /// assert_eq!(incidents[2].0, "stall-1790000000.txt");
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the folder is there and cannot be read, or is a link.
    pub fn incidents(&self) -> Result<Vec<(String, u64)>, RunError> {
        let opened = Folder::open(&self.dir).and_then(|run| run.folder(Path::new(INCIDENTS_FOLDER)));
        let entries = match opened.and_then(|folder| folder.entries()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RunError::unreadable(&self.dir.join(INCIDENTS_FOLDER), error)),
        };
        let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File);
        let mut files: Vec<(String, u64)> = files
            .map(|entry| (entry.name.to_string_lossy().into_owned(), entry.bytes))
            .filter(|(name, _)| !name.starts_with('.'))
            .collect();
        files.sort_by_cached_key(|(name, _)| (step_of(name), name.clone()));
        files.truncate(MAX_INCIDENTS);
        Ok(files)
    }

    /// Returns what the ranks of the newest attempt have last said of themselves, in the order of
    /// the ranks. A run of one rank has none, and neither has one whose ranks have all ended by
    /// themselves.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_health::slot::{RankState, SlotFolder};
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// let mut slots = SlotFolder::new(folder.path());
    /// slots.write(&RankState::new(1, 1)).unwrap();
    /// fs::write(folder.path().join("run.json"), r#"{"world_size":2,"attempts":[{}]}"#).unwrap();
    /// let ranks = StoredRun::open(folder.path())?.ranks();
    /// assert_eq!((ranks.len(), ranks[0].rank, ranks[0].step), (1, 1, None));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    #[must_use]
    pub fn ranks(&self) -> Vec<RankState> {
        self.lowest_ranks(u32::MAX)
    }

    /// Returns the same, and of a run of one process what that process has last said: whether it
    /// moves, and its phase. A process says nothing before its first step or long phase, and takes
    /// back what it has said at its end.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_health::slot::{RankState, SlotFolder};
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// SlotFolder::new(folder.path()).write(&RankState::new(0, 1)).unwrap();
    /// fs::write(folder.path().join("run.json"), r#"{"attempts":[{}]}"#).unwrap();
    /// let run = StoredRun::open(folder.path())?;
    /// assert_eq!((run.processes().len(), run.ranks().len()), (1, 0));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    #[must_use]
    pub fn processes(&self) -> Vec<RankState> {
        SlotFolder::new(&self.dir).read_all(self.manifest.world_size.unwrap_or(1), self.newest_attempt())
    }

    /// Returns the states of the ranks below a number.
    pub(crate) fn lowest_ranks(&self, number: u32) -> Vec<RankState> {
        match self.manifest.world_size {
            Some(size @ 2..) => SlotFolder::new(&self.dir).read_all(size.min(number), self.newest_attempt()),
            _ => Vec::new(),
        }
    }
}

/// Returns the step at the beginning of a name, so that 90 comes before 1200; names without one
/// come last.
fn step_of(name: &str) -> u64 {
    let digits = name.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(folder: &Path, manifest: &str) -> StoredRun {
        fs::write(folder.join("run.json"), manifest).unwrap();
        StoredRun::open(folder).unwrap()
    }

    #[test]
    fn a_run_without_any_of_it_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), r#"{"world_size":4}"#);
        assert!(run.events().events.is_empty() && run.events().problems.is_empty());
        assert!(run.event_files().unwrap().is_empty());
        assert_eq!((run.incidents().unwrap(), run.ranks()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_ranks_are_those_of_the_newest_attempt_of_several() {
        let folder = tempfile::tempdir().unwrap();
        for (rank, attempt) in [(0, 2), (1, 1), (3, 2)] {
            SlotFolder::new(folder.path())
                .write(&RankState::new(rank, attempt))
                .unwrap();
        }
        let ranks = |manifest: &str| -> Vec<u32> {
            let states = run(folder.path(), manifest).ranks();
            states.iter().map(|state| state.rank).collect()
        };
        assert_eq!(ranks(r#"{"world_size":4,"attempts":[{},{}]}"#), [0, 3]);
        assert_eq!(ranks(r#"{"world_size":3,"attempts":[{},{}]}"#), [0]);
        assert_eq!(ranks(r#"{"world_size":4,"attempts":[]}"#), [1]);
        assert_eq!(ranks(r#"{"world_size":4294967295,"attempts":[{},{}]}"#), [0, 3]);
        assert_eq!(ranks(r#"{"world_size":1,"attempts":[{},{}]}"#), [0; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_no_incidents() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("1-secret.json"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let incidents = folder.path().join("incidents");
        std::os::unix::fs::symlink(outside.path(), &incidents).unwrap();
        let run = run(folder.path(), "{}");
        assert!(run.incidents().is_err());
        fs::remove_file(&incidents).unwrap();
        fs::create_dir(&incidents).unwrap();
        std::os::unix::fs::symlink(outside.path(), incidents.join("a")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("1-secret.json"), incidents.join("b")).unwrap();
        fs::create_dir(incidents.join("c")).unwrap();
        assert_eq!(run.incidents().unwrap(), []);
    }
}
