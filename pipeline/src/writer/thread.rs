//! The one thread that takes frames out of the ring and has them delivered.

use std::fs::File;
use std::hint;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use logcore::Deadline;
use logcore::kill_point::kill_point;

use crate::caller::command::{Close, Command};
use crate::caller::shared::Shared;
use crate::frame::body::{Echo, LoggerId, decode_control, logger_of};
use crate::frame::chunks::Pieces;
use crate::frame::repeats::LONGEST_WAIT;
use crate::process::late_calls::count_call_after_end;
use crate::process::notice::print_notice;
use crate::ring::child_lock;
use crate::ring::file::{RingNames, private_file};
use crate::ring::queue::{Kind, Next, Reader};
use crate::ring::wakeup::{ASLEEP, NAPPING};
use crate::writer::checkpoint::Here;
use crate::writer::dispatch::Delivery;

/// The sinks are asked to write out at the latest after this many bytes.
const BATCH_BYTES: u64 = 256 << 10;
/// Naps between looks while there was work a moment ago; the longest bounds the delay of a lone line.
const NAPS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(5)];
/// A thread that lives commits what it has reserved within this time, even on a machine with too much to do.
const DEAD_AFTER: Duration = Duration::from_secs(1);
/// A longer checkpoint is not made for each batch, but after a pause of many times what it took: with thousands of loggers it would
/// be most of the writer's work.
const LONG_CHECKPOINT: usize = match cfg!(logcore_kill_points) {
    false => 64 << 10,
    // In the crash rig each may be, so that what follows is tried with the few loggers that it has.
    true => 0,
};
const PAUSE_OF_CHECKPOINTS: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// A sink in trouble is asked to try again after this.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    shared: Arc<Shared>,
    reader: Reader,
    delivery: Delivery,
    /// Long frames that have not all their pieces yet.
    pieces: Pieces,
    /// Where the next process looks for the ring, if it outlives this one.
    names: Option<Arc<RingNames>>,
    /// The newest checkpoint; kept for its memory.
    checkpoint: Vec<u8>,
    /// Checkpoints that are too long for the ring.
    marks: MarkFiles,
    /// Something that was read is not given back, because it is in no file yet or because checkpoints are long.
    held_back: bool,
    /// The next checkpoint that is not needed at once is made then.
    save_at: Instant,
    /// How many folders the newest checkpoint names.
    saved_folders: usize,
    /// Bytes of calls that were lost, as it was said.
    said_lost: u64,
    /// The ring is closed at this position, and this is done there.
    closing: Option<(u64, Close)>,
    /// The frame that is waited for, and since when.
    pending: Option<(u64, Instant)>,
    /// How many children had died when there was nothing to wait for.
    died: u64,
}

/// Two files beside the ring, for checkpoints by turns: while one is written, the other counts.
#[derive(Default)]
struct MarkFiles([Option<File>; 2]);

impl MarkFiles {
    /// Writes a checkpoint into the file at `path` that is for this turn.
    fn write(&mut self, turn: u64, path: &Path, checkpoint: &[u8]) -> io::Result<()> {
        let place = &mut self.0[usize::from(turn & 1 == 1)];
        let mut file = match place.take() {
            Some(file) => file,
            None => private_file(path)?,
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(checkpoint)?;
        kill_point("marks beside");
        *place = Some(file);
        Ok(())
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, reader: Reader, names: Option<Arc<RingNames>>) -> Self {
        Self {
            delivery: Delivery::new(Arc::clone(&shared)),
            shared,
            reader,
            pieces: Pieces::kept_in(names.as_ref().map(|names| names.pieces())),
            names,
            checkpoint: Vec::new(),
            marks: MarkFiles::default(),
            held_back: false,
            save_at: Instant::now(),
            saved_folders: 0,
            said_lost: 0,
            closing: None,
            pending: None,
            died: 0,
        }
    }

    /// Works until it is told to end.
    pub(crate) fn run(mut self) {
        // If a fault of our own ends this thread, callers must learn of it instead of waiting for ever.
        struct End(Arc<Shared>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.ring.close();
                child_lock::writer_ends(self.0.ring.region());
                self.0.delivered.end();
            }
        }
        let _end = End(Arc::clone(&self.shared));
        child_lock::writer_begins(self.shared.ring.region());

        let mut rhythm = Rhythm::new(Instant::now());
        let mut naps = 0;
        loop {
            self.reader.populate();
            if self.shared.ring.has_parted() {
                self.go_on_in_memory();
            }
            if self.delivery.fold_is_due() {
                // Without room there is work, and another time to try.
                let _ = self.shared.send(Command::Unfold, Deadline::after(Duration::ZERO));
            }
            let drained = self.drain();
            if drained != Drained::Nothing {
                rhythm.work(Instant::now());
                naps = 0;
            }
            if let Some((_, close)) = self.closing.take_if(|(end, _)| *end <= self.reader.position()) {
                return self.close(close);
            }
            // After the last frame, too: a writer that stays at the heels of its callers makes a batch of every few calls,
            // and takes from their caches what they are about to write to.
            if drained != Drained::Part {
                self.rest(rhythm.expects_more(Instant::now()), naps);
                naps += 1;
            }
        }
    }

    /// Delivers a batch.
    fn drain(&mut self) -> Drained {
        let start = self.reader.position();
        let mut patience = Patience::new();
        let mut drained = Drained::Part;
        loop {
            match self.reader.next() {
                Next::Frame(kind, body) => {
                    let close = handle(&self.shared, &mut self.delivery, &mut self.pieces, kind, body);
                    if let Some(close) = close {
                        self.closing = Some((self.shared.ring.close(), close));
                    }
                    patience = Patience::new();
                }
                // What is complete is not held up by a caller that has lost its core between reserving and committing.
                Next::Pending if patience.wait() => {}
                Next::Pending => {
                    self.pass_over_the_dead();
                    break;
                }
                Next::Empty => {
                    self.died = child_lock::died(self.shared.ring.region());
                    drained = Drained::All;
                    break;
                }
            }
            if self.reader.position() - start >= BATCH_BYTES || self.delivery.has_answers() {
                break;
            }
        }
        let worked = self.reader.position() != start;
        self.delivery.deliver(RETRY);
        if worked {
            self.pieces.abandon(self.shared.take_abandoned());
        }
        if worked || self.held_back {
            self.release();
        }
        if worked {
            self.tell_late();
            self.shared.delivered.advance(self.reader.position());
            self.delivery.give_answers();
            drained
        } else {
            Drained::Nothing
        }
    }

    /// A child of a fork that was killed while it put in a frame never commits it.
    fn pass_over_the_dead(&mut self) {
        let at = self.reader.position();
        let since = match self.pending {
            Some((position, since)) if position == at => since,
            _ => Instant::now(),
        };
        self.pending = Some((at, since));
        let ring = Arc::clone(&self.shared.ring);
        if since.elapsed() < DEAD_AFTER {
            return;
        }
        // No child puts in anything meanwhile.
        let Some(_turn) = child_lock::take_turn(ring.region()) else {
            return;
        };
        if child_lock::died(ring.region()) != self.died {
            self.reader.pass_over();
        }
    }

    /// Does the last work, when all that was accepted is delivered.
    fn close(&mut self, close: Close) {
        self.delivery.close_all(close);
        self.delivery.deliver(RETRY);
        self.release();
        self.tell_late();
        self.delivery.give_answers();
    }

    fn tell_late(&mut self) {
        let (count, logger) = self.delivery.take_late();
        (0..count).for_each(|_| count_call_after_end(&logger));
    }

    /// Gives the ring back up to where everything is in files or in the marks of a checkpoint.
    ///
    /// What a sink still has in memory, because a disk takes nothing, stays in the ring as long as half of it is free: should
    /// the process be killed, it is delivered from there.
    fn release(&mut self) {
        let ring = &self.shared.ring;
        if ring.outlives()
            && let Some(names) = &self.names
        {
            let complete = self.delivery.take_marks();
            let start = Instant::now();
            let folders = names.folders();
            let is_told = |delivery: &mut Delivery| {
                folders.len() == self.saved_folders && !delivery.has_untold() && tell_opened(&self.shared, delivery)
            };
            let may_wait =
                (!complete && !self.delivery.has_changed()) || (start < self.save_at && is_told(&mut self.delivery));
            self.held_back = may_wait && ring.used() < ring.capacity() / 2;
            if self.held_back {
                return;
            }
            kill_point("marks");
            let mut checkpoint = std::mem::take(&mut self.checkpoint);
            let here = Here {
                folders: &folders,
                at: self.reader.position(),
                pieces: self.pieces.kept(),
            };
            let (room, turn) = (ring.checkpoint_room(), self.reader.next_turn());
            self.delivery.checkpoint(here, usize::MAX, &mut checkpoint);
            if checkpoint.len() <= room {
                self.reader.save(&checkpoint);
            } else if self.marks.write(turn, &names.marks(turn), &checkpoint).is_ok() {
                self.reader.save_beside(checkpoint.len());
            } else {
                self.delivery.checkpoint(here, room, &mut checkpoint);
                self.reader.save(&checkpoint);
            }
            self.saved_folders = folders.len();
            drop(folders);
            self.checkpoint = checkpoint;
            if self.checkpoint.len() > LONG_CHECKPOINT {
                self.save_at = start + (start.elapsed() * PAUSE_OF_CHECKPOINTS).min(LONGEST_PAUSE);
            }
            self.pieces.settle();
        }
        self.reader.release();
        kill_point("head");
    }

    /// The ring is no file any more: nobody may find what is left of it, whose checkpoint will not be renewed.
    fn go_on_in_memory(&mut self) {
        if let Some(names) = self.names.take() {
            names.remove();
            self.pieces.keep_no_more();
            self.reader.own();
            print_notice(
                "ring parted",
                &format!(
                    "the file of the ring, {}, was cut, or its disk has failed or is full: the run goes on in plain memory, and \
                     should the process be killed, its last milliseconds are lost",
                    names.path().display()
                ),
            );
        }
        let lost = self.reader.lost();
        if lost > self.said_lost {
            self.said_lost = lost;
            print_notice(
                "ring lost",
                &format!(
                    "{lost} bytes of what was said had not been delivered, and are lost with the file of the ring"
                ),
            );
        }
    }

    fn rest(&self, expects_more: bool, naps: usize) {
        let bell = self.shared.bell();
        if expects_more {
            bell.sleep(NAPPING, Some(NAPS[naps.min(NAPS.len() - 1)]), || true);
        } else {
            let to_save = self
                .held_back
                .then(|| self.save_at.saturating_duration_since(Instant::now()));
            let limit = match self.delivery.in_trouble() {
                true => Some(RETRY),
                false => self.delivery.has_folds().then_some(LONGEST_WAIT),
            };
            let limit = limit.into_iter().chain(to_save.filter(|left| !left.is_zero())).min();
            bell.sleep(ASLEEP, limit, || self.shared.ring.tail() == self.reader.position());
        }
    }
}

/// When work came, and so how long more is looked for. A caller need not wake a writer that looks; but each look at nothing costs
/// the machine some thirty microseconds, and of readings that come each two seconds they would be most of the cost.
struct Rhythm {
    last: Instant,
    /// After this long without work the writer sleeps until it is woken.
    patience: Duration,
}

/// What comes further apart is waited for asleep.
const LONG: Duration = Duration::from_millis(200);
/// What comes closer together is of one burst.
const SHORT: Duration = Duration::from_millis(20);

impl Rhythm {
    fn new(now: Instant) -> Self {
        Self {
            last: now,
            patience: SHORT,
        }
    }

    fn work(&mut self, now: Instant) {
        let gap = now.duration_since(self.last);
        if gap >= SHORT {
            self.patience = if gap < LONG { LONG } else { SHORT };
        }
        self.last = now;
    }

    fn expects_more(&self, now: Instant) -> bool {
        now.duration_since(self.last) < self.patience
    }
}

/// How far a drain has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// There was nothing, or nothing that is complete.
    Nothing,
    /// There may be more.
    Part,
    All,
}

/// Has the sinks do what a frame of a dead process says; returns whose call it was, if it was one that sinks are given.
pub(crate) fn replay(
    delivery: &mut Delivery,
    pieces: &mut Pieces,
    kind: Kind,
    body: &[u8],
    deadline: Deadline,
) -> Option<LoggerId> {
    match kind {
        Kind::Control => {
            if let Some((_, echo)) = decode_control(body) {
                delivery.replay(echo, deadline);
            }
            None
        }
        Kind::Piece => {
            let (kind, body) = pieces.add(body)?;
            replay(delivery, pieces, kind, &body, deadline)
        }
        kind => {
            deliver(delivery, kind, body);
            logger_of(body).filter(|_| kind != Kind::Progress)
        }
    }
}

/// Tells the next process by frames which loggers have come, instead of by a checkpoint; returns whether all are told.
fn tell_opened(shared: &Shared, delivery: &mut Delivery) -> bool {
    while let Some(entry) = delivery.opened() {
        if !shared.tell(&Echo::Opened(entry.to_owned())) {
            return false;
        }
        kill_point("opened");
        delivery.told();
    }
    true
}

fn handle(shared: &Shared, delivery: &mut Delivery, pieces: &mut Pieces, kind: Kind, body: &[u8]) -> Option<Close> {
    match kind {
        Kind::Control => {
            let command = decode_control(body).and_then(|(ticket, _)| shared.take_command(ticket));
            return command.and_then(|command| delivery.command(command));
        }
        Kind::Piece => {
            if let Some((kind, body)) = pieces.add(body) {
                return handle(shared, delivery, pieces, kind, &body);
            }
        }
        kind => deliver(delivery, kind, body),
    }
    None
}

fn deliver(delivery: &mut Delivery, kind: Kind, body: &[u8]) {
    match kind {
        Kind::Record => delivery.record(body),
        Kind::Metrics => delivery.metrics(body),
        Kind::Progress => delivery.progress(body),
        Kind::Message => delivery.message(body),
        Kind::Config => delivery.config(body),
        Kind::Control | Kind::Piece | Kind::Padding => {}
    }
}

/// How long to wait for a caller that is between reserving and committing: the time of a copy, then that of a time slice.
struct Patience(u32);

impl Patience {
    fn new() -> Self {
        Self(0)
    }

    /// Waits a little; returns whether it is worth looking again.
    fn wait(&mut self) -> bool {
        self.0 += 1;
        match self.0 {
            0..100 => hint::spin_loop(),
            100..200 => thread::yield_now(),
            _ => return false,
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn more_is_expected_as_long_as_it_came_before() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rhythm = Rhythm::new(start);
        // A lone burst.
        for millis in [2000, 2001, 2015] {
            rhythm.work(at(millis));
        }
        assert!(rhythm.expects_more(at(2030)) && !rhythm.expects_more(at(2040)));
        // Steps of a training: once the writer has been woken, it waits for the next.
        for millis in [4000, 4100, 4101, 4200] {
            rhythm.work(at(millis));
        }
        assert!(rhythm.expects_more(at(4390)) && !rhythm.expects_more(at(4400)));
        // It pauses, and begins again.
        rhythm.work(at(9000));
        assert!(!rhythm.expects_more(at(9030)));
    }
}
