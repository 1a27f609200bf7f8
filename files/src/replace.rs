//! Replacing a file as a whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How many names are tried before it is said that none is free.
const TRIES: usize = 16;

/// Puts `contents` in the place of whatever is at `path`: a reader finds the old file or the new one, never half of one.
/// If `path` is a link, the link is replaced, and never what it leads to.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("summary.json");
/// logcore_files::replace(&path, b"{}").unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
/// ```
///
/// # Errors
///
/// If the folder takes no new file, or has something at `path` that cannot be replaced, such as a folder.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut replacement = Replacement::begin(path)?;
    replacement.write_all(contents)?;
    replacement.finish()
}

/// A file that is being written under a name of its own, and takes the place of another when it is finished. Dropped
/// before that, it is gone.
///
/// ```
/// use std::io::Write as _;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("merged.jsonl");
/// let mut replacement = logcore_files::Replacement::begin(&path).unwrap();
/// replacement.write_all(b"{}\n").unwrap();
/// assert!(!path.exists());
/// replacement.finish().unwrap();
/// assert!(path.exists());
/// ```
#[derive(Debug)]
pub struct Replacement {
    file: File,
    fresh: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Replacement {
    /// Makes an empty file beside `path`, under a random name that nobody had.
    ///
    /// # Errors
    ///
    /// If the folder takes no new file.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        for _ in 0..TRIES {
            // Short, whatever the name: a name may be as long as the file system allows.
            let fresh = path.with_file_name(format!(".logcore-{}.tmp", random_suffix()));
            debug_assert_ne!(Some(name), fresh.file_name());
            // `O_EXCL`: neither a file nor a link that is there already is opened.
            match OpenOptions::new().write(true).create_new(true).open(&fresh) {
                // A process that sweeps the folder at this moment may have been quicker.
                Ok(file) if is_claimed(&file) => {
                    return Ok(Self {
                        file,
                        fresh,
                        path: path.to_owned(),
                        finished: false,
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The file that is being written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// If the system refuses, such as where a folder has the name. The new file is gone then.
    pub fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.fresh, &self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.fresh);
        }
    }
}

/// Removes the unfinished files that killed processes have left in a folder. Those of live ones are locked, and stay.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let left = folder.path().join(".logcore-0123456789abcdef.tmp");
/// std::fs::write(&left, "{").unwrap();
/// let live = logcore_files::Replacement::begin(&folder.path().join("config.json")).unwrap();
/// logcore_files::remove_stale_replacements(folder.path());
/// assert!(!left.exists());
/// live.finish().unwrap();
/// ```
pub fn remove_stale_replacements(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_unfinished(&entry.file_name().to_string_lossy())
            && let Ok(file) = crate::open_no_follow(&entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_unfinished(name: &str) -> bool {
    let digits = name
        .strip_prefix(".logcore-")
        .and_then(|name| name.strip_suffix(".tmp"));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Locks a new file, so that it is known for that of a live process; not where the file system has no locks.
fn is_claimed(file: &File) -> bool {
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return false;
    }
    #[cfg(unix)]
    if file
        .metadata()
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata) == 0)
    {
        return false;
    }
    true
}

/// Sixteen hexadecimal digits that nobody else can foretell.
///
/// The keys of [`RandomState`] come from the system.
pub fn random_suffix() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (precious, path) = (folder.path().join("precious"), folder.path().join("config.json"));
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!path.is_symlink());
    }

    #[test]
    fn nothing_stays_behind_of_what_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new").is_err());
        drop(Replacement::begin(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(path.is_dir());
    }

    #[test]
    fn a_folder_that_is_swept_all_the_time_hinders_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::thread::scope(|scope| {
            let sweeping = scope.spawn(|| (0..2000).for_each(|_| remove_stale_replacements(folder.path())));
            while !sweeping.is_finished() {
                replace(&path, b"{}").unwrap();
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_of_any_length_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(255));
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
