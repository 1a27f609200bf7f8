//! A folder by path, for systems without descriptors of folders: each component is checked before
//! it is used.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{EntryKind, FolderEntry};

/// A folder by path.
#[derive(Debug)]
pub(super) struct PathFolder(PathBuf);

impl PathFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match path.is_dir() {
            true => path.canonicalize().map(Self),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn is_removed(&self) -> bool {
        !self.0.is_dir()
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    pub(super) fn entries(&self) -> io::Result<Vec<FolderEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let metadata = entry.path().symlink_metadata()?;
            entries.push(FolderEntry {
                name: entry.file_name(),
                kind: match metadata.file_type() {
                    kind if kind.is_dir() => EntryKind::Folder,
                    kind if kind.is_file() => EntryKind::File,
                    kind if kind.is_symlink() => EntryKind::Link,
                    _ => EntryKind::Other,
                },
                bytes: metadata.len(),
            });
        }
        Ok(entries)
    }

    pub(super) fn folder(&self, relative: &Path) -> io::Result<Self> {
        Self::open(&self.resolve_beneath(relative)?)
    }

    pub(super) fn open_file(&self, relative: &Path) -> io::Result<File> {
        File::open(self.resolve_beneath(relative)?)
    }

    pub(super) fn replace(&self, relative: &Path, contents: &[u8]) -> io::Result<()> {
        crate::files::replace(&self.resolve_parent(relative)?, contents)
    }

    pub(super) fn append(&self, relative: &Path) -> io::Result<File> {
        let path = self.resolve_parent(relative)?;
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(crate::files::open::link_error());
        }
        OpenOptions::new().read(true).append(true).create(true).open(path)
    }

    pub(super) fn create_new(&self, relative: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.resolve_parent(relative)?)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.resolve_parent(from)?, self.resolve_parent(to)?)
    }

    pub(super) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = self.resolve_parent(to)?;
        match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(self.resolve_parent(from)?, to),
        }
    }

    pub(super) fn link(&self, from: &Path, folder: &Self, to: &Path) -> io::Result<()> {
        fs::hard_link(self.resolve_beneath(from)?, folder.resolve_parent(to)?)
    }

    pub(super) fn remove_file(&self, relative: &Path) -> io::Result<()> {
        fs::remove_file(self.resolve_parent(relative)?)
    }

    pub(super) fn remove_dir(&self, relative: &Path) -> io::Result<()> {
        fs::remove_dir(self.resolve_parent(relative)?)
    }

    /// Returns a path whose last component may be a link, or missing.
    fn resolve_parent(&self, relative: &Path) -> io::Result<PathBuf> {
        self.resolve_beneath(relative.parent().unwrap_or(Path::new("")))?;
        Ok(self.0.join(relative))
    }

    pub(super) fn create_dir_all(&self, relative: &Path) -> io::Result<()> {
        let mut at = self.0.clone();
        for component in relative.components() {
            at.push(component);
            match fs::create_dir(&at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        self.resolve_beneath(relative).map(drop)
    }

    /// Returns the path if no component is a link.
    fn resolve_beneath(&self, relative: &Path) -> io::Result<PathBuf> {
        let mut at = self.0.clone();
        for component in relative.components() {
            at.push(component);
            if at.symlink_metadata()?.is_symlink() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the path leads over a link",
                ));
            }
        }
        Ok(at)
    }
}
