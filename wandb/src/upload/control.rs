use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use logcore::{Deadline, Notices, StopFlag};

use super::failure::{Failure, Trouble};

/// What the sink and the threads that deliver tell each other.
pub(crate) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    stop: StopFlag,
    /// For a sync: how long a request may fail before it is given up.
    patience: Option<Duration>,
}

/// Rows and files go separate ways, and one may be in trouble when the other is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Rows,
    Files,
}

#[derive(Default)]
struct State {
    /// The user asked for a flush: no waiting for company.
    urged: bool,
    /// The run has ended, and this is how long its delivery may still take.
    ending: Option<Deadline>,
    /// The number of the newest record that the server has, with all before it.
    delivered: i64,
    over: bool,
    /// By lane: the newest failure, until a request succeeds, and the kinds that were said since the last success.
    trouble: [Option<Failure>; 2],
    said: [Vec<Trouble>; 2],
    notices: Option<Notices>,
    address: Option<String>,
    /// Counts what other threads have to tell the uploader.
    messages: u64,
}

impl Control {
    pub(crate) fn new(stop: StopFlag, patience: Option<Duration>) -> Self {
        let state = State {
            ending: patience.map(Deadline::after),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            stop,
            patience,
        }
    }

    /// Sink: what is there shall be sent now.
    pub(crate) fn urge(&self) {
        self.change(|state| state.urged = true);
    }

    /// Sink: everything is in the file; what is not delivered by then stays there.
    pub(crate) fn end(&self, deadline: Deadline) {
        self.change(|state| state.ending = Some(deadline));
    }

    /// Sink: waits until the delivery is over; returns whether it is.
    pub(crate) fn wait_until_over(&self, deadline: Deadline) -> bool {
        let mut state = self.lock();
        while !state.over {
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return false;
            }
            state = self.wait(state, remaining);
        }
        true
    }

    /// The number of the newest record that the server has.
    pub(crate) fn delivered(&self) -> i64 {
        self.lock().delivered
    }

    /// What is wrong at the moment.
    pub(crate) fn current_trouble(&self) -> Option<Failure> {
        self.lock().trouble.iter().flatten().next().cloned()
    }

    /// Where lines for people go.
    pub(crate) fn set_notices(&self, notices: Notices) {
        self.lock().notices = Some(notices);
    }

    pub(crate) fn say(&self, kind: &str, text: &str) {
        let notices = self.lock().notices.clone();
        if let Some(notices) = notices {
            notices.say(kind, text);
        }
    }

    /// The address of the run's page, once the server has said whose it is.
    pub(crate) fn address(&self) -> Option<String> {
        self.lock().address.clone()
    }

    pub(crate) fn set_address(&self, address: String) {
        self.say("address", &format!("W&B: the run is at {address}"));
        self.lock().address = Some(address);
    }

    pub(crate) fn set_delivered(&self, num: i64) {
        self.lock().delivered = num;
    }

    pub(crate) fn request_stop(&self) {
        self.stop.request();
    }

    /// Another thread has something for the uploader.
    pub(crate) fn notify(&self) {
        self.change(|state| state.messages += 1);
    }

    pub(crate) fn set_over(&self) {
        self.change(|state| state.over = true);
    }

    /// Whether the run has ended.
    pub(crate) fn ending(&self) -> bool {
        self.lock().ending.is_some()
    }

    /// Whether there is no time left to deliver anything.
    pub(crate) fn too_late(&self) -> bool {
        self.lock()
            .ending
            .is_some_and(|deadline| deadline.remaining().is_zero())
    }

    /// Uploader: waits until `until`, or the run ends, or another thread has something to tell, or a flush is asked for;
    /// returns whether it was.
    pub(crate) fn rest(&self, until: Instant) -> bool {
        let mut state = self.lock();
        let messages = state.messages;
        loop {
            let remaining = until.saturating_duration_since(Instant::now());
            if std::mem::take(&mut state.urged) {
                return true;
            }
            if remaining.is_zero() || state.ending.is_some() || state.messages != messages {
                return false;
            }
            state = self.wait(state, remaining);
        }
    }

    /// Uploader at the end: waits for a message of another thread.
    pub(crate) fn rest_for_message(&self, longest: Duration) {
        drop(self.wait(self.lock(), longest));
    }

    /// Waits before a request is tried again; returns whether it is worth it. The end of the run cuts a wait short, unless
    /// the server itself named it.
    pub(crate) fn pause(&self, wait: Duration, named_by_server: bool) -> bool {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        let was_ending = state.ending.is_some();
        loop {
            let remaining = until.saturating_duration_since(Instant::now());
            if let Some(deadline) = state.ending {
                if !named_by_server && !was_ending {
                    return !deadline.remaining().is_zero();
                }
                if deadline.remaining() < remaining {
                    return false;
                }
            }
            if remaining.is_zero() {
                return true;
            }
            state = self.wait(state, remaining);
        }
    }

    /// A request failed. Each kind of trouble is said once, until one succeeds.
    pub(crate) fn trouble(&self, lane: Lane, failure: &Failure) {
        {
            let mut state = self.lock();
            state.trouble[lane as usize] = Some(failure.clone());
            let said = &mut state.said[lane as usize];
            if said.contains(&failure.trouble) {
                return;
            }
            said.push(failure.trouble);
        }
        self.say(
            failure.trouble.reason(),
            &format!("W&B: {failure}; the run goes on, and what it logs is kept on disk until this is over"),
        );
    }

    /// A request succeeded.
    pub(crate) fn well(&self, lane: Lane) {
        let was_said = {
            let mut state = self.lock();
            state.trouble[lane as usize] = None;
            if let Some(patience) = self.patience {
                state.ending = Some(Deadline::after(patience));
            }
            !std::mem::take(&mut state.said[lane as usize]).is_empty()
        };
        if was_said {
            self.say("over", "W&B: the trouble is over, and what was kept is being sent");
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        // A deadline may lie centuries away.
        let longest = longest.min(Duration::from_secs(3600));
        self.changed
            .wait_timeout(state, longest)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
