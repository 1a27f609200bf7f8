//! The low-priority thread that samples the periodic probes of a logger.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use logcore::sync::lock;
use logcore_pipeline::{lower_thread_priority, print_notice};

use crate::logger::probes::{ProbeReport, ProbeSet};

/// A running probe thread. It samples at once, then each period, and once more at its end.
pub(crate) struct ProbeThread(Arc<ThreadSignal>);

#[derive(Default)]
struct ThreadSignal {
    phase: Mutex<ThreadPhase>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ThreadPhase {
    #[default]
    Running,
    Ending,
    Ended,
}

/// Longest wait for the last sample. A probe may hang; its thread is then abandoned.
const LAST_SAMPLE_TIMEOUT: Duration = Duration::from_millis(200);

impl ProbeThread {
    /// Starts a thread that samples `probes` and gives each report to `deliver`, until `deliver`
    /// breaks.
    pub(crate) fn start(
        probes: ProbeSet,
        period: Duration,
        deliver: impl FnMut(ProbeReport) -> ControlFlow<()> + Send + 'static,
    ) -> Option<Self> {
        let signal = Arc::new(ThreadSignal::default());
        let of_thread = Arc::clone(&signal);
        let started = Builder::new().name("logcore-sampling".to_owned()).spawn(move || {
            lower_thread_priority();
            of_thread.sample(probes, period, deliver);
            of_thread.enter(ThreadPhase::Ended);
        });
        match started {
            Ok(_) => Some(Self(signal)),
            Err(error) => {
                print_notice(
                    "sampling",
                    &format!("no readings of the machine: cannot start a thread: {error}"),
                );
                None
            }
        }
    }

    /// Requests the last sample and waits for it, up to [`LAST_SAMPLE_TIMEOUT`].
    pub(crate) fn end(&self) {
        self.0.enter(ThreadPhase::Ending);
        self.0
            .wait_while(LAST_SAMPLE_TIMEOUT, |phase| phase != ThreadPhase::Ended);
    }
}

impl Drop for ProbeThread {
    fn drop(&mut self) {
        self.0.enter(ThreadPhase::Ending);
    }
}

impl ThreadSignal {
    fn sample(&self, mut probes: ProbeSet, period: Duration, mut deliver: impl FnMut(ProbeReport) -> ControlFlow<()>) {
        loop {
            let is_last = *lock(&self.phase) != ThreadPhase::Running;
            let delivered = deliver(probes.sample());
            if delivered.is_break() || is_last || probes.is_empty() {
                return;
            }
            self.wait_while(period, |phase| phase == ThreadPhase::Running);
        }
    }

    /// Enters a phase; `Ended` is the last one.
    fn enter(&self, next: ThreadPhase) {
        let mut phase = lock(&self.phase);
        if *phase != ThreadPhase::Ended {
            *phase = next;
        }
        self.changed.notify_all();
    }

    fn wait_while(&self, timeout: Duration, goes_on: impl Fn(ThreadPhase) -> bool) {
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.phase), timeout, |phase| goes_on(*phase));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
