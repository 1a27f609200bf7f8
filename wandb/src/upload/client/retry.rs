//! Repeats requests until they succeed.
//!
//! A request is repeated with growing, jittered waits. After the end of the run, waits are short
//! and permanent errors stop the delivery. During the run, permanent errors are retried every five
//! minutes. A time that the server names is a lower bound, within one second and one hour.

use std::sync::Arc;
use std::time::Duration;

use logcore_delivery::{DeliveryError, DeliveryErrorKind};
use serde_json::{Value, json};

use super::api::Api;
use crate::upload::state::control::{DeliveryControl, Lane};

/// The first wait before a request is repeated. Each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The first wait if the server limits the rate of requests.
const FIRST_WAIT_IF_LIMITED: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait after the end of the run, when little time is left.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(2);
/// The wait after a permanent error, which only a person can remove.
const WAIT_AFTER_REFUSAL: Duration = Duration::from_secs(300);

/// A client of a server that may be down. Every request is repeated until it succeeds or no time is
/// left.
#[derive(Clone)]
pub(crate) struct RetryingClient {
    /// The requests.
    pub(crate) api: Arc<Api>,
    /// The deadlines, and the receiver of errors.
    pub(crate) control: Arc<DeliveryControl>,
    /// The lane of the requests.
    pub(crate) lane: Lane,
}

/// The names under which the server has the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunIdentity {
    /// User or team that owns the project.
    pub(crate) entity: String,
    /// Name of the project.
    pub(crate) project: String,
    /// Id of the run.
    pub(crate) run_id: String,
}

impl RunIdentity {
    /// Returns the names as variables of a GraphQL request.
    pub(crate) fn variables(&self) -> Value {
        json!({"entityName": self.entity, "projectName": self.project, "runName": self.run_id})
    }
}

/// The waits between the tries of a request, each longer than the last.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// Returns the wait after this error. `is_ending` is `true` if the run has ended.
    pub(crate) fn next(&mut self, error: &DeliveryError, is_ending: bool) -> Duration {
        if error.kind() == DeliveryErrorKind::RateLimited {
            self.0 = self.0.max(FIRST_WAIT_IF_LIMITED);
        }
        let wait = match (error.is_temporary(), error.retry_after()) {
            // The backoff is a lower bound: a server that repeats the same short time has no
            // capacity.
            (true, Some(named)) => named.max(jittered(self.0)),
            (true, None) => jittered(self.0),
            (false, _) => WAIT_AFTER_REFUSAL,
        };
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        match is_ending && error.retry_after().is_none() {
            true => wait.min(LONGEST_WAIT_AT_END),
            false => wait,
        }
    }
}

impl RetryingClient {
    /// Repeats a request until it succeeds. Permanent errors are retried, too, but rarely: a person
    /// may replace the key or create the project.
    ///
    /// # Errors
    ///
    /// [`DeliveryErrorKind::GaveUp`] if no time is left. The cause has been reported to the control.
    pub(crate) fn persist<T>(&self, request: impl FnMut(&Api) -> Result<T, DeliveryError>) -> Result<T, DeliveryError> {
        self.persist_unless(|_| false, request)
    }

    /// As [`persist`](Self::persist), but returns an error for which `is_final` is `true` at once
    /// and unreported.
    pub(crate) fn persist_unless<T>(
        &self,
        is_final: impl Fn(&DeliveryError) -> bool,
        mut request: impl FnMut(&Api) -> Result<T, DeliveryError>,
    ) -> Result<T, DeliveryError> {
        let mut backoff = Backoff::default();
        loop {
            let is_ending = self.control.is_ending();
            self.control.request_started(self.lane);
            let error = match request(&self.api) {
                Ok(reply) => {
                    self.control.request_succeeded(self.lane);
                    return Ok(reply);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            self.control.request_failed(self.lane, &error);
            if !is_ending && self.control.is_ending() && error.retry_after().is_none() {
                // The run ended during the request, and its end allows one immediate try.
                continue;
            }
            if is_ending && !error.is_temporary() {
                return Err(DeliveryError::gave_up());
            }
            let wait = backoff.next(&error, is_ending);
            let named_by_server = error.is_temporary() && error.retry_after().is_some();
            if !self.control.wait_to_retry(self.lane, wait, named_by_server) {
                return Err(DeliveryError::gave_up());
            }
        }
    }
}

/// Lengthens a wait by a random part, so that the clients of one server do not retry together.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0_u8];
    // Without a random number the waits are merely equal.
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(1.0 + f64::from(byte[0]) / 1024.0)
}

#[cfg(test)]
mod tests {
    use logcore_delivery::parse_retry_after;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Replies name any retry time.
        #[test]
        fn waits_are_bounded_for_any_retry_after_header(
            header in prop_oneof![
                Just("0".to_owned()), Just("-5".to_owned()), Just("1e300".to_owned()), Just("NaN".to_owned()),
                Just("0.0001".to_owned()), Just("99999999999999999999".to_owned()), Just(String::new()),
                Just("Wed, 21 Oct 2015 07:28:00 GMT".to_owned()), Just("Fri, 31 Dec 9999 23:59:59 GMT".to_owned()),
                any::<f64>().prop_map(|seconds| seconds.to_string()), "\\PC{0,20}",
            ],
            status in prop_oneof![Just(429_u16), Just(503), Just(500)],
            is_ending in any::<bool>(),
        ) {
            let error = DeliveryError::from_status(status, None, "", parse_retry_after(&header));
            let mut backoff = Backoff::default();
            let waits: Vec<_> = (0..12).map(|_| backoff.next(&error, is_ending)).collect();
            let shortest = if status == 429 { Duration::from_secs(1) } else { FIRST_WAIT };
            prop_assert!(waits.iter().all(|wait| (shortest..=Duration::from_secs(3600)).contains(wait)), "{waits:?}");
            prop_assert!(waits.iter().sum::<Duration>() > Duration::from_secs(15), "{waits:?}");
        }
    }
}
