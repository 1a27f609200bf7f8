//! The last resort: one line on stderr for each kind of trouble.
//!
//! Nobody may read stderr: a full pipe, a terminal that stands still. So a thread of its own writes the lines, and whoever has one
//! waits for it a moment at most. The stream is never switched to non-blocking, because other processes have it, too; and std's
//! lock of it is not taken, because the program's own `eprintln!` would wait for that.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use logcore::escape::to_one_line;
use logcore::{PerProcess, Redaction, suppress_logging};

/// The same trouble is said again only after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// A stream that takes a line within this is waited for, so that the line is read before what the program says next.
const PATIENCE: Duration = Duration::from_millis(50);
/// Lines that wait; those beyond are counted.
const BACKLOG: usize = 256;
/// Kinds of trouble that are remembered.
const KINDS: usize = 4096;

/// Writes a whole line to stderr; returns whether it did, or leaves it to whoever asks.
type Way = fn(&str) -> bool;

static WAY: OnceLock<Way> = OnceLock::new();
/// The rank of this process, if it has others beside it on the same stderr; 0 is not marked.
static RANK: AtomicU32 = AtomicU32::new(0);

/// Has `way` write the notices from now on, where it can: who owns the terminal has them above its bars. The first one stays.
pub fn set_notice_writer(way: Way) {
    let _ = WAY.set(way);
}

/// Marks the notices of this process from now on, unless it is the first: `logcore: [rank 3] …`.
pub fn label_notices_with_rank(rank: u32) {
    RANK.store(rank, Ordering::Relaxed);
}

/// Patterns of what no notice may show: those of all loggers there are, since trouble is that of the process.
static HIDDEN: RwLock<Vec<Weak<Redaction>>> = RwLock::new(Vec::new());

/// Has all notices from now on without what these patterns match, for as long as somebody keeps them.
pub fn redact_in_notices(redaction: &Arc<Redaction>) {
    let mut hidden = HIDDEN.write().unwrap_or_else(PoisonError::into_inner);
    hidden.retain(|redaction| redaction.strong_count() > 0);
    hidden.push(Arc::downgrade(redaction));
}

/// Writes `logcore: <text>` to stderr, once a minute at most for each `kind`, and waits a moment for it to be taken. Returns
/// whether it is the time to say it.
///
/// If stderr is gone there is nobody left to tell, and the run goes on.
pub fn print_notice(kind: &str, text: &str) -> bool {
    let said = notice_soon(kind, text);
    if said {
        settle_notices(PATIENCE);
    }
    said
}

/// The same without any wait.
pub(crate) fn notice_soon(kind: &str, text: &str) -> bool {
    {
        let mut said = lock(SAID.get());
        match said.get(kind) {
            Some(last) if last.elapsed() < AGAIN => return false,
            _ => {
                if said.len() >= KINDS {
                    said.retain(|_, last| last.elapsed() < AGAIN);
                }
                said.insert(kind.to_owned(), Instant::now())
            }
        };
    }
    let mark = match RANK.load(Ordering::Relaxed) {
        0 => String::new(),
        rank => format!("[rank {rank}] "),
    };
    DESK.get()
        .put(format!("logcore: {mark}{}\n", to_one_line(&hidden(text))));
    true
}

/// The text without what nobody may see.
fn hidden(text: &str) -> Cow<'_, str> {
    let Some(patterns) = patterns() else {
        return "***".into();
    };
    patterns.iter().fold(Cow::Borrowed(text), |text, redaction| {
        Cow::Owned(redaction.hide(&text).into_owned())
    })
}

/// `None` if they cannot be had: in a child of a fork that caught them while they changed, nobody ends the change.
fn patterns() -> Option<Vec<Arc<Redaction>>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let hidden = match HIDDEN.try_read() {
            Ok(hidden) => hidden,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::yield_now();
                continue;
            }
            Err(TryLockError::WouldBlock) => return None,
        };
        return Some(hidden.iter().filter_map(Weak::upgrade).collect());
    }
}

/// Waits until all notices are written, `patience` at most; a stream that is known to take nothing is not waited for.
pub(crate) fn settle_notices(patience: Duration) {
    let desk = DESK.get();
    let until = Instant::now() + patience;
    let mut state = lock(&desk.state);
    while state.is_behind() && !state.stuck {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            state.stuck = true;
            return;
        }
        state = desk
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

static SAID: PerProcess<Mutex<HashMap<String, Instant>>> = PerProcess::new(|_| Mutex::default());
static DESK: PerProcess<Desk> = PerProcess::new(|_| Desk::default());

/// Where lines wait for the thread that writes them.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// Lines that had no place.
    unsaid: u64,
    writing: bool,
    /// The thread was waited for in vain and has not come through since.
    stuck: bool,
    has_thread: bool,
}

impl State {
    fn is_behind(&self) -> bool {
        self.has_thread && (self.writing || !self.lines.is_empty())
    }
}

impl Desk {
    fn put(&'static self, line: String) {
        let mut state = lock(&self.state);
        match state.lines.len() < BACKLOG {
            true => state.lines.push_back(line),
            false => state.unsaid += 1,
        }
        if !state.has_thread {
            let started = thread::Builder::new()
                .name("logcore-notices".to_owned())
                .spawn(|| suppress_logging(|| self.write_all()));
            // Without a thread it waits for the next notice, which tries again.
            state.has_thread = started.is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The loop of the thread. It ends when there has been nothing for a while: trouble is rare.
    fn write_all(&self) {
        const IDLE: Duration = Duration::from_secs(5);
        let mut state = lock(&self.state);
        loop {
            let Some(line) = state.next_line() else {
                let (next, waited) = self
                    .changed
                    .wait_timeout(state, IDLE)
                    .unwrap_or_else(PoisonError::into_inner);
                state = next;
                if waited.timed_out() && state.lines.is_empty() {
                    state.has_thread = false;
                    return;
                }
                continue;
            };
            state.writing = true;
            drop(state);
            write(&line);
            state = lock(&self.state);
            (state.writing, state.stuck) = (false, false);
            self.changed.notify_all();
        }
    }
}

impl State {
    fn next_line(&mut self) -> Option<String> {
        if let Some(line) = self.lines.pop_front() {
            return Some(line);
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        (unsaid > 0).then(|| format!("logcore: {unsaid} more lines like these could not be said: nobody read them\n"))
    }
}

/// One write for the whole line where the stream takes it, so that it stays whole among others.
fn write(line: &str) {
    if WAY.get().is_some_and(|way| way(line)) {
        return;
    }
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match write_some(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) => match error.kind() {
                std::io::ErrorKind::Interrupted => {}
                // Somebody has made it a stream that does not block.
                std::io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                _ => return,
            },
        }
    }
}

#[cfg(unix)]
fn write_some(bytes: &[u8]) -> std::io::Result<usize> {
    // SAFETY: the bytes live through the call, which only reads them; nothing is assumed of the descriptor.
    let count = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    match usize::try_from(count) {
        Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
        Ok(count) => Ok(count),
        Err(_) => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(unix))]
fn write_some(bytes: &[u8]) -> std::io::Result<usize> {
    std::io::Write::write(&mut std::io::stderr(), bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
