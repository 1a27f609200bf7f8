//! A folder by descriptor, on Unix.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, linkat, mkdirat, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::{EntryKind, FolderEntry};
use crate::files::random_suffix;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const APPEND: OFlags = OFlags::RDWR
    .union(OFlags::APPEND)
    .union(OFlags::CREATE)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const CREATE_NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A folder by descriptor.
#[derive(Debug)]
pub(super) struct DescriptorFolder(OwnedFd);

impl DescriptorFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, DIRECTORY, Mode::empty())?))
    }

    pub(super) fn is_removed(&self) -> bool {
        fstat(&self.0).is_ok_and(|stat| stat.st_nlink == 0)
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let identity = |folder: &Self| fstat(&folder.0).map(|stat| (stat.st_dev, stat.st_ino));
        identity(self).is_ok_and(|own| identity(other) == Ok(own))
    }

    pub(super) fn entries(&self) -> io::Result<Vec<FolderEntry>> {
        let device = fstat(&self.0)?.st_dev;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let stat = match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Another process has removed the entry meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            entries.push(FolderEntry {
                name: name.to_owned(),
                kind: match FileType::from_raw_mode(stat.st_mode) {
                    // A mounted folder belongs to somebody else.
                    FileType::Directory if stat.st_dev == device => EntryKind::Folder,
                    FileType::RegularFile => EntryKind::File,
                    FileType::Symlink => EntryKind::Link,
                    _ => EntryKind::Other,
                },
                bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            });
        }
        Ok(entries)
    }

    pub(super) fn folder(&self, relative: &Path) -> io::Result<Self> {
        self.open_beneath(relative, DIRECTORY).map(Self)
    }

    pub(super) fn open_file(&self, relative: &Path) -> io::Result<File> {
        self.open_beneath(relative, READ).map(File::from)
    }

    pub(super) fn append(&self, relative: &Path) -> io::Result<File> {
        let (parent, name) = self.split(relative)?;
        let parent = parent.as_ref().unwrap_or(self);
        let file = openat(&parent.0, name, APPEND, Mode::from_raw_mode(0o666)).map_err(describe_link)?;
        Ok(file.into())
    }

    pub(super) fn create_new(&self, relative: &Path) -> io::Result<File> {
        let (parent, name) = self.split(relative)?;
        let parent = parent.as_ref().unwrap_or(self);
        Ok(openat(&parent.0, name, CREATE_NEW, Mode::from_raw_mode(0o666))?.into())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
        let (old, new) = (old.as_ref().unwrap_or(self), new.as_ref().unwrap_or(self));
        Ok(renameat(&old.0, from, &new.0, to)?)
    }

    pub(super) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
        let (old, new) = (old.as_ref().unwrap_or(self), new.as_ref().unwrap_or(self));
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            match renameat_with(&old.0, from, &new.0, to, RenameFlags::NOREPLACE) {
                // Some network file systems cannot do so.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                result => return Ok(result?),
            }
        }
        match linkat(&old.0, from, &new.0, to, AtFlags::empty()) {
            Ok(()) => return Ok(unlinkat(&old.0, from, AtFlags::empty())?),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(error) => return Err(error.into()),
        }
        // Without both, the moment between the check and the renaming remains.
        match statat(&new.0, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(Errno::NOENT) => Ok(renameat(&old.0, from, &new.0, to)?),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn link(&self, from: &Path, folder: &Self, to: &Path) -> io::Result<()> {
        let ((old, from), (new, to)) = (self.split(from)?, folder.split(to)?);
        let (old, new) = (old.as_ref().unwrap_or(self), new.as_ref().unwrap_or(folder));
        Ok(linkat(&old.0, from, &new.0, to, AtFlags::empty())?)
    }

    pub(super) fn remove_file(&self, relative: &Path) -> io::Result<()> {
        self.unlink(relative, AtFlags::empty())
    }

    pub(super) fn remove_dir(&self, relative: &Path) -> io::Result<()> {
        self.unlink(relative, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, relative: &Path, flags: AtFlags) -> io::Result<()> {
        let (parent, name) = self.split(relative)?;
        Ok(unlinkat(&parent.as_ref().unwrap_or(self).0, name, flags)?)
    }

    /// Opens the parent folder of the path, unless it is this folder, and returns the last name of
    /// the path.
    fn split<'a>(&self, relative: &'a Path) -> io::Result<(Option<Self>, &'a OsStr)> {
        match (relative.parent(), relative.file_name()) {
            (Some(parent), Some(name)) if parent != Path::new("") => Ok((Some(self.folder(parent)?), name)),
            (_, Some(name)) => Ok((None, name)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn replace(&self, relative: &Path, contents: &[u8]) -> io::Result<()> {
        let (parent, name) = self.split(relative)?;
        let parent = parent.as_ref().unwrap_or(self);
        let temporary = format!(".logcore-{}.tmp", random_suffix());
        let file = openat(&parent.0, &temporary, CREATE_NEW, Mode::from_raw_mode(0o666))?;
        let replaced = File::from(file)
            .write_all(contents)
            .and_then(|()| Ok(renameat(&parent.0, &temporary, &parent.0, name)?));
        if replaced.is_err() {
            let _ = unlinkat(&parent.0, &temporary, AtFlags::empty());
        }
        replaced
    }

    pub(super) fn create_dir_all(&self, relative: &Path) -> io::Result<()> {
        let mut at = None;
        for component in relative.components() {
            let within = at.as_ref().unwrap_or(&self.0);
            match mkdirat(within, component.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = Some(open_component(within, component, DIRECTORY)?);
        }
        Ok(())
    }

    /// Lets the kernel resolve the path, which is safe against concurrent changes. Without that
    /// system call, opens one component after the other.
    fn open_beneath(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{ResolveFlags, openat2};
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.0, relative, flags, Mode::empty(), resolve) {
                // Linux before 5.6, and some sandboxes, lack the system call.
                Err(Errno::NOSYS | Errno::PERM) => {}
                Err(error) => return Err(describe_link(error)),
                Ok(file) => return Ok(file),
            }
        }
        self.open_stepwise(relative, flags)
    }

    /// Opens each component of the path relative to the one before, without following links.
    pub(super) fn open_stepwise(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mut at = None;
        let mut components = relative.components().peekable();
        while let Some(component) = components.next() {
            let flags = if components.peek().is_some() { DIRECTORY } else { flags };
            at = Some(open_component(at.as_ref().unwrap_or(&self.0), component, flags)?);
        }
        at.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

fn open_component(within: &OwnedFd, component: Component<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    openat(within, component.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty()).map_err(describe_link)
}

/// Replaces the text of the system, which is "too many levels of symbolic links" for a single link.
fn describe_link(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::MLINK | Errno::XDEV => {
            io::Error::new(io::ErrorKind::InvalidInput, "the path leads over a link")
        }
        error => error.into(),
    }
}
