//! Whether the file of a log is still what was written, and the way back where it is not.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name is looked at no more often.
const LOOK: Duration = Duration::from_secs(1);
/// So much of a log tells it from all others: the id of its writer is in it.
const BEGINNING: usize = 4096;
/// As many foreign files are in the way of a log's name before it is given up.
const MOST_NAMES: u32 = 100;

/// The file of a log, and how it is known again.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    identity: Option<(u64, u64)>,
    beginning: Vec<u8>,
    knows_beginning: bool,
    looked_at: Instant,
    locked: bool,
    /// The last write failed: the descriptor may be good no more.
    doubted: bool,
}

/// The state in which the file was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// The file is the one that was written to, with all that was written.
    Same,
    /// Another file has all that was written.
    Elsewhere,
    /// The file, or another in its place, has only so many bytes of it.
    Shorter(u64),
}

impl LogFile {
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        let identity = file.metadata().ok().and_then(|there| identity(&there));
        let mut keeper = Self {
            path,
            file,
            identity,
            beginning: Vec::new(),
            knows_beginning: false,
            looked_at: Instant::now(),
            locked: false,
            doubted: false,
        };
        keeper.lock();
        keeper
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A write has failed. Room on a disk comes back by itself, and anything else may be the descriptor's fault.
    pub(super) fn doubt(&mut self, error: &io::Error) {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WouldBlock};
        self.doubted |= !matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WouldBlock);
    }

    pub(super) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(super) fn clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The first records were written: whatever file has them is this log, however old it is.
    pub(super) fn learn_beginning(&mut self, written: &[u8]) {
        if !std::mem::replace(&mut self.knows_beginning, true) {
            let room = BEGINNING - self.beginning.len();
            self.beginning.extend_from_slice(&written[..written.len().min(room)]);
        }
    }

    /// Behind this byte the file will be another.
    pub(super) fn forget_behind(&mut self, cut: u64) {
        if cut < self.beginning.len() as u64 {
            self.beginning.truncate(cut as usize);
            self.knows_beginning = false;
        }
    }

    /// Looks whether the file has the `length` bytes that were written to it, and still has its name.
    ///
    /// # Errors
    ///
    /// If there is no way to a file that can be written to; it is to be tried again.
    pub(super) fn check(&mut self, length: u64) -> io::Result<FileState> {
        let known = self.file.metadata().ok();
        let same = known.as_ref().is_some_and(|there| identity(there) == self.identity);
        if self.doubted || !same {
            return self.return_to_path(length, same);
        }
        let nameless = known.as_ref().is_some_and(|there| names(there) == Some(0));
        let there = known.map_or(0, |there| there.len());
        if there < length {
            return Ok(FileState::Shorter(there));
        }
        if there > length {
            // Bytes that others append would stand between our records, and hide all that follow.
            self.file.set_len(length)?;
        }
        if nameless || self.looked_at.elapsed() >= LOOK {
            self.looked_at = Instant::now();
            if !self.locked {
                // The reader of this process may have had the old file open for a while.
                self.lock();
            }
            return self.keep_name(length);
        }
        Ok(FileState::Same)
    }

    /// The same, now, however lately it was looked at.
    pub(super) fn check_now(&mut self, length: u64) -> io::Result<FileState> {
        self.looked_at = Instant::now().checked_sub(LOOK).unwrap_or(self.looked_at);
        self.check(length)
    }

    /// The file is open, and has all; whether anybody finds it?
    fn keep_name(&mut self, length: u64) -> io::Result<FileState> {
        match fs::symlink_metadata(&self.path) {
            Ok(there) if identity(&there) == self.identity => Ok(FileState::Same),
            // It was moved with its folder, which it stays in. Some file systems count no names at all.
            Err(_) if names(&self.file.metadata()?) != Some(0) && !self.has_folder() => Ok(FileState::Same),
            Ok(there) => {
                // An empty file and an older copy of this very log give way, and anything else stays where it is.
                if there.len() > 0 && !self.is_copy(&self.path) {
                    self.path = self.free_name()?;
                }
                self.copy_to_path(length)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.copy_to_path(length),
            Err(error) => Err(error),
        }
    }

    /// The descriptor is bad, or is another file's by now; `readable` says that it is at least ours.
    fn return_to_path(&mut self, length: u64, readable: bool) -> io::Result<FileState> {
        match open_for_appending(&self.path) {
            Ok(file) => {
                let there = file.metadata()?;
                if identity(&there) == self.identity || begins_with(&file, &self.beginning) {
                    self.take(file);
                    self.doubted = false;
                    return self.measured(length, there.len());
                }
                if there.len() == 0 {
                    self.take(file);
                    self.doubted = false;
                    return Ok(FileState::Shorter(0));
                }
                self.path = self.free_name()?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something that is no file has the name.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.path = self.free_name()?,
            Err(error) => return Err(error),
        }
        if readable && let Ok(found) = self.copy_to_path(length) {
            self.doubted = false;
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
        self.take(file);
        self.doubted = false;
        Ok(FileState::Shorter(0))
    }

    fn measured(&mut self, length: u64, there: u64) -> io::Result<FileState> {
        if there < length {
            return Ok(FileState::Shorter(there));
        }
        self.file.set_len(length)?;
        Ok(FileState::Elsewhere)
    }

    /// Gives all that was written its name again: as long as the file is open, it is there.
    fn copy_to_path(&mut self, length: u64) -> io::Result<FileState> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let fresh = self
            .path
            .with_file_name(format!(".logcore-{}.tmp", logcore_files::random_suffix()));
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
        self.take(file);
        Ok(FileState::Elsewhere)
    }

    fn take(&mut self, file: File) {
        let fresh = file.metadata().ok().and_then(|there| identity(&there));
        let known = std::mem::replace(&mut self.identity, fresh);
        let old = std::mem::replace(&mut self.file, file);
        let is_ours = old.metadata().is_ok_and(|there| identity(&there) == known);
        leave(old, is_ours);
        self.lock();
    }

    /// Locks the log, so that a process that would deliver it can see that it is still being written. Where there are no locks,
    /// no process can.
    fn lock(&mut self) {
        self.locked = self.file.try_lock().is_ok();
    }

    fn has_folder(&self) -> bool {
        self.path.parent().is_some_and(Path::is_dir)
    }

    fn is_copy(&self, path: &Path) -> bool {
        logcore_files::open_no_follow(path).is_ok_and(|file| begins_with(&file, &self.beginning))
    }

    /// A name beside the one that somebody else's file has.
    fn free_name(&self) -> io::Result<PathBuf> {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let names = (1..MOST_NAMES).map(|number| self.path.with_file_name(format!("{stem}-{number}.wandb")));
        let mut free = names.filter(|name| fs::symlink_metadata(name).is_err());
        free.next().ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }
}

/// A descriptor that somebody else has closed may be another file's by now, which is not ours to close.
fn leave(file: File, is_ours: bool) {
    #[cfg(unix)]
    if !is_ours {
        let _ = std::os::fd::IntoRawFd::into_raw_fd(file);
        return;
    }
    let _ = is_ours;
    drop(file);
}

fn open_for_appending(path: &Path) -> io::Result<File> {
    // Looked at before it is opened for writing, which may do something to what is no file.
    drop(logcore_files::open_no_follow(path)?);
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    logcore_files::check_regular(options.open(path)?)
}

fn begins_with(file: &File, beginning: &[u8]) -> bool {
    let mut there = Vec::with_capacity(beginning.len());
    let Ok(mut file) = file.try_clone() else { return false };
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(beginning.len() as u64).read_to_end(&mut there));
    read.is_ok() && !beginning.is_empty() && there == beginning
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// How many names a file has, where that is known.
#[cfg(unix)]
fn names(metadata: &Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::nlink(metadata))
}

#[cfg(not(unix))]
fn names(_: &Metadata) -> Option<u64> {
    None
}
