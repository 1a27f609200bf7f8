//! A file that is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::MergeError;

/// Written under another name until it is finished. Dropped unfinished, it is gone.
pub(crate) struct Output {
    path: PathBuf,
    unfinished: PathBuf,
    file: BufWriter<File>,
}

impl Output {
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self, MergeError> {
        let path = folder.join(name);
        let unfinished = folder.join(format!(".{name}.{}.new", std::process::id()));
        let created = fs::create_dir_all(folder).and_then(|()| File::create(&unfinished));
        match created {
            Ok(file) => Ok(Self {
                path,
                unfinished,
                file: BufWriter::new(file),
            }),
            Err(error) => Err(MergeError::Unwritable { path, error }),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), MergeError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.unwritable(error))
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> Result<PathBuf, MergeError> {
        let finished = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.unfinished, &self.path));
        finished.map_err(|error| self.unwritable(error))?;
        Ok(self.path.clone())
    }

    fn unwritable(&self, error: io::Error) -> MergeError {
        MergeError::Unwritable {
            path: self.path.clone(),
            error,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After `finish` there is none.
        let _ = fs::remove_file(&self.unfinished);
    }
}
