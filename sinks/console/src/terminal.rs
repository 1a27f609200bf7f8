//! The one owner of a stream.

use std::sync::{Arc, Mutex, Weak};

use logcore::{SinkBooks, SinkError};

use crate::lock;
use crate::output::{Output, Stream};

/// Lines go through here in order, and the bars stand below them.
pub(crate) struct Terminal {
    stream: Stream,
    output: Arc<Output>,
    /// Lines that are not written yet.
    lines: String,
    accounts: Vec<Account>,
    #[cfg(feature = "progress")]
    bars: logcore_progress::Bars,
}

#[derive(Default)]
struct Account {
    books: SinkBooks,
    /// Records that are among the lines.
    waiting: u64,
}

impl Terminal {
    /// The owner of `stream`; there is one as long as someone needs it.
    pub(crate) fn of(stream: Stream) -> Arc<Mutex<Self>> {
        static STDOUT: Mutex<Weak<Mutex<Terminal>>> = Mutex::new(Weak::new());
        static STDERR: Mutex<Weak<Mutex<Terminal>>> = Mutex::new(Weak::new());
        let mut owner = lock(match stream {
            Stream::Stdout => &STDOUT,
            Stream::Stderr => &STDERR,
        });
        if let Some(terminal) = owner.upgrade() {
            return terminal;
        }
        let output = Arc::new(Output::open(stream));
        let terminal = Arc::new(Mutex::new(Self {
            stream,
            #[cfg(feature = "progress")]
            bars: crate::progress::bars(stream, &output),
            output,
            lines: String::new(),
            accounts: Vec::new(),
        }));
        *owner = Arc::downgrade(&terminal);
        terminal
    }

    pub(crate) fn add_account(&mut self) -> usize {
        self.accounts.push(Account::default());
        self.accounts.len() - 1
    }

    pub(crate) fn books(&self, account: usize) -> SinkBooks {
        self.accounts[account].books.clone()
    }

    /// Takes the line of a record, which the next `write_out` writes.
    pub(crate) fn put(&mut self, account: usize, line: &str) {
        let account = &mut self.accounts[account];
        account.books.accepted += 1;
        account.waiting += 1;
        self.lines.push_str(line);
    }

    /// Takes a line that is no record.
    #[cfg(feature = "progress")]
    pub(crate) fn put_aside(&mut self, line: &str) {
        self.lines.push_str(line);
    }

    #[cfg(feature = "progress")]
    pub(crate) fn bars(&mut self) -> &mut logcore_progress::Bars {
        &mut self.bars
    }

    /// Writes all lines, above the bars. What cannot be written is given up: a terminal that is gone does not come back.
    pub(crate) fn write_out(&mut self) -> Result<(), SinkError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let written = self.write_lines();
        self.lines.clear();
        // One huge message must not hold its memory for ever.
        self.lines.shrink_to(1 << 20);
        let written = written.map_err(|error| SinkError::from(error).doing(format!("write to {}", self.stream.name())));
        for account in &mut self.accounts {
            let count = std::mem::take(&mut account.waiting);
            match &written {
                Ok(()) => account.books.delivered += count,
                Err(error) => account.books.drop_for(error.reason(), count),
            }
        }
        written
    }

    #[cfg(feature = "progress")]
    fn write_lines(&self) -> std::io::Result<()> {
        if self.bars.is_empty() {
            return self.output.write(&self.lines);
        }
        self.bars.suspend(|| self.output.write(&self.lines))
    }

    #[cfg(not(feature = "progress"))]
    fn write_lines(&self) -> std::io::Result<()> {
        self.output.write(&self.lines)
    }
}
