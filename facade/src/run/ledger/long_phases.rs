//! The phases that took long, which events tell.

use std::time::{Duration, Instant};

/// A phase that has ended and took long: the first of its name, or longer than usual.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LongPhase {
    pub(crate) name: String,
    pub(crate) time: Duration,
    /// Usual time of a phase of this name; `None` if this was the first one.
    pub(crate) usual: Option<Duration>,
    pub(crate) ended: Instant,
}

/// The long phases of an attempt.
#[derive(Default)]
pub(super) struct LongPhases {
    untold: Vec<LongPhase>,
    /// Number of long phases so far.
    count: usize,
}

/// A phase that takes less is not told.
const LONG_PHASE: Duration = Duration::from_secs(10);

/// Most phases of an attempt that are told: a hundredth of the lines that `events.jsonl` may have.
pub(super) const MAX_LONG_PHASES: usize = 100;

impl LongPhases {
    /// Notes how long a phase took, and takes that into the usual nanoseconds of its name, which
    /// are 0 before the first end. Returns `true` if the phase is to be told: the first of its
    /// name, and those that took twice as long as usual, if they took long at all.
    pub(super) fn note(&mut self, name: &str, usual_nanos: &mut u64, time: Duration, ended: Instant) -> bool {
        let (nanos, usual) = (time.as_nanos() as u64, *usual_nanos);
        *usual_nanos = match usual {
            0 => nanos,
            usual => usual - usual / 8 + nanos / 8,
        };
        let is_told = time >= LONG_PHASE && nanos / 2 >= usual && self.count < MAX_LONG_PHASES;
        if is_told {
            self.add(name, time, usual, ended);
        }
        is_told
    }

    /// Takes the phases since the last call.
    pub(super) fn take(&mut self) -> Vec<LongPhase> {
        std::mem::take(&mut self.untold)
    }

    #[cold]
    fn add(&mut self, name: &str, time: Duration, usual_nanos: u64, ended: Instant) {
        self.count += 1;
        self.untold.push(LongPhase {
            name: name.to_owned(),
            time,
            usual: (usual_nanos > 0).then(|| Duration::from_nanos(usual_nanos)),
            ended,
        });
    }
}
