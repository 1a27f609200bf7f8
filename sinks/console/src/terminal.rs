//! The single owner of a stream. A thread that does nothing but write shows its lines and bars, so
//! that a stalled terminal (Ctrl-S, a pager, a slow connection) delays neither the other sinks nor
//! the run.
//!
//! ```text
//! writer thread                          terminal thread
//! put ─────────▶ lines (up to 64 MiB)
//! change_bars ─▶ bars                    waits until a frame is due:
//! write_out ───▶ request, waits          - at once, for an error, the first bar, or the end
//!                up to 100 ms ◀───────── - 50 ms after the last frame, for lines above bars
//!                                        - 100 ms after it, for changed bars; 1 s for the clock
//! ```
//!
//! A caller that waits in vain marks the terminal as stuck. Until the next write succeeds, no
//! caller waits again.
//!
//! While a caller of `suspend` has the screen, lines are held: nobody waits for them, and they
//! count as neither delivered nor dropped. The end of a logger has them written nevertheless,
//! because the process may end before the pause does.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use logcore::sync;
use logcore::{BookUnit, Deadline, PerProcess, SinkBooks, SinkError, SinkErrorKind};

use crate::bar_area::BarArea;
use crate::frame::frame;
use crate::output::{StdStream, StreamOutput};

/// Time that a terminal is given to show its lines before the program continues. A slower terminal
/// is left to the thread.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum length of the lines that wait for a stalled terminal, in bytes. Lines beyond are skipped
/// and counted.
const BACKLOG: usize = 64 << 20;
/// Reason for skipped lines in the books.
const STALLED: &str = "terminal stalled";
/// Minimum time between two frames with lines while there are bars: each frame draws the bars
/// again.
const BETWEEN_FRAMES: Duration = Duration::from_millis(50);
/// Minimum time between two frames without lines.
const REDRAW: Duration = Duration::from_millis(100);
/// Maximum time between two frames, because the bars show the elapsed time.
const TICK: Duration = Duration::from_secs(1);
/// Limit for deadlines, so that adding one to a time cannot overflow.
const ONE_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The owner of a stream: shows lines in order, and bars below them. The thread ends with the last
/// handle of the owner.
pub(crate) struct Terminal {
    core: Arc<TerminalCore>,
}

/// The part of a [`Terminal`] that the thread shares.
struct TerminalCore {
    stream: StdStream,
    output: StreamOutput,
    state: Mutex<TerminalState>,
    /// Notified when the state has changed in a way that a thread may wait for.
    changed: Condvar,
}

#[derive(Default)]
struct TerminalState {
    /// Lines that the thread has not taken yet.
    lines: String,
    /// Number of lines that were skipped because the backlog was full.
    skipped: u64,
    accounts: BTreeMap<usize, LineAccount>,
    next_account: usize,
    bars: BarArea,
    /// `true` while bars are on the screen.
    bars_on_screen: bool,
    /// `true` if the bars have changed since they were drawn.
    bars_changed: bool,
    drawn_at: Option<Instant>,
    request: WriteRequest,
    phase: WriterPhase,
    /// `true` if a caller has waited for the thread in vain, and nothing was written since.
    stuck: bool,
    /// Number of callers that want the screen for themselves.
    paused: u32,
    /// `true` if a logger has ended since the pause began, or the process ends: notices are not
    /// held any more.
    ended_in_pause: bool,
    closing: bool,
    /// Period in which no caller waits for room, because a logger ends.
    no_waiting: Option<Range<Instant>>,
    /// Cause of the failure of the last write.
    failure: Option<StreamFailure>,
    thread: Option<ThreadId>,
}

/// Activity of the writing thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum WriterPhase {
    /// The thread waits for a request or for the next redraw.
    #[default]
    Idle,
    /// The thread writes, without the lock.
    Writing,
    /// There is no thread, because the system could not start one.
    Missing,
}

/// Urgency with which the queued lines are to be written. A later request only raises it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WriteRequest {
    #[default]
    None,
    /// At the next frame: while there are bars, that is up to 50 ms away.
    NextFrame,
    /// At once.
    Now,
    /// At once, even while a caller of `suspend` has the screen.
    DespitePause,
}

#[derive(Default)]
struct LineAccount {
    books: SinkBooks,
    /// Number of records among the lines that wait.
    waiting: u64,
    /// Number of records among the lines that the thread is writing.
    taken: u64,
}

impl Terminal {
    /// Returns the owner of `stream`, and starts it if there is none. If both streams are the same
    /// terminal, they have the same owner.
    pub(crate) fn of(stream: StdStream) -> Arc<Self> {
        let stream = match stream {
            StdStream::Stderr if StdStream::are_one_terminal() => StdStream::Stdout,
            stream => stream,
        };
        let mut owner = sync::lock(owner(stream));
        if let Some(terminal) = owner.upgrade() {
            return terminal;
        }
        let core = Arc::new(TerminalCore {
            stream,
            output: StreamOutput::open(stream),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&core);
        let spawned = thread::Builder::new()
            .name("logcore-console".to_owned())
            .spawn(move || writer.write_until_closed());
        if let Err(error) = spawned {
            let mut state = core.lock();
            state.phase = WriterPhase::Missing;
            state.failure = Some(StreamFailure::of(&error));
        }
        let terminal = Arc::new(Self { core });
        *owner = Arc::downgrade(&terminal);
        terminal
    }

    /// Queues a line that is not a record.
    #[cfg(feature = "progress")]
    pub(crate) fn put_aside(&self, line: &str) {
        self.core.lock().lines.push_str(line);
    }

    /// Returns the width of the window; `None` if the stream is no terminal.
    pub(crate) fn columns(&self) -> Option<usize> {
        self.core.output.columns()
    }

    /// Changes the bars.
    #[cfg(feature = "progress")]
    pub(crate) fn change_bars(&self, change: impl FnOnce(&mut BarArea)) {
        let mut state = self.core.lock();
        change(&mut state.bars);
        state.bars_changed = true;
        // The first bar appears, and the last one disappears, without delay.
        if state.bars.is_empty() == state.bars_on_screen {
            state.request(WriteRequest::Now);
        }
        self.core.changed.notify_all();
    }

    /// Has the queued lines written; waits for that up to [`WRITE_TIMEOUT`].
    pub(crate) fn write_out(&self) -> Result<(), SinkError> {
        let mut state = self.core.lock();
        if state.has_lines() {
            state.request(WriteRequest::NextFrame);
            self.core.changed.notify_all();
        }
        if !state.is_held() && !state.stuck && state.is_due(Instant::now()) {
            state = self.core.wait_until_written(state, Instant::now() + WRITE_TIMEOUT);
            state.stuck = state.is_behind();
        }
        self.failure(&state)
    }

    /// Has lines and bars written until the deadline, unless a pause holds them. A terminal that is
    /// stuck already gets only [`WRITE_TIMEOUT`].
    pub(crate) fn flush(&self, deadline: Deadline) -> Result<(), SinkError> {
        let state = self.core.lock();
        let until = if state.stuck {
            Deadline::after(WRITE_TIMEOUT)
        } else {
            deadline
        };
        self.outcome(&mut self.core.wait_for_all(state, WriteRequest::Now, until))
    }

    /// Has the last lines of a logger written, even in a pause; waits for that up to
    /// [`WRITE_TIMEOUT`]. [`is_stuck`](Self::is_stuck) tells whether it was enough.
    pub(crate) fn write_last(&self) -> Result<(), SinkError> {
        let mut state = self.core.wait_for_end(self.core.lock(), Deadline::after(WRITE_TIMEOUT));
        state.stuck = state.is_behind();
        self.failure(&state)
    }

    /// Returns `true` if the terminal is stalled while something waits to be written.
    pub(crate) fn is_stuck(&self) -> bool {
        self.core.lock().stuck
    }

    fn outcome(&self, state: &mut TerminalState) -> Result<(), SinkError> {
        state.stuck = state.is_behind();
        if state.stuck {
            let text = format!(
                "{} accepts nothing; the waiting lines are written as soon as it does",
                self.core.stream.name()
            );
            let error = SinkError::new(text).with_kind(SinkErrorKind::TimedOut);
            return Err(error.with_reason(STALLED));
        }
        self.failure(state)
    }

    /// Returns the error of the last write. Only a successful write clears it.
    fn failure(&self, state: &TerminalState) -> Result<(), SinkError> {
        match state.failure {
            Some(failure) => Err(failure.error().doing(format!("write to {}", self.core.stream.name()))),
            None => Ok(()),
        }
    }
}

/// A handle to a terminal, with an account of the lines that came through it.
pub(crate) struct TerminalHandle {
    pub(crate) terminal: Arc<Terminal>,
    account: usize,
}

impl TerminalHandle {
    pub(crate) fn open(stream: StdStream) -> Self {
        let terminal = Terminal::of(stream);
        let mut state = terminal.core.lock();
        let account = state.next_account;
        state.next_account += 1;
        state.accounts.insert(account, LineAccount::default());
        drop(state);
        Self { terminal, account }
    }

    pub(crate) fn books(&self) -> SinkBooks {
        let state = self.terminal.core.lock();
        let account = state.accounts.get(&self.account);
        let books = account.map_or_else(SinkBooks::default, |account| account.books.clone());
        books.in_unit(BookUnit::Lines)
    }

    /// Queues the line of a record. A line that finds no room is skipped.
    pub(crate) fn put(&self, line: &str, request: WriteRequest) {
        self.queue(line, request, self.terminal.core.lock());
    }

    /// Queues the line of a record, and waits for room first, unless the stream is a terminal.
    pub(crate) fn put_when_room(&self, line: &str, request: WriteRequest) {
        self.queue(line, request, self.terminal.core.wait_for_room(line));
    }

    /// Prints a notice; waits for that up to [`WRITE_TIMEOUT`]. A pause holds the notice, unless a
    /// logger has ended meanwhile: then the process may be about to end. [`write_held`] prints what
    /// is held when the process does.
    pub(crate) fn print_notice(&self, line: &str) {
        let state = self.terminal.core.lock();
        let request = match state.ended_in_pause {
            true => WriteRequest::DespitePause,
            false => WriteRequest::Now,
        };
        self.queue(line, request, state);
        // An error of this stream cannot be reported on this stream.
        let _ = self.terminal.flush(Deadline::after(WRITE_TIMEOUT));
    }

    fn queue(&self, line: &str, request: WriteRequest, mut state: MutexGuard<'_, TerminalState>) {
        state.request(request);
        let full = state.is_full(line);
        if let Some(account) = state.accounts.get_mut(&self.account) {
            account.books.accepted += 1;
            match full {
                true => account.books.drop_for(STALLED, 1),
                false => account.waiting += 1,
            }
        }
        match full {
            true => state.skipped += 1,
            false => state.lines.push_str(line),
        }
    }

    /// Has everything written until the deadline, even in a pause. Lines that are not written by
    /// then are counted as dropped.
    pub(crate) fn settle(&self, deadline: Deadline) -> Result<(), SinkError> {
        let core = &self.terminal.core;
        let mut state = core.wait_for_end(core.lock(), deadline);
        if state.is_behind()
            && let Some(account) = state.accounts.get_mut(&self.account)
        {
            let count = mem::take(&mut account.waiting) + mem::take(&mut account.taken);
            account.books.drop_for(STALLED, count);
        }
        self.terminal.outcome(&mut state)
    }
}

impl Drop for TerminalHandle {
    fn drop(&mut self) {
        self.terminal.core.lock().accounts.remove(&self.account);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.core.lock().closing = true;
        self.core.changed.notify_all();
    }
}

/// Runs `work` with the screen to itself: the bars are erased before and drawn again after it, and
/// lines wait.
pub(crate) fn suspend<T>(work: impl FnOnce() -> T) -> T {
    let live: Vec<_> = [StdStream::Stdout, StdStream::Stderr]
        .into_iter()
        .filter_map(|stream| sync::lock(owner(stream)).upgrade())
        .collect();
    let _pauses: Vec<TerminalPause<'_>> = live
        .iter()
        .map(|terminal| TerminalPause::begin(&terminal.core))
        .collect();
    work()
}

/// Has what pauses hold written, because the process ends; waits for that up to [`WRITE_TIMEOUT`]
/// for each stream. Later notices are not held, either.
pub(crate) fn write_held() {
    for stream in [StdStream::Stdout, StdStream::Stderr] {
        let terminal = sync::lock(owner(stream)).upgrade();
        if let Some(terminal) = terminal.filter(|terminal| terminal.core.lock().paused > 0) {
            // An error of this stream cannot be reported on this stream.
            let _ = terminal.write_last();
        }
    }
}

/// Limits the wait for stalled streams to half of the time until the deadline, because a logger
/// ends by then.
pub(crate) fn limit_waiting(deadline: Deadline) {
    let left = deadline.remaining().min(ONE_YEAR);
    let now = Instant::now();
    for stream in [StdStream::Stdout, StdStream::Stderr] {
        if let Some(terminal) = sync::lock(owner(stream)).upgrade() {
            terminal.core.lock().no_waiting = Some(now + left / 2..now + left);
            terminal.core.changed.notify_all();
        }
    }
}

/// A period in which only `suspend`'s caller writes to the screen, and loggers that end.
struct TerminalPause<'a>(&'a TerminalCore);

impl<'a> TerminalPause<'a> {
    /// Waits until the screen is free, but not for a stalled terminal.
    fn begin(core: &'a TerminalCore) -> Self {
        let mut state = core.lock();
        state.paused += 1;
        core.changed.notify_all();
        // The thread itself gets here if it panics, because the panic hook suspends the terminal.
        if state.thread != Some(thread::current().id()) {
            let until = Instant::now() + WRITE_TIMEOUT * 10;
            while (state.phase == WriterPhase::Writing || state.bars_on_screen)
                && !state.stuck
                && Instant::now() < until
            {
                state = core.wait(state, until);
            }
        }
        Self(core)
    }
}

impl Drop for TerminalPause<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.paused -= 1;
        state.ended_in_pause &= state.paused > 0;
        state.bars_changed = true;
        // A caller may still wait for a request that it has made despite the pause.
        if state.request < WriteRequest::DespitePause {
            state.request = match (state.bars.is_empty(), state.has_lines()) {
                (false, _) => WriteRequest::Now,
                (true, true) => WriteRequest::NextFrame,
                (true, false) => WriteRequest::None,
            };
        }
        self.0.changed.notify_all();
    }
}

impl TerminalCore {
    /// The body of the thread.
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
                    Some(at) if !state.is_held() => self.wait(state, at),
                    _ => sync::wait(&self.changed, state),
                };
                continue;
            }
            state = self.write(state, now);
        }
    }

    /// Writes a frame. The lock is released meanwhile.
    fn write<'a>(&'a self, mut state: MutexGuard<'a, TerminalState>, now: Instant) -> MutexGuard<'a, TerminalState> {
        let mut lines = String::new();
        if !state.is_held() {
            state.request = WriteRequest::None;
            lines = mem::take(&mut state.lines);
            for account in state.accounts.values_mut() {
                account.taken += mem::take(&mut account.waiting);
            }
            if state.skipped > 0 {
                let count = mem::take(&mut state.skipped);
                lines.push_str(&format!("… {count} lines skipped: the terminal was stalled\n"));
            }
        }
        let bars = match state.paused > 0 || state.closing {
            true => Vec::new(),
            false => state.bars.lines(&self.output, now),
        };
        let erase = state.bars_on_screen;
        state.bars_on_screen = !bars.is_empty();
        state.bars_changed = false;
        state.phase = WriterPhase::Writing;
        state.drawn_at = Some(now);
        drop(state);
        let written = self.output.write(&frame(erase, &lines, &bars), || self.lock().closing);
        let mut state = self.lock();
        // The buffer is used again, unless one huge message has made it large.
        if state.lines.is_empty() && lines.capacity() <= 1 << 20 {
            lines.clear();
            state.lines = lines;
        }
        state.phase = WriterPhase::Idle;
        state.stuck = false;
        state.account_for(written);
        self.changed.notify_all();
        state
    }

    /// Has everything written at the end of a logger, and waits for that.
    fn wait_for_end<'a>(
        &'a self,
        mut state: MutexGuard<'a, TerminalState>,
        deadline: Deadline,
    ) -> MutexGuard<'a, TerminalState> {
        state.ended_in_pause = state.paused > 0;
        self.wait_for_all(state, WriteRequest::DespitePause, deadline)
    }

    fn wait_for_all<'a>(
        &'a self,
        mut state: MutexGuard<'a, TerminalState>,
        request: WriteRequest,
        deadline: Deadline,
    ) -> MutexGuard<'a, TerminalState> {
        state.request(request);
        self.changed.notify_all();
        let until = Instant::now() + deadline.remaining().min(ONE_YEAR);
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

    /// Waits until the line finds room, if the stream is a pipe or a file: those get all lines,
    /// however long it takes, unless a logger is about to end. A full backlog is written even in a
    /// pause, because the pause may wait for this caller. A terminal that is stalled for too long
    /// skips lines instead.
    fn wait_for_room<'a>(&'a self, line: &str) -> MutexGuard<'a, TerminalState> {
        let mut state = self.lock();
        while state.is_full(line) && !self.output.is_terminal() && state.phase != WriterPhase::Missing {
            let now = Instant::now();
            state.request(WriteRequest::DespitePause);
            self.changed.notify_all();
            state = match &state.no_waiting {
                Some(period) if period.contains(&now) => break,
                Some(period) if now < period.start => {
                    let start = period.start;
                    self.wait(state, start)
                }
                _ => sync::wait(&self.changed, state),
            };
        }
        state
    }

    fn wait<'a>(&self, state: MutexGuard<'a, TerminalState>, until: Instant) -> MutexGuard<'a, TerminalState> {
        let timeout = until.saturating_duration_since(Instant::now());
        sync::wait_timeout(&self.changed, state, timeout)
    }

    fn lock(&self) -> MutexGuard<'_, TerminalState> {
        sync::lock(&self.state)
    }
}

impl TerminalState {
    fn request(&mut self, request: WriteRequest) {
        self.request = self.request.max(request);
    }

    /// Returns `true` if the thread should write now.
    fn is_due(&self, now: Instant) -> bool {
        if self.is_held() {
            return self.bars_on_screen;
        }
        self.due_at(now).is_some_and(|at| now >= at)
    }

    /// Returns the time of the next frame.
    fn due_at(&self, now: Instant) -> Option<Instant> {
        let after = |pause| self.drawn_at.map_or(now, |at| at + pause);
        if self.closing && (self.has_lines() || self.bars_on_screen) {
            return Some(after(Duration::ZERO));
        }
        let lines = match (self.request, self.bars_on_screen) {
            (WriteRequest::Now | WriteRequest::DespitePause, _) => return Some(after(Duration::ZERO)),
            (WriteRequest::NextFrame, true) => Some(after(BETWEEN_FRAMES)),
            (WriteRequest::NextFrame, false) => Some(after(Duration::ZERO)),
            (WriteRequest::None, _) => None,
        };
        let bars = match (self.bars_on_screen, self.bars_changed) {
            (true, true) => Some(after(REDRAW)),
            (true, false) => Some(after(TICK)),
            (false, _) => None,
        };
        lines.into_iter().chain(bars).min()
    }

    /// Returns `true` while lines and bars wait for the end of a pause.
    fn is_held(&self) -> bool {
        self.paused > 0 && self.request < WriteRequest::DespitePause
    }

    fn has_lines(&self) -> bool {
        !self.lines.is_empty() || self.skipped > 0
    }

    /// Returns `true` if a line does not fit into the backlog. The first line always fits.
    fn is_full(&self, line: &str) -> bool {
        !self.lines.is_empty() && self.lines.len() + line.len() > BACKLOG
    }

    /// Returns `true` if something was requested that is not on the screen yet, and no pause holds
    /// it.
    fn is_behind(&self) -> bool {
        match self.phase {
            WriterPhase::Missing => false,
            WriterPhase::Writing => true,
            WriterPhase::Idle => self.request > WriteRequest::None && !self.is_held(),
        }
    }

    /// Counts the lines of a write as delivered or dropped. A terminal that failed does not come
    /// back.
    fn account_for(&mut self, written: io::Result<()>) {
        self.failure = written.err().map(|error| StreamFailure::of(&error));
        for account in self.accounts.values_mut() {
            let count = mem::take(&mut account.taken);
            match self.failure {
                None => account.books.delivered += count,
                Some(failure) => account.books.drop_for(failure.error().reason(), count),
            }
        }
    }
}

/// A system error that can be returned any number of times.
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

/// Returns the slot of a stream's owner, per process: a forked child does not have the owner's
/// thread.
fn owner(stream: StdStream) -> &'static Mutex<Weak<Terminal>> {
    static STDOUT: PerProcess<Mutex<Weak<Terminal>>> = PerProcess::new(|_| Mutex::new(Weak::new()));
    static STDERR: PerProcess<Mutex<Weak<Terminal>>> = PerProcess::new(|_| Mutex::new(Weak::new()));
    match stream {
        StdStream::Stdout => STDOUT.get(),
        StdStream::Stderr => STDERR.get(),
    }
}
