//! Atomic replacement of files.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Number of random names to try.
const MAX_ATTEMPTS: usize = 16;

/// Replaces the file at `path` atomically: a reader finds the old or the new contents, never a
/// part.
///
/// If `path` is a link, the link is replaced, but not its target.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("summary.json");
/// logcore::files::replace(&path, b"{}").unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
/// ```
///
/// # Errors
///
/// If no file can be created in the folder, or `path` cannot be replaced, for instance because it
/// is a folder.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut replacement = Replacement::begin(path)?;
    replacement.write_all(contents)?;
    replacement.finish()
}

/// A file that is written under a temporary name, and replaces another file at the end. Dropping
/// the value without [`finish`](Self::finish) removes the temporary file.
///
/// ```
/// use std::io::Write as _;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("merged.jsonl");
/// let mut replacement = logcore::files::Replacement::begin(&path).unwrap();
/// replacement.write_all(b"{}\n").unwrap();
/// assert!(!path.exists());
/// replacement.finish().unwrap();
/// assert!(path.exists());
/// ```
#[derive(Debug)]
pub struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Replacement {
    /// Creates an empty file beside `path`, under a random name.
    ///
    /// # Errors
    ///
    /// If no file can be created in the folder.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        for _ in 0..MAX_ATTEMPTS {
            // A fixed length, because `name` may have the maximum length.
            let temporary = path.with_file_name(format!(".logcore-{}.tmp", random_suffix()));
            debug_assert_ne!(Some(name), temporary.file_name());
            let list = unfinished();
            // `O_EXCL`: opens neither an existing file nor a link.
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                // Another process may remove the file as stale before it is locked.
                Ok(file) if lock_new_file(&file) => {
                    if let Some(mut list) = list {
                        list.insert(temporary.clone());
                    }
                    return Ok(Self {
                        file,
                        temporary,
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

    /// Returns the temporary file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Renames the temporary file to its final path.
    ///
    /// # Errors
    ///
    /// If the system refuses, for instance because the path is a folder. The temporary file is then
    /// removed.
    pub fn finish(mut self) -> io::Result<()> {
        let list = unfinished();
        // Without the lock, which the drop takes in case of an error.
        let renamed = fs::rename(&self.temporary, &self.path);
        if let Some(mut list) = list {
            list.remove(&self.temporary);
        }
        self.finished = renamed.is_ok();
        renamed
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
            let list = unfinished();
            let _ = fs::remove_file(&self.temporary);
            if let Some(mut list) = list {
                list.remove(&self.temporary);
            }
        }
    }
}

/// The temporary files of this process, once somebody wants to know them. A process that forks
/// keeps no such list: its child might wait for the lock.
static UNFINISHED: OnceLock<Mutex<BTreeSet<PathBuf>>> = OnceLock::new();

/// Keeps a list of the replacements that are not finished, from now on, for
/// [`remove_unfinished`]. Only for a program that never forks.
pub fn list_unfinished() {
    UNFINISHED.get_or_init(Mutex::default);
}

/// Removes the temporary files of all replacements that are not finished, and calls `then`, before
/// which no other begins or finishes: it is to end the process.
///
/// ```
/// use logcore::files::{Replacement, list_unfinished, remove_unfinished};
///
/// let folder = tempfile::tempdir().unwrap();
/// list_unfinished();
/// let replacement = Replacement::begin(&folder.path().join("rows.csv")).unwrap();
/// remove_unfinished(|| assert_eq!(folder.path().read_dir().unwrap().count(), 0));
/// assert!(replacement.finish().is_err());
/// ```
pub fn remove_unfinished(then: impl FnOnce()) {
    let list = unfinished();
    for temporary in list.iter().flat_map(|list| list.iter()) {
        let _ = fs::remove_file(temporary);
    }
    then();
}

fn unfinished() -> Option<MutexGuard<'static, BTreeSet<PathBuf>>> {
    let list = UNFINISHED.get()?;
    Some(list.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Removes the temporary files that killed processes left in a folder. Files of live processes are
/// locked, and stay.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let left = folder.path().join(".logcore-0123456789abcdef.tmp");
/// std::fs::write(&left, "{").unwrap();
/// let live = logcore::files::Replacement::begin(&folder.path().join("config.json")).unwrap();
/// logcore::files::remove_stale_replacements(folder.path());
/// assert!(!left.exists());
/// live.finish().unwrap();
/// ```
pub fn remove_stale_replacements(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_temporary_name(&entry.file_name().to_string_lossy())
            && let Ok(file) = crate::files::open_no_follow(&entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_temporary_name(name: &str) -> bool {
    let digits = name
        .strip_prefix(".logcore-")
        .and_then(|name| name.strip_suffix(".tmp"));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Locks a new file to mark it as the file of a live process. Returns `false` if another process
/// removed the file.
///
/// On a file system without locks, the file stays unlocked.
fn lock_new_file(file: &File) -> bool {
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

/// Returns sixteen hexadecimal digits that no other process can predict.
///
/// The keys of [`RandomState`] come from the operating system.
///
/// ```
/// assert_ne!(logcore::files::random_suffix(), logcore::files::random_suffix());
/// assert_eq!(logcore::files::random_suffix().len(), 16);
/// ```
#[must_use]
pub fn random_suffix() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn replace_of_a_link_keeps_its_target() {
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
    fn failed_replacement_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new").is_err());
        drop(Replacement::begin(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(path.is_dir());
    }

    #[test]
    fn replace_succeeds_while_another_thread_removes_stale_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::thread::scope(|scope| {
            let cleaner = scope.spawn(|| (0..2000).for_each(|_| remove_stale_replacements(folder.path())));
            while !cleaner.is_finished() {
                replace(&path, b"{}").unwrap();
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn replace_works_for_names_of_the_maximum_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(255));
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
