//! The messages that wait, which a sink and its thread share.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use logcore::sync::lock;

use crate::message::{Message, MessageKind};
use crate::state_file::{SavedState, StateFile};

/// The greatest number of messages that wait, without the end of the run.
const MOST_WAITING: usize = 100;

/// The messages that wait, in order.
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
}

/// The state behind the lock.
struct OutboxState {
    waiting: VecDeque<Message>,
    /// Number of messages that had no room since the last digest.
    left_out: u64,
    /// The state that is on disk, or will be.
    saved: SavedState,
    file: StateFile,
    /// `true` from the end of the run on: what waits is on disk, too.
    is_closed: bool,
}

impl Outbox {
    /// Creates an outbox with messages of an earlier process. `saved` has everything but them.
    pub(crate) fn new(waiting: Vec<Message>, saved: SavedState, file: StateFile) -> Self {
        Self {
            state: Mutex::new(OutboxState {
                waiting: waiting.into(),
                left_out: 0,
                saved,
                file,
                is_closed: false,
            }),
        }
    }

    /// Takes the messages that earlier attempts have left, before any other. Their files go once
    /// the own one has the messages, so that a kill at any moment loses none.
    pub(crate) fn take_left(&self, run_dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        let left = StateFile::lock_left(run_dir, &state.saved.source, &state.saved.destination);
        if left.is_empty() {
            return Ok(());
        }
        let (files, messages): (Vec<_>, Vec<_>) = left.into_iter().unzip();
        state.waiting = messages.into_iter().flatten().collect();
        if let Err(error) = save(&mut state) {
            state.waiting.clear();
            return Err(error);
        }
        for mut file in files {
            file.remove();
        }
        Ok(())
    }

    /// Adds a message. Returns `false` if there is no room; the end of a run always has room.
    pub(crate) fn push(&self, message: Message) -> bool {
        let mut state = lock(&self.state);
        if state.waiting.len() >= MOST_WAITING && message.kind != MessageKind::End {
            state.left_out += 1;
            return false;
        }
        state.waiting.push_back(message);
        true
    }

    /// Returns the number of messages that wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Returns copies of the messages that wait and are not on disk.
    pub(crate) fn waiting_in_memory(&self) -> Vec<Message> {
        let state = lock(&self.state);
        state
            .waiting
            .iter()
            .filter(|message| !message.is_left())
            .cloned()
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).waiting.is_empty()
    }

    /// Returns the number up to which no message needs a further try.
    pub(crate) fn sent(&self) -> u64 {
        lock(&self.state).saved.sent
    }

    /// Returns the path of the state for people.
    pub(crate) fn path(&self) -> PathBuf {
        lock(&self.state).file.path()
    }

    /// Returns the path of the state in the folder of the run.
    pub(crate) fn relative_path(&self) -> PathBuf {
        lock(&self.state).file.relative_path().to_owned()
    }

    /// Returns the first message.
    pub(crate) fn first(&self) -> Option<Message> {
        lock(&self.state).waiting.front().cloned()
    }

    /// Replaces several messages by their digest, and returns the number of calls in it; 0 if there
    /// are not several. The end of a run stays what it is. Messages of an earlier attempt, which
    /// are on disk, have a digest of their own.
    pub(crate) fn sum_up(&self) -> u64 {
        let mut state = lock(&self.state);
        let is_left = state.waiting.front().is_some_and(Message::is_left);
        let summable = state
            .waiting
            .iter()
            .take_while(|message| message.kind != MessageKind::End && message.is_left() == is_left);
        let count = summable.clone().count();
        if count < 2 && state.left_out == 0 {
            return 0;
        }
        let Some(digest) = Message::digest(summable.clone(), state.left_out) else {
            return 0;
        };
        let calls = summable.filter(|message| !message.is_left() && message.kind != MessageKind::Digest);
        let calls = calls.count() as u64;
        state.waiting.drain(..count);
        state.waiting.push_front(digest);
        state.left_out = 0;
        calls
    }

    /// Removes the first message, which needs no further try, and saves that.
    pub(crate) fn remove_first(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if let Some(message) = state.waiting.pop_front() {
            state.saved.sent = state.saved.sent.max(message.number);
        }
        save(&mut state)
    }

    /// Saves what waits, because the ring of the run is about to go.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.is_closed = true;
        save(&mut state)
    }
}

fn save(state: &mut OutboxState) -> io::Result<()> {
    if state.is_closed && state.waiting.is_empty() {
        state.file.remove();
        return Ok(());
    }
    let unsent = state
        .waiting
        .iter()
        .filter(|message| state.is_closed || message.is_left());
    state.saved.unsent = unsent.cloned().collect();
    state.file.save(&state.saved)
}
