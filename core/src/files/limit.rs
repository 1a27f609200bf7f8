//! The file size limit of the process.

use std::fs::File;
use std::io::{self, Write};

/// A file that returns an error instead of exceeding `ulimit -f`, for which the system would kill
/// the process by SIGXFSZ.
#[derive(Debug)]
pub struct LimitedFile<'a> {
    file: &'a mut File,
    room: u64,
}

impl<'a> LimitedFile<'a> {
    /// Limits a new file to the file size limit of the process.
    #[must_use]
    pub fn new(file: &'a mut File) -> Self {
        Self {
            file,
            room: file_size_limit(),
        }
    }
}

impl Write for LimitedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write(bytes)?;
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns the greatest file size of the process in bytes.
#[cfg(unix)]
#[must_use]
pub fn file_size_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
#[must_use]
pub fn file_size_limit() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_file_size_limit_are_refused() {
        let mut file = tempfile::tempfile().unwrap();
        let mut bounded = LimitedFile {
            file: &mut file,
            room: 5,
        };
        bounded.write_all(b"hello").unwrap();
        let error = bounded.write_all(b"!").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}
