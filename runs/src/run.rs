//! Runs by their folders: reading, listing and finding them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use logcore::{RunManifest, RunState};

use crate::merge::rank_files::{self, RankFiles};
use crate::rows::Rows;
use crate::{MergeError, RunError};

/// A run that has left its files in a folder.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore::RunState;
/// use logcore_runs::StoredRun;
/// use std::fs;
///
/// fs::write(folder.path().join("run.json"), r#"{"id":"k3v9q2ab","state":"finished"}"#).unwrap();
/// fs::write(folder.path().join("metrics.jsonl"), "{\"step\":7,\"time\":1.0,\"logger\":\"a\",\"loss\":0.5}\n").unwrap();
///
/// let run = StoredRun::open(folder.path())?;
/// assert_eq!((run.manifest.id.as_str(), run.state), ("k3v9q2ab", RunState::Finished));
/// let rows: Vec<_> = run.rows(0)?.collect::<Result<_, _>>()?;
/// assert_eq!(rows[0].value("loss"), Some(0.5));
/// # Ok::<(), logcore_runs::RunError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoredRun {
    /// Folder of the run's files.
    pub dir: PathBuf,
    /// Content of `run.json`.
    pub manifest: RunManifest,
    /// State at the moment of reading: a run whose process is gone is `killed`, whatever `run.json`
    /// says.
    pub state: RunState,
}

impl StoredRun {
    /// Reads the run in a folder.
    ///
    /// # Errors
    ///
    /// If the folder holds no `run.json`, or one that cannot be read.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        let manifest = RunManifest::read(dir).map_err(|error| RunError::Unreadable {
            path: dir.join(RunManifest::FILE),
            line: 0,
            error,
        })?;
        Ok(Self {
            state: manifest.read_state(dir),
            dir: dir.to_owned(),
            manifest,
        })
    }

    /// Returns the number of the newest attempt, from 1.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    ///
    /// std::fs::write(folder.path().join("run.json"), r#"{"attempts":[{},{}]}"#).unwrap();
    /// assert_eq!(StoredRun::open(folder.path())?.newest_attempt(), 2);
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    #[must_use]
    pub fn newest_attempt(&self) -> u32 {
        u32::try_from(self.manifest.attempts.len().max(1)).unwrap_or(u32::MAX)
    }

    /// Returns the files with rows, by rank.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn row_files(&self) -> Result<BTreeMap<u32, PathBuf>, RunError> {
        Ok(self.files()?.remove("metrics.jsonl").unwrap_or_default())
    }

    /// Returns the files that several ranks may have.
    pub(crate) fn files(&self) -> Result<RankFiles, RunError> {
        rank_files::find(&self.dir).map_err(|error| match error {
            MergeError::Unreadable { path, line, error } => RunError::Unreadable { path, line, error },
            _ => RunError::unreadable(&self.dir, io::ErrorKind::InvalidData.into()),
        })
    }

    /// Returns the files by rank that have this name at rank 0.
    pub(crate) fn files_of(&self, name: &str) -> Result<BTreeMap<u32, PathBuf>, RunError> {
        let mut files = self.files()?.remove(name).unwrap_or_default();
        let first = self.dir.join(name);
        if first.symlink_metadata().is_ok() {
            files.insert(0, first);
        }
        Ok(files)
    }

    /// Returns the text files, by rank. Of several of one rank, `training.log` counts, else the
    /// first one by name.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// for name in ["training.log", "training.rank1.log", "training.log.1", "notes.txt"] {
    ///     fs::write(folder.path().join(name), "").unwrap();
    /// }
    /// fs::write(folder.path().join("run.json"), "{}").unwrap();
    /// let files = StoredRun::open(folder.path())?.text_files()?;
    /// assert_eq!(files.keys().copied().collect::<Vec<_>>(), [0, 1]);
    /// assert!(files[&1].ends_with("training.rank1.log"));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn text_files(&self) -> Result<BTreeMap<u32, PathBuf>, RunError> {
        let mut files = self.files()?;
        // A file of another name does not stand for it.
        let mut texts = files.remove("training.log").unwrap_or_default();
        for (name, files) in files {
            if !name.ends_with(".jsonl") {
                for (rank, path) in files {
                    texts.entry(rank).or_insert(path);
                }
            }
        }
        if texts.contains_key(&0) {
            return Ok(texts);
        }
        // A text file of another name that one rank alone has.
        let entries = fs::read_dir(&self.dir).map_err(|error| RunError::unreadable(&self.dir, error))?;
        let names = entries.flatten().map(|entry| entry.path());
        let logs = names.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        texts.extend(logs.min().map(|path| (0, path)));
        Ok(texts)
    }

    /// Returns the rows of a rank, each step of each logger from its newest attempt. Several values
    /// of one name at one step are reduced to the last one.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// let manifest = r#"{"state":"finished","attempts":[{},{"first_step":{"a":2}}]}"#;
    /// fs::write(folder.path().join("run.json"), manifest).unwrap();
    /// let rows = [(1, 1), (2, 1), (3, 1), (2, 2)].map(|(step, attempt)| {
    ///     format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"a\",\"attempt\":{attempt}}}\n")
    /// });
    /// fs::write(folder.path().join("metrics.jsonl"), rows.concat()).unwrap();
    ///
    /// let run = StoredRun::open(folder.path())?;
    /// let rows: Vec<_> = run.rows(0)?.collect::<Result<_, _>>()?;
    /// let steps: Vec<_> = rows.iter().map(|row| (row.step, row.attempt)).collect();
    /// assert_eq!(steps, [(1, 1), (2, 2)]);
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a file cannot be opened. A rank without rows has none.
    pub fn rows(&self, rank: u32) -> Result<Rows, RunError> {
        let path = self.row_files()?.remove(&rank);
        let is_live = self.state == RunState::Running;
        Rows::open(path.as_deref(), &self.manifest.superseded_rows(), is_live)
    }

    /// Returns the rows of a rank as [`rows`](Self::rows) does, with every value: several values of
    /// one name at one step are rows of their own.
    ///
    /// # Errors
    ///
    /// If a file cannot be opened.
    pub fn all_rows(&self, rank: u32) -> Result<Rows, RunError> {
        Ok(self.rows(rank)?.with_every_value())
    }
}

/// The runs in a `log_dir`; returned by [`list_runs`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RunList {
    /// The runs, the one that started last first.
    pub runs: Vec<StoredRun>,
    /// Folders whose `run.json` cannot be read.
    pub problems: Vec<RunError>,
}

/// Lists the runs in a `log_dir`: its folders that hold a `run.json`, and the `log_dir` itself.
///
/// Links are not followed, so the run that `latest` leads to is listed once.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// use logcore_runs::list_runs;
/// use std::fs;
///
/// for (name, started) in [("first", 10.0), ("second", 20.0)] {
///     fs::create_dir(log_dir.join(name)).unwrap();
///     let manifest = format!("{{\"name\":\"{name}\",\"started\":{started},\"state\":\"finished\"}}");
///     fs::write(log_dir.join(name).join("run.json"), manifest).unwrap();
/// }
/// let list = list_runs(log_dir)?;
/// let names: Vec<_> = list.runs.iter().map(|run| run.manifest.name.as_str()).collect();
/// assert_eq!(names, ["second", "first"]);
/// # Ok::<(), logcore_runs::RunError>(())
/// ```
///
/// # Errors
///
/// If the folder cannot be read.
pub fn list_runs(log_dir: &Path) -> Result<RunList, RunError> {
    let mut list = RunList::default();
    for folder in read_folders(log_dir)? {
        match StoredRun::open(&folder) {
            Ok(run) => list.runs.push(run),
            Err(error) if error.is_not_found() => {}
            Err(error) => list.problems.push(error),
        }
    }
    let runs = &mut list.runs;
    runs.sort_by(|a, b| {
        b.manifest
            .started
            .total_cmp(&a.manifest.started)
            .then(a.dir.cmp(&b.dir))
    });
    Ok(list)
}

/// Returns the folders that may hold a run: the `log_dir` itself, and its folders that are no
/// links.
pub(crate) fn read_folders(log_dir: &Path) -> Result<Vec<PathBuf>, RunError> {
    let unreadable = |error| RunError::unreadable(log_dir, error);
    let mut folders = vec![log_dir.to_owned()];
    for entry in fs::read_dir(log_dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Finds a run: by its folder, by the folder's name in `log_dir`, by its id or the beginning of the
/// id, or by `latest` for the one that started last.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// # std::fs::create_dir(log_dir.join("baseline")).unwrap();
/// # std::fs::write(log_dir.join("baseline/run.json"), "{\"id\":\"k3v9q2ab\",\"state\":\"finished\"}").unwrap();
/// for name in ["k3v9", "baseline", "latest"] {
///     assert_eq!(logcore_runs::find_run(log_dir, name)?.manifest.id, "k3v9q2ab");
/// }
/// assert!(logcore_runs::find_run(log_dir, "z").unwrap_err().to_string().contains("no run"));
/// # Ok::<(), logcore_runs::RunError>(())
/// ```
///
/// # Errors
///
/// If there is no such run, or several runs have an id that begins so. Copies of a run have the
/// same id, and are told apart by their folders.
pub fn find_run(log_dir: &Path, name: &str) -> Result<StoredRun, RunError> {
    if name != LATEST {
        // A folder of its own wins over one beneath `log_dir`; an absolute path is both.
        for folder in [PathBuf::from(name), log_dir.join(name)] {
            match StoredRun::open(&folder) {
                Err(error) if error.is_not_found() => {}
                found => return found,
            }
        }
    }
    let mut runs = list_runs(log_dir)?.runs.into_iter();
    if name == LATEST {
        return runs.next().ok_or_else(|| RunError::none(log_dir, name));
    }
    let mut found: Vec<StoredRun> = runs.filter(|run| run.manifest.id.starts_with(name)).collect();
    if found.iter().any(|run| run.manifest.id == name) {
        found.retain(|run| run.manifest.id == name);
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(RunError::none(log_dir, name)),
        _ => Err(RunError::Ambiguous {
            name: name.to_owned(),
            folders: found.iter().map(|run| run.dir.clone()).collect(),
            ids: found.into_iter().map(|run| run.manifest.id).collect(),
        }),
    }
}

/// The name that stands for the newest run, also as a link in `log_dir`.
pub(crate) const LATEST: &str = "latest";

#[cfg(test)]
mod tests {
    use super::*;

    fn write_run(folder: &Path, id: &str, started: f64) {
        fs::create_dir_all(folder).unwrap();
        let manifest = format!("{{\"id\":\"{id}\",\"started\":{started},\"state\":\"finished\"}}");
        fs::write(folder.join(RunManifest::FILE), manifest).unwrap();
    }

    #[test]
    fn the_list_has_each_run_once_and_names_what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let log_dir = folder.path();
        write_run(&log_dir.join("one"), "aaaa1111", 10.0);
        write_run(&log_dir.join("two"), "aaaa2222", 30.0);
        write_run(log_dir, "bbbb1111", 20.0);
        fs::create_dir_all(log_dir.join("checkpoints")).unwrap();
        fs::create_dir_all(log_dir.join("broken")).unwrap();
        fs::write(log_dir.join("broken/run.json"), "{").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("two", log_dir.join(LATEST)).unwrap();
        let list = list_runs(log_dir).unwrap();
        let ids: Vec<_> = list.runs.iter().map(|run| run.manifest.id.as_str()).collect();
        assert_eq!(ids, ["aaaa2222", "bbbb1111", "aaaa1111"]);
        assert_eq!(list.problems.len(), 1);
        assert!(list.problems[0].to_string().contains("broken"), "{}", list.problems[0]);
    }

    #[test]
    fn a_run_is_found_by_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let log_dir = folder.path();
        write_run(&log_dir.join("one"), "aaaa1111", 10.0);
        write_run(&log_dir.join("two"), "aaaa2222", 30.0);
        let id = |name: &str| find_run(log_dir, name).map(|run| run.manifest.id);
        assert_eq!(id("aaaa1").unwrap(), "aaaa1111");
        assert_eq!(id("one").unwrap(), "aaaa1111");
        assert_eq!(id("latest").unwrap(), "aaaa2222");
        assert_eq!(id(log_dir.join("two").to_str().unwrap()).unwrap(), "aaaa2222");
        let error = id("aaaa").unwrap_err();
        assert!(
            matches!(&error, RunError::Ambiguous { ids, .. } if ids.len() == 2),
            "{error}"
        );
        assert!(matches!(id("cccc").unwrap_err(), RunError::None { .. }));
    }

    #[test]
    fn copies_of_a_run_are_told_apart_by_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let log_dir = folder.path();
        write_run(&log_dir.join("one"), "aaaa1111", 10.0);
        write_run(&log_dir.join("copy"), "aaaa1111", 10.0);
        write_run(&log_dir.join("longer"), "aaaa11112", 20.0);
        for (name, folders) in [("aaaa1111", 2), ("aaaa", 3)] {
            let error = find_run(log_dir, name).unwrap_err().to_string();
            let named = ["one", "copy", "longer"].map(|run| log_dir.join(run).display().to_string());
            let named: Vec<_> = named.iter().filter(|run| error.contains(*run)).collect();
            assert_eq!(named.len(), folders, "{error}");
        }
        assert_eq!(find_run(log_dir, "aaaa11112").unwrap().manifest.id, "aaaa11112");
    }
}
