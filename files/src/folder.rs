//! Files beneath a folder that somebody else has made.

use std::fs::File;
use std::io;
use std::path::Path;

/// A folder by descriptor. Beneath it no path leads out of it and no link is followed, whoever changes the folder meanwhile.
///
/// ```
/// use std::path::Path;
///
/// let outside = tempfile::tempdir().unwrap();
/// std::fs::create_dir(outside.path().join("run")).unwrap();
/// std::fs::write(outside.path().join("key"), "secret").unwrap();
///
/// let run = logcore_files::Folder::open(&outside.path().join("run")).unwrap();
/// run.create_dir_all(Path::new("media/images")).unwrap();
/// run.replace(Path::new("media/images/a.txt"), b"a").unwrap();
/// assert_eq!(run.read(Path::new("media/images/a.txt"), 10).unwrap(), b"a");
/// assert!(run.read(Path::new("../key"), 10).is_err());
/// ```
#[derive(Debug)]
pub struct Folder(imp::Folder);

impl Folder {
    /// Opens a folder. Links on the way to it are followed: the caller has chosen it.
    ///
    /// # Errors
    ///
    /// If there is no such folder, or the process may not read it.
    pub fn open(path: &Path) -> io::Result<Self> {
        imp::Folder::open(path).map(Self)
    }

    /// Whether the folder has been removed since it was opened. A new one of its name is another folder.
    pub fn is_removed(&self) -> bool {
        self.0.is_removed()
    }

    /// A folder beneath this one.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link, or is no folder.
    pub fn folder(&self, relative: &Path) -> io::Result<Self> {
        check(relative)?;
        self.0.folder(relative).map(Self)
    }

    /// Opens a regular file beneath the folder for reading; never waits.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link ([`io::ErrorKind::InvalidInput`]), or is no regular file.
    pub fn open_file(&self, relative: &Path) -> io::Result<File> {
        check(relative)?;
        crate::check_regular(self.0.open_file(relative)?)
    }

    /// Reads a regular file of at most `limit` bytes beneath the folder.
    ///
    /// # Errors
    ///
    /// As for [`open_file`](Self::open_file); [`io::ErrorKind::FileTooLarge`] beyond the limit.
    pub fn read(&self, relative: &Path, limit: u64) -> io::Result<Vec<u8>> {
        crate::open::read_file(self.open_file(relative)?, limit)
    }

    /// Opens a regular file beneath the folder for reading and appending; makes it, if nothing is there. Never waits.
    ///
    /// # Errors
    ///
    /// As for [`open_file`](Self::open_file).
    pub fn append(&self, relative: &Path) -> io::Result<File> {
        check(relative)?;
        crate::check_regular(self.0.append(relative)?)
    }

    /// Makes a file beneath the folder, and opens it for writing.
    ///
    /// # Errors
    ///
    /// If anything is there already, the path leads out of the folder or over a link, or the system refuses.
    pub fn create_new(&self, relative: &Path) -> io::Result<File> {
        check(relative)?;
        self.0.create_new(relative)
    }

    /// Gives something beneath the folder another name beneath it, in the place of what has that name.
    ///
    /// # Errors
    ///
    /// If one of the paths leads out of the folder or over a link, or the system refuses.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check(from)?;
        check(to)?;
        self.0.rename(from, to)
    }

    /// Takes away a file, or a link, which leaves what it leads to as it is.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link before its end, or the system refuses.
    pub fn remove_file(&self, relative: &Path) -> io::Result<()> {
        check(relative)?;
        self.0.remove(relative, false)
    }

    /// Takes away a folder that is empty.
    ///
    /// # Errors
    ///
    /// As for [`remove_file`](Self::remove_file); also if it is not empty.
    pub fn remove_dir(&self, relative: &Path) -> io::Result<()> {
        check(relative)?;
        self.0.remove(relative, true)
    }

    /// Puts `contents` in the place of whatever is at the path beneath the folder, which may be a link or nothing.
    ///
    /// # Errors
    ///
    /// If the path leads out of the folder or over a link, or the system refuses.
    pub fn replace(&self, relative: &Path, contents: &[u8]) -> io::Result<()> {
        check(relative)?;
        self.0.replace(relative, contents)
    }

    /// Makes the folders of the path that are not there yet.
    ///
    /// # Errors
    ///
    /// If one of them is a link or something else, or the system refuses.
    pub fn create_dir_all(&self, relative: &Path) -> io::Result<()> {
        check(relative)?;
        self.0.create_dir_all(relative)
    }
}

fn check(relative: &Path) -> io::Result<()> {
    match crate::is_plain_relative(relative) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path leads out of its folder",
        )),
    }
}

#[cfg(unix)]
mod imp {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::{self, Write as _};
    use std::os::fd::OwnedFd;
    use std::path::{Component, Path};

    use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, unlinkat};
    use rustix::io::Errno;

    use crate::random_suffix;

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
    const FRESH: OFlags = OFlags::WRONLY
        .union(OFlags::CREATE)
        .union(OFlags::EXCL)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);

    #[derive(Debug)]
    pub(super) struct Folder(OwnedFd);

    impl Folder {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(open(path, DIRECTORY, Mode::empty())?))
        }

        pub(super) fn is_removed(&self) -> bool {
            rustix::fs::fstat(&self.0).is_ok_and(|there| there.st_nlink == 0)
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
            let file = openat(&parent.0, name, APPEND, Mode::from_raw_mode(0o666)).map_err(name_link)?;
            Ok(file.into())
        }

        pub(super) fn create_new(&self, relative: &Path) -> io::Result<File> {
            let (parent, name) = self.split(relative)?;
            let parent = parent.as_ref().unwrap_or(self);
            Ok(openat(&parent.0, name, FRESH, Mode::from_raw_mode(0o666))?.into())
        }

        pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
            let (old, new) = (old.as_ref().unwrap_or(self), new.as_ref().unwrap_or(self));
            Ok(renameat(&old.0, from, &new.0, to)?)
        }

        pub(super) fn remove(&self, relative: &Path, folder: bool) -> io::Result<()> {
            let (parent, name) = self.split(relative)?;
            let flags = if folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            Ok(unlinkat(&parent.as_ref().unwrap_or(self).0, name, flags)?)
        }

        /// The folder that holds what is at the path, unless that is this one, and the name in it.
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
            let fresh = format!(".logcore-{}.tmp", random_suffix());
            let file = openat(&parent.0, &fresh, FRESH, Mode::from_raw_mode(0o666))?;
            let replaced = File::from(file)
                .write_all(contents)
                .and_then(|()| Ok(renameat(&parent.0, &fresh, &parent.0, name)?));
            if replaced.is_err() {
                let _ = unlinkat(&parent.0, &fresh, AtFlags::empty());
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
                at = Some(step(within, component, DIRECTORY)?);
            }
            Ok(())
        }

        /// Has the kernel resolve the path, which no change meanwhile can deceive; where it cannot, goes step by step.
        fn open_beneath(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
            #[cfg(target_os = "linux")]
            {
                use rustix::fs::{ResolveFlags, openat2};
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                match openat2(&self.0, relative, flags, Mode::empty(), resolve) {
                    // Before Linux 5.6, and in sandboxes that know no such call.
                    Err(Errno::NOSYS | Errno::PERM) => {}
                    Err(error) => return Err(name_link(error)),
                    Ok(file) => return Ok(file),
                }
            }
            self.open_stepwise(relative, flags)
        }

        /// Opens each folder of the path in the one before it. No step follows a link.
        pub(super) fn open_stepwise(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
            let mut at = None;
            let mut components = relative.components().peekable();
            while let Some(component) = components.next() {
                let flags = if components.peek().is_some() { DIRECTORY } else { flags };
                at = Some(step(at.as_ref().unwrap_or(&self.0), component, flags)?);
            }
            at.ok_or_else(|| io::ErrorKind::InvalidInput.into())
        }
    }

    fn step(within: &OwnedFd, component: Component<'_>, flags: OFlags) -> io::Result<OwnedFd> {
        openat(within, component.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty()).map_err(name_link)
    }

    /// "Too many levels of symbolic links" is what the system says of a single one.
    fn name_link(error: Errno) -> io::Error {
        match error {
            Errno::LOOP | Errno::MLINK | Errno::XDEV => {
                io::Error::new(io::ErrorKind::InvalidInput, "the path leads over a link")
            }
            error => error.into(),
        }
    }
}

/// Where the system has no folders by descriptor, each component is looked at before it is used.
#[cfg(not(unix))]
mod imp {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            match path.is_dir() {
                true => path.canonicalize().map(Self),
                false => Err(io::ErrorKind::NotADirectory.into()),
            }
        }

        pub(super) fn is_removed(&self) -> bool {
            !self.0.is_dir()
        }

        pub(super) fn folder(&self, relative: &Path) -> io::Result<Self> {
            Self::open(&self.resolve_beneath(relative)?)
        }

        pub(super) fn open_file(&self, relative: &Path) -> io::Result<File> {
            File::open(self.resolve_beneath(relative)?)
        }

        pub(super) fn replace(&self, relative: &Path, contents: &[u8]) -> io::Result<()> {
            crate::replace(&self.place(relative)?, contents)
        }

        pub(super) fn append(&self, relative: &Path) -> io::Result<File> {
            let path = self.place(relative)?;
            if path.symlink_metadata().is_ok_and(|there| there.is_symlink()) {
                return Err(crate::open::link());
            }
            OpenOptions::new().read(true).append(true).create(true).open(path)
        }

        pub(super) fn create_new(&self, relative: &Path) -> io::Result<File> {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(self.place(relative)?)
        }

        pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            fs::rename(self.place(from)?, self.place(to)?)
        }

        pub(super) fn remove(&self, relative: &Path, folder: bool) -> io::Result<()> {
            let path = self.place(relative)?;
            if folder {
                fs::remove_dir(path)
            } else {
                fs::remove_file(path)
            }
        }

        /// A path of which only the end may be a link, or nothing.
        fn place(&self, relative: &Path) -> io::Result<PathBuf> {
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

        fn beneath(&self, relative: &Path) -> io::Result<PathBuf> {
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
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use rustix::fs::OFlags;

    use super::*;

    /// A folder `run` with a file and links of all kinds in it, and something precious beside it.
    fn hostile() -> tempfile::TempDir {
        let outside = tempfile::tempdir().unwrap();
        let run = outside.path().join("run");
        fs::create_dir_all(run.join("media/deep")).unwrap();
        fs::write(outside.path().join("precious"), "precious").unwrap();
        fs::write(run.join("media/deep/file"), "ours").unwrap();
        symlink("../precious", run.join("to-file")).unwrap();
        symlink(outside.path(), run.join("out")).unwrap();
        symlink("..", run.join("media/up")).unwrap();
        symlink("media/deep", run.join("within")).unwrap();
        outside
    }

    #[test]
    fn what_lies_beneath_is_found() {
        let outside = hostile();
        let run = Folder::open(&outside.path().join("run")).unwrap();
        assert_eq!(run.read(Path::new("media/deep/file"), 9).unwrap(), b"ours");
        let media = run.folder(Path::new("media")).unwrap();
        media.replace(Path::new("deep/file"), b"new").unwrap();
        assert_eq!(run.read(Path::new("media/deep/file"), 9).unwrap(), b"new");
        // A link in the way of a file of ours is replaced, and the file that it leads to stays.
        run.replace(Path::new("to-file"), b"new").unwrap();
        assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
        assert_eq!(run.read(Path::new("to-file"), 9).unwrap(), b"new");
    }

    proptest! {
        /// Whatever a path is made of: what is read lies beneath, what is written stays beneath.
        #[test]
        fn no_path_leads_out(
            components in proptest::collection::vec(
                prop_oneof!["media", "deep", "file", "to-file", "out", "up", "within", "run", "precious", "\\.\\.", "\\.", "", "\0"],
                0..5,
            ),
        ) {
            let outside = hostile();
            let run = Folder::open(&outside.path().join("run")).unwrap();
            let path: PathBuf = components.join("/").into();
            let stepwise = match crate::is_plain_relative(&path) {
                true => run.0.open_stepwise(&path, OFlags::RDONLY | OFlags::NONBLOCK),
                false => Err(io::ErrorKind::InvalidInput.into()),
            };
            let stepwise = stepwise
                .and_then(|file| crate::check_regular(file.into()))
                .and_then(|file| crate::open::read_file(file, 99));
            for bytes in [run.read(&path, 99), stepwise].into_iter().flatten() {
                prop_assert_eq!(bytes, b"ours");
            }
            let _ = run.create_dir_all(&path);
            let _ = run.replace(&path, b"new");
            let _ = run.create_new(&path);
            if let Ok(mut file) = run.append(&path) {
                file.write_all(b"more").unwrap();
            }
            let _ = run.rename(&path, Path::new("media/deep/moved"));
            let _ = run.rename(Path::new("media/deep/moved"), &path);
            let _ = run.remove_file(&path);
            let _ = run.remove_dir(&path);
            prop_assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
            let beside: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            prop_assert_eq!(beside.len(), 2, "{:?}", beside);
        }
    }

    #[test]
    fn files_are_appended_to_moved_and_taken_away_without_following_links() {
        let outside = hostile();
        let run = Folder::open(&outside.path().join("run")).unwrap();
        for path in ["to-file", "out/precious", "media/up/to-file"] {
            assert!(run.append(Path::new(path)).is_err(), "{path}");
            assert!(run.create_new(Path::new(path)).is_err(), "{path}");
        }
        let new = Path::new("media/new");
        run.append(new).unwrap().write_all(b"a").unwrap();
        run.append(new).unwrap().write_all(b"b").unwrap();
        assert_eq!(run.read(new, 9).unwrap(), b"ab");
        assert!(run.create_new(new).is_err());
        run.rename(new, Path::new("to-file")).unwrap();
        assert_eq!(run.read(Path::new("to-file"), 9).unwrap(), b"ab");
        assert!(!run.is_removed());
        run.create_dir_all(Path::new("short")).unwrap();
        let short = run.folder(Path::new("short")).unwrap();
        run.remove_dir(Path::new("short")).unwrap();
        assert!(short.is_removed());
        run.remove_file(Path::new("out")).unwrap();
        assert!(run.remove_dir(Path::new("media")).is_err(), "it is not empty");
        assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
    }

    #[test]
    fn both_ways_of_opening_tell_the_same() {
        let outside = hostile();
        let run = Folder::open(&outside.path().join("run")).unwrap();
        for path in ["to-file", "out/precious", "media/up/media/deep/file", "within/file"] {
            let path = Path::new(path);
            let stepwise = run.0.open_stepwise(path, OFlags::RDONLY).unwrap_err();
            for error in [run.open_file(path).unwrap_err(), stepwise] {
                assert!(
                    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory),
                    "{}: {error}",
                    path.display()
                );
            }
        }
    }
}
