//! The state of a delivery on disk.
//!
//! While a run is going, its ring holds the messages that wait, and this file the number up to
//! which they are sent, so that a start after a kill repeats none. A run that ends with messages
//! left leaves them here, for a start that resumes the run.

use std::io;
use std::path::{Path, PathBuf};

use logcore::files::{Folder, random_suffix};
use logcore_delivery::{load_position, save_position};
use serde::{Deserialize, Serialize};

use crate::message::{Message, Source};

/// The folder of the states, in that of the run.
const FOLDER: &str = "webhook";

/// The file of one sink.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    /// The folder of the run.
    run_dir: PathBuf,
    /// The path in there.
    path: PathBuf,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedState {
    pub(crate) source: Source,
    /// The fingerprint of the destination.
    pub(crate) destination: String,
    /// The number of the last message that needs no further try.
    pub(crate) sent: u64,
    /// The messages that an ended run has left.
    pub(crate) unsent: Vec<Message>,
}

impl StateFile {
    /// Returns a file that does not exist yet.
    pub(crate) fn new(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            path: Path::new(FOLDER).join(format!("{}.json", random_suffix())),
        }
    }

    /// Returns the file of a resume point.
    pub(crate) fn at(run_dir: &Path, path: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Returns the path in the folder of the run.
    pub(crate) fn relative_path(&self) -> &Path {
        &self.path
    }

    /// Returns the path for people.
    pub(crate) fn path(&self) -> PathBuf {
        self.run_dir.join(&self.path)
    }

    /// Reads the state; a missing file is an empty one.
    pub(crate) fn load(&self) -> io::Result<SavedState> {
        match Folder::open(&self.run_dir) {
            Ok(folder) => Ok(load_position(&folder, &self.path)?.unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SavedState::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the state.
    pub(crate) fn save(&self, state: &SavedState) -> io::Result<()> {
        let folder = Folder::open(&self.run_dir)?;
        folder.create_dir_all(Path::new(FOLDER))?;
        save_position(&folder, &self.path, state)
    }

    /// Removes the file, and its folder with the last file.
    pub(crate) fn remove(&self) {
        if let Ok(folder) = Folder::open(&self.run_dir) {
            // Another sink may have files in the folder, and there may be no file.
            let _ = folder.remove_file(&self.path);
            let _ = folder.remove_dir(Path::new(FOLDER));
        }
    }

    /// Takes the messages that earlier attempts of the same logger and rank have left for the
    /// destination, and removes their files.
    pub(crate) fn take_left(run_dir: &Path, source: &Source, destination: &str) -> Vec<Message> {
        let mut left = Vec::new();
        if source.attempt < 2 {
            return left;
        }
        let entries = Folder::open(&run_dir.join(FOLDER)).and_then(|folder| folder.entries());
        for entry in entries.unwrap_or_default() {
            let file = Self::at(run_dir, &Path::new(FOLDER).join(&entry.name));
            let Ok(state) = file.load() else { continue };
            let is_ours = state.source.logger == source.logger && state.source.rank == source.rank;
            if is_ours && state.source.attempt < source.attempt && state.destination == destination {
                left.extend(state.unsent.into_iter().map(|message| Message { number: 0, ..message }));
                file.remove();
            }
        }
        left
    }
}
