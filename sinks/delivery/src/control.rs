//! The state that a sink and the threads of its delivery share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use logcore::sync::{lock, wait_timeout};
use logcore::{Deadline, Notices, SinkBooks};

use crate::error::{DeliveryError, DeliveryErrorKind};

/// The link between a sink and the threads of its delivery: the end of the run, the trouble with
/// the server, and the position reached.
///
/// Requests run in three lanes. Each lane has its own errors and, in a sync, its own retry limit:
/// the time for which it may fail. A run of this process has a deadline instead, which starts with
/// the end of the run.
///
/// Each kind of trouble is one notice until a request of the lane succeeds, and the recovery is one
/// notice when no lane fails any more.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use logcore::Notices;
/// use logcore_delivery::{DeliveryControl, DeliveryError, Lane};
///
/// let printed = Arc::new(Mutex::new(Vec::new()));
/// let control = DeliveryControl::new("MLflow", None);
/// let lines = Arc::clone(&printed);
/// control.set_notices(Notices::new(move |_, text| lines.lock().unwrap().push(text.to_owned())));
///
/// let error = DeliveryError::from_status(503, None, "", None);
/// for _ in 0..1000 {
///     control.request_failed(Lane::Rows, &error);
/// }
/// control.request_succeeded(Lane::Rows);
/// assert_eq!(*printed.lock().unwrap(), [
///     "MLflow: the server answered 503; the run continues, and its log is kept on disk until the server accepts it",
///     "MLflow: the server accepts requests again; sending what was kept on disk",
/// ]);
/// ```
pub struct DeliveryControl {
    /// The name of the destination, which notices begin with.
    name: &'static str,
    /// The place of the spool, in a notice about trouble: "its log is kept on disk".
    kept: &'static str,
    state: Mutex<ControlState>,
    /// Notified after each change of the state.
    changed: Condvar,
    /// Time for which a lane may fail before a sync gives up. `None` unless this is a sync.
    retry_limit: Option<Duration>,
}

/// The greatest number of skipped items in a report. A spool may name any number of missing files.
const MOST_SKIPPED: usize = 100;

/// An independent stream of requests. One may fail while the others succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Rows, text, summary and config: what the spool has in order.
    Rows,
    /// Files and artifacts.
    Files,
    /// Alerts.
    Alerts,
}

/// Number of lanes.
const LANES: usize = 3;

/// The state behind the lock.
#[derive(Default)]
struct ControlState {
    /// The user asked for a flush: do not collect rows any longer.
    flush_requested: bool,
    /// The deadline of the delivery, once the run has ended.
    deadline: Option<Deadline>,
    position: DeliveryPosition,
    /// Calls that the server does not accept, by reason.
    dropped: BTreeMap<&'static str, u64>,
    /// Descriptions of the files and other items that are not sent.
    skipped: Vec<String>,
    /// `true` after the end of the delivery.
    finished: bool,
    lanes: [LaneState; LANES],
    /// A printed error is over while another lane still fails.
    recovery_unprinted: bool,
    /// The first error that waiting does not remove.
    permanent: Option<DeliveryError>,
    /// The receiver of notices.
    notices: Option<Notices>,
    /// The address of the page of the run.
    address: Option<String>,
    /// Is called with each address.
    on_address: Option<AddressHook>,
    /// Number of notifications for the delivering thread.
    messages: u64,
}

/// The state of a lane.
#[derive(Default)]
struct LaneState {
    /// The newest error, until a request succeeds.
    error: Option<DeliveryError>,
    /// The kinds of errors that were printed since the last success.
    printed: Vec<DeliveryErrorKind>,
    /// Time at which the retry limit ends, while a request fails.
    retry_ends: Option<Instant>,
}

type AddressHook = Box<dyn Fn(&str) + Send>;

/// The position of a delivery in its spool.
///
/// ```
/// use logcore_delivery::DeliveryPosition;
///
/// assert_eq!(DeliveryPosition::default(), DeliveryPosition { reached: 0, missing: 0 });
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryPosition {
    /// The position up to which the server has every line: the number of a record, or bytes.
    pub reached: u64,
    /// Number of calls up to there whose file or alert is missing on the server.
    pub missing: u64,
}

impl DeliveryControl {
    /// Creates the control of a delivery to `name`, which notices begin with. `retry_limit` is only
    /// set for a sync.
    #[must_use]
    pub fn new(name: &'static str, retry_limit: Option<Duration>) -> Self {
        Self {
            name,
            kept: "its log is kept on disk",
            state: Mutex::default(),
            changed: Condvar::new(),
            retry_limit,
        }
    }

    /// Tells people where the data stays while the server does not accept it, in place of "its log
    /// is kept on disk".
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use logcore::Notices;
    /// use logcore_delivery::{DeliveryControl, DeliveryError, Lane};
    ///
    /// let printed = Arc::new(Mutex::new(String::new()));
    /// let control = DeliveryControl::new("webhook", None).keeping("its messages wait");
    /// let line = Arc::clone(&printed);
    /// control.set_notices(Notices::new(move |_, text| text.clone_into(&mut line.lock().unwrap())));
    /// control.request_failed(Lane::Alerts, &DeliveryError::from_status(503, None, "", None));
    /// assert!(printed.lock().unwrap().ends_with("; the run continues, and its messages wait until the server accepts it"));
    /// ```
    #[must_use]
    pub fn keeping(self, kept: &'static str) -> Self {
        Self { kept, ..self }
    }

    /// For the sink: has all rows sent now.
    pub fn request_flush(&self) {
        self.change(|state| state.flush_requested = true);
    }

    /// For the sink: the spool is complete. Lines that are not delivered by `deadline` stay on
    /// disk.
    pub fn run_ended(&self, deadline: Deadline) {
        self.change(|state| state.deadline = Some(deadline));
    }

    /// For the sink: waits until the delivery has finished. Returns `false` if the deadline passes
    /// first.
    pub fn wait_until_finished(&self, deadline: Deadline) -> bool {
        let mut state = lock(&self.state);
        while !state.finished {
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return false;
            }
            state = self.wait(state, remaining);
        }
        true
    }

    /// Returns the position that the delivery has reached.
    #[must_use]
    pub fn position(&self) -> DeliveryPosition {
        lock(&self.state).position
    }

    /// Moves the calls that the server will never have from delivered to dropped, by reason.
    ///
    /// ```
    /// use logcore::SinkBooks;
    /// use logcore_delivery::DeliveryControl;
    ///
    /// let control = DeliveryControl::new("MLflow", None);
    /// control.drop_calls("refused by the server", 2);
    /// let mut books = SinkBooks::default();
    /// (books.accepted, books.delivered) = (10, 10);
    /// control.book_dropped(&mut books);
    /// assert!(books.balanced());
    /// assert_eq!((books.delivered, books.dropped["refused by the server"]), (8, 2));
    /// ```
    pub fn book_dropped(&self, books: &mut SinkBooks) {
        for (reason, calls) in &lock(&self.state).dropped {
            let calls = (*calls).min(books.delivered);
            books.delivered -= calls;
            books.drop_for(reason, calls);
        }
    }

    /// Returns the error of a lane that fails now, or else the first permanent error.
    #[must_use]
    pub fn current_error(&self) -> Option<DeliveryError> {
        let state = lock(&self.state);
        let mut errors = state.lanes.iter().filter_map(|lane| lane.error.as_ref());
        errors.next().or(state.permanent.as_ref()).cloned()
    }

    /// Sets the receiver of notices.
    pub fn set_notices(&self, notices: Notices) {
        lock(&self.state).notices = Some(notices);
    }

    /// Prints a notice. `kind` identifies the notice, so that a receiver can suppress repetitions.
    pub fn print_notice(&self, kind: &str, text: &str) {
        let notices = lock(&self.state).notices.clone();
        if let Some(notices) = notices {
            notices.print(kind, text);
        }
    }

    /// Returns the address of the run's page, once the server has named the owner of the run.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        lock(&self.state).address.clone()
    }

    /// Sets and prints the address of the run's page on the server.
    pub fn set_address(&self, address: String) {
        self.print_named("address", &format!("the run is at {address}"));
        let mut state = lock(&self.state);
        if let Some(hook) = &state.on_address {
            hook(&address);
        }
        state.address = Some(address);
    }

    /// Sets the function that is called with the address, which must not call back.
    pub fn on_address(&self, hook: impl Fn(&str) + Send + 'static) {
        lock(&self.state).on_address = Some(Box::new(hook));
    }

    /// Sets the position that the delivery has reached.
    pub fn set_position(&self, reached: DeliveryPosition) {
        lock(&self.state).position = reached;
    }

    /// Records and prints that a file or another item of the spool is never sent. At most 100 are
    /// kept.
    pub fn skip(&self, what: &str) {
        self.print_named(what, what);
        let skipped = &mut lock(&self.state).skipped;
        if skipped.len() < MOST_SKIPPED {
            skipped.push(what.to_owned());
        }
    }

    /// Returns descriptions of the skipped items.
    #[must_use]
    pub fn skipped(&self) -> Vec<String> {
        lock(&self.state).skipped.clone()
    }

    /// Records calls that the server will never have.
    pub fn drop_calls(&self, reason: &'static str, calls: u64) {
        if calls > 0 {
            *lock(&self.state).dropped.entry(reason).or_default() += calls;
        }
    }

    /// Wakes the delivering thread for a message of another thread.
    pub fn notify(&self) {
        self.change(|state| state.messages += 1);
    }

    /// Notes that the delivery has finished, however it ended.
    pub fn set_finished(&self) {
        self.change(|state| state.finished = true);
    }

    /// Returns `true` if the run has ended.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.retry_limit.is_some() || lock(&self.state).deadline.is_some()
    }

    /// Returns `true` if no time is left for this lane.
    #[must_use]
    pub fn is_out_of_time(&self, lane: Lane) -> bool {
        lock(&self.state)
            .remaining(lane)
            .is_some_and(|remaining| remaining.is_zero())
    }

    /// Returns `true` if no time will be left for this lane after a pause.
    #[must_use]
    pub fn is_out_of_time_after(&self, lane: Lane, pause: Duration) -> bool {
        lock(&self.state)
            .remaining(lane)
            .is_some_and(|remaining| remaining < pause)
    }

    /// For the delivery: waits for the time `until`, the end of the run, a message of another
    /// thread, or a flush. Returns `true` if a flush was requested.
    pub fn wait_for_work(&self, until: Deadline) -> bool {
        let mut state = lock(&self.state);
        let messages = state.messages;
        loop {
            let remaining = until.remaining();
            if std::mem::take(&mut state.flush_requested) {
                return true;
            }
            if remaining.is_zero() || state.deadline.is_some() || state.messages != messages {
                return false;
            }
            state = self.wait(state, remaining);
        }
    }

    /// For the delivery, after the end of the run: waits for a message of another thread, for
    /// `longest` at most.
    pub fn wait_for_message(&self, longest: Duration) {
        drop(self.wait(lock(&self.state), longest));
    }

    /// Waits before a request is repeated. Returns `false` if no time is left for another try. The
    /// end of the run shortens the wait, unless the server named its length.
    pub fn wait_to_retry(&self, lane: Lane, wait: Duration, named_by_server: bool) -> bool {
        let until = Deadline::after(wait);
        let mut state = lock(&self.state);
        let was_ending = self.retry_limit.is_some() || state.deadline.is_some();
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

    /// Records a failed request. Each kind of error is printed once, until a request succeeds.
    pub fn request_failed(&self, lane: Lane, error: &DeliveryError) {
        {
            let lane = &mut lock(&self.state).lanes[lane as usize];
            lane.error = Some(error.clone());
            if lane.printed.contains(&error.kind()) {
                return;
            }
            lane.printed.push(error.kind());
        }
        let text = format!(
            "{error}; the run continues, and {} until the server accepts it",
            self.kept
        );
        self.print_named(error.kind().reason(), &text);
    }

    /// Prints an error that waiting does not remove, and keeps the first one for the account at the
    /// end.
    pub fn report_permanent(&self, error: &DeliveryError) {
        self.print_named(error.kind().reason(), &error.to_string());
        lock(&self.state).permanent.get_or_insert_with(|| error.clone());
    }

    /// Records the start of a request. The retry limit counts from the first request that fails.
    pub fn request_started(&self, lane: Lane) {
        let until = self.retry_limit.and_then(|limit| Instant::now().checked_add(limit));
        let ends = &mut lock(&self.state).lanes[lane as usize].retry_ends;
        *ends = ends.or(until);
    }

    /// Records a successful request.
    pub fn request_succeeded(&self, lane: Lane) {
        let has_recovered = {
            let mut state = lock(&self.state);
            let was_printed = !std::mem::take(&mut state.lanes[lane as usize]).printed.is_empty();
            // The recovery is printed when no lane fails any more.
            state.recovery_unprinted |= was_printed;
            let all_succeed = state.lanes.iter().all(|lane| lane.error.is_none());
            all_succeed && std::mem::take(&mut state.recovery_unprinted)
        };
        if has_recovered {
            self.print_named(
                "over",
                "the server accepts requests again; sending what was kept on disk",
            );
        }
    }

    /// Records a successful request while others of the same lane still fail.
    pub fn renew_retry_limit(&self, lane: Lane) {
        let until = self.retry_limit.and_then(|limit| Instant::now().checked_add(limit));
        lock(&self.state).lanes[lane as usize].retry_ends = until;
    }

    /// Extends the retry limit by the time for which content was sent.
    pub fn extend_retry_limit(&self, lane: Lane, time: Duration) {
        let ends = &mut lock(&self.state).lanes[lane as usize].retry_ends;
        *ends = ends.and_then(|ends| ends.checked_add(time));
    }

    /// Prints a notice that begins with the name of the destination.
    fn print_named(&self, kind: &str, text: &str) {
        self.print_notice(kind, &format!("{}: {text}", self.name));
    }

    /// Changes the state and wakes all waiting threads.
    fn change(&self, change: impl FnOnce(&mut ControlState)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits for a change of the state.
    fn wait<'a>(&self, state: MutexGuard<'a, ControlState>, longest: Duration) -> MutexGuard<'a, ControlState> {
        // The platform may not support waits of centuries.
        let longest = longest.min(Duration::from_secs(3600));
        wait_timeout(&self.changed, state, longest)
    }
}

impl fmt::Debug for DeliveryControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryControl")
            .field("name", &self.name)
            .field("retry_limit", &self.retry_limit)
            .finish_non_exhaustive()
    }
}

impl ControlState {
    /// Returns the time that is left for a lane; `None` if there is no limit.
    fn remaining(&self, lane: Lane) -> Option<Duration> {
        let limit = self.lanes[lane as usize].retry_ends;
        let limit = limit.map(|ends| ends.saturating_duration_since(Instant::now()));
        limit.or(self.deadline.map(|deadline| deadline.remaining()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn each_lane_has_its_own_retry_limit_and_slow_content_extends_it() {
        let control = DeliveryControl::new("test", Some(HOUR));
        assert!(
            !control.is_out_of_time_after(Lane::Files, 2 * HOUR),
            "no request has failed"
        );
        control.request_started(Lane::Files);
        assert!(control.is_out_of_time_after(Lane::Files, HOUR + HOUR / 2));
        control.request_succeeded(Lane::Rows);
        assert!(
            control.is_out_of_time_after(Lane::Files, HOUR + HOUR / 2),
            "another lane renews nothing"
        );
        control.extend_retry_limit(Lane::Files, HOUR);
        assert!(!control.is_out_of_time_after(Lane::Files, HOUR + HOUR / 2));
        control.renew_retry_limit(Lane::Files);
        assert!(
            control.is_out_of_time_after(Lane::Files, HOUR + HOUR / 2),
            "the retry limit starts again"
        );
        assert!(!control.is_out_of_time_after(Lane::Files, HOUR / 2));
        control.request_succeeded(Lane::Files);
        assert!(!control.is_out_of_time_after(Lane::Files, 4 * HOUR));
    }

    #[test]
    fn the_recovery_is_printed_when_no_lane_fails_any_more() {
        use std::sync::Arc;

        let printed = Arc::<Mutex<Vec<String>>>::default();
        let control = DeliveryControl::new("test", None);
        let kinds = Arc::clone(&printed);
        control.set_notices(Notices::new(move |kind, _| kinds.lock().unwrap().push(kind.to_owned())));
        let error = DeliveryError::temporary(DeliveryErrorKind::ServerError, "503");
        control.request_failed(Lane::Rows, &error);
        control.request_failed(Lane::Files, &error);
        control.request_succeeded(Lane::Rows);
        assert_eq!(printed.lock().unwrap().len(), 2, "files still fail");
        control.request_succeeded(Lane::Files);
        control.request_succeeded(Lane::Rows);
        assert_eq!(printed.lock().unwrap()[2..], ["over"]);
    }

    #[test]
    fn waits_of_any_length_are_possible() {
        let control = DeliveryControl::new("test", None);
        control.run_ended(Deadline::after(Duration::ZERO));
        assert!(!control.wait_to_retry(Lane::Rows, Duration::MAX, true));
        assert!(!control.wait_for_work(Deadline::after(Duration::MAX)));
    }
}
