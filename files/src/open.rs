//! Opening for reading.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// Opens a regular file for reading; never waits. Links are followed.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let error = logcore_files::open(folder.path()).unwrap_err();
/// assert_eq!(error.to_string(), "it is a folder and no regular file");
/// ```
///
/// # Errors
///
/// If the file cannot be opened, or is a folder, a pipe, a socket or a device ([`io::ErrorKind::InvalidInput`]).
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// The same, and the last component of the path must be no link.
///
/// # Errors
///
/// As for [`open`]; also if it is a link.
pub fn open_no_follow(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    let no_follow = libc::O_NOFOLLOW;
    #[cfg(not(unix))]
    let no_follow = 0;
    if cfg!(not(unix)) && path.symlink_metadata()?.is_symlink() {
        return Err(link());
    }
    match open_with(path, no_follow) {
        // The answer of `O_NOFOLLOW`, which sounds as if there were several links.
        #[cfg(unix)]
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EMLINK)) => Err(link()),
        opened => opened,
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("settings");
/// std::fs::write(&path, "12345").unwrap();
///
/// assert_eq!(logcore_files::read(&path, 5).unwrap(), b"12345");
/// let error = logcore_files::read(&path, 4).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
/// ```
///
/// # Errors
///
/// As for [`open`]; [`io::ErrorKind::FileTooLarge`] beyond the limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_file(open(path)?, limit)
}

/// The same, and the last component of the path must be no link.
///
/// # Errors
///
/// As for [`open_no_follow`]; [`io::ErrorKind::FileTooLarge`] beyond the limit.
pub fn read_no_follow(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_file(open_no_follow(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes as UTF-8.
///
/// # Errors
///
/// As for [`read`]; [`io::ErrorKind::InvalidData`] if it is no UTF-8.
pub fn read_to_string(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Passes an opened file on if it is a regular one.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] if it is anything else.
pub fn check_regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let why = format!("it is {} and no regular file", describe_file_type(kind));
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// The noun for something that has a path.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let kind = folder.path().metadata().unwrap().file_type();
/// assert_eq!(logcore_files::describe_file_type(kind), "a folder");
/// ```
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
    // The length that the file tells may change, or be 0 for a file of the system.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let why = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

pub(crate) fn link() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is a link and no regular file")
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // A pipe without a writer would be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY | flags);
    #[cfg(not(unix))]
    let _ = flags;
    match options.open(path) {
        Ok(file) => check_regular(file),
        // A socket cannot be opened at all, and says so in the words of an absent device.
        #[cfg(unix)]
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            let kind = path
                .metadata()
                .map_or("no regular file", |metadata| describe_file_type(metadata.file_type()));
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("it is {kind} and no regular file"),
            ))
        }
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Everything that a path can name and is no regular file.
    fn others(folder: &Path) -> Vec<(&'static str, std::path::PathBuf)> {
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
    fn nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        for (word, path) in others(folder.path()) {
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
    fn a_link_is_followed_only_where_that_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        symlink("file", &link).unwrap();
        assert_eq!(read(&link, 9).unwrap(), b"x");
        assert!(read_no_follow(&link, 9).unwrap_err().to_string().contains("a link"));
        assert_eq!(read_no_follow(&file, 9).unwrap(), b"x");
    }

    #[test]
    fn what_is_no_utf_8_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"\xff").unwrap();
        assert_eq!(read_to_string(&file, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
