//! The state of a delivery on disk.
//!
//! While a run is going, its ring holds the messages that wait, and this file the number up to
//! which they are sent, so that a start after a kill repeats none. Messages that came from an
//! earlier attempt are in no ring, so the file has them. A run that ends with messages left leaves
//! all of them here, for a start that resumes the run.
//!
//! The file is locked for as long as a sender may send the messages. Each save replaces the file by
//! another one that is locked before.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use logcore::files::{Folder, identity, lock_within, random_suffix};
use logcore_delivery::load_position;
use serde::{Deserialize, Serialize};

use crate::message::{Message, Source};

/// The folder of the states, in that of the run.
const FOLDER: &str = "webhook";
/// Time for a sender that has just ended to let go of its lock.
const PATIENCE: Duration = Duration::from_millis(100);

/// The file of one sink.
#[derive(Debug)]
pub(crate) struct StateFile {
    /// The folder of the run.
    run_dir: PathBuf,
    /// The path in there.
    path: PathBuf,
    /// The file while it is locked.
    lock: Option<File>,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedState {
    pub(crate) source: Source,
    /// The fingerprint of the destination.
    pub(crate) destination: String,
    /// The number of the last message that needs no further try.
    pub(crate) sent: u64,
    /// The messages that no ring has.
    pub(crate) unsent: Vec<Message>,
}

impl StateFile {
    /// Returns a file that does not exist yet.
    pub(crate) fn new(run_dir: &Path) -> Self {
        Self::at(run_dir, &Path::new(FOLDER).join(format!("{}.json", random_suffix())))
    }

    /// Returns the file of a resume point.
    pub(crate) fn at(run_dir: &Path, path: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            path: path.to_owned(),
            lock: None,
        }
    }

    /// Finds the files of earlier attempts of the same logger and rank that have messages for the
    /// destination, and locks them. A file whose sender may still send is left out.
    pub(crate) fn lock_left(run_dir: &Path, source: &Source, destination: &str) -> Vec<(Self, Vec<Message>)> {
        let mut left = Vec::new();
        if source.attempt < 2 {
            return left;
        }
        let entries = Folder::open(&run_dir.join(FOLDER)).and_then(|folder| folder.entries());
        for entry in entries.unwrap_or_default() {
            let mut file = Self::at(run_dir, &Path::new(FOLDER).join(&entry.name));
            // Only the state behind the lock is sure to be the last one.
            if file.messages_left(source, destination).is_some()
                && matches!(file.lock(), Ok(true))
                && let Some(messages) = file.messages_left(source, destination)
            {
                left.push((file, messages));
            }
        }
        left
    }

    /// Returns the path in the folder of the run.
    pub(crate) fn relative_path(&self) -> &Path {
        &self.path
    }

    /// Returns the path for people.
    pub(crate) fn path(&self) -> PathBuf {
        self.run_dir.join(&self.path)
    }

    /// Locks the file until the value is dropped. Returns `false` if a sender has the file, or has
    /// just replaced or removed it. A missing file needs no lock.
    pub(crate) fn lock(&mut self) -> io::Result<bool> {
        let folder = match Folder::open(&self.run_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            folder => folder?,
        };
        match folder.open_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            found => drop(found?),
        }
        // Some network file systems lock only files that are open for writing.
        let file = folder.append(&self.path)?;
        // A file system without locks is no reason to refuse.
        if matches!(lock_within(&file, PATIENCE), Ok(false)) {
            return Ok(false);
        }
        let current = folder.open_file(&self.path).and_then(|file| file.metadata());
        if !current.is_ok_and(|current| file.metadata().is_ok_and(|own| identity(&own) == identity(&current))) {
            return Ok(false);
        }
        self.lock = Some(file);
        Ok(true)
    }

    /// Reads the state; a missing file is an empty one.
    pub(crate) fn load(&self) -> io::Result<SavedState> {
        match Folder::open(&self.run_dir) {
            Ok(folder) => Ok(load_position(&folder, &self.path)?.unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SavedState::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the state, which is locked from then on.
    pub(crate) fn save(&mut self, state: &SavedState) -> io::Result<()> {
        let content = serde_json::to_vec(state)?;
        let folder = Folder::open(&self.run_dir)?;
        folder.create_dir_all(Path::new(FOLDER))?;
        let temporary = Path::new(FOLDER).join(format!(".logcore-{}.tmp", random_suffix()));
        let mut file = folder.create_new(&temporary)?;
        // Nobody else has the new file, so that only a file system without locks refuses.
        let _ = file.try_lock();
        let saved = file
            .write_all(&content)
            .and_then(|()| folder.rename(&temporary, &self.path));
        match saved {
            Ok(()) => self.lock = Some(file),
            Err(_) => drop(folder.remove_file(&temporary)),
        }
        saved
    }

    /// Removes the file, and its folder with the last file.
    pub(crate) fn remove(&mut self) {
        if let Ok(folder) = Folder::open(&self.run_dir) {
            // Another sink may have files in the folder, and there may be no file.
            let _ = folder.remove_file(&self.path);
            let _ = folder.remove_dir(Path::new(FOLDER));
        }
        self.lock = None;
    }

    /// Returns the messages that an earlier attempt has left, as messages of an earlier attempt.
    fn messages_left(&self, source: &Source, destination: &str) -> Option<Vec<Message>> {
        let state = self.load().ok()?;
        let is_ours = state.source.logger == source.logger && state.source.rank == source.rank;
        let is_left = state.source.attempt < source.attempt && state.destination == destination;
        // A state without messages may still tell a recovery what is sent.
        (is_ours && is_left && !state.unsent.is_empty()).then(|| {
            let messages = state.unsent.into_iter();
            messages.map(|message| Message { number: 0, ..message }).collect()
        })
    }
}
