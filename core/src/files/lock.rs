//! The lock on a file, which another process may have for a moment.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};
use std::{io, thread};

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// Locks a file until the file is closed. Returns `false` if another file handle has the lock for
/// all of `patience`: a process that only looks whether the lock is held has it for microseconds.
///
/// ```
/// use std::fs::File;
/// use std::time::Duration;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.lock");
/// let (first, second) = (File::create(&path)?, File::create(&path)?);
/// assert!(logcore::files::lock_within(&first, Duration::ZERO)?);
/// assert!(!logcore::files::lock_within(&second, Duration::from_millis(5))?);
/// drop(first);
/// assert!(logcore::files::lock_within(&second, Duration::ZERO)?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If the file system has no locks.
pub fn lock_within(file: &File, patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
}
