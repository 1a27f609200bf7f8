use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use logcore::{Deadline, Notices, StopFlag};

use crate::upload::client::error::{UploadError, UploadErrorKind};

/// What the sink and the threads that deliver tell each other.
pub(crate) struct DeliveryControl {
    state: Mutex<ControlState>,
    changed: Condvar,
    stop: StopFlag,
    /// For a sync, in which the run has ended and has no deadline: how long a lane may fail before it is given up.
    patience: Option<Duration>,
}

/// A log may name any number of things that are not there.
const MOST_LEFT_OUT: usize = 100;

/// Rows, files and alerts go separate ways, and one may be in trouble when the others are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Rows,
    Files,
    Alerts,
}

#[derive(Default)]
struct ControlState {
    /// The user asked for a flush: no waiting for company.
    urged: bool,
    /// The run has ended, and this is how long its delivery may still take.
    ending: Option<Deadline>,
    delivered: DeliveryPosition,
    /// Calls that the server does not take, by reason.
    dropped: BTreeMap<&'static str, u64>,
    /// The files and artifacts that are not sent, in words.
    left_out: Vec<String>,
    over: bool,
    /// By lane: the newest failure, until a request succeeds, and the kinds that were said since the last success.
    trouble: [Option<UploadError>; 3],
    said: [Vec<UploadErrorKind>; 3],
    /// A trouble that was said is over, and others are not.
    over_unsaid: bool,
    /// By lane: when patience ends, while there is a request that has not succeeded.
    patience_ends: [Option<Instant>; 3],
    /// Something that no waiting will change.
    lasting: Option<UploadError>,
    notices: Option<Notices>,
    address: Option<String>,
    /// Counts what other threads have to tell the uploader.
    messages: u64,
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeliveryPosition {
    /// The number of the newest record that the server has, with all before it that are lines.
    pub(crate) num: i64,
    /// Calls up to there whose file, artifact or alert it has not.
    pub(crate) missing: u64,
}

impl DeliveryControl {
    pub(crate) fn new(stop: StopFlag, patience: Option<Duration>) -> Self {
        Self {
            state: Mutex::default(),
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

    /// How far the server has it.
    pub(crate) fn delivered(&self) -> DeliveryPosition {
        self.lock().delivered
    }

    /// Calls that the server does not take, by reason.
    pub(crate) fn dropped(&self) -> BTreeMap<&'static str, u64> {
        self.lock().dropped.clone()
    }

    /// What is wrong at the moment, or has been for good.
    pub(crate) fn current_trouble(&self) -> Option<UploadError> {
        let state = self.lock();
        state
            .trouble
            .iter()
            .flatten()
            .next()
            .or(state.lasting.as_ref())
            .cloned()
    }

    /// Where lines for people go.
    pub(crate) fn set_notices(&self, notices: Notices) {
        self.lock().notices = Some(notices);
    }

    pub(crate) fn say(&self, kind: &str, text: &str) {
        let notices = self.lock().notices.clone();
        if let Some(notices) = notices {
            notices.print(kind, text);
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

    pub(crate) fn set_delivered(&self, reached: DeliveryPosition) {
        self.lock().delivered = reached;
    }

    /// Something that the log names is not sent, now or later.
    pub(crate) fn leave_out(&self, what: &str) {
        self.say(what, &format!("W&B: {what}"));
        let left_out = &mut self.lock().left_out;
        if left_out.len() < MOST_LEFT_OUT {
            left_out.push(what.to_owned());
        }
    }

    /// The files and artifacts that were left out, in words.
    pub(crate) fn left_out(&self) -> Vec<String> {
        self.lock().left_out.clone()
    }

    /// Calls will never be on the server.
    pub(crate) fn drop_for(&self, reason: &'static str, calls: u64) {
        if calls > 0 {
            *self.lock().dropped.entry(reason).or_default() += calls;
        }
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
        self.patience.is_some() || self.lock().ending.is_some()
    }

    /// Whether there is no time left to deliver anything on this lane.
    pub(crate) fn too_late(&self, lane: Lane) -> bool {
        self.lock().remaining(lane).is_some_and(|remaining| remaining.is_zero())
    }

    /// Whether that will be so after this pause.
    pub(crate) fn too_late_for(&self, lane: Lane, pause: Duration) -> bool {
        self.lock().remaining(lane).is_some_and(|remaining| remaining < pause)
    }

    /// Uploader: waits until `until`, or the run ends, or another thread has something to tell, or a flush is asked for;
    /// returns whether it was.
    pub(crate) fn rest(&self, until: Deadline) -> bool {
        let mut state = self.lock();
        let messages = state.messages;
        loop {
            let remaining = until.remaining();
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
    pub(crate) fn pause(&self, lane: Lane, wait: Duration, named_by_server: bool) -> bool {
        let until = Deadline::after(wait);
        let mut state = self.lock();
        let was_ending = self.patience.is_some() || state.ending.is_some();
        loop {
            let remaining = until.remaining();
            if let Some(left) = state.remaining(lane) {
                if !named_by_server && !was_ending {
                    return !left.is_zero();
                }
                if left < remaining {
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
    pub(crate) fn trouble(&self, lane: Lane, error: &UploadError) {
        {
            let mut state = self.lock();
            state.trouble[lane as usize] = Some(error.clone());
            let said = &mut state.said[lane as usize];
            if said.contains(&error.trouble) {
                return;
            }
            said.push(error.trouble);
        }
        self.say(
            error.trouble.reason(),
            &format!("W&B: {error}; the run goes on, and what it logs is kept on disk until this is over"),
        );
    }

    /// Something that waiting does not change; it is said once, and is the reason in the account at the end.
    pub(crate) fn lasting(&self, error: &UploadError) {
        self.say(error.trouble.reason(), &format!("W&B: {error}"));
        self.lock().lasting.get_or_insert_with(|| error.clone());
    }

    /// A request begins. Patience counts from the first that has not succeeded.
    pub(crate) fn begin(&self, lane: Lane) {
        let until = self.patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut state = self.lock();
        let ends = &mut state.patience_ends[lane as usize];
        *ends = ends.or(until);
    }

    /// A request succeeded.
    pub(crate) fn well(&self, lane: Lane) {
        let is_over = {
            let mut state = self.lock();
            state.trouble[lane as usize] = None;
            state.patience_ends[lane as usize] = None;
            let was_said = !std::mem::take(&mut state.said[lane as usize]).is_empty();
            // Rows may go while files do not: then it is not over.
            state.over_unsaid |= was_said;
            let all_well = state.trouble.iter().all(Option::is_none);
            all_well && std::mem::take(&mut state.over_unsaid)
        };
        if is_over {
            self.say("over", "W&B: the trouble is over, and what was kept is being sent");
        }
    }

    /// A request succeeded, while others of its lane still fail.
    pub(crate) fn goes_on(&self, lane: Lane) {
        let until = self.patience.and_then(|patience| Instant::now().checked_add(patience));
        self.lock().patience_ends[lane as usize] = until;
    }

    /// Content was on its way for so long.
    pub(crate) fn flowed(&self, lane: Lane, time: Duration) {
        let ends = &mut self.lock().patience_ends[lane as usize];
        *ends = ends.and_then(|ends| ends.checked_add(time));
    }

    fn change(&self, change: impl FnOnce(&mut ControlState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, ControlState>, longest: Duration) -> MutexGuard<'a, ControlState> {
        // A deadline may lie centuries away.
        let longest = longest.min(Duration::from_secs(3600));
        self.changed
            .wait_timeout(state, longest)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ControlState {
    /// How long the lane has; `None` if nothing limits it.
    fn remaining(&self, lane: Lane) -> Option<Duration> {
        let patience = self.patience_ends[lane as usize];
        let patience = patience.map(|ends| ends.saturating_duration_since(Instant::now()));
        patience.or(self.ending.map(|deadline| deadline.remaining()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn each_lane_has_its_own_patience_and_a_long_way_takes_none() {
        let control = DeliveryControl::new(StopFlag::default(), Some(HOUR));
        assert!(!control.too_late_for(Lane::Files, 2 * HOUR), "nothing has failed yet");
        control.begin(Lane::Files);
        assert!(control.too_late_for(Lane::Files, HOUR + HOUR / 2));
        control.well(Lane::Rows);
        assert!(
            control.too_late_for(Lane::Files, HOUR + HOUR / 2),
            "other rows renew nothing"
        );
        control.flowed(Lane::Files, HOUR);
        assert!(!control.too_late_for(Lane::Files, HOUR + HOUR / 2));
        control.goes_on(Lane::Files);
        assert!(control.too_late_for(Lane::Files, HOUR + HOUR / 2), "it counts anew");
        assert!(!control.too_late_for(Lane::Files, HOUR / 2));
        control.well(Lane::Files);
        assert!(!control.too_late_for(Lane::Files, 4 * HOUR));
    }

    #[test]
    fn trouble_is_over_when_no_lane_has_any() {
        use std::sync::Arc;

        let said = Arc::<Mutex<Vec<String>>>::default();
        let control = DeliveryControl::new(StopFlag::default(), None);
        let words = Arc::clone(&said);
        control.set_notices(Notices::new(move |kind, _| words.lock().unwrap().push(kind.to_owned())));
        let error = UploadError::again(UploadErrorKind::ServerError, "503");
        control.trouble(Lane::Rows, &error);
        control.trouble(Lane::Files, &error);
        control.well(Lane::Rows);
        assert_eq!(said.lock().unwrap().len(), 2, "files still fail");
        control.well(Lane::Files);
        control.well(Lane::Rows);
        assert_eq!(said.lock().unwrap()[2..], ["over"]);
    }

    #[test]
    fn waits_of_any_length_are_possible() {
        let control = DeliveryControl::new(StopFlag::default(), None);
        control.end(Deadline::after(Duration::ZERO));
        assert!(!control.pause(Lane::Rows, Duration::MAX, true));
        assert!(!control.rest(Deadline::after(Duration::MAX)));
    }
}
