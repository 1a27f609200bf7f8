//! Access to the files beneath an untrusted folder.
//!
//! Somebody else may control a folder: a log directory that was copied, shared or sent. Every
//! function takes a relative path, refuses a path that leads out of the folder or over a link, and
//! never waits for a pipe.

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(not(unix))]
use self::portable::PathFolder as FolderHandle;
#[cfg(unix)]
use self::unix::DescriptorFolder as FolderHandle;

/// An open folder. No path leads out of the folder, and no link is followed, even if another
/// process changes the folder at the same time.
///
/// ```
/// use std::path::Path;
///
/// let outside = tempfile::tempdir().unwrap();
/// std::fs::create_dir(outside.path().join("run")).unwrap();
/// std::fs::write(outside.path().join("key"), "secret").unwrap();
///
/// let run = logcore::files::Folder::open(&outside.path().join("run")).unwrap();
/// run.create_dir_all(Path::new("media/images")).unwrap();
/// run.replace(Path::new("media/images/a.txt"), b"a").unwrap();
/// assert_eq!(run.read(Path::new("media/images/a.txt"), 10).unwrap(), b"a");
/// assert!(run.read(Path::new("../key"), 10).is_err());
/// ```
#[derive(Debug)]
pub struct Folder(FolderHandle);

/// An entry of a folder; see [`Folder::entries`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// Name of the entry.
    pub name: OsString,
    /// Kind of the entry itself, whatever a link leads to.
    pub kind: EntryKind,
    /// Length in bytes.
    pub bytes: u64,
}

/// The kind of an entry of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder of the same file system.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device, or a folder that another file system is mounted on.
    Other,
}

impl Folder {
    /// Opens a folder. Follows links in `path`, because the caller chose the path.
    ///
    /// # Errors
    ///
    /// If the folder does not exist, or the process may not read it.
    pub fn open(path: &Path) -> io::Result<Self> {
        FolderHandle::open(path).map(Self)
    }

    /// Returns `true` if the folder was removed since it was opened. A new folder of the same name
    /// does not count.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.0.is_removed()
    }

    /// Returns `true` if both are the same folder, whatever paths led to them.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// let outside = tempfile::tempdir().unwrap();
    /// std::fs::create_dir(outside.path().join("run")).unwrap();
    /// let folder = logcore::files::Folder::open(outside.path()).unwrap();
    /// let run = folder.folder(Path::new("run")).unwrap();
    /// folder.rename(Path::new("run"), Path::new("moved")).unwrap();
    /// assert!(run.is_same_as(&folder.folder(Path::new("moved")).unwrap()));
    /// assert!(!run.is_same_as(&folder));
    /// ```
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.is_same_as(&other.0)
    }

    /// Returns the entries of the folder, in no order.
    ///
    /// ```
    /// use logcore::files::{EntryKind, Folder};
    ///
    /// let outside = tempfile::tempdir().unwrap();
    /// std::fs::write(outside.path().join("log"), "one").unwrap();
    /// let entries = Folder::open(outside.path()).unwrap().entries().unwrap();
    /// assert_eq!((entries[0].kind, entries[0].bytes), (EntryKind::File, 3));
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn entries(&self) -> io::Result<Vec<FolderEntry>> {
        self.0.entries()
    }

    /// Opens a folder beneath this folder.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link, or is not a folder.
    pub fn folder(&self, relative: &Path) -> io::Result<Self> {
        check_relative(relative)?;
        self.0.folder(relative).map(Self)
    }

    /// Opens a regular file for reading. Never waits.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the path leads out of the folder or over a link, or is
    /// not a regular file.
    pub fn open_file(&self, relative: &Path) -> io::Result<File> {
        check_relative(relative)?;
        crate::files::check_regular(self.0.open_file(relative)?)
    }

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`open_file`](Self::open_file); [`io::ErrorKind::FileTooLarge`] beyond the limit.
    pub fn read(&self, relative: &Path, limit: u64) -> io::Result<Vec<u8>> {
        crate::files::open::read_file(self.open_file(relative)?, limit)
    }

    /// Opens a regular file for reading and appending, and creates a missing file. Never waits.
    ///
    /// ```
    /// use std::io::Write as _;
    /// use std::path::Path;
    ///
    /// let outside = tempfile::tempdir().unwrap();
    /// let run = logcore::files::Folder::open(outside.path()).unwrap();
    /// run.append(Path::new("log")).unwrap().write_all(b"one\n").unwrap();
    /// run.append(Path::new("log")).unwrap().write_all(b"two\n").unwrap();
    /// run.rename(Path::new("log"), Path::new("old")).unwrap();
    /// assert_eq!(run.read(Path::new("old"), 100).unwrap(), b"one\ntwo\n");
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`open_file`](Self::open_file).
    pub fn append(&self, relative: &Path) -> io::Result<File> {
        check_relative(relative)?;
        crate::files::check_regular(self.0.append(relative)?)
    }

    /// Creates a file and opens it for writing.
    ///
    /// # Errors
    ///
    /// If the path exists, or leads out of the folder or over a link, or the system refuses.
    pub fn create_new(&self, relative: &Path) -> io::Result<File> {
        check_relative(relative)?;
        self.0.create_new(relative)
    }

    /// Renames a file or folder, and replaces a file of the new name.
    ///
    /// # Errors
    ///
    /// If a path leads out of the folder or over a link, or the system refuses.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check_relative(from)?;
        check_relative(to)?;
        self.0.rename(from, to)
    }

    /// Renames a file, which must lie in the same file system. Fails if `to` exists, even if that
    /// is a link to nothing.
    ///
    /// # Errors
    ///
    /// If the file cannot be renamed.
    pub fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        check_relative(from)?;
        check_relative(to)?;
        self.0.rename_new(from, to)
    }

    /// Gives a file beneath this folder a second name beneath another folder, where nothing has
    /// this name.
    ///
    /// # Errors
    ///
    /// If the file system has no such links, or the folders lie in two file systems.
    pub fn link(&self, from: &Path, folder: &Self, to: &Path) -> io::Result<()> {
        check_relative(from)?;
        check_relative(to)?;
        crate::files::check_regular(self.0.open_file(from)?)?;
        self.0.link(from, &folder.0, to)
    }

    /// Removes a file, or a link but not its target.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link before its end, or the system refuses.
    pub fn remove_file(&self, relative: &Path) -> io::Result<()> {
        check_relative(relative)?;
        self.0.remove_file(relative)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    ///
    /// Those of [`remove_file`](Self::remove_file); also if the folder is not empty.
    pub fn remove_dir(&self, relative: &Path) -> io::Result<()> {
        check_relative(relative)?;
        self.0.remove_dir(relative)
    }

    /// Writes `contents` to a new file and renames it to the path. Replaces a file or a link, but
    /// not the target of the link.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link, or the system refuses.
    pub fn replace(&self, relative: &Path, contents: &[u8]) -> io::Result<()> {
        check_relative(relative)?;
        self.0.replace(relative, contents)
    }

    /// Creates all missing folders of the path.
    ///
    /// # Errors
    ///
    /// If a part of the path is a link or a file, or the system refuses.
    pub fn create_dir_all(&self, relative: &Path) -> io::Result<()> {
        check_relative(relative)?;
        self.0.create_dir_all(relative)
    }
}

/// Refuses a path that leads out of the folder.
fn check_relative(relative: &Path) -> io::Result<()> {
    match crate::files::is_plain_relative(relative) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path leads out of its folder",
        )),
    }
}

#[cfg(all(test, unix))]
mod tests;
