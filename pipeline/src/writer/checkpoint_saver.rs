//! Saves checkpoints, in the ring or in a file beside it, and decides when the next one is due.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logcore::kill_point::kill_point;

use super::checkpoint::WriterPosition;
use super::logger_set::LoggerSet;
use crate::caller::pipeline_state::PipelineState;
use crate::frame::chunks::ChunkAssembler;
use crate::frame::types::ReplayHint;
use crate::ring::file::{RingNames, create_private_file};
use crate::ring::reader::RingReader;

/// A longer checkpoint is not saved for each batch, but after a pause of many times the time that
/// it took: with thousands of loggers, checkpoints would be most of the writer's work.
const LONG_CHECKPOINT: usize = match cfg!(logcore_kill_points) {
    false => 64 << 10,
    // In the crash rig each checkpoint may be delayed, so that its few loggers test the pauses,
    // too.
    true => 0,
};
const PAUSE_FACTOR: u32 = 20;
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Saves the checkpoints of a ring that outlives the process.
pub(super) struct CheckpointSaver {
    /// The names of the ring; `None` if the ring does not outlive the process.
    names: Option<Arc<RingNames>>,
    /// The newest checkpoint. The vector is kept for its memory.
    checkpoint: Vec<u8>,
    /// For checkpoints that are too long for the ring.
    files: CheckpointFiles,
    /// `true` if frames are not released although they were read.
    is_delayed: bool,
    /// A checkpoint that is not needed at once waits until then.
    next_at: Instant,
    /// Number of folders in the newest checkpoint.
    saved_folders: usize,
}

impl CheckpointSaver {
    pub(super) fn new(names: Option<Arc<RingNames>>) -> Self {
        Self {
            names,
            checkpoint: Vec::new(),
            files: CheckpointFiles::default(),
            is_delayed: false,
            next_at: Instant::now(),
            saved_folders: 0,
        }
    }

    /// Returns `true` if frames are not released, because they are in no file yet, or because
    /// checkpoints are long.
    pub(super) fn is_delayed(&self) -> bool {
        self.is_delayed
    }

    /// Returns the time until the delayed checkpoint; `None` if there is nothing to wait for.
    pub(super) fn remaining_delay(&self) -> Option<Duration> {
        let left = self.next_at.saturating_duration_since(Instant::now());
        (self.is_delayed && !left.is_zero()).then_some(left)
    }

    /// Stops to save checkpoints, because the ring does not outlive the process anymore. Returns
    /// the names that it had.
    pub(super) fn detach(&mut self) -> Option<Arc<RingNames>> {
        self.names.take()
    }

    /// Releases all frames that were read, and saves a checkpoint before if the ring outlives the
    /// process.
    ///
    /// If a sink still has output in memory, because a disk is full for example, the frames stay in
    /// the ring until half of the ring is used. Should the process be killed, recovery delivers
    /// them from there.
    pub(super) fn save_and_release(
        &mut self,
        state: &PipelineState,
        reader: &mut RingReader,
        loggers: &mut LoggerSet,
        chunks: &mut ChunkAssembler,
    ) {
        if state.ring.outlives_process()
            && let Some(names) = self.names.clone()
        {
            let start = Instant::now();
            let has_room = state.ring.used() < state.ring.capacity() / 2;
            let pauses = start < self.next_at;
            // Thousands of resume points take longer than the lines of a batch, so no sink is asked
            // for one in a pause. New loggers are announced with theirs.
            let is_settled = !loggers.changes.exist() && names.folders().len() == self.saved_folders;
            self.is_delayed = has_room && pauses && is_settled || {
                let is_complete = loggers.update_resume_points();
                let may_wait = (!is_complete && !loggers.changes.exist())
                    || (pauses && self.can_skip(state, loggers, names.folders().len()));
                may_wait && has_room
            };
            if self.is_delayed {
                return;
            }
            self.save(&names, reader, loggers, chunks.kept_bytes());
            if self.checkpoint.len() > LONG_CHECKPOINT {
                self.next_at = start + (start.elapsed() * PAUSE_FACTOR).min(MAX_PAUSE);
            }
            chunks.remove_unused_file();
        }
        reader.release();
        kill_point("head");
    }

    /// Returns `true` if the next process learns all changes from frames. Pushes frames about new
    /// loggers.
    fn can_skip(&self, state: &PipelineState, loggers: &mut LoggerSet, folders: usize) -> bool {
        folders == self.saved_folders && !loggers.changes.need_checkpoint() && push_opened(state, loggers)
    }

    fn save(&mut self, names: &RingNames, reader: &mut RingReader, loggers: &mut LoggerSet, chunk_bytes: u64) {
        kill_point("checkpoint");
        let folders = names.folders();
        let writer = WriterPosition {
            folders: &folders,
            position: reader.position(),
            chunk_bytes,
        };
        let (room, turn) = (reader.ring().checkpoint_room(), reader.next_turn());
        let checkpoint = &mut self.checkpoint;
        loggers.write_checkpoint(writer, usize::MAX, checkpoint);
        if checkpoint.len() <= room {
            reader.save(checkpoint);
        } else if self.files.write(turn, &names.checkpoint_file(turn), checkpoint).is_ok() {
            reader.save_beside(checkpoint.len());
        } else {
            loggers.write_checkpoint(writer, room, checkpoint);
            reader.save(checkpoint);
        }
        self.saved_folders = folders.len();
    }
}

/// Pushes a frame for each new logger. Returns `false` if the ring has no room for all of them.
fn push_opened(state: &PipelineState, set: &mut LoggerSet) -> bool {
    let LoggerSet {
        loggers,
        sinks,
        changes,
        ..
    } = set;
    while let Some(entry) = changes.last_opened(loggers, sinks) {
        if !state.push_hint(&ReplayHint::Opened(entry.to_owned())) {
            return false;
        }
        kill_point("opened");
        changes.pop_opened();
    }
    true
}

/// Two files beside the ring, for checkpoints by turns: while one is written, the other counts.
#[derive(Default)]
struct CheckpointFiles([Option<File>; 2]);

impl CheckpointFiles {
    /// Writes a checkpoint into the file for this turn, at `path`.
    fn write(&mut self, turn: u64, path: &Path, checkpoint: &[u8]) -> io::Result<()> {
        let kept = &mut self.0[usize::from(turn & 1 == 1)];
        let mut file = match kept.take() {
            Some(file) => file,
            None => create_private_file(path)?,
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(checkpoint)?;
        kill_point("checkpoint file");
        *kept = Some(file);
        Ok(())
    }
}
