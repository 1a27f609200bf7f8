//! The request to stop a run: its reason, and the step at which all ranks follow.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use logcore::StopReason;
use logcore::sync::lock;

/// The switch that the loggers of a run share. A run of one process stops at the next question; the
/// ranks of a run agree on a step first, which the thread `logcore-health` does.
#[derive(Debug)]
pub(crate) struct StopSwitch {
    /// The step from which on the answer is yes; [`NEVER`] before there is one.
    from_step: AtomicU64,
    /// `true` once the program has heard a yes.
    is_heard: AtomicBool,
    reason: Mutex<Option<StopReason>>,
    /// `true` if other ranks have to agree.
    needs_agreement: bool,
}

const NEVER: u64 = u64::MAX;

impl StopSwitch {
    pub(crate) fn new(needs_agreement: bool) -> Self {
        Self {
            from_step: AtomicU64::new(NEVER),
            is_heard: AtomicBool::new(false),
            reason: Mutex::default(),
            needs_agreement,
        }
    }

    /// Asks the run to stop. The first reason counts.
    pub(crate) fn request(&self, reason: StopReason) {
        lock(&self.reason).get_or_insert(reason);
        if !self.needs_agreement {
            self.from_step.store(0, Ordering::Relaxed);
        }
    }

    /// Answers the question of the program, which is at the step that `current_step` returns.
    #[inline]
    pub(crate) fn is_requested(&self, current_step: impl FnOnce() -> Option<u64>) -> bool {
        let from = self.from_step.load(Ordering::Relaxed);
        from != NEVER && self.is_reached(from, current_step())
    }

    #[cold]
    fn is_reached(&self, from: u64, current_step: Option<u64>) -> bool {
        let is_reached = current_step.is_none_or(|step| step >= from);
        if is_reached {
            self.is_heard.store(true, Ordering::Relaxed);
        }
        is_reached
    }

    /// Returns the reason of the request, if there is one.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        lock(&self.reason).clone()
    }

    /// Returns the reason, if the program has heard that it is to stop.
    pub(crate) fn heard_reason(&self) -> Option<StopReason> {
        self.is_heard.load(Ordering::Relaxed).then(|| self.reason()).flatten()
    }
}

/// The agreement of several ranks.
#[cfg(feature = "health")]
impl StopSwitch {
    /// Returns `true` if other ranks have to agree.
    pub(crate) fn needs_agreement(&self) -> bool {
        self.needs_agreement
    }

    /// Returns the reason of a request for which the step is still open.
    pub(crate) fn open_request(&self) -> Option<StopReason> {
        let is_open = self.needs_agreement && self.from_step.load(Ordering::Relaxed) == NEVER;
        is_open.then(|| self.reason()).flatten()
    }

    /// Lets the answer be yes from a step on, for the reason that the ranks have agreed on.
    pub(crate) fn stop_from(&self, step: u64, reason: StopReason) {
        *lock(&self.reason) = Some(reason);
        // The agreement comes from a file, whose step may be any number.
        self.from_step.store(step.min(NEVER - 1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_stops_at_the_next_question() {
        let switch = StopSwitch::new(false);
        assert!(!switch.is_requested(|| Some(7)));
        switch.request(StopReason::File);
        switch.request(StopReason::Button);
        assert_eq!((switch.reason(), switch.heard_reason()), (Some(StopReason::File), None));
        assert!(switch.is_requested(|| Some(7)));
        assert_eq!(switch.heard_reason(), Some(StopReason::File));
    }

    #[cfg(feature = "health")]
    #[test]
    fn ranks_stop_at_the_agreed_step() {
        let switch = StopSwitch::new(true);
        switch.request(StopReason::Deadline);
        assert_eq!(switch.open_request(), Some(StopReason::Deadline));
        assert!(!switch.is_requested(|| Some(7)));
        switch.stop_from(9, StopReason::Button);
        assert_eq!(
            (switch.open_request(), switch.reason()),
            (None, Some(StopReason::Button))
        );
        assert!(!switch.is_requested(|| Some(8)));
        assert!(switch.is_requested(|| Some(9)));
        // Nothing tells that such a process will ever reach the step.
        assert!(switch.is_requested(|| None));
    }

    #[cfg(feature = "health")]
    #[test]
    fn the_greatest_step_closes_the_request() {
        let switch = StopSwitch::new(true);
        switch.request(StopReason::Deadline);
        switch.stop_from(u64::MAX, StopReason::Button);
        assert_eq!(switch.open_request(), None);
        assert!(!switch.is_requested(|| Some(u64::MAX - 2)));
        assert!(switch.is_requested(|| Some(u64::MAX)));
    }
}
