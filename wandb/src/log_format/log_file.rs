//! The file of a log: detects that another program has changed, moved or removed the file, and
//! repairs that.
//!
//! A run may last for weeks, and users clean up folders, rotate logs and restore backups meanwhile.
//! Before each write the file is compared with what was written: its identity, its length and, once
//! a second, its name. Content that is still open is copied back to its path. A file of somebody
//! else keeps the path, and the log gets a numbered name beside it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logcore::files::identity;

/// Interval of the checks that the file still has its name.
const NAME_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that identify a log. They include the id of its writer.
const BEGINNING: usize = 4096;
/// Number of names that are tried if other files have the name of the log.
const MOST_NAMES: u32 = 100;

/// The file of a log, and the data that identifies the file.
pub(super) struct LogFile {
    /// Current path of the log.
    path: PathBuf,
    /// The open file.
    file: File,
    /// Device and inode of the open file.
    identity: Option<(u64, u64)>,
    /// The first bytes of the log.
    beginning: Vec<u8>,
    beginning_is_known: bool,
    /// Time of the last check of the name.
    name_checked: Instant,
    /// `true` if this process holds the lock.
    locked: bool,
    /// `true` after a failed write: the descriptor may be broken.
    suspect: bool,
}

/// The state of the file at a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogFileState {
    /// The file is unchanged.
    Unchanged,
    /// Another file has the complete content.
    Replaced,
    /// The file, or another in its place, has only this number of bytes.
    Truncated(u64),
}

impl LogFile {
    /// Takes over an open file and locks it.
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        let identity = file.metadata().ok().and_then(|there| identity(&there));
        let mut log_file = Self {
            path,
            file,
            identity,
            beginning: Vec::new(),
            beginning_is_known: false,
            name_checked: Instant::now(),
            locked: false,
            suspect: false,
        };
        log_file.lock();
        log_file
    }

    /// Returns the current path of the log.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes a failed write. Unless the disk is full, the descriptor may be broken.
    pub(super) fn note_write_error(&mut self, error: &io::Error) {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WouldBlock};
        self.suspect |= !matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WouldBlock);
    }

    /// Sets the path after the file was renamed.
    pub(super) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Returns the open file.
    pub(super) fn handle(&mut self) -> &mut File {
        &mut self.file
    }

    /// Duplicates the descriptor of the open file.
    pub(super) fn clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Notes the first records. A file that starts with them is this log or an older copy.
    pub(super) fn set_beginning(&mut self, written: &[u8]) {
        if !std::mem::replace(&mut self.beginning_is_known, true) {
            let room = BEGINNING - self.beginning.len();
            self.beginning.extend_from_slice(&written[..written.len().min(room)]);
        }
    }

    /// Notes that the file will be rewritten from an offset on.
    pub(super) fn forget_after(&mut self, cut: u64) {
        if cut < self.beginning.len() as u64 {
            self.beginning.truncate(cut as usize);
            self.beginning_is_known = false;
        }
    }

    /// Checks that the file has exactly the `length` bytes that were written, and still has its
    /// name.
    ///
    /// # Errors
    ///
    /// If there is no file that can be written to. The check may be repeated.
    pub(super) fn check(&mut self, length: u64) -> io::Result<LogFileState> {
        let known = self.file.metadata().ok();
        let same = known.as_ref().is_some_and(|there| identity(there) == self.identity);
        if self.suspect || !same {
            return self.reopen(length, same);
        }
        let nameless = known.as_ref().is_some_and(|there| link_count(there) == Some(0));
        let there = known.map_or(0, |there| there.len());
        if there < length {
            return Ok(LogFileState::Truncated(there));
        }
        if there > length {
            // Appended bytes of another program would hide all later records from readers.
            self.file.set_len(length)?;
        }
        if nameless || self.name_checked.elapsed() >= NAME_CHECK_INTERVAL {
            self.name_checked = Instant::now();
            if !self.locked {
                // The reader of this process may have kept the old file locked for a while.
                self.lock();
            }
            return self.restore_name(length);
        }
        Ok(LogFileState::Unchanged)
    }

    /// As [`check`](Self::check), and checks the name in any case.
    pub(super) fn check_now(&mut self, length: u64) -> io::Result<LogFileState> {
        self.name_checked = Instant::now()
            .checked_sub(NAME_CHECK_INTERVAL)
            .unwrap_or(self.name_checked);
        self.check(length)
    }

    /// Gives the complete, open file its name again if necessary.
    fn restore_name(&mut self, length: u64) -> io::Result<LogFileState> {
        match fs::symlink_metadata(&self.path) {
            Ok(there) if identity(&there) == self.identity => Ok(LogFileState::Unchanged),
            // The whole folder was moved, and the file stays in it. Some file systems do not count
            // links.
            Err(_) if link_count(&self.file.metadata()?) != Some(0) && !self.has_folder() => {
                Ok(LogFileState::Unchanged)
            }
            Ok(there) => {
                // An empty file and an older copy of this log are replaced. Any other file keeps
                // the name.
                if there.len() > 0 && !self.is_copy(&self.path) {
                    self.path = self.free_name()?;
                }
                self.copy_to_path(length)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.copy_to_path(length),
            Err(error) => Err(error),
        }
    }

    /// Reopens the log because the descriptor is broken or belongs to another file. `readable` is
    /// `true` if the descriptor can still be read.
    fn reopen(&mut self, length: u64, readable: bool) -> io::Result<LogFileState> {
        match open_for_appending(&self.path) {
            Ok(file) => {
                let there = file.metadata()?;
                if identity(&there) == self.identity || begins_with(&file, &self.beginning) {
                    self.replace_file(file);
                    self.suspect = false;
                    return self.check_length(length, there.len());
                }
                if there.len() == 0 {
                    self.replace_file(file);
                    self.suspect = false;
                    return Ok(LogFileState::Truncated(0));
                }
                self.path = self.free_name()?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A folder or a device has the name.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.path = self.free_name()?,
            Err(error) => return Err(error),
        }
        if readable && let Ok(found) = self.copy_to_path(length) {
            self.suspect = false;
            return Ok(found);
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&self.path)?;
        self.replace_file(file);
        self.suspect = false;
        Ok(LogFileState::Truncated(0))
    }

    /// Compares the length of a reopened file with the expected length, and removes appended bytes.
    fn check_length(&mut self, length: u64, there: u64) -> io::Result<LogFileState> {
        if there < length {
            return Ok(LogFileState::Truncated(there));
        }
        self.file.set_len(length)?;
        Ok(LogFileState::Replaced)
    }

    /// Copies the content of the open file to the path.
    fn copy_to_path(&mut self, length: u64) -> io::Result<LogFileState> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let fresh = self
            .path
            .with_file_name(format!(".logcore-{}.tmp", logcore::files::random_suffix()));
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&fresh)?;
        let mut content = self.file.try_clone()?;
        let copied = content
            .seek(SeekFrom::Start(0))
            .and_then(|_| io::copy(&mut content.take(length), &mut file))
            .and_then(|copied| match copied == length {
                true => fs::rename(&fresh, &self.path),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            });
        if let Err(error) = copied {
            let _ = fs::remove_file(&fresh);
            return Err(error);
        }
        self.replace_file(file);
        Ok(LogFileState::Replaced)
    }

    /// Continues with another open file.
    fn replace_file(&mut self, file: File) {
        let fresh = file.metadata().ok().and_then(|there| identity(&there));
        let known = std::mem::replace(&mut self.identity, fresh);
        let old = std::mem::replace(&mut self.file, file);
        let is_ours = old.metadata().is_ok_and(|there| identity(&there) == known);
        close(old, is_ours);
        self.lock();
    }

    /// Locks the log, so that another process can detect that the log is still being written.
    fn lock(&mut self) {
        self.locked = self.file.try_lock().is_ok();
    }

    /// Returns `true` if the folder of the log exists.
    fn has_folder(&self) -> bool {
        self.path.parent().is_some_and(Path::is_dir)
    }

    /// Returns `true` if a file starts like this log.
    fn is_copy(&self, path: &Path) -> bool {
        logcore::files::open_no_follow(path).is_ok_and(|file| begins_with(&file, &self.beginning))
    }

    /// Returns a free name beside a name that another file has.
    fn free_name(&self) -> io::Result<PathBuf> {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let names = (1..MOST_NAMES).map(|number| self.path.with_file_name(format!("{stem}-{number}.wandb")));
        let mut free = names.filter(|name| fs::symlink_metadata(name).is_err());
        free.next().ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }
}

/// Closes a file, unless its descriptor was closed by others and may belong to another file now.
fn close(file: File, is_ours: bool) {
    #[cfg(unix)]
    if !is_ours {
        let _ = std::os::fd::IntoRawFd::into_raw_fd(file);
        return;
    }
    let _ = is_ours;
    drop(file);
}

/// Opens a regular file for appending, without following a link.
fn open_for_appending(path: &Path) -> io::Result<File> {
    // Opening a device or a pipe for writing may have effects, so that the type is checked before.
    drop(logcore::files::open_no_follow(path)?);
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    logcore::files::check_regular(options.open(path)?)
}

/// Returns `true` if a file starts with these bytes.
fn begins_with(file: &File, beginning: &[u8]) -> bool {
    let mut there = Vec::with_capacity(beginning.len());
    let Ok(mut file) = file.try_clone() else { return false };
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(beginning.len() as u64).read_to_end(&mut there));
    read.is_ok() && !beginning.is_empty() && there == beginning
}

/// Returns the number of names of a file, if the platform counts them.
#[cfg(unix)]
fn link_count(metadata: &Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::nlink(metadata))
}

#[cfg(not(unix))]
fn link_count(_: &Metadata) -> Option<u64> {
    None
}
