//! Notices: the last resort, one line on stderr for each kind of trouble.
//!
//! Nobody may read stderr: a pipe may be full, a terminal may be stopped. So a separate thread
//! writes the lines, and a thread that has a notice waits only for a moment. The stream is never
//! switched to non-blocking, because other processes share it. The standard library's lock of
//! stderr is not taken, because the program's own `eprintln!` would wait for that lock. Where the
//! system has no thread left, the thread that has the notice writes what stderr takes at once.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use logcore::escape::to_one_line;
use logcore::sync::{lock, wait_timeout};
use logcore::{PerProcess, Redaction, suppress_logging};

use super::exit::report_at_unload;

/// The same kind of trouble is reported again only after this time.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// A notice is awaited for this long, so that a reader finds it before the program's next output.
const WRITE_TIMEOUT: Duration = Duration::from_millis(50);
/// Bytes that a pipe takes at once if it takes any: `PIPE_BUF` of Linux.
const TAKEN_AT_ONCE: usize = 4096;
/// Number of lines that wait; further lines are counted.
const MAX_LINES: usize = 256;
/// Number of kinds of trouble that are remembered.
const MAX_KINDS: usize = 4096;

/// Writes a whole line and returns `true`, or returns `false` and leaves the line to the caller.
type NoticeWriter = fn(&str) -> bool;

static WRITER: OnceLock<NoticeWriter> = OnceLock::new();
/// The rank of this process among those that share its stderr. Rank 0 has no label.
static RANK: AtomicU32 = AtomicU32::new(0);
/// The patterns of all loggers, because trouble concerns the whole process.
static REDACTIONS: RwLock<Vec<Weak<Redaction>>> = RwLock::new(Vec::new());
/// The times at which each kind of trouble was last reported.
static REPORTED: PerProcess<Mutex<HashMap<String, Instant>>> = PerProcess::new(|_| Mutex::default());
static QUEUE: PerProcess<NoticeQueue> = PerProcess::new(|_| NoticeQueue::default());

/// Has `writer` write all further notices, such as above the progress bars of a terminal. Only the
/// first call counts.
///
/// `writer` returns `true` if it wrote the line; otherwise the line goes to stderr.
///
/// ```
/// logcore_pipeline::set_notice_writer(|line| {
///     assert!(line.starts_with("logcore: "));
///     true
/// });
/// logcore_pipeline::print_notice("disk", "the disk is full");
/// ```
pub fn set_notice_writer(writer: fn(&str) -> bool) {
    let _ = WRITER.set(writer);
}

/// Labels all further notices of this process, unless `rank` is 0: `logcore: [rank 3] …`.
///
/// ```
/// logcore_pipeline::set_notice_writer(|line| {
///     assert_eq!(line, "logcore: [rank 3] the disk is full\n");
///     true
/// });
/// logcore_pipeline::label_notices_with_rank(3);
/// logcore_pipeline::print_notice("disk", "the disk is full");
/// ```
pub fn label_notices_with_rank(rank: u32) {
    RANK.store(rank, Ordering::Relaxed);
}

/// Hides the matches of `redaction` in all further notices, for as long as the caller keeps the
/// `Arc`.
///
/// ```
/// use std::sync::Arc;
///
/// logcore_pipeline::set_notice_writer(|line| {
///     assert!(line.contains("***") && !line.contains("hf_123"));
///     true
/// });
/// let redaction = Arc::new(logcore::Redaction::new(&["hf_[0-9]+".to_owned()])?);
/// logcore_pipeline::redact_in_notices(&redaction);
/// logcore_pipeline::print_notice("token", "cannot use token hf_123");
/// # Ok::<(), logcore::ConfigError>(())
/// ```
pub fn redact_in_notices(redaction: &Arc<Redaction>) {
    let mut redactions = REDACTIONS.write().unwrap_or_else(PoisonError::into_inner);
    redactions.retain(|redaction| redaction.strong_count() > 0);
    redactions.push(Arc::downgrade(redaction));
}

/// Writes `logcore: <text>` to stderr, at most once a minute for each `kind`, and waits up to 50 ms
/// for the line to be written. Where the system has no thread left, the line is written by this
/// one. Returns `true` unless the minute of the last notice of this kind has
/// not passed.
///
/// If stderr is closed the notice is lost, and the run continues.
///
/// ```
/// use logcore_pipeline::print_notice;
///
/// assert!(print_notice("disk full", "cannot write training.log: the disk is full"));
/// assert!(!print_notice("disk full", "cannot write training.log: the disk is full"));
/// ```
pub fn print_notice(kind: &str, text: &str) -> bool {
    let is_due = post_notice(kind, text);
    if is_due {
        settle_notices(WRITE_TIMEOUT);
    }
    is_due
}

/// Writes a line of a logger without sinks to stderr, as a notice but whole: without a prefix, and
/// however often.
///
/// ```
/// logcore_pipeline::print_line_of_logger("WARN  | library | no data\n");
/// ```
pub fn print_line_of_logger(line: &str) {
    report_at_unload();
    QUEUE
        .get()
        .push(format!("{}\n", to_one_line(&redacted(line.trim_end()))));
    settle_notices(WRITE_TIMEOUT);
}

/// Does the same without waiting.
pub(crate) fn post_notice(kind: &str, text: &str) -> bool {
    {
        let mut reported = lock(REPORTED.get());
        match reported.get(kind) {
            Some(last) if last.elapsed() < REPEAT_INTERVAL => return false,
            _ => {
                if reported.len() >= MAX_KINDS {
                    reported.retain(|_, last| last.elapsed() < REPEAT_INTERVAL);
                }
                reported.insert(kind.to_owned(), Instant::now())
            }
        };
    }
    let label = match RANK.load(Ordering::Relaxed) {
        0 => String::new(),
        rank => format!("[rank {rank}] "),
    };
    QUEUE
        .get()
        .push(format!("logcore: {label}{}\n", to_one_line(&redacted(text))));
    true
}

/// Waits until all notices are written, for at most `timeout`. Returns at once if the stream is
/// known to be stuck.
fn settle_notices(timeout: Duration) {
    let queue = QUEUE.get();
    let until = Instant::now() + timeout;
    let mut state = lock(&queue.state);
    while state.is_behind() && !state.is_stuck {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            state.is_stuck = true;
            return;
        }
        state = wait_timeout(&queue.changed, state, left);
    }
}

/// Waits at the end of the process until all notices are written, for at most `timeout`. A stream
/// that seemed to be stuck gets another chance: on a busy machine its thread may just be late.
pub(crate) fn settle_last_notices(timeout: Duration) {
    lock(&QUEUE.get().state).is_stuck = false;
    settle_notices(timeout);
}

fn redacted(text: &str) -> Cow<'_, str> {
    let Some(redactions) = redactions() else {
        return "***".into();
    };
    redactions.iter().fold(Cow::Borrowed(text), |text, redaction| {
        Cow::Owned(redaction.hide(&text).into_owned())
    })
}

/// `None` if the lock cannot be had: a fork may have caught it while another thread held it, and no
/// thread of the child releases it.
fn redactions() -> Option<Vec<Arc<Redaction>>> {
    let until = Instant::now() + WRITE_TIMEOUT;
    loop {
        let redactions = match REDACTIONS.try_read() {
            Ok(redactions) => redactions,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::yield_now();
                continue;
            }
            Err(TryLockError::WouldBlock) => return None,
        };
        return Some(redactions.iter().filter_map(Weak::upgrade).collect());
    }
}

/// The lines that wait for the thread that writes them.
#[derive(Default)]
struct NoticeQueue {
    state: Mutex<NoticeState>,
    changed: Condvar,
}

#[derive(Default)]
struct NoticeState {
    lines: VecDeque<String>,
    /// Number of lines beyond `MAX_LINES`.
    dropped: u64,
    is_writing: bool,
    /// A wait for the thread timed out, and the thread has not written a line since.
    is_stuck: bool,
    has_thread: bool,
}

impl NoticeQueue {
    fn push(&'static self, line: String) {
        let mut state = lock(&self.state);
        match state.lines.len() < MAX_LINES {
            true => state.lines.push_back(line),
            false => state.dropped += 1,
        }
        if !state.has_thread {
            let started = thread::Builder::new()
                .name("logcore-notices".to_owned())
                .spawn(|| suppress_logging(|| self.write_all()));
            state.has_thread = started.is_ok();
            if started.is_err() {
                return self.write_at_once(state);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes the lines that stderr takes without waiting. The others wait for the next notice.
    fn write_at_once<'a>(&'a self, mut state: MutexGuard<'a, NoticeState>) {
        while stderr_is_ready()
            && let Some(line) = state.next_line()
        {
            // Another process may fill the stream first, and hold up this thread alone.
            drop(state);
            // The terminal may be without a thread, too, so that its bars are not regarded.
            for part in line.as_bytes().chunks(TAKEN_AT_ONCE) {
                if !stderr_is_ready() {
                    break;
                }
                write_bytes(part);
            }
            state = lock(&self.state);
        }
    }

    /// The loop of the thread. Trouble is rare, so the thread ends after some idle seconds.
    fn write_all(&self) {
        const IDLE: Duration = Duration::from_secs(5);
        let mut state = lock(&self.state);
        let mut idle_since = Instant::now();
        loop {
            let Some(line) = state.next_line() else {
                let left = IDLE.saturating_sub(idle_since.elapsed());
                if left.is_zero() {
                    state.has_thread = false;
                    return;
                }
                state = wait_timeout(&self.changed, state, left);
                continue;
            };
            state.is_writing = true;
            drop(state);
            write_line(&line);
            idle_since = Instant::now();
            state = lock(&self.state);
            (state.is_writing, state.is_stuck) = (false, false);
            self.changed.notify_all();
        }
    }
}

impl NoticeState {
    fn is_behind(&self) -> bool {
        self.has_thread && (self.is_writing || !self.lines.is_empty())
    }

    fn next_line(&mut self) -> Option<String> {
        if let Some(line) = self.lines.pop_front() {
            return Some(line);
        }
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| format!("logcore: {dropped} more lines like these were dropped: nobody read them\n"))
    }
}

/// Writes a whole line at once if the stream accepts that, so that the line is not mixed with
/// others.
fn write_line(line: &str) {
    if WRITER.get().is_some_and(|write| write(line)) {
        return;
    }
    write_bytes(line.as_bytes());
}

fn write_bytes(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match write_some(rest) {
            Ok(0) => return,
            Ok(count) => rest = &rest[count..],
            Err(error) => match error.kind() {
                std::io::ErrorKind::Interrupted => {}
                // Another process has switched the stream to non-blocking.
                std::io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                _ => return,
            },
        }
    }
}

/// Returns `true` if stderr takes some bytes without waiting, of a pipe [`TAKEN_AT_ONCE`].
#[cfg(unix)]
fn stderr_is_ready() -> bool {
    super::sys::calls::stderr_is_ready()
}

#[cfg(not(unix))]
fn stderr_is_ready() -> bool {
    true
}

#[cfg(unix)]
fn write_some(bytes: &[u8]) -> std::io::Result<usize> {
    super::sys::calls::write_to_stderr(bytes)
}

#[cfg(not(unix))]
fn write_some(bytes: &[u8]) -> std::io::Result<usize> {
    std::io::Write::write(&mut std::io::stderr(), bytes)
}
