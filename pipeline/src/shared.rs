//! What callers and the writer have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use logcore::Deadline;

use crate::bell::{ASLEEP, Bell, NAPPING};
use crate::command::Command;
use crate::dictionary::Dictionary;
use crate::fork;
use crate::frame::{PIECE_OVERHEAD, encode_control, encode_piece};
use crate::notice::notice;
use crate::ring::{Full, Kind, Ring};

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
    /// Where the ring's head stood when a child of a fork had waited for room in vain.
    given_up_at: AtomicU64,
}

/// Changes twice a frame, so it has cache lines of its own: callers read what stands beside it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Busy(pub(crate) AtomicU64);

impl Shared {
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self {
            dictionary: Dictionary::new(Arc::clone(&ring)),
            ring,
            delivered: Delivered::default(),
            busy: Busy::default(),
            labels: Mutex::default(),
            commands: Mutex::default(),
            abandoned: Mutex::default(),
            next_number: AtomicU64::new(0),
            given_up_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Puts a frame of any length into the ring; returns the position of its end.
    #[inline]
    pub(crate) fn push(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        if body.len() <= self.ring.max_body() {
            self.push_whole(kind, body, patience)
        } else {
            self.push_in_pieces(kind, body, patience)
        }
    }

    /// Hands a command over in the order of the frames. A command is never dropped by a policy.
    pub(crate) fn send(&self, command: Command, deadline: Deadline) -> Result<u64, NoRoom> {
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
    /// here; returns whether it has.
    pub(crate) fn wait_for_release(&self, deadline: Deadline) -> bool {
        let end = self.ring.tail();
        while self.ring.head() < end {
            if deadline.passed() {
                return false;
            }
            self.wake();
            std::thread::sleep(RELEASE_LOOK);
        }
        true
    }

    /// The sink that the writer is calling at this moment.
    pub(crate) fn busy_sink(&self) -> Option<String> {
        let busy = self.busy.0.load(Ordering::Relaxed) as usize;
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.get(busy.checked_sub(1)?).cloned()
    }

    #[inline]
    fn push_whole(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let end = match self.ring.push(kind, body) {
            Ok(end) => end,
            Err(Full) => self.push_patiently(kind, body, patience)?,
        };
        match self.bell().state() {
            ASLEEP => self.wake(),
            NAPPING if self.ring.used() >= self.ring.capacity() / 2 => self.wake(),
            _ => {}
        }
        Ok(end)
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
            end = self.push_whole(Kind::Piece, &piece, patience);
            if end.is_err() {
                self.abandoned
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(number);
                break;
            }
        }
        end
    }

    #[cold]
    fn push_patiently(&self, kind: Kind, body: &[u8], patience: Patience) -> Result<u64, NoRoom> {
        let since = Instant::now();
        loop {
            let may_wait = match patience {
                Patience::Never => false,
                Patience::Forever => !fork::is_child() || self.may_wait_in_child(since),
                Patience::Until(deadline) => !deadline.passed(),
            };
            if !may_wait || self.delivered.ended() {
                return Err(NoRoom);
            }
            self.wake();
            // Bounded, because room can come between the look and the wait.
            self.delivered
                .wait_while(|| !self.ring.has_room(body.len()), Deadline::after(ROOM_WAIT));
            if let Ok(end) = self.ring.push(kind, body) {
                return Ok(end);
            }
            if since.elapsed() > SAY_AFTER {
                let sink = self.busy_sink().unwrap_or_else(|| "a sink".to_owned());
                notice(
                    "ring full",
                    &format!(
                        "calls wait because the ring is full: {sink} is slow or hangs (`on_full = \"drop\"` would not wait)"
                    ),
                );
            }
        }
    }

    /// The writer lives in the process that this one was forked from, and may have gone with it: then it is waited for
    /// once, and not again by every call.
    fn may_wait_in_child(&self, since: Instant) -> bool {
        let head = self.ring.head();
        if self.given_up_at.load(Ordering::Relaxed) == head {
            return false;
        }
        let in_time = since.elapsed() < CHILD_WAIT;
        if !in_time {
            self.given_up_at.store(head, Ordering::Relaxed);
        }
        in_time
    }

    fn number(&self) -> u64 {
        // Two processes that share a ring after a fork must not take their pieces for each other's.
        fork::offset() | self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn commands(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RELEASE_LOOK: Duration = Duration::from_millis(1);
const ROOM_WAIT: Duration = Duration::from_millis(10);
const SAY_AFTER: Duration = Duration::from_secs(5);
const CHILD_WAIT: Duration = Duration::from_secs(1);

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
        while holds && !self.ended() && !deadline.passed() {
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
