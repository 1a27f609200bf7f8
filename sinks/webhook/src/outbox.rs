//! The messages that wait, which a sink and its thread share.

use std::collections::VecDeque;
use std::sync::Mutex;

use logcore::sync::lock;

use crate::message::{Message, MessageKind};
use crate::state_file::{SavedState, StateFile};

/// The greatest number of messages that wait, without the end of the run.
const MOST_WAITING: usize = 100;

/// The messages that wait, in order.
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    file: StateFile,
}

/// The state behind the lock.
struct OutboxState {
    waiting: VecDeque<Message>,
    /// Number of messages that had no room since the last digest.
    left_out: u64,
    /// The state that is on disk, or will be.
    saved: SavedState,
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
                is_closed: false,
            }),
            file,
        }
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

    /// Returns copies of the messages that wait.
    pub(crate) fn waiting(&self) -> Vec<Message> {
        lock(&self.state).waiting.iter().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).waiting.is_empty()
    }

    /// Returns the number up to which no message needs a further try.
    pub(crate) fn sent(&self) -> u64 {
        lock(&self.state).saved.sent
    }

    /// Returns the file of the state.
    pub(crate) fn file(&self) -> &StateFile {
        &self.file
    }

    /// Returns the first message.
    pub(crate) fn first(&self) -> Option<Message> {
        lock(&self.state).waiting.front().cloned()
    }

    /// Replaces several messages by their digest, and returns the number of calls in it; 0 if there
    /// are not several. The end of a run stays what it is.
    pub(crate) fn sum_up(&self) -> u64 {
        let mut state = lock(&self.state);
        let summable = state
            .waiting
            .iter()
            .take_while(|message| message.kind != MessageKind::End);
        let count = summable.clone().count();
        if count < 2 && state.left_out == 0 {
            return 0;
        }
        let Some(digest) = Message::digest(summable.clone(), state.left_out) else {
            return 0;
        };
        let calls = summable.filter(|message| message.number > 0 && message.kind != MessageKind::Digest);
        let calls = calls.count() as u64;
        state.waiting.drain(..count);
        state.waiting.push_front(digest);
        state.left_out = 0;
        calls
    }

    /// Removes the first message, which needs no further try, and saves that.
    pub(crate) fn remove_first(&self) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        if let Some(message) = state.waiting.pop_front() {
            state.saved.sent = state.saved.sent.max(message.number);
        }
        self.save(&mut state)
    }

    /// Saves what waits, because the ring of the run is about to go.
    pub(crate) fn close(&self) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        state.is_closed = true;
        self.save(&mut state)
    }

    fn save(&self, state: &mut OutboxState) -> std::io::Result<()> {
        if state.is_closed && state.waiting.is_empty() {
            self.file.remove();
            return Ok(());
        }
        state.saved.unsent = match state.is_closed {
            true => state.waiting.iter().cloned().collect(),
            false => Vec::new(),
        };
        self.file.save(&state.saved)
    }
}
