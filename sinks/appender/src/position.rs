use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Rotation;
use crate::file_id::FileId;

/// Where an [`Appender`](crate::Appender) stands: enough for another process to go on from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilePosition {
    pub(crate) path: PathBuf,
    pub(crate) rotation: Rotation,
    pub(crate) file: Option<FileId>,
    /// Where our newest record ends in that file.
    pub(crate) end: u64,
}

impl FilePosition {
    /// The path, which a mark has without its folder: whoever goes on from there knows where that is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same place, with another path.
    #[must_use]
    pub fn at(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// The same place, with nothing of the path but the file's name.
    #[must_use]
    pub fn named(self) -> Self {
        let name = self.path.file_name().map(PathBuf::from);
        self.at(name.unwrap_or_default())
    }

    /// The end of a file that nobody has opened yet, and which may not be there.
    pub fn end_of(path: &Path) -> Self {
        let there = fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            rotation: Rotation::default(),
            file: there.as_ref().and_then(FileId::of),
            end: there.map_or(0, |metadata| metadata.len()),
        }
    }
}
