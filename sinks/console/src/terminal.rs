//! The one owner of a stream. What is to be seen is handed to a thread that does nothing but write, so that a terminal which
//! stands still (Ctrl-S, a pager, a slow line) holds up neither the other sinks nor the run.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use logcore::{Deadline, PerProcess, SinkBooks, SinkError};

use crate::bar_area::BarArea;
use crate::frame::frame;
use crate::output::{StdStream, StreamOutput};

/// A terminal that takes its lines within this is waited for, so that a line is seen before the program goes on to the
/// next; one that does not is left to the thread.
const PATIENCE: Duration = Duration::from_millis(100);
/// Lines that wait for a terminal, in bytes; what comes beyond is left out there and counted.
const BACKLOG: usize = 64 << 20;
/// Why lines are left out.
const STANDS_STILL: &str = "terminal stands still";
/// While there are bars, lines are written no more often than this: each time the bars are drawn anew.
const BETWEEN_FRAMES: Duration = Duration::from_millis(50);
/// Bars are redrawn no more often than this, …
const REDRAW: Duration = Duration::from_millis(100);
/// … and no less often, because their clock goes on.
const TICK: Duration = Duration::from_secs(1);

/// Lines go through here in order, and the bars stand below them. The thread ends with the last owner.
pub(crate) struct Terminal {
    shared: Arc<TerminalCore>,
}

struct TerminalCore {
    stream: StdStream,
    output: StreamOutput,
    state: Mutex<TerminalState>,
    /// Whenever the state has changed in a way that somebody may wait for.
    changed: Condvar,
}

#[derive(Default)]
struct TerminalState {
    /// Lines that the thread has not taken yet.
    lines: String,
    /// Lines that were left out, because the backlog was full.
    left_out: u64,
    accounts: BTreeMap<usize, LineAccount>,
    next_account: usize,
    bars: BarArea,
    /// Whether a block of bars is on the screen.
    bars_on_screen: bool,
    /// When something was written last.
    drawn_at: Option<Instant>,
    /// The bars have changed since.
    stale: bool,
    /// The lines are to be written, …
    asked: bool,
    /// … and at once.
    urgent: bool,
    /// The thread is writing.
    writing: bool,
    /// The thread was waited for in vain and has not come through since.
    stuck: bool,
    /// How many want the screen for themselves.
    paused: u32,
    closing: bool,
    /// When nobody waits for room: what has to be done by the end of this needs the rest of it.
    no_waiting: Option<Range<Instant>>,
    /// There is no thread, because the system gave none.
    alone: bool,
    /// Why what was written last could not be.
    failing: Option<StreamFailure>,
    thread: Option<ThreadId>,
}

#[derive(Default)]
struct LineAccount {
    books: SinkBooks,
    /// Records among the lines, and among those that the thread is writing.
    waiting: u64,
    taken: u64,
}

impl Terminal {
    /// The owner of `stream`; there is one as long as someone needs it. Where both streams are the same terminal it is the
    /// same owner.
    pub(crate) fn of(stream: StdStream) -> Arc<Self> {
        let stream = match stream {
            StdStream::Stderr if StdStream::are_one_terminal() => StdStream::Stdout,
            stream => stream,
        };
        let mut owner = lock(owner(stream));
        if let Some(terminal) = owner.upgrade() {
            return terminal;
        }
        let shared = Arc::new(TerminalCore {
            stream,
            output: StreamOutput::open(stream),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("logcore-console".to_owned())
            .spawn(move || writer.write_until_closed());
        if let Err(error) = spawned {
            let mut state = shared.lock();
            state.alone = true;
            state.failing = Some(StreamFailure::of(&error));
        }
        let terminal = Arc::new(Self { shared });
        *owner = Arc::downgrade(&terminal);
        terminal
    }

    /// Takes a line that is no record.
    #[cfg(feature = "progress")]
    pub(crate) fn put_aside(&self, line: &str) {
        self.shared.lock().lines.push_str(line);
    }

    /// Changes the bars.
    #[cfg(feature = "progress")]
    pub(crate) fn change_bars(&self, change: impl FnOnce(&mut BarArea)) {
        let mut state = self.shared.lock();
        change(&mut state.bars);
        state.stale = true;
        // The first and the last are shown without delay.
        state.urgent |= state.bars.is_empty() == state.bars_on_screen;
        self.shared.changed.notify_all();
    }

    /// Has the lines written, above the bars; waits for it a moment.
    pub(crate) fn write_out(&self) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        if state.has_lines() {
            state.asked = true;
            self.shared.changed.notify_all();
        }
        if state.paused == 0 && !state.stuck && state.is_due(Instant::now()) {
            state = self.shared.wait_until_written(state, Instant::now() + PATIENCE);
            state.stuck = state.is_behind();
        }
        self.failure(&state)
    }

    /// The same with the bars, until the deadline; a terminal that is known to stand still is not waited for.
    pub(crate) fn flush(&self, deadline: Deadline) -> Result<(), SinkError> {
        let state = self.shared.lock();
        let until = if state.stuck {
            Deadline::after(PATIENCE)
        } else {
            deadline
        };
        self.outcome(&mut self.shared.wait_for_all(state, until))
    }

    /// Has everything written, and waits for it only a moment: [`Terminal::is_stuck`] says whether that was enough.
    pub(crate) fn write_last(&self) -> Result<(), SinkError> {
        let mut state = self.shared.wait_for_all(self.shared.lock(), Deadline::after(PATIENCE));
        state.stuck = state.is_behind();
        self.failure(&state)
    }

    /// Whether it stands still, and something waits for it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.shared.lock().stuck
    }

    fn outcome(&self, state: &mut TerminalState) -> Result<(), SinkError> {
        state.stuck = state.is_behind();
        if state.stuck {
            let text = format!(
                "{} takes nothing; what waits is shown when it does",
                self.shared.stream.name()
            );
            return Err(SinkError::new(text).with_reason(STANDS_STILL));
        }
        self.failure(state)
    }

    /// It is over only when something was written.
    fn failure(&self, state: &TerminalState) -> Result<(), SinkError> {
        match state.failing {
            Some(failure) => Err(failure.error().doing(format!("write to {}", self.shared.stream.name()))),
            None => Ok(()),
        }
    }
}

/// The account of one who writes to a terminal, and keeps it.
pub(crate) struct TerminalHandle {
    pub(crate) terminal: Arc<Terminal>,
    account: usize,
}

impl TerminalHandle {
    pub(crate) fn at(stream: StdStream) -> Self {
        let terminal = Terminal::of(stream);
        let mut state = terminal.shared.lock();
        let account = state.next_account;
        state.next_account += 1;
        state.accounts.insert(account, LineAccount::default());
        drop(state);
        Self { terminal, account }
    }

    pub(crate) fn books(&self) -> SinkBooks {
        let state = self.terminal.shared.lock();
        state
            .accounts
            .get(&self.account)
            .map_or_else(SinkBooks::default, |account| account.books.clone())
    }

    /// Takes the line of a record, which the next `write_out` writes; an urgent one is seen when that returns.
    pub(crate) fn put(&self, line: &str, urgent: bool) {
        self.take(line, urgent, self.terminal.shared.lock());
    }

    /// The same, and waits for room where the stream is one that shall have all lines, however long it takes: no terminal.
    pub(crate) fn put_patiently(&self, line: &str, urgent: bool) {
        self.take(line, urgent, self.terminal.shared.room_for(line));
    }

    fn take(&self, line: &str, urgent: bool, mut state: MutexGuard<'_, TerminalState>) {
        state.urgent |= urgent;
        let full = state.is_full(line);
        if let Some(account) = state.accounts.get_mut(&self.account) {
            account.books.accepted += 1;
            match full {
                true => account.books.drop_for(STANDS_STILL, 1),
                false => account.waiting += 1,
            }
        }
        match full {
            true => state.left_out += 1,
            false => state.lines.push_str(line),
        }
    }

    /// Has everything written until the deadline; what is not by then is given up in the account.
    pub(crate) fn settle(&self, deadline: Deadline) -> Result<(), SinkError> {
        let shared = &self.terminal.shared;
        let mut state = shared.wait_for_all(shared.lock(), deadline);
        if state.is_behind()
            && let Some(account) = state.accounts.get_mut(&self.account)
        {
            let count = mem::take(&mut account.waiting) + mem::take(&mut account.taken);
            account.books.drop_for(STANDS_STILL, count);
        }
        self.terminal.outcome(&mut state)
    }
}

impl Drop for TerminalHandle {
    fn drop(&mut self) {
        self.terminal.shared.lock().accounts.remove(&self.account);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
    }
}

/// Runs `work` with the screen to itself: the bars are taken away before and come back after it, and lines wait.
pub(crate) fn suspend<T>(work: impl FnOnce() -> T) -> T {
    let live: Vec<_> = [StdStream::Stdout, StdStream::Stderr]
        .into_iter()
        .filter_map(|stream| lock(owner(stream)).upgrade())
        .collect();
    let _pauses: Vec<TerminalPause<'_>> = live
        .iter()
        .map(|terminal| TerminalPause::of(&terminal.shared))
        .collect();
    work()
}

/// A logger ends by this deadline: a stream that stands still may take half of the time, and no more.
pub(crate) fn limit_waiting(deadline: Deadline) {
    let left = deadline.remaining().min(FOR_EVER);
    let now = Instant::now();
    for stream in [StdStream::Stdout, StdStream::Stderr] {
        if let Some(terminal) = lock(owner(stream)).upgrade() {
            terminal.shared.lock().no_waiting = Some(now + left / 2..now + left);
            terminal.shared.changed.notify_all();
        }
    }
}

/// A year is as good.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

struct TerminalPause<'a>(&'a TerminalCore);

impl<'a> TerminalPause<'a> {
    /// Waits until the screen is free; a terminal that stands still is not waited for.
    fn of(shared: &'a TerminalCore) -> Self {
        let mut state = shared.lock();
        state.paused += 1;
        shared.changed.notify_all();
        // A panic of the thread itself.
        if state.thread != Some(thread::current().id()) {
            let until = Instant::now() + PATIENCE * 10;
            while (state.writing || state.bars_on_screen) && !state.stuck && Instant::now() < until {
                state = shared.wait(state, until);
            }
        }
        Self(shared)
    }
}

impl Drop for TerminalPause<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.paused -= 1;
        state.stale = true;
        (state.asked, state.urgent) = (state.has_lines(), !state.bars.is_empty());
        self.0.changed.notify_all();
    }
}

impl TerminalCore {
    /// What the thread does.
    fn write_until_closed(&self) {
        let mut state = self.lock();
        state.thread = Some(thread::current().id());
        loop {
            let now = Instant::now();
            if !state.is_due(now) {
                if state.closing {
                    return;
                }
                state = match state.due_at(now) {
                    Some(at) if state.paused == 0 => self.wait(state, at),
                    _ => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
                continue;
            }
            state = self.write(state, now);
        }
    }

    /// Writes what there is, with the lock given back meanwhile.
    fn write<'a>(&'a self, mut state: MutexGuard<'a, TerminalState>, now: Instant) -> MutexGuard<'a, TerminalState> {
        let paused = state.paused > 0;
        let mut lines = String::new();
        if !paused {
            (state.asked, state.urgent) = (false, false);
            lines = mem::take(&mut state.lines);
            for account in state.accounts.values_mut() {
                account.taken += mem::take(&mut account.waiting);
            }
            if state.left_out > 0 {
                let count = mem::take(&mut state.left_out);
                lines.push_str(&format!(
                    "… {count} lines were left out here: the terminal stood still\n"
                ));
            }
        }
        let bars = match paused || state.closing {
            true => Vec::new(),
            false => state.bars.lines(&self.output, now),
        };
        let erase = state.bars_on_screen;
        state.bars_on_screen = !bars.is_empty();
        (state.stale, state.writing) = (false, true);
        state.drawn_at = Some(now);
        drop(state);
        let written = self.output.write(&frame(erase, &lines, &bars), || self.lock().closing);
        let mut state = self.lock();
        // One huge message must not hold its memory for ever; other lines go on in the same memory.
        if state.lines.is_empty() && lines.capacity() <= 1 << 20 {
            lines.clear();
            state.lines = lines;
        }
        (state.writing, state.stuck) = (false, false);
        state.account_for(written);
        self.changed.notify_all();
        state
    }

    fn wait_for_all<'a>(
        &'a self,
        mut state: MutexGuard<'a, TerminalState>,
        deadline: Deadline,
    ) -> MutexGuard<'a, TerminalState> {
        state.asked = true;
        state.urgent = true;
        self.changed.notify_all();
        let until = Instant::now() + deadline.remaining().min(FOR_EVER);
        self.wait_until_written(state, until)
    }

    fn wait_until_written<'a>(
        &'a self,
        mut state: MutexGuard<'a, TerminalState>,
        until: Instant,
    ) -> MutexGuard<'a, TerminalState> {
        while state.is_behind() && Instant::now() < until {
            state = self.wait(state, until);
        }
        state
    }

    /// A terminal leaves lines out when it stands still for too long; a pipe or a file has all of them, however long it takes,
    /// unless somebody is about to end who cannot wait for it.
    fn room_for<'a>(&'a self, line: &str) -> MutexGuard<'a, TerminalState> {
        let mut state = self.lock();
        while state.is_full(line) && !self.output.is_terminal() && !state.alone {
            let now = Instant::now();
            state.asked = true;
            self.changed.notify_all();
            state = match &state.no_waiting {
                Some(period) if period.contains(&now) => break,
                Some(period) if now < period.start => {
                    let start = period.start;
                    self.wait(state, start)
                }
                _ => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state
    }

    fn wait<'a>(&self, state: MutexGuard<'a, TerminalState>, until: Instant) -> MutexGuard<'a, TerminalState> {
        let timeout = until.saturating_duration_since(Instant::now());
        self.changed
            .wait_timeout(state, timeout)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// The state is whole between any two calls; a panic elsewhere is no reason to lose the terminal.
    fn lock(&self) -> MutexGuard<'_, TerminalState> {
        lock(&self.state)
    }
}

impl TerminalState {
    /// Whether there is something that the thread should write now.
    fn is_due(&self, now: Instant) -> bool {
        if self.paused > 0 {
            return self.bars_on_screen;
        }
        self.due_at(now).is_some_and(|at| now >= at)
    }

    /// When there is something to be written.
    fn due_at(&self, now: Instant) -> Option<Instant> {
        let after = |pause| self.drawn_at.map_or(now, |at| at + pause);
        if self.urgent || (self.closing && (self.has_lines() || self.bars_on_screen)) {
            return Some(after(Duration::ZERO));
        }
        let lines = match (self.asked, self.bars_on_screen) {
            (true, true) => Some(after(BETWEEN_FRAMES)),
            (true, false) => Some(after(Duration::ZERO)),
            (false, _) => None,
        };
        let bars = match (self.bars_on_screen, self.stale) {
            (true, true) => Some(after(REDRAW)),
            (true, false) => Some(after(TICK)),
            (false, _) => None,
        };
        lines.into_iter().chain(bars).min()
    }

    fn has_lines(&self) -> bool {
        !self.lines.is_empty() || self.left_out > 0
    }

    /// Whether this line has no place among those that wait. A first one always has.
    fn is_full(&self, line: &str) -> bool {
        !self.lines.is_empty() && self.lines.len() + line.len() > BACKLOG
    }

    /// Whether anything is asked for that is not on the screen.
    fn is_behind(&self) -> bool {
        !self.alone && (self.writing || self.asked || self.urgent)
    }

    /// What cannot be written is given up: a terminal that is gone does not come back.
    fn account_for(&mut self, written: io::Result<()>) {
        self.failing = written.err().map(|error| StreamFailure::of(&error));
        for account in self.accounts.values_mut() {
            let count = mem::take(&mut account.taken);
            match self.failing {
                None => account.books.delivered += count,
                Some(failure) => account.books.drop_for(failure.error().reason(), count),
            }
        }
    }
}

/// An error of the system that can be told as often as it is asked for.
#[derive(Clone, Copy)]
struct StreamFailure {
    code: Option<i32>,
    kind: io::ErrorKind,
}

impl StreamFailure {
    fn of(error: &io::Error) -> Self {
        Self {
            code: error.raw_os_error(),
            kind: error.kind(),
        }
    }

    fn error(self) -> SinkError {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => self.kind.into(),
        }
        .into()
    }
}

/// The owner has a thread, which a child of a fork has not.
fn owner(stream: StdStream) -> &'static Mutex<Weak<Terminal>> {
    static STDOUT: PerProcess<Mutex<Weak<Terminal>>> = PerProcess::new(|_| Mutex::new(Weak::new()));
    static STDERR: PerProcess<Mutex<Weak<Terminal>>> = PerProcess::new(|_| Mutex::new(Weak::new()));
    match stream {
        StdStream::Stdout => STDOUT.get(),
        StdStream::Stderr => STDERR.get(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
