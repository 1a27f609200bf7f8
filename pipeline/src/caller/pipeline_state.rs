//! The state that callers and the writer share.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use logcore::sync::{lock, wait_timeout};
use logcore::{Deadline, LogError, PerProcess, SinkError, process_number};

use super::command::{Command, CommandReply};
use crate::frame::encode::{CHUNK_OVERHEAD, encode_chunk, encode_control};
use crate::frame::types::{ChunkPlace, ReplayHint};
use crate::process::fork::InheritedByChildren;
use crate::process::notice::post_notice;
use crate::ring::child_lock;
use crate::ring::name_table::NameTable;
use crate::ring::queue::{FrameKind, Ring, RingFull};
use crate::ring::wakeup::{ASLEEP, NAPPING};

/// The time that a caller waits for room in the ring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitPolicy {
    Never,
    Forever,
    Until(Deadline),
}

/// The ring has no room for the frame, and the caller waits no longer.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// The state of one pipeline.
pub(crate) struct PipelineState {
    body_limit: BodyLimit,
    pub(crate) ring: Arc<Ring>,
    pub(crate) names: NameTable,
    pub(crate) delivered: DeliveryProgress,
    pub(crate) busy: BusySink,
    /// The labels of the sinks, for notices about the busy one.
    pub(crate) labels: Mutex<Vec<String>>,
    commands: Mutex<HashMap<u64, Command>>,
    /// The numbers of long frames whose remaining chunks were dropped.
    abandoned: Mutex<Vec<u64>>,
    next_number: AtomicU64,
    /// The process that has the writer.
    process: u64,
    /// `true` without a writer: calls are dropped until there is a successor.
    is_unconnected: bool,
    /// The pipeline that replaces this one: in a child of a fork, after the writer is gone, or when
    /// an unconnected logger is connected.
    successor: OnceLock<Arc<PipelineState>>,
}

/// The sink that the writer is calling, for notices and errors: its index from 1, or 0.
///
/// The value changes twice a frame, and callers read the fields beside it. So it has cache lines of
/// its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct BusySink(pub(crate) AtomicU64);

/// Length of the longest body that goes directly into the ring. In a child of a fork the limit is
/// 0, so that each call takes the slow path, and calls of other processes need not check.
#[repr(align(128))]
struct BodyLimit(AtomicUsize);

impl PipelineState {
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self::with_names(Arc::clone(&ring), NameTable::new(ring))
    }

    /// Creates the state of a pipeline that replaces `predecessor` in a child of a fork. Names keep
    /// their numbers.
    pub(crate) fn replacing(predecessor: &Self, ring: Arc<Ring>) -> Self {
        Self::with_names(Arc::clone(&ring), NameTable::copy(&predecessor.names, ring))
    }

    fn with_names(ring: Arc<Ring>, names: NameTable) -> Self {
        Self {
            body_limit: BodyLimit(AtomicUsize::new(ring.max_body())),
            names,
            ring,
            delivered: DeliveryProgress::default(),
            busy: BusySink::default(),
            labels: Mutex::default(),
            commands: Mutex::default(),
            abandoned: Mutex::default(),
            next_number: AtomicU64::new(0),
            process: process_number(),
            is_unconnected: false,
            successor: OnceLock::new(),
        }
    }

    /// Creates the state of a logger that has no pipeline yet.
    pub(crate) fn unconnected() -> Self {
        let mut state = Self::new(Ring::disconnected());
        state.is_unconnected = true;
        // Each call takes the slow path, which knows the successor.
        state.body_limit.0 = AtomicUsize::new(0);
        state.delivered.end();
        state.ring.close();
        state
    }

    /// Returns `true` if calls are dropped because there is no pipeline yet.
    pub(crate) fn is_unconnected(&self) -> bool {
        self.is_unconnected && self.successor.get().is_none()
    }

    /// Returns `true` if the writer belongs to another process, from which this one was forked.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.is_unconnected && self.process != process_number()
    }

    /// Returns the last successor of this pipeline in this process, or the pipeline itself.
    pub(crate) fn current(self: &Arc<Self>) -> &Arc<Self> {
        let mut current = self;
        while let Some(successor) = current.successor.get() {
            current = successor;
        }
        current
    }

    pub(crate) fn set_successor(&self, successor: &Arc<Self>) {
        let _ = self.successor.set(Arc::clone(successor));
    }

    /// Pushes a frame of any length, and returns the position of its end.
    #[inline]
    pub(crate) fn push(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        if body.len() <= self.body_limit.0.load(Ordering::Relaxed) {
            self.push_whole(kind, body, wait)
        } else {
            self.push_slow(kind, body, wait)
        }
    }

    #[cold]
    fn push_slow(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        let pushed = match (self.successor.get(), body.len() <= self.ring.max_body()) {
            (Some(successor), _) => return successor.push(kind, body, wait),
            (None, _) if self.is_unconnected => return Err(NoRoom),
            (None, true) => self.push_from_this_process(kind, body, wait),
            (None, false) => self.push_in_chunks(kind, body, wait),
        };
        match (pushed, self.successor.get()) {
            // The push found the writer gone, and this process has begun a pipeline of its own.
            (Err(NoRoom), Some(successor)) => successor.push(kind, body, wait),
            (pushed, _) => pushed,
        }
    }

    /// Sends a command in the order of the frames. No policy drops a command.
    pub(crate) fn send(&self, command: Command, deadline: Deadline) -> Result<u64, NoRoom> {
        if self.is_inherited() {
            // The command would stay in the memory of this process, which has no writer.
            return Err(NoRoom);
        }
        let ticket = self.new_number();
        let mut body = Vec::new();
        // Only another process replays, and a summary of many metrics is long.
        let hint = match self.ring.outlives_process() {
            true => command.replay_hint(),
            false => ReplayHint::None,
        };
        encode_control(&mut body, ticket, &hint);
        self.commands().insert(ticket, command);
        let end = self.push(FrameKind::Control, &body, WaitPolicy::Until(deadline));
        match end {
            Ok(_) => self.wake(),
            Err(NoRoom) => drop(self.commands().remove(&ticket)),
        }
        end
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask<T>(
        &self,
        call: &'static str,
        command: Command,
        reply: &CommandReply<T>,
        deadline: Deadline,
    ) -> Result<T, LogError> {
        let timeout = || LogError::Timeout {
            call,
            sink: self.busy_sink(),
        };
        self.send(command, deadline).map_err(|NoRoom| timeout())?;
        // The sinks have until the deadline. The answer may need a moment more.
        let grace = Deadline::after(deadline.remaining().saturating_add(ANSWER_GRACE));
        reply.wait(grace).ok_or_else(timeout)
    }

    /// For the writer: pushes a hint for the next process. Returns `false` if the ring has no room.
    #[cold]
    pub(crate) fn push_hint(&self, hint: &ReplayHint) -> bool {
        let mut body = Vec::new();
        encode_control(&mut body, self.new_number(), hint);
        body.len() <= self.ring.max_body()
            && self
                .push_from_this_process(FrameKind::Control, &body, WaitPolicy::Never)
                .is_ok()
    }

    pub(crate) fn take_command(&self, ticket: u64) -> Option<Command> {
        self.commands().remove(&ticket)
    }

    pub(crate) fn take_abandoned(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.abandoned))
    }

    /// Wakes the writer.
    pub(crate) fn wake(&self) {
        self.ring.wakeup().wake();
    }

    /// In a child of a fork, whose parent has the writer and answers no commands: waits until the
    /// writer has released everything pushed so far.
    pub(crate) fn wait_for_release(&self, call: &'static str, deadline: Deadline) -> Result<(), LogError> {
        if !self.ring.outlives_process() {
            // Any call in this process would have begun a pipeline of its own.
            return Ok(());
        }
        let end = self.ring.tail();
        while self.ring.head() < end {
            if child_lock::is_writer_gone(self.ring.region()) {
                return Err(self.orphaned_error());
            }
            if deadline.has_passed() {
                return Err(LogError::Timeout { call, sink: None });
            }
            self.wake();
            std::thread::sleep(RELEASE_INTERVAL);
        }
        Ok(())
    }

    /// Returns `true` if the writer belongs to another process, and is gone or out of reach.
    pub(crate) fn is_orphaned(&self) -> bool {
        // A child has a copy of a ring in plain memory, which nobody reads.
        let is_gone = || self.ring.is_closed() || child_lock::is_writer_gone(self.ring.region());
        self.is_inherited() && (!self.ring.outlives_process() || is_gone())
    }

    pub(crate) fn orphaned_error(&self) -> LogError {
        let text = format!(
            "the writer is gone with process {}, from which this one was forked. The next start delivers the calls \
             of this process, unless that process had finished. Set up a logger in this process",
            self.ring.pid()
        );
        LogError::Sink {
            sink: "all".to_owned(),
            error: SinkError::new(text).with_reason(ORPHANED),
        }
    }

    /// Returns the label of the sink that the writer is calling at this moment.
    pub(crate) fn busy_sink(&self) -> Option<String> {
        if self.is_inherited() {
            return None;
        }
        let busy = self.busy.0.load(Ordering::Relaxed) as usize;
        lock(&self.labels).get(busy.checked_sub(1)?).cloned()
    }

    // Measured: without the attribute, the compiler inlines the call in one build and not in the
    // next, which is a tenth of the cost of a metric handle.
    #[inline(always)]
    fn push_whole(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        let end = match self.ring.push(kind, body) {
            Ok(end) => end,
            Err(RingFull) => self.push_when_room(kind, body, wait)?,
        };
        self.wake_if_needed(end);
        Ok(end)
    }

    /// Wakes the writer, if the frame that ends at `end` needs it.
    #[inline]
    fn wake_if_needed(&self, end: u64) {
        match self.ring.wakeup().state() {
            ASLEEP => self.wake(),
            NAPPING if end.saturating_sub(self.ring.head()) >= self.ring.capacity() / 2 => self.wake(),
            _ => {}
        }
    }

    #[cold]
    fn push_in_chunks(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        let number = self.new_number();
        let mut chunk = Vec::with_capacity(self.ring.max_body());
        let mut parts = body.chunks(self.ring.max_body() - CHUNK_OVERHEAD).peekable();
        let mut end = Err(NoRoom);
        let mut place = ChunkPlace::First;
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                place = ChunkPlace::Last;
            }
            chunk.clear();
            encode_chunk(&mut chunk, number, kind, place, part);
            place = ChunkPlace::Middle;
            end = self.push_from_this_process(FrameKind::Chunk, &chunk, wait);
            if end.is_err() {
                if !self.is_inherited() {
                    lock(&self.abandoned).push(number);
                }
                break;
            }
        }
        end
    }

    /// Pushes a frame that fits, whether this process has the writer or is a child of a fork.
    fn push_from_this_process(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        match self.is_inherited() {
            false => self.push_whole(kind, body, wait),
            true => self.push_from_child(kind, body, wait),
        }
    }

    /// Pushes a frame under the lock of children, so that the writer knows when the child whose
    /// frame it waits for was killed.
    fn push_from_child(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        let region = self.ring.region();
        let since = Instant::now();
        loop {
            if self.is_orphaned() {
                self.take_over();
                return Err(NoRoom);
            }
            let pushed = child_lock::try_lock_for_child(region).map(|_lock| self.ring.push(kind, body));
            if let Some(Ok(end)) = pushed {
                self.wake_if_needed(end);
                return Ok(end);
            }
            let may_wait = match wait {
                WaitPolicy::Never => pushed.is_none() && since.elapsed() < CHILD_PUSH_TIME,
                WaitPolicy::Forever => true,
                WaitPolicy::Until(deadline) => !deadline.has_passed(),
            };
            if !may_wait {
                return Err(NoRoom);
            }
            self.wake();
            std::thread::sleep(CHILD_INTERVAL);
        }
    }

    /// Makes this process begin a pipeline of its own for the loggers that it has from its parent.
    pub(crate) fn take_over(&self) {
        thread_local! {
            static IS_TAKING_OVER: Cell<bool> = const { Cell::new(false) };
        }
        static TAKEOVER_LOCK: PerProcess<Mutex<()>> = PerProcess::new(|_| Mutex::new(()));
        let Some(work) = FORK_TAKEOVER.get() else { return };
        if IS_TAKING_OVER
            .try_with(|is_nested| is_nested.replace(true))
            .unwrap_or(true)
        {
            return;
        }
        let guard = lock(TAKEOVER_LOCK.get());
        if self.successor.get().is_none() {
            // Other children must not use a ring that is about to be recovered.
            self.ring.close();
            work();
        }
        drop(guard);
        let _ = IS_TAKING_OVER.try_with(|is_nested| is_nested.set(false));
    }

    #[cold]
    fn push_when_room(&self, kind: FrameKind, body: &[u8], wait: WaitPolicy) -> Result<u64, NoRoom> {
        let since = Instant::now();
        loop {
            let may_wait = match wait {
                WaitPolicy::Never => false,
                WaitPolicy::Forever => true,
                WaitPolicy::Until(deadline) => !deadline.has_passed(),
            };
            if !may_wait || self.delivered.has_ended() || self.ring.is_closed() {
                return Err(NoRoom);
            }
            self.wake();
            // Bounded, because room may appear between the check and the wait.
            let timeout = match wait {
                WaitPolicy::Until(deadline) => deadline.remaining().min(ROOM_INTERVAL),
                _ => ROOM_INTERVAL,
            };
            self.delivered
                .wait_while(|| !self.ring.has_room(body.len()), Deadline::after(timeout));
            if let Ok(end) = self.ring.push(kind, body) {
                return Ok(end);
            }
            if since.elapsed() > NOTICE_DELAY {
                let sink = self.busy_sink().unwrap_or_else(|| "a sink".to_owned());
                let advice = match wait {
                    WaitPolicy::Forever => " (`on_full = \"drop\"` would not wait)",
                    _ => "",
                };
                post_notice(
                    "ring full",
                    &format!("calls wait because the ring is full: {sink} is slow or hangs{advice}"),
                );
            }
        }
    }

    fn new_number(&self) -> u64 {
        // Two processes that share a ring after a fork must not confuse their chunks.
        process_number() | self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn commands(&self) -> MutexGuard<'_, HashMap<u64, Command>> {
        lock(&self.commands)
    }
}

impl InheritedByChildren for PipelineState {
    /// Makes each call of a child take the slow path.
    fn close_in_child(&self) {
        self.body_limit.0.store(0, Ordering::Relaxed);
    }
}

const ANSWER_GRACE: Duration = Duration::from_millis(50);
const RELEASE_INTERVAL: Duration = Duration::from_millis(1);
const ROOM_INTERVAL: Duration = Duration::from_millis(10);
/// A call that waits for room reports it after this time.
const NOTICE_DELAY: Duration = Duration::from_secs(5);
const CHILD_INTERVAL: Duration = Duration::from_micros(200);
/// Another child pushes its frame within this time.
const CHILD_PUSH_TIME: Duration = Duration::from_millis(2);
/// The reason of errors in a child of a fork whose parent is gone with the writer.
pub(crate) const ORPHANED: &str = "the writer's process is gone";

/// The work of a child that finds the writer of its parent gone.
static FORK_TAKEOVER: OnceLock<fn()> = OnceLock::new();

/// Has `work` called, once, in a child of a fork that finds its parent's writer gone. `work` gives
/// the loggers a pipeline of this process, by
/// [`Pipeline::start_replacing`](crate::Pipeline::start_replacing). Only the first call counts.
///
/// ```
/// logcore_pipeline::set_fork_takeover(|| eprintln!("the parent is gone"));
/// ```
pub fn set_fork_takeover(work: fn()) {
    let _ = FORK_TAKEOVER.set(work);
}

/// The position up to which the writer has delivered, and a way to wait for it.
#[derive(Default)]
pub(crate) struct DeliveryProgress {
    position: AtomicU64,
    waiters: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
    has_ended: AtomicBool,
}

impl DeliveryProgress {
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    /// Returns `true` if the thread of the writer has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, position: u64) {
        // Sequentially consistent against `wait_while`: a waiter that is not counted yet sees the
        // new position.
        self.position.store(position, Ordering::SeqCst);
        self.notify();
    }

    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// Waits until `condition` returns `false`; returns `true` if it did before the deadline.
    pub(crate) fn wait_while(&self, condition: impl Fn() -> bool, deadline: Deadline) -> bool {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut guard = lock(&self.lock);
        let mut holds = condition();
        while holds && !self.has_ended() && !deadline.has_passed() {
            guard = wait_timeout(&self.changed, guard, deadline.remaining());
            holds = condition();
        }
        drop(guard);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        !holds
    }

    fn notify(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&self.lock);
            self.changed.notify_all();
        }
    }
}
