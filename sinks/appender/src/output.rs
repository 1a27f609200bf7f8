//! The open file of a writer: opening it, its kind, and its state on disk.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::civil::Date;

use crate::Rotation;
use crate::links::{PathKind, follow};
use crate::position::FileId;

/// Time that another process is given to finish its rotation. A longer one was stopped while it
/// rotated.
const LOCK_WAIT: Duration = Duration::from_millis(250);
/// Sleep between two attempts to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(1);

/// An output with a lock: a file, or a test double that fails on demand.
pub(crate) trait FileOutput: Write + Send {
    /// Returns the status of the file on disk.
    fn status(&self) -> io::Result<FileStatus>;

    /// Returns the offset behind the last write. Appending processes may have moved it.
    fn position(&mut self) -> Option<u64>;

    /// Takes the lock for rotating, until [`unlock`](Self::unlock). Waits up to 250 ms for another
    /// process.
    fn lock(&self) -> Result<(), TryLockError>;

    fn unlock(&self);
}

/// Status of a file on disk, which other processes may change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FileStatus {
    pub(crate) id: Option<FileId>,
    pub(crate) length: u64,
    /// No name leads to the file, so its contents are lost.
    pub(crate) deleted: bool,
}

impl FileOutput for File {
    fn status(&self) -> io::Result<FileStatus> {
        let metadata = self.metadata()?;
        Ok(FileStatus {
            id: FileId::of(&metadata),
            length: metadata.len(),
            deleted: metadata.is_file() && count_names(&metadata) == 0,
        })
    }

    fn position(&mut self) -> Option<u64> {
        self.stream_position().ok()
    }

    fn lock(&self) -> Result<(), TryLockError> {
        let since = Instant::now();
        loop {
            match self.try_lock() {
                Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_WAIT => thread::sleep(LOCK_POLL),
                locked => return locked,
            }
        }
    }

    fn unlock(&self) {
        // Otherwise the lock ends when the descriptor and its copies in forked children are closed.
        let _ = File::unlock(self);
    }
}

/// Returns `true` if the error says that the descriptor is closed. A descriptor is a number that
/// any part of a program can close.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EBADF);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::InvalidInput;
}

#[cfg(unix)]
fn count_names(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn count_names(_: &Metadata) -> u64 {
    1
}

/// Kind of the file at a path. It decides about rotation and recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A file under its own name.
    Regular,
    /// A file behind a link. It is not rotated, because the link is the user's.
    Linked,
    /// A pipe or a device. Its contents cannot be read back, and it may be full for a while.
    Stream,
}

/// A file that was opened for appending.
pub(crate) struct OpenedFile {
    pub(crate) output: Box<dyn FileOutput>,
    pub(crate) kind: FileKind,
    pub(crate) id: Option<FileId>,
    /// Number of bytes in the file, as far as known; 0 for a stream.
    pub(crate) size: u64,
    /// Day of the file's lines, for a daily rotation.
    pub(crate) day: Option<Date>,
}

impl OpenedFile {
    /// Opens the file, and creates it if it does not exist. Never blocks.
    pub(crate) fn new(path: &Path, rotation: &Rotation) -> io::Result<Self> {
        let path_kind = follow(path)?;
        let file = open(path, path_kind)?;
        let metadata = file.metadata()?;
        let kind = kind_of(&metadata, path_kind)?;
        let size = if kind == FileKind::Stream { 0 } else { metadata.len() };
        // The day of an empty file begins now. Existing lines belong to the day of the last of
        // them.
        let day = match size {
            0 => rotation.day(SystemTime::now()),
            _ => metadata.modified().ok().and_then(|time| rotation.day(time)),
        };
        Ok(Self {
            id: FileId::of(&metadata),
            output: Box::new(file),
            kind,
            size,
            day,
        })
    }
}

fn open(path: &Path, path_kind: PathKind) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Without O_NONBLOCK, opening a pipe blocks until a reader opens it, too. O_NOFOLLOW
        // refuses a link that was created after `follow` had looked.
        let no_follow = if path_kind == PathKind::Direct {
            libc::O_NOFOLLOW
        } else {
            0
        };
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    }
    #[cfg(not(unix))]
    let _ = path_kind;
    options.open(path).map_err(|error| explain(path, error))
}

/// Names the cause of `ENXIO`, which stands for a pipe without a reader, a socket, and a missing
/// device.
fn explain(path: &Path, error: io::Error) -> io::Error {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::ENXIO)
        && let Ok(metadata) = fs::metadata(path)
    {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = metadata.file_type();
        let cause = match kind.is_fifo() {
            true => "it is a pipe that nobody reads".to_owned(),
            false => format!("it is {}", logcore::files::describe_file_type(kind)),
        };
        return io::Error::new(io::ErrorKind::NotConnected, cause);
    }
    error
}

fn kind_of(metadata: &Metadata, path_kind: PathKind) -> io::Result<FileKind> {
    let kind = metadata.file_type();
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_block_device(&kind) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a block device, not a file",
        ));
    }
    Ok(match (kind.is_file(), path_kind) {
        (true, PathKind::Direct) => FileKind::Regular,
        (true, PathKind::Linked) => FileKind::Linked,
        (false, _) => FileKind::Stream,
    })
}

/// Returns `true` if a file ends in the middle of a line, and no other process is writing that line
/// now.
pub(crate) fn ends_amid_a_line(path: &Path) -> bool {
    let Ok(mut file) = logcore::files::open(path) else {
        return false;
    };
    let mut length = None;
    loop {
        match last_byte(&mut file) {
            None | Some((_, b'\n')) => return false,
            Some((now, _)) if length == Some(now) => return true,
            Some((now, _)) => length = Some(now),
        }
        wait_for_writers(&file);
    }
}

/// Waits for a write of another process that is in progress, whose bytes become visible page by
/// page. The system changes the permissions of a file only between two writes, or refuses to.
fn wait_for_writers(file: &File) {
    let _ = file
        .metadata()
        .and_then(|metadata| file.set_permissions(metadata.permissions()));
}

/// Returns the offset and the value of the last byte of a file.
fn last_byte(file: &mut File) -> Option<(u64, u8)> {
    let last = file.seek(SeekFrom::End(-1)).ok()?;
    let mut byte = [0];
    file.read_exact(&mut byte).ok()?;
    Some((last, byte[0]))
}

/// Returns `true` if the last line of a file is exactly `bytes`.
pub(crate) fn ends_with(path: &Path, bytes: &[u8]) -> bool {
    let compare = || -> io::Result<bool> {
        let mut file = logcore::files::open(path)?;
        let Some(from) = file.metadata()?.len().checked_sub(bytes.len() as u64) else {
            return Ok(false);
        };
        let mut tail = Vec::new();
        let before = from.saturating_sub(1);
        file.seek(SeekFrom::Start(before))?;
        file.take(bytes.len() as u64 + 1).read_to_end(&mut tail)?;
        let starts_a_line = from == 0 || tail.first() == Some(&b'\n');
        Ok(starts_a_line && tail[(from - before) as usize..] == *bytes)
    };
    compare().unwrap_or(false)
}
