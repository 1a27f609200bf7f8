//! The output of an owner, and how it is opened.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::civil::Date;

use crate::Rotation;
use crate::file_id::FileId;
use crate::links::{PathKind, follow};

/// So long another process is waited for that rotates; more would be of use only to one that has been stopped amid it.
const LOCK_WAIT: Duration = Duration::from_millis(250);
const NAP: Duration = Duration::from_millis(1);

/// A file, or in tests something that misbehaves.
pub(crate) trait FileOutput: Write + Send {
    /// How it stands now.
    fn standing(&self) -> io::Result<FileState>;

    /// Where the last write has ended, which others that append to the file may have moved on.
    fn position(&mut self) -> Option<u64>;

    /// Becomes the one who rotates the file, until [`unlock`](Self::unlock); another is waited for, but not for ever.
    fn lock(&self) -> Result<(), TryLockError>;

    fn unlock(&self);
}

/// How a file stands, whose name and contents others may change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FileState {
    pub(crate) identity: Option<FileId>,
    pub(crate) length: u64,
    /// No name leads to it: what is in it is gone.
    pub(crate) deleted: bool,
}

impl FileOutput for File {
    fn standing(&self) -> io::Result<FileState> {
        let metadata = self.metadata()?;
        Ok(FileState {
            identity: FileId::of(&metadata),
            length: metadata.len(),
            deleted: metadata.is_file() && names(&metadata) == 0,
        })
    }

    fn position(&mut self) -> Option<u64> {
        self.stream_position().ok()
    }

    fn lock(&self) -> Result<(), TryLockError> {
        let since = Instant::now();
        loop {
            match self.try_lock() {
                Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_WAIT => thread::sleep(NAP),
                locked => return locked,
            }
        }
    }

    fn unlock(&self) {
        // At the latest it ends with the descriptor, and with those of forked children.
        let _ = File::unlock(self);
    }
}

/// Whether a descriptor is closed: it is only a number, which any part of a program may close.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EBADF);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::InvalidInput;
}

#[cfg(unix)]
fn names(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn names(_: &Metadata) -> u64 {
    1
}

/// The kind of file that a path names, which decides what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A file under its own name.
    Regular,
    /// A file behind a link, which nobody but the user replaces.
    Linked,
    /// A pipe or a device: what went into it is not there to be found, and it may take nothing for a while.
    Stream,
}

/// An output whose file was opened for appending.
pub(crate) struct OpenedFile {
    pub(crate) output: Box<dyn FileOutput>,
    pub(crate) kind: FileKind,
    pub(crate) identity: Option<FileId>,
    pub(crate) size: u64,
    pub(crate) day: Option<Date>,
}

impl OpenedFile {
    /// Opens the file and makes it if it is not there; waits for nobody.
    pub(crate) fn new(path: &Path, rotation: &Rotation) -> io::Result<Self> {
        let chain = follow(path)?;
        let file = open(path, chain)?;
        let metadata = file.metadata()?;
        let kind = kind_of(&metadata, chain)?;
        let size = if kind == FileKind::Stream { 0 } else { metadata.len() };
        // An empty file begins its day at this moment; lines that are there belong to the day of the last of them.
        let day = match size {
            0 => rotation.day(SystemTime::now()),
            _ => metadata.modified().ok().and_then(|time| rotation.day(time)),
        };
        Ok(Self {
            identity: FileId::of(&metadata),
            output: Box::new(file),
            kind,
            size,
            day,
        })
    }
}

fn open(path: &Path, chain: PathKind) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // A pipe that nobody reads would be waited for, and a link may have come since it was looked for.
        let no_follow = if chain == PathKind::Direct { libc::O_NOFOLLOW } else { 0 };
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    }
    #[cfg(not(unix))]
    let _ = chain;
    options.open(path).map_err(|error| name_trouble(path, error))
}

/// The system has one answer for a pipe without a reader, a socket and a device that is not there.
fn name_trouble(path: &Path, error: io::Error) -> io::Error {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::ENXIO)
        && let Ok(metadata) = fs::metadata(path)
    {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = metadata.file_type();
        let why = match kind.is_fifo() {
            true => "it is a pipe that nobody reads".to_owned(),
            false => format!("it is {}", logcore_files::describe_file_type(kind)),
        };
        return io::Error::new(io::ErrorKind::NotConnected, why);
    }
    error
}

fn kind_of(metadata: &Metadata, chain: PathKind) -> io::Result<FileKind> {
    let kind = metadata.file_type();
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_block_device(&kind) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a disk and no file on one",
        ));
    }
    Ok(match (kind.is_file(), chain) {
        (true, PathKind::Direct) => FileKind::Regular,
        (true, PathKind::Linked) => FileKind::Linked,
        (false, _) => FileKind::Stream,
    })
}

/// Whether a file ends in a line that nobody is about to end.
pub(crate) fn ends_amid_a_line(path: &Path) -> bool {
    let Ok(mut file) = logcore_files::open(path) else {
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

/// The bytes that another process writes at this moment come into view page by page. The system changes the rights of a file
/// only between two writes, or refuses it then.
fn wait_for_writers(file: &File) {
    let _ = file
        .metadata()
        .and_then(|metadata| file.set_permissions(metadata.permissions()));
}

/// The last byte of a file, and where it is.
fn last_byte(file: &mut File) -> Option<(u64, u8)> {
    let last = file.seek(SeekFrom::End(-1)).ok()?;
    let mut byte = [0];
    file.read_exact(&mut byte).ok()?;
    Some((last, byte[0]))
}

/// Whether the last bytes of a file are those, behind the end of a line.
pub(crate) fn ends_with(path: &Path, bytes: &[u8]) -> bool {
    let ends = || -> io::Result<bool> {
        let mut file = logcore_files::open(path)?;
        let Some(from) = file.metadata()?.len().checked_sub(bytes.len() as u64) else {
            return Ok(false);
        };
        let mut there = Vec::new();
        let before = from.saturating_sub(1);
        file.seek(SeekFrom::Start(before))?;
        file.take(bytes.len() as u64 + 1).read_to_end(&mut there)?;
        let whole = from == 0 || there.first() == Some(&b'\n');
        Ok(whole && there[(from - before) as usize..] == *bytes)
    };
    ends().unwrap_or(false)
}
