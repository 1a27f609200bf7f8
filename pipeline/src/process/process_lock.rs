//! A lock that proves that its process lives.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use logcore::files::{check_regular, lock_within};
use logcore::process_number;

use super::sys::ExclusiveDescriptor;

/// A lock on a file, held until the process ends or the value is dropped. A child of a fork does
/// not hold the lock.
///
/// ```
/// use logcore_pipeline::ProcessLock;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join(".lock");
/// let lock = ProcessLock::acquire(&path)?.expect("nobody else holds the lock");
/// assert!(ProcessLock::acquire(&path)?.is_none());
/// drop(lock);
/// assert!(ProcessLock::acquire(&path)?.is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ProcessLock {
    /// A child of a fork never closes the file, because the fork has closed its copy.
    file: Option<File>,
    descriptor: Option<ExclusiveDescriptor>,
    process: u64,
}

impl ProcessLock {
    /// Takes the lock on a file, which is created if it is missing. Returns `None` if a live
    /// process holds the lock, or has just removed the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened for writing, or the file system has no locks.
    pub fn acquire(path: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, crate::ring::file::cautious_flags());
        let file = check_regular(options.open(path)?)?;
        if !lock_within(&file, LOCK_PATIENCE)? || !is_at(&file, path)? {
            return Ok(None);
        }
        Ok(Some(Self {
            descriptor: Some(ExclusiveDescriptor::register(&file)),
            file: Some(file),
            process: process_number(),
        }))
    }

    /// Returns `true` if the path leads to the file of this lock: others may remove or move the
    /// file, or its folder.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        self.file
            .as_ref()
            .is_some_and(|file| is_at(file, path).unwrap_or(false))
    }

    /// Sets the time of the file, as a sign of life for readers on other machines.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn touch(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if self.process == process_number() => file.set_modified(SystemTime::now()),
            _ => Ok(()),
        }
    }
}

/// Returns `true` if the path still leads to the file, which another process may remove as long as
/// that process has the lock.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;

    let locked = file.metadata()?;
    let there = path.symlink_metadata();
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino())))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Time to wait for the lock, which a process that only looks has for microseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(4);

impl Drop for ProcessLock {
    fn drop(&mut self) {
        if self.process != process_number() {
            std::mem::forget((self.file.take(), self.descriptor.take()));
            return;
        }
        if let (Some(descriptor), Some(file)) = (self.descriptor.take(), self.file.take()) {
            descriptor.close(file);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_lock_on_a_file_that_is_gone_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(
            !is_at(&file, &path).unwrap(),
            "it was removed while somebody waited for it"
        );
        let _next = File::create(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap(), "another file is there");
        assert!(ProcessLock::acquire(&path).unwrap().is_some());
    }
}
