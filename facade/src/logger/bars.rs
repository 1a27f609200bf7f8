//! The bars of a logger: progresses that count no steps and no samples.

use std::sync::{Arc, Weak};

use logcore::ProgressKind;
use logcore_pipeline::ForkMutex;

use crate::logger::gate::CallGate;
use crate::logger::progress::ProgressMeter;

/// A bar, shared by its clones. It ends with the last of them.
pub(crate) struct BarState {
    gate: Arc<CallGate>,
    /// `None` once the bar has ended.
    meter: ForkMutex<Option<ProgressMeter>>,
}

impl BarState {
    /// Starts a bar, and shows it.
    pub(crate) fn start(gate: &Arc<CallGate>, mut meter: ProgressMeter) -> Arc<Self> {
        let started = meter.snapshot(ProgressKind::Started);
        started.with_event(gate.logger(), |event| gate.producer().progress(event));
        Arc::new(Self {
            gate: Arc::clone(gate),
            meter: ForkMutex::new(Some(meter)),
        })
    }

    #[inline]
    pub(crate) fn advance(&self, n: u64) {
        let due = {
            let mut meter = self.meter.lock();
            let Some(meter) = &mut *meter else { return };
            if !meter.update(n, None) {
                return;
            }
            meter.snapshot(ProgressKind::Advanced)
        };
        if !self.gate.is_closed() {
            due.with_event(self.gate.logger(), |event| self.gate.producer().progress_if_room(event));
        }
    }

    /// Returns the number of units that are done; 0 once the bar has ended.
    #[cfg(feature = "health")]
    fn position(&self) -> u64 {
        self.meter.lock().as_ref().map_or(0, ProgressMeter::position)
    }

    /// Ends the bar; later advances do nothing.
    pub(crate) fn end(&self) {
        let ended = self.meter.lock().take();
        let Some(mut meter) = ended.filter(|_| !self.gate.is_closed()) else {
            return;
        };
        let ended = meter.snapshot(ProgressKind::Finished);
        ended.with_event(self.gate.logger(), |event| self.gate.producer().progress(event));
    }
}

impl Drop for BarState {
    fn drop(&mut self) {
        self.end();
    }
}

/// The open bars of a logger.
#[derive(Default)]
pub(crate) struct BarList(Vec<Weak<BarState>>);

impl BarList {
    pub(crate) fn add(&mut self, bar: &Arc<BarState>) {
        self.0.retain(|bar| bar.strong_count() > 0);
        self.0.push(Arc::downgrade(bar));
    }

    /// Returns the sum of the positions of the open bars.
    #[cfg(feature = "health")]
    pub(crate) fn position(&self) -> u64 {
        let open = self.0.iter().filter_map(Weak::upgrade);
        open.map(|bar| bar.position()).fold(0, u64::saturating_add)
    }

    /// Takes the open bars, the newest first.
    pub(crate) fn take(&mut self) -> Vec<Arc<BarState>> {
        self.0.drain(..).rev().filter_map(|bar| bar.upgrade()).collect()
    }
}
