//! Writes a merged file that exists completely or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use logcore::files::{Replacement, remove_stale_replacements};

use crate::MergeError;

/// A merged file. It has a temporary name until it is finished, and is deleted if dropped before.
pub(crate) struct MergedOutput {
    path: PathBuf,
    file: BufWriter<Replacement>,
}

impl MergedOutput {
    /// Creates the file under a temporary name, and its folder.
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self, MergeError> {
        let path = folder.join(name);
        let begun = fs::create_dir_all(folder).and_then(|()| {
            // A pipe or a device would be gone for all who use it.
            let is_other = path
                .symlink_metadata()
                .is_ok_and(|there| !there.is_file() && !there.is_symlink());
            if is_other {
                return Err(io::Error::other(
                    "something else than a file is there; remove it or name another folder",
                ));
            }
            // A killed merge has left what may fill the disk.
            remove_stale_replacements(folder);
            Replacement::begin(&path)
        });
        match begun {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::new(file),
            }),
            Err(error) => Err(MergeError::Unwritable { path, error }),
        }
    }

    /// Appends to the file.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), MergeError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| MergeError::Unwritable {
            path: self.path.clone(),
            error,
        })
    }

    /// Flushes the file to the disk and gives it its name. Returns its path.
    pub(crate) fn finish(self) -> Result<PathBuf, MergeError> {
        let path = self.path;
        let finished = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.file().sync_all().and_then(|()| file.finish()));
        match finished {
            Ok(()) => Ok(path),
            Err(error) => Err(MergeError::Unwritable { path, error }),
        }
    }
}
