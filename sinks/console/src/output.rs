//! The stream itself.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
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

/// A way to the stream that does not go through std's lock: a thread of the program may hold that lock while it waits for
/// us.
#[derive(Debug)]
pub(crate) struct Output(io::Result<File>);

/// A terminal that takes nothing for so long (Ctrl-S on a stream that does not block) is given up for this batch.
const PATIENCE: u32 = 200;

impl Output {
    #[cfg(unix)]
    pub(crate) fn open(stream: Stream) -> Self {
        use std::os::fd::AsFd as _;
        let duplicate = match stream {
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        Self(duplicate.map(File::from))
    }

    #[cfg(windows)]
    pub(crate) fn open(stream: Stream) -> Self {
        use std::os::windows::io::AsHandle as _;
        let duplicate = match stream {
            Stream::Stdout => io::stdout().as_handle().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_handle().try_clone_to_owned(),
        };
        Self(duplicate.map(File::from))
    }

    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let mut file = match &self.0 {
            Ok(file) => file,
            Err(error) => return Err(error.kind().into()),
        };
        let mut rest = text.as_bytes();
        let mut refusals = 0;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => (rest, refusals) = (&rest[count..], 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && refusals < PATIENCE => {
                    refusals += 1;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
