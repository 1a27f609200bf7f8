//! The ledger of a run: the seconds of its wall clock by their use.

mod book;
#[cfg(feature = "health")]
mod long_phases;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use logcore::{CheckpointMark, LoggerSummary, MetricValue, RunManifest};
use logcore_pipeline::ForkMutex;

pub(super) use self::book::complete;
use self::book::{DATA, IDLE, LedgerBook};
#[cfg(feature = "health")]
pub(crate) use self::long_phases::LongPhase;
use super::health::bell::Bell;
use super::record::seconds;
use crate::logger::earlier_rows::SupersededSteps;

/// Books each second of a run to one use, on the thread that trains: the one that last updated a
/// progress, and before the first update the one that set the run up. The innermost phase counts.
pub(crate) struct Ledger {
    /// Number of the thread that last updated a progress; 0 before the first update. An update of
    /// the same thread takes no lock.
    updater: AtomicU64,
    /// The same thread by the number that the kernel gives it; 0 if unknown.
    updater_tid: AtomicU32,
    /// Also taken under the lock of a logger's metrics.
    book: ForkMutex<LedgerBook>,
    bell: Arc<Bell>,
}

/// A use of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Account(usize);

/// An entered phase, until [`Ledger::leave`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhaseId(u64);

/// The present use of time, for the thread that watches the run.
#[cfg(feature = "health")]
#[derive(Clone, Debug)]
pub(crate) struct LedgerReading {
    /// The innermost use, by its name.
    pub(crate) now: String,
    /// The innermost use that may be long although nothing is wrong, such as an evaluation, on the
    /// thread that trains; else that of another thread, for which the thread that trains may wait.
    pub(crate) long: Option<String>,
    /// `true` if the thread that trains is in such a use, or any thread waits on purpose. A
    /// checkpoint that another thread writes is no pause of the steps.
    pub(crate) pauses_steps: bool,
    /// Time in which the thread that trains waited for data.
    pub(crate) data: Duration,
    /// Time in which the thread that trains waited for other ranks, in phases that are named so.
    pub(crate) exchange: Duration,
    /// The open phases of all threads, as `eval > forward`.
    pub(crate) open: Vec<String>,
}

impl Ledger {
    /// Waiting for data.
    pub(crate) const DATA: Account = DATA;
    /// Waiting on purpose.
    pub(crate) const IDLE: Account = IDLE;

    /// Returns a ledger that begins now, on this thread.
    pub(crate) fn new() -> Self {
        Self::continue_after(&RunManifest::default(), &Arc::default())
    }

    /// Returns a ledger that continues those of the earlier attempts of a run, now and on this
    /// thread. The bell rings at the first update, which ends the `startup`, at the end of a
    /// checkpoint, whose mark is to be saved soon, and at the end of a phase that took long.
    pub(crate) fn continue_after(earlier: &RunManifest, bell: &Arc<Bell>) -> Self {
        let mut book = LedgerBook::new(thread_number(), Instant::now());
        book.continue_after(earlier, seconds(SystemTime::now()));
        Self {
            updater: AtomicU64::new(0),
            updater_tid: AtomicU32::new(0),
            book: ForkMutex::inner(book),
            bell: Arc::clone(bell),
        }
    }

    /// Moves the time of steps that are done again to `lost`: the time since the checkpoint from
    /// which the run goes on, if there is a mark of the checkpoint. The loggers of a run have lost
    /// the same time: the longest counts.
    pub(crate) fn lose(&self, superseded: &SupersededSteps) {
        let mut book = self.book.lock();
        if !book.lose_since_mark(superseded) {
            book.lose(superseded.time);
        }
    }

    /// Returns the end of the newest checkpoint that has a mark, in seconds since 1970.
    pub(crate) fn newest_checkpoint(&self) -> Option<f64> {
        self.book.lock().marks.last().map(|mark| mark.time)
    }

    /// Returns the ledger at the ends of the newest checkpoints.
    pub(crate) fn checkpoints(&self) -> Vec<CheckpointMark> {
        self.book.lock().marks.clone()
    }

    /// Returns the longest time that a checkpoint took.
    pub(crate) fn longest_checkpoint(&self) -> Duration {
        self.book.lock().longest_checkpoint
    }

    /// Returns the present use of time. The stall that [`begin_stall`](Self::begin_stall) tells
    /// began at the latest reading with `has_moved`.
    #[cfg(feature = "health")]
    pub(crate) fn read(&self, has_moved: bool) -> LedgerReading {
        let mut book = self.book.lock();
        book.book_all(Instant::now());
        if has_moved {
            book.note_movement();
        }
        book.reading()
    }

    /// Moves the time since the last movement to `stall`, and books there until the next movement.
    #[cfg(feature = "health")]
    pub(crate) fn begin_stall(&self) {
        self.book.lock().begin_stall(Instant::now());
    }

    /// Takes the phases that have ended since the last call and took long.
    #[cfg(feature = "health")]
    pub(crate) fn take_long_phases(&self) -> Vec<LongPhase> {
        self.book.lock().long_phases.take()
    }

    /// Returns the seconds by use at this moment.
    pub(crate) fn read_seconds(&self) -> BTreeMap<String, f64> {
        self.book.lock().figures(Instant::now()).seconds.into_iter().collect()
    }

    /// Notes that this thread updates a progress.
    #[inline]
    pub(crate) fn note_update(&self) {
        if self.updater.load(Ordering::Relaxed) != thread_number() {
            self.follow_this_thread();
        }
    }

    #[cold]
    fn follow_this_thread(&self) {
        let thread = thread_number();
        let mut book = self.book.lock();
        let before = self.updater.swap(thread, Ordering::Relaxed);
        self.updater_tid.store(kernel_thread_id(), Ordering::Relaxed);
        book.note_update(thread, Instant::now());
        drop(book);
        if before == 0 {
            self.bell.ring();
        }
    }

    /// Returns `true` once a progress was updated.
    pub(crate) fn has_update(&self) -> bool {
        self.updater.load(Ordering::Relaxed) != 0
    }

    /// Returns the kernel's number of the thread that last updated a progress, if it is known.
    #[cfg(feature = "health")]
    pub(crate) fn updater_tid(&self) -> Option<u32> {
        Some(self.updater_tid.load(Ordering::Relaxed)).filter(|tid| *tid != 0)
    }

    /// Notes that a logger has opened the progress that counts its steps.
    pub(crate) fn open_progress(&self) {
        self.book.lock().open_progress(Instant::now());
    }

    /// Notes that such a progress has ended.
    pub(crate) fn close_progress(&self) {
        self.book.lock().close_progress(Instant::now());
    }

    /// Enters a phase on this thread.
    #[inline]
    pub(crate) fn enter(&self, account: Account) -> PhaseId {
        let thread = thread_number();
        let mut book = self.book.lock();
        book.enter(thread, account, Instant::now())
    }

    /// Enters a phase of this name on this thread.
    pub(crate) fn enter_named(&self, name: &str) -> PhaseId {
        let thread = thread_number();
        let mut book = self.book.lock();
        let account = book.account(name);
        book.enter(thread, account, Instant::now())
    }

    /// Leaves a phase that this thread has entered.
    #[inline]
    pub(crate) fn leave(&self, phase: PhaseId) {
        let thread = thread_number();
        let has_news = self.book.lock().leave(thread, phase, Instant::now());
        if has_news {
            self.bell.ring();
        }
    }

    /// Writes the figures of this moment into a summary. Without a progress and a phase there are
    /// none.
    pub(crate) fn summarize(&self, summary: &mut LoggerSummary) {
        let figures = self.book.lock().figures(Instant::now());
        summary.ledger = figures.seconds;
        summary.goodput = figures.goodput;
        summary.other_threads = figures.other_threads;
    }

    /// Every ten seconds, gives `add` the share of each use since the last time, and the goodput of
    /// the run.
    pub(crate) fn add_shares(&self, add: impl FnMut(&str, MetricValue)) {
        self.book.lock().add_shares(Instant::now(), add);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// Returns the number of this thread, which no other thread of the process ever has; never 0.
#[inline]
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    // A cell without a destructor is there until the thread ends.
    NUMBER.with(|number| match number.get() {
        0 => {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
            number.get()
        }
        known => known,
    })
}

/// Returns the number that the kernel gives this thread; 0 where there is no `/proc`. A child of
/// a fork has that of its parent's thread, which nobody finds in the child.
fn kernel_thread_id() -> u32 {
    thread_local! {
        static ID: Cell<Option<u32>> = const { Cell::new(None) };
    }
    let read = || {
        let path = std::fs::read_link("/proc/thread-self").ok()?;
        path.file_name()?.to_str()?.parse().ok()
    };
    ID.with(|id| {
        let known = id.get().unwrap_or_else(|| read().unwrap_or(0));
        id.set(Some(known));
        known
    })
}
