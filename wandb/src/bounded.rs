//! Writing a file on a caller's thread.

use std::fs::File;
use std::io::{self, Write};

/// A new file, which refuses what is beyond the longest that the process may write (`ulimit -f`): the system would end the process by
/// SIGXFSZ.
pub(crate) struct Bounded<'a> {
    file: &'a mut File,
    room: u64,
}

impl<'a> Bounded<'a> {
    pub(crate) fn new(file: &'a mut File) -> Self {
        Self {
            file,
            room: longest_file(),
        }
    }
}

impl Write for Bounded<'_> {
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

#[cfg(unix)]
fn longest_file() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn longest_file() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        let mut bounded = Bounded {
            file: &mut file,
            room: 5,
        };
        bounded.write_all(b"hello").unwrap();
        let error = bounded.write_all(b"!").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}
