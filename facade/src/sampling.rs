//! The probes that are asked from time to time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::Duration;

use logcore_pipeline::{lower_thread_priority, print_notice};

use crate::instance::Instance;
use crate::memory::Memory;

/// A thread that asks probes, first at once and last at the end.
pub(crate) struct Sampling(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_ending: bool,
    has_ended: bool,
}

/// The wait for the last readings. A probe may hang; its thread is then left behind.
const LAST: Duration = Duration::from_millis(200);

impl Sampling {
    pub(crate) fn start(logger: Weak<Instance>, probes: Memory, period: Duration) -> Option<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let started = Builder::new().name("logcore-sampling".to_owned()).spawn(move || {
            lower_thread_priority();
            of_thread.serve(&logger, probes, period);
            of_thread.lock().has_ended = true;
            of_thread.changed.notify_all();
        });
        match started {
            Ok(_) => Some(Self(shared)),
            Err(error) => {
                print_notice(
                    "sampling",
                    &format!("no readings of the machine: cannot start a thread: {error}"),
                );
                None
            }
        }
    }

    /// Has the last readings taken, and waits for them a moment.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.is_ending = true;
        self.0.changed.notify_all();
        let waited = self.0.changed.wait_timeout_while(state, LAST, |state| !state.has_ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.0.lock().is_ending = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn serve(&self, logger: &Weak<Instance>, mut probes: Memory, period: Duration) {
        loop {
            let is_last = self.lock().is_ending;
            let sampled = probes.sample();
            let Some(logger) = logger.upgrade() else { return };
            logger.log_readings(sampled);
            drop(logger);
            if is_last || probes.is_empty() {
                return;
            }
            let waited = self
                .changed
                .wait_timeout_while(self.lock(), period, |state| !state.is_ending);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
