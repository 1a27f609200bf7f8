//! Opening and reading of regular files.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// Opens a regular file for reading. Never waits, and follows links.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let error = logcore::files::open(folder.path()).unwrap_err();
/// assert_eq!(error.to_string(), "it is a folder, not a regular file");
/// ```
///
/// # Errors
///
/// If the file cannot be opened. [`io::ErrorKind::InvalidInput`] for a folder, a pipe, a socket or
/// a device.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path, 0)
}

/// Opens a regular file for reading, unless the last component of the path is a link. Never waits.
///
/// ```
/// # #[cfg(unix)] {
/// let folder = tempfile::tempdir().unwrap();
/// let link = folder.path().join("link");
/// std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
/// let error = logcore::files::open_no_follow(&link).unwrap_err();
/// assert_eq!(error.to_string(), "it is a link, not a regular file");
/// # }
/// ```
///
/// # Errors
///
/// Those of [`open`]; also if the path is a link.
pub fn open_no_follow(path: &Path) -> io::Result<File> {
    open_with_no_follow(File::options().read(true), path)
}

/// Opens a regular file for reading and appending, unless the last component of the path is a link.
/// Never waits, and makes no file.
///
/// ```
/// use std::io::Write as _;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("events");
/// assert!(logcore::files::append_no_follow(&path).is_err());
/// std::fs::write(&path, "one")?;
/// logcore::files::append_no_follow(&path)?.write_all(b"two")?;
/// assert_eq!(std::fs::read_to_string(&path)?, "onetwo");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`open_no_follow`].
pub fn append_no_follow(path: &Path) -> io::Result<File> {
    open_with_no_follow(File::options().read(true).append(true), path)
}

/// Reads a regular file of at most `limit` bytes.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("settings");
/// std::fs::write(&path, "12345").unwrap();
///
/// assert_eq!(logcore::files::read(&path, 5).unwrap(), b"12345");
/// let error = logcore::files::read(&path, 4).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
/// ```
///
/// # Errors
///
/// Those of [`open`]; [`io::ErrorKind::FileTooLarge`] beyond the limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_file(open(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes, unless the last component of the path is a link.
///
/// # Errors
///
/// Those of [`open_no_follow`]; [`io::ErrorKind::FileTooLarge`] beyond the limit.
pub fn read_no_follow(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_file(open_no_follow(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes as UTF-8.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("settings");
/// std::fs::write(&path, b"\xff").unwrap();
/// let error = logcore::files::read_to_string(&path, 5).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
/// ```
///
/// # Errors
///
/// Those of [`read`]; [`io::ErrorKind::InvalidData`] if the file is not UTF-8.
pub fn read_to_string(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Returns the file if it is a regular file.
///
/// ```
/// # #[cfg(unix)] {
/// let device = std::fs::File::open("/dev/null").unwrap();
/// let error = logcore::files::check_regular(device).unwrap_err();
/// assert_eq!(error.to_string(), "it is a device, not a regular file");
/// # }
/// ```
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for a folder, a pipe, a socket or a device.
pub fn check_regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(not_regular(describe_file_type(kind)))
}

/// Returns the device and the inode of a file, which stay the same when the file is renamed; `None`
/// where the standard library has no such numbers.
///
/// ```
/// use logcore::files::identity;
///
/// let folder = tempfile::tempdir()?;
/// let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
/// std::fs::write(&first, "")?;
/// let before = identity(&first.metadata()?);
/// std::fs::rename(&first, &second)?;
/// assert_eq!(identity(&second.metadata()?), before);
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(unix)]
#[must_use]
pub fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns `None`: the standard library has no device and inode here.
#[cfg(not(unix))]
#[must_use]
pub fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Returns a noun for the type of a file, with an article.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let kind = folder.path().metadata().unwrap().file_type();
/// assert_eq!(logcore::files::describe_file_type(kind), "a folder");
/// ```
#[must_use]
pub fn describe_file_type(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a link"
    } else {
        "a file"
    }
}

pub(crate) fn read_file(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The reported length may change, and is 0 for files in `/proc`.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

pub(crate) fn link_error() -> io::Error {
    not_regular("a link")
}

fn not_regular(noun: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {noun}, not a regular file"))
}

fn open_with_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    let no_follow = libc::O_NOFOLLOW;
    #[cfg(not(unix))]
    let no_follow = 0;
    if cfg!(not(unix)) && path.symlink_metadata()?.is_symlink() {
        return Err(link_error());
    }
    match open_with(options, path, no_follow) {
        // The error of `O_NOFOLLOW`, whose text mentions several links.
        #[cfg(unix)]
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EMLINK)) => Err(link_error()),
        opened => opened,
    }
}

fn open_with(options: &mut OpenOptions, path: &Path, flags: i32) -> io::Result<File> {
    // Opening a pipe without a writer would block.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK | libc::O_NOCTTY | flags);
    #[cfg(not(unix))]
    let _ = flags;
    match options.open(path) {
        Ok(file) => check_regular(file),
        // Opening a socket fails with the error of an absent device.
        #[cfg(unix)]
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            let file_type = path.metadata().map(|metadata| metadata.file_type());
            Err(not_regular(file_type.map_or("a device", describe_file_type)))
        }
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Creates one file of every other type.
    fn other_files(folder: &Path) -> Vec<(&'static str, std::path::PathBuf)> {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let pipe = folder.join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let socket = folder.join("socket");
        drop(UnixListener::bind(&socket).unwrap());
        let to_pipe = folder.join("to-pipe");
        symlink("pipe", &to_pipe).unwrap();
        vec![
            ("a pipe", pipe),
            ("a pipe", to_pipe),
            ("a socket", socket),
            ("a folder", folder.to_owned()),
            ("a device", "/dev/zero".into()),
        ]
    }

    #[test]
    fn open_of_other_file_types_fails_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        for (word, path) in other_files(folder.path()) {
            for opened in [open(&path), open_no_follow(&path)] {
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}: {error}", path.display());
                assert!(
                    error.to_string().contains(word) || error.to_string().contains("a link"),
                    "{}: {error}",
                    path.display()
                );
            }
        }
    }

    #[test]
    fn read_follows_links_and_read_no_follow_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        symlink("file", &link).unwrap();
        assert_eq!(read(&link, 9).unwrap(), b"x");
        assert!(read_no_follow(&link, 9).unwrap_err().to_string().contains("a link"));
        assert_eq!(read_no_follow(&file, 9).unwrap(), b"x");
    }

    #[test]
    fn read_to_string_of_invalid_utf_8_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"\xff").unwrap();
        assert_eq!(read_to_string(&file, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
