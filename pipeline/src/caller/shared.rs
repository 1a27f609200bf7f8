//! What callers and the writer have in common.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use logcore::{Deadline, LogError, PerProcess, SinkError, process_number};

use crate::caller::command::Command;
use crate::frame::body::{Echo, PIECE_OVERHEAD, encode_control, encode_piece};
use crate::process::notice::notice_soon;
use crate::ring::child_lock;
use crate::ring::name_table::Dictionary;
use crate::ring::queue::{Full, Kind, Ring};
use crate::ring::wakeup::{ASLEEP, Bell, NAPPING};

/// How long a caller will wait for room in the ring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    Never,
    Forever,
    Until(Deadline),
}

/// The frame did not get into the ring.
#[derive(Debug)]
pub(crate) struct NoRoom;

pub(crate) struct Shared {
    gate: Gate,
    pub(crate) ring: Arc<Ring>,
    pub(crate) dictionary: Dictionary,
    pub(crate) delivered: Delivered,
    /// The sink that the writer is calling, for whoever loses patience: its place in `labels`, from 1.
    pub(crate) busy: Busy,
    pub(crate) labels: Mutex<Vec<String>>,
    commands: Mutex<HashMap<u64, Command>>,
    /// Long frames whose later pieces were dropped.
    abandoned: Mutex<Vec<u64>>,
    next_number: AtomicU64,
    /// The process that has the writer.
    process: u64,
    /// The heir that a child of a fork has in its place, since that writer is gone.
    heir: OnceLock<Arc<Shared>>,
}

/// Changes twice a frame, so it has cache lines of its own: callers read what stands beside it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Busy(pub(crate) AtomicU64);

/// The longest body that goes into the ring as it is. In a child of a fork that is none, so that each call takes the other way
/// there, and no other call has to ask.
#[repr(align(128))]
struct Gate(AtomicUsize);

impl Shared {
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self::with(Arc::clone(&ring), Dictionary::new(ring))
    }

    /// For a ring that takes the place of `gone` in a child: the names of metrics stay what they are.
    pub(crate) fn in_place_of(gone: &Self, ring: Arc<Ring>) -> Self {
        Self::with(Arc::clone(&ring), Dictionary::copy(&gone.dictionary, ring))
    }

    fn with(ring: Arc<Ring>, dictionary: Dictionary) -> Self {
        Self {
            gate: Gate(AtomicUsize::new(ring.max_body())),
            dictionary,
            ring,
            delivered: Delivered::default(),
            busy: Busy::default(),
            labels: Mutex::default(),
            commands: Mutex::default(),
            abandoned: Mutex::default(),
            next_number: AtomicU64::new(0),
            process: process_number(),
            heir: OnceLock::new(),
        }
    }

    /// In a child that begins: the ring is its parent's.
    pub(crate) fn shut(&self) {
        self.gate.0.store(0, Ordering::Relaxed);
    }

    /// Whether the writer is that of another process, from which this one was forked.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != process_number()
    }

    /// The last heir that this process has in its place; itself if there is none.
    pub(crate) fn current(self: &Arc<Self>) -> &Arc<Self> {
        let mut current = self;
        while let Some(heir) = current.heir.get() {
            current = heir;
        }
        current
    }

    pub(crate) fn leave_to(&self, heir: &Arc<Self>) {
        let _ = self.heir.set(Arc::clone(heir));
    }

    /// Puts a frame of any length into the ring; returns the position of its end.
    #[inline]
    pub(crate) fn push(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        if body.len() <= self.gate.0.load(Ordering::Relaxed) {
            self.push_whole(kind, body, patience)
        } else {
            self.push_otherwise(kind, body, patience)
        }
    }

    #[cold]
    fn push_otherwise(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let pushed = match (self.heir.get(), body.len() <= self.ring.max_body()) {
            (Some(heir), _) => return heir.push(kind, body, patience),
            (None, true) => self.push_from_here(kind, body, patience),
            (None, false) => self.push_in_pieces(kind, body, patience),
        };
        match (pushed, self.heir.get()) {
            // The writer was found to be gone.
            (Err(NoRoom), Some(heir)) => heir.push(kind, body, patience),
            (pushed, _) => pushed,
        }
    }

    /// Hands a command over in the order of the frames. A command is never dropped by a policy.
    pub(crate) fn send(&self, command: Command, deadline: Deadline) -> Result<u64, NoRoom> {
        if self.is_inherited() {
            // It would stay in the memory of this process, where no writer is.
            return Err(NoRoom);
        }
        let ticket = self.number();
        let mut body = Vec::new();
        encode_control(&mut body, ticket, &command.echo());
        self.commands().insert(ticket, command);
        let end = self.push(Kind::Control, &body, Patience::Until(deadline));
        match end {
            Ok(_) => self.wake(),
            Err(NoRoom) => drop(self.commands().remove(&ticket)),
        }
        end
    }

    /// Puts into the ring what the writer has to tell the next process, if there is room; returns whether it is there.
    #[cold]
    pub(crate) fn tell(&self, echo: &Echo) -> bool {
        let mut body = Vec::new();
        encode_control(&mut body, self.number(), echo);
        body.len() <= self.ring.max_body() && self.push_from_here(Kind::Control, &body, Patience::Never).is_ok()
    }

    pub(crate) fn take_command(&self, ticket: u64) -> Option<Command> {
        self.commands().remove(&ticket)
    }

    pub(crate) fn take_abandoned(&self) -> Vec<u64> {
        std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the writer look at once.
    pub(crate) fn wake(&self) {
        self.bell().ring();
    }

    pub(crate) fn bell(&self) -> Bell<'_> {
        Bell(self.ring.sleeping())
    }

    /// In a child of a fork, whose parent has the writer and answers nothing: waits until it has given the ring back up to
    /// here.
    pub(crate) fn wait_for_release(&self, call: &'static str, deadline: Deadline) -> Result<(), LogError> {
        if !self.ring.outlives() {
            // It would have a writer of its own, had anything been said here.
            return Ok(());
        }
        let end = self.ring.tail();
        while self.ring.head() < end {
            if child_lock::writer_is_gone(self.ring.region()) {
                return Err(self.orphaned());
            }
            if deadline.has_passed() {
                return Err(LogError::Timeout { call, sink: None });
            }
            self.wake();
            std::thread::sleep(RELEASE_LOOK);
        }
        Ok(())
    }

    /// Whether the writer, that of another process, is no more or cannot be reached.
    pub(crate) fn is_orphaned(&self) -> bool {
        // Of a ring in plain memory a child has a copy, which nobody reads.
        let is_gone = || self.ring.is_closed() || child_lock::writer_is_gone(self.ring.region());
        self.is_inherited() && (!self.ring.outlives() || is_gone())
    }

    pub(crate) fn orphaned(&self) -> LogError {
        let text = format!(
            "the writer is gone with process {}, from which this one was forked; what was said here since is delivered by the next \
             start, or lost if that process had finished: set up a logger in this process",
            self.ring.pid()
        );
        LogError::Sink {
            sink: "all".to_owned(),
            error: SinkError::new(text).with_reason(ORPHANED),
        }
    }

    /// The sink that the writer is calling at this moment.
    pub(crate) fn busy_sink(&self) -> Option<String> {
        if self.is_inherited() {
            return None;
        }
        let busy = self.busy.0.load(Ordering::Relaxed) as usize;
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.get(busy.checked_sub(1)?).cloned()
    }

    // Measured: without it, the compiler makes a call of it or not from one build to the next, which is a tenth of a handle's call.
    #[inline(always)]
    fn push_whole(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let end = match self.ring.push(kind, body) {
            Ok(end) => end,
            Err(Full) => self.push_patiently(kind, body, patience)?,
        };
        self.wake_if_needed();
        Ok(end)
    }

    #[inline]
    fn wake_if_needed(&self) {
        match self.bell().state() {
            ASLEEP => self.wake(),
            NAPPING if self.ring.used() >= self.ring.capacity() / 2 => self.wake(),
            _ => {}
        }
    }

    #[cold]
    fn push_in_pieces(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let number = self.number();
        let mut piece = Vec::with_capacity(self.ring.max_body());
        let mut chunks = body.chunks(self.ring.max_body() - PIECE_OVERHEAD).peekable();
        let mut end = Err(NoRoom);
        while let Some(chunk) = chunks.next() {
            piece.clear();
            encode_piece(&mut piece, number, kind as u8, chunks.peek().is_none(), chunk);
            end = self.push_from_here(Kind::Piece, &piece, patience);
            if end.is_err() {
                if self.is_inherited() {
                    break;
                }
                self.abandoned
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(number);
                break;
            }
        }
        end
    }

    /// A frame that fits, from whichever process this is.
    fn push_from_here(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        match self.is_inherited() {
            false => self.push_whole(kind, body, patience),
            true => self.push_from_child(kind, body, patience),
        }
    }

    /// One child at a time, so that the writer knows whose frame it waits for in vain when a child is killed at it.
    fn push_from_child(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let region = self.ring.region();
        let since = Instant::now();
        loop {
            if self.is_orphaned() {
                self.take_over();
                return Err(NoRoom);
            }
            let pushed = child_lock::take_turn(region).map(|_turn| self.ring.push(kind, body));
            if let Some(Ok(end)) = pushed {
                self.wake_if_needed();
                return Ok(end);
            }
            let may_wait = match patience {
                Patience::Never => pushed.is_none() && since.elapsed() < TURN,
                Patience::Forever => true,
                Patience::Until(deadline) => !deadline.has_passed(),
            };
            if !may_wait {
                return Err(NoRoom);
            }
            self.wake();
            std::thread::sleep(CHILD_LOOK);
        }
    }

    /// Has this process begin a ring of its own for the loggers that it has from its parent.
    pub(crate) fn take_over(&self) {
        thread_local! {
            static BUSY: Cell<bool> = const { Cell::new(false) };
        }
        static ONE: PerProcess<Mutex<()>> = PerProcess::new(|_| Mutex::new(()));
        let Some(work) = TAKE_OVER.get() else { return };
        if BUSY.try_with(|busy| busy.replace(true)).unwrap_or(true) {
            return;
        }
        let one = ONE.get().lock().unwrap_or_else(PoisonError::into_inner);
        if self.heir.get().is_none() {
            // Its other children must not go on with a ring that is to be recovered.
            self.ring.close();
            work();
        }
        drop(one);
        let _ = BUSY.try_with(|busy| busy.set(false));
    }

    #[cold]
    fn push_patiently(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let since = Instant::now();
        loop {
            let may_wait = match patience {
                Patience::Never => false,
                Patience::Forever => true,
                Patience::Until(deadline) => !deadline.has_passed(),
            };
            if !may_wait || self.delivered.ended() || self.ring.is_closed() {
                return Err(NoRoom);
            }
            self.wake();
            // Bounded, because room can come between the look and the wait.
            let look = match patience {
                Patience::Until(deadline) => deadline.remaining().min(ROOM_WAIT),
                _ => ROOM_WAIT,
            };
            self.delivered
                .wait_while(|| !self.ring.has_room(body.len()), Deadline::after(look));
            if let Ok(end) = self.ring.push(kind, body) {
                return Ok(end);
            }
            if since.elapsed() > SAY_AFTER {
                let sink = self.busy_sink().unwrap_or_else(|| "a sink".to_owned());
                let advice = match patience {
                    Patience::Forever => " (`on_full = \"drop\"` would not wait)",
                    _ => "",
                };
                notice_soon(
                    "ring full",
                    &format!("calls wait because the ring is full: {sink} is slow or hangs{advice}"),
                );
            }
        }
    }

    fn number(&self) -> u64 {
        // Two processes that share a ring after a fork must not take their pieces for each other's.
        process_number() | self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn commands(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RELEASE_LOOK: Duration = Duration::from_millis(1);
const ROOM_WAIT: Duration = Duration::from_millis(10);
const SAY_AFTER: Duration = Duration::from_secs(5);
const CHILD_LOOK: Duration = Duration::from_micros(200);
/// Another child puts in a frame within this time.
const TURN: Duration = Duration::from_millis(2);
/// The reason for what is said in a child of a fork whose parent has gone with the writer.
pub(crate) const ORPHANED: &str = "the writer's process is gone";

/// The work of a child that finds the writer of its parent gone.
static TAKE_OVER: OnceLock<fn()> = OnceLock::new();

/// Has `work` called, once, in a child of a fork that finds its parent's writer gone: it gives the loggers a pipeline of this
/// process, by `Producer::move_to`. The first call counts.
pub fn set_fork_takeover(work: fn()) {
    let _ = TAKE_OVER.set(work);
}

/// Up to where the writer has delivered, and how to wait for it.
#[derive(Default)]
pub(crate) struct Delivered {
    position: AtomicU64,
    waiters: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Delivered {
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    /// The writer's thread is no more.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, position: u64) {
        // Sequentially consistent against `wait_while`: a waiter that is not counted yet sees the new position.
        self.position.store(position, Ordering::SeqCst);
        self.notify();
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// Waits while `condition` holds, until `deadline`; returns whether it ceased to hold.
    pub(crate) fn wait_while(&self, condition: impl Fn() -> bool, deadline: Deadline) -> bool {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut holds = condition();
        while holds && !self.ended() && !deadline.has_passed() {
            guard = self
                .changed
                .wait_timeout(guard, deadline.remaining())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            holds = condition();
        }
        drop(guard);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        !holds
    }

    fn notify(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.changed.notify_all();
        }
    }
}
