//! The standard streams: their names, and writing to them without the lock of `std`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StdStream {
    Stdout,
    Stderr,
}

impl StdStream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Returns `true` if both streams write to the same screen.
    pub(crate) fn are_one_terminal() -> bool {
        Self::Stdout.is_terminal() && Self::Stderr.is_terminal() && same_device()
    }
}

#[cfg(unix)]
fn same_device() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |stream| {
        let file = duplicate(stream).ok()?;
        file.metadata().ok().map(|metadata| metadata.rdev())
    };
    device(StdStream::Stdout) == device(StdStream::Stderr)
}

/// A Windows process has one console.
#[cfg(not(unix))]
fn same_device() -> bool {
    true
}

/// A duplicate of a standard stream. It bypasses the lock of `std`: a thread of the program may
/// hold that lock while it waits for the terminal thread.
#[derive(Debug)]
pub(crate) struct StreamOutput {
    file: io::Result<File>,
    terminal: bool,
    #[cfg(feature = "progress")]
    term: console::Term,
}

/// Sleep between two attempts to write to a stalled stream that does not block.
const POLL: Duration = Duration::from_millis(5);

impl StreamOutput {
    pub(crate) fn open(stream: StdStream) -> Self {
        Self {
            file: duplicate(stream),
            terminal: stream.is_terminal(),
            #[cfg(feature = "progress")]
            term: match stream {
                StdStream::Stdout => console::Term::stdout(),
                StdStream::Stderr => console::Term::stderr(),
            },
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns the current width of the terminal; `None` if the stream is no terminal, 80 if the
    /// width is unknown.
    pub(crate) fn columns(&self) -> Option<usize> {
        #[cfg(feature = "progress")]
        let columns = self.viewport().columns;
        // Only the crate that draws bars asks the terminal.
        #[cfg(not(feature = "progress"))]
        let columns = 80;
        self.terminal.then_some(columns)
    }

    /// Returns the current size of the terminal; 80 by 24 if it is unknown.
    #[cfg(feature = "progress")]
    pub(crate) fn viewport(&self) -> logcore_progress::Viewport {
        let (rows, columns) = self.term.size_checked().unwrap_or((24, 80));
        logcore_progress::Viewport {
            columns: usize::from(columns),
            rows: usize::from(rows),
        }
    }

    /// Writes all of `text`, however long it takes. A stalled stream is given up once `is_closing`
    /// returns `true`.
    pub(crate) fn write(&self, text: &str, is_closing: impl Fn() -> bool) -> io::Result<()> {
        let mut file = match &self.file {
            Ok(file) => file,
            Err(error) => return Err(error.kind().into()),
        };
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_closing() => thread::sleep(POLL),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn duplicate(stream: StdStream) -> io::Result<File> {
    use std::os::fd::AsFd as _;
    let duplicate = match stream {
        StdStream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        StdStream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
    };
    duplicate.map(File::from)
}

#[cfg(windows)]
fn duplicate(stream: StdStream) -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    let duplicate = match stream {
        StdStream::Stdout => io::stdout().as_handle().try_clone_to_owned(),
        StdStream::Stderr => io::stderr().as_handle().try_clone_to_owned(),
    };
    duplicate.map(File::from)
}
