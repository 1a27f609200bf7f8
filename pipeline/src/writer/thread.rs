//! The writer's thread: reads frames in batches, has them delivered, and sleeps when there is
//! nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logcore::Deadline;

use super::checkpoint_saver::CheckpointSaver;
use super::commands::CommandExecutor;
use super::dispatch::Dispatcher;
use super::idle::{IdlePolicy, SpinWait};
use crate::caller::command::{CloseRequest, Command};
use crate::caller::pipeline_state::PipelineState;
use crate::frame::chunks::ChunkAssembler;
use crate::frame::decode::decode_control;
use crate::frame::repeats::{MAX_DELAY, RepeatFolder};
use crate::process::late_calls::count_call_after_end;
use crate::process::notice::print_notice;
use crate::ring::child_lock;
use crate::ring::file::RingNames;
use crate::ring::queue::{FrameKind, Ring};
use crate::ring::reader::{NextFrame, RingReader};
use crate::ring::wakeup::{ASLEEP, NAPPING};

/// The sinks deliver after this many bytes at the latest.
const BATCH_BYTES: u64 = 256 << 10;
/// The naps between looks for more work. The longest bounds the delay of a single record.
const NAPS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(5)];
/// A sink that has failed tries again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the writer's thread.
pub(crate) struct Writer {
    state: Arc<PipelineState>,
    reader: RingReader,
    dispatcher: Dispatcher,
    commands: CommandExecutor,
    chunks: ChunkAssembler,
    saver: CheckpointSaver,
    /// Number of lost bytes that a notice has reported.
    reported_lost: u64,
    /// The request to close the ring, and the position of the end.
    closing: Option<(u64, CloseRequest)>,
    stalled: StalledFrame,
}

impl Writer {
    /// Creates the writer of a ring. `names` are the names of the ring, if it outlives the process.
    pub(crate) fn new(state: Arc<PipelineState>, reader: RingReader, names: Option<Arc<RingNames>>) -> Self {
        Self {
            dispatcher: Dispatcher::new(Arc::clone(&state)),
            commands: CommandExecutor::default(),
            chunks: ChunkAssembler::with_file(names.as_ref().map(|names| names.chunk_file())),
            saver: CheckpointSaver::new(names),
            state,
            reader,
            reported_lost: 0,
            closing: None,
            stalled: StalledFrame::default(),
        }
    }

    /// Runs until the ring is closed.
    pub(crate) fn run(mut self) {
        // If a defect of this crate ends the thread, callers must learn of that instead of waiting
        // forever.
        struct EndGuard(Arc<PipelineState>);
        impl Drop for EndGuard {
            fn drop(&mut self) {
                self.0.ring.close();
                child_lock::writer_stopped(self.0.ring.region());
                self.0.delivered.end();
            }
        }
        let _guard = EndGuard(Arc::clone(&self.state));
        child_lock::writer_started(self.state.ring.region());

        let mut idle = IdlePolicy::new(Instant::now());
        let mut naps = 0;
        loop {
            self.reader.populate(BATCH_BYTES);
            if self.state.ring.is_detached() {
                self.continue_in_memory();
            }
            if self.dispatcher.loggers.repeat_folders().any(RepeatFolder::is_due) {
                // If the ring has no room, there is work, and a later turn tries again.
                let _ = self.state.send(Command::WriteRepeats, Deadline::after(Duration::ZERO));
            }
            let batch = self.deliver_batch();
            if batch != BatchExtent::Empty {
                idle.note_work(Instant::now());
                naps = 0;
            }
            if let Some((_, request)) = self.closing.take_if(|(end, _)| *end <= self.reader.position()) {
                return self.close(request);
            }
            // The writer rests even after the last frame. A writer that follows its callers closely
            // makes a batch of every few calls, and takes from their caches the lines that they are
            // about to write.
            if batch != BatchExtent::Partial {
                self.rest(idle.expects_work(Instant::now()), naps);
                naps += 1;
            }
        }
    }

    /// Delivers a batch.
    fn deliver_batch(&mut self) -> BatchExtent {
        let start = self.reader.position();
        let mut spin = SpinWait::new();
        let mut batch = BatchExtent::Partial;
        loop {
            match self.reader.next() {
                NextFrame::Frame(kind, body) if !matches!(kind, FrameKind::Control | FrameKind::Chunk) => {
                    self.dispatcher.dispatch(kind, body);
                    spin = SpinWait::new();
                }
                NextFrame::Frame(kind, body) => {
                    let handler = FrameHandler {
                        state: &self.state,
                        dispatcher: &mut self.dispatcher,
                        commands: &mut self.commands,
                        chunks: &mut self.chunks,
                    };
                    if let Some(request) = handler.handle(kind, body) {
                        self.closing = Some((self.state.ring.close(), request));
                    }
                    spin = SpinWait::new();
                    if self.commands.has_answers() {
                        break;
                    }
                }
                // Complete frames do not wait for a caller that has lost its processor between
                // reservation and commit.
                NextFrame::Pending if spin.wait() => {}
                NextFrame::Pending => {
                    self.stalled.skip_if_dead(&mut self.reader);
                    break;
                }
                NextFrame::Empty => {
                    self.stalled.note_empty(self.reader.ring());
                    batch = BatchExtent::Complete;
                    break;
                }
            }
            if self.reader.position() - start >= BATCH_BYTES {
                break;
            }
        }
        let has_worked = self.reader.position() != start;
        self.dispatcher.loggers.sinks.deliver(RETRY_INTERVAL);
        if has_worked {
            self.chunks.abandon(self.state.take_abandoned());
        }
        if has_worked || self.saver.is_delayed() {
            self.save_and_release();
        }
        if has_worked {
            self.report_late_calls();
            self.state.delivered.advance(self.reader.position());
            self.commands.send_answers();
            batch
        } else {
            BatchExtent::Empty
        }
    }

    /// Does the last work, after everything that was accepted is delivered.
    fn close(&mut self, request: CloseRequest) {
        self.commands.close(request, &mut self.dispatcher.loggers);
        self.dispatcher.loggers.sinks.deliver(RETRY_INTERVAL);
        self.save_and_release();
        self.report_late_calls();
        self.commands.send_answers();
    }

    fn save_and_release(&mut self) {
        let loggers = &mut self.dispatcher.loggers;
        self.saver
            .save_and_release(&self.state, &mut self.reader, loggers, &mut self.chunks);
    }

    fn report_late_calls(&mut self) {
        let (count, logger) = self.dispatcher.take_late_calls();
        (0..count).for_each(|_| count_call_after_end(&logger));
    }

    /// Removes the names of a ring that was detached from its file: no checkpoint will be saved in
    /// the file anymore.
    fn continue_in_memory(&mut self) {
        if let Some(names) = self.saver.detach() {
            names.remove();
            self.chunks.detach_file();
            self.reader.make_private();
            print_notice(
                "ring detached",
                &format!(
                    "cannot use the ring file {} anymore: it was truncated, or its disk has failed or is full. The run \
                     continues in plain memory: if the process is killed, its last milliseconds are lost",
                    names.path().display()
                ),
            );
        }
        let lost = self.reader.lost_bytes();
        if lost > self.reported_lost {
            self.reported_lost = lost;
            print_notice(
                "ring lost",
                &format!("{lost} bytes of undelivered calls are lost with the ring file"),
            );
        }
    }

    fn rest(&self, expects_work: bool, naps: usize) {
        let wakeup = self.state.ring.wakeup();
        if expects_work {
            wakeup.sleep(NAPPING, Some(NAPS[naps.min(NAPS.len() - 1)]), || true);
        } else {
            let loggers = &self.dispatcher.loggers;
            let limit = match loggers.sinks.busy().any(|slot| slot.failed_at.is_some()) {
                true => Some(RETRY_INTERVAL),
                false => loggers
                    .repeat_folders()
                    .any(RepeatFolder::is_counting)
                    .then_some(MAX_DELAY),
            };
            let limit = limit.into_iter().chain(self.saver.remaining_delay()).min();
            wakeup.sleep(ASLEEP, limit, || self.state.ring.tail() == self.reader.position());
        }
    }
}

/// The extent of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BatchExtent {
    /// The ring had no complete frame.
    Empty,
    /// The ring may have more frames.
    Partial,
    /// The batch contains all frames of the ring.
    Complete,
}

/// The parts of the writer that handle a frame while its bytes are borrowed from the reader.
struct FrameHandler<'w> {
    state: &'w PipelineState,
    dispatcher: &'w mut Dispatcher,
    commands: &'w mut CommandExecutor,
    chunks: &'w mut ChunkAssembler,
}

impl FrameHandler<'_> {
    /// Handles a frame. Returns a request to close the ring.
    #[cold]
    fn handle(self, kind: FrameKind, body: &[u8]) -> Option<CloseRequest> {
        match kind {
            FrameKind::Control => {
                let command = decode_control(body).and_then(|(ticket, _)| self.state.take_command(ticket))?;
                self.commands.execute(command, &mut self.dispatcher.loggers)
            }
            FrameKind::Chunk => {
                let (kind, body) = self.chunks.add(body)?;
                self.handle(kind, &body)
            }
            kind => {
                self.dispatcher.dispatch(kind, body);
                None
            }
        }
    }
}

/// Watches for a frame that nobody will commit, because the child of a fork was killed while it
/// pushed the frame.
#[derive(Default)]
struct StalledFrame {
    /// The position of the pending frame, and the beginning of the wait.
    pending: Option<(u64, Instant)>,
    /// Number of dead children when the ring was empty.
    deaths: u64,
}

/// A living thread commits within this time, even on an overloaded machine.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(1);

impl StalledFrame {
    fn note_empty(&mut self, ring: &Ring) {
        self.deaths = child_lock::child_deaths(ring.region());
    }

    /// Skips the pending frame if its caller is dead.
    fn skip_if_dead(&mut self, reader: &mut RingReader) {
        let position = reader.position();
        let since = match self.pending {
            Some((pending, since)) if pending == position => since,
            _ => Instant::now(),
        };
        self.pending = Some((position, since));
        if since.elapsed() < COMMIT_TIMEOUT {
            return;
        }
        let ring = Arc::clone(reader.ring());
        // No child pushes a frame meanwhile.
        let Some(_lock) = child_lock::try_lock_for_child(ring.region()) else {
            return;
        };
        if child_lock::child_deaths(ring.region()) != self.deaths {
            reader.skip_uncommitted();
        }
    }
}
