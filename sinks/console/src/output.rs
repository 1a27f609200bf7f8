//! The stream itself.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

/// Which of the two.
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
}

impl StdStream {
    /// Whether what is written to either stands on the same screen.
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

/// There is one console.
#[cfg(not(unix))]
fn same_device() -> bool {
    true
}

/// A way to the stream that does not go through std's lock: a thread of the program may hold that lock while it waits for
/// us.
#[derive(Debug)]
pub(crate) struct StreamOutput {
    file: io::Result<File>,
    terminal: bool,
    #[cfg(feature = "progress")]
    size: console::Term,
}

/// A terminal that takes nothing at once (Ctrl-S on a stream that does not block) is asked again after this.
const AGAIN: Duration = Duration::from_millis(5);

impl StreamOutput {
    pub(crate) fn open(stream: StdStream) -> Self {
        Self {
            file: duplicate(stream),
            terminal: stream.is_terminal(),
            #[cfg(feature = "progress")]
            size: match stream {
                StdStream::Stdout => console::Term::stdout(),
                StdStream::Stderr => console::Term::stderr(),
            },
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The size of the terminal at this moment.
    #[cfg(feature = "progress")]
    pub(crate) fn room(&self) -> logcore_progress::Viewport {
        let (rows, columns) = self.size.size_checked().unwrap_or((24, 80));
        logcore_progress::Viewport {
            columns: usize::from(columns),
            rows: usize::from(rows),
        }
    }

    /// Writes all of `text`, however long the stream takes, unless it `is_over` meanwhile.
    pub(crate) fn write(&self, text: &str, is_over: impl Fn() -> bool) -> io::Result<()> {
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_over() => thread::sleep(AGAIN),
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
