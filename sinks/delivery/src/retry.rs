//! Repeats requests until they succeed.

use std::sync::Arc;
use std::time::Duration;

use crate::control::{DeliveryControl, Lane};
use crate::error::{DeliveryError, DeliveryErrorKind};

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
/// left. `A` is the API of the server, with a function for each request.
///
/// A request is repeated with growing, jittered waits: from half a second to one minute, or for as
/// long as the server asks, within one second and one hour. During the run, a permanent error is
/// retried every five minutes. After the end of the run, waits last two seconds at most, and a
/// permanent error stops the delivery.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use logcore::Deadline;
/// use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, Lane, RetryingClient};
///
/// let client = RetryingClient {
///     api: Arc::new(()), // The requests to a server.
///     control: Arc::new(DeliveryControl::new("MLflow", None)),
///     lane: Lane::Rows,
/// };
/// let mut tries = 0;
/// let reply = client.persist(|()| {
///     tries += 1;
///     match tries {
///         1 => Err(DeliveryError::from_status(503, None, "", None)),
///         _ => Ok("saved"),
///     }
/// });
/// assert_eq!((reply?, tries), ("saved", 2));
///
/// client.control.run_ended(Deadline::after(Duration::ZERO));
/// let refused = client.persist(|()| Err::<(), _>(DeliveryError::from_status(401, None, "", None)));
/// assert_eq!(refused.unwrap_err().kind(), DeliveryErrorKind::GaveUp);
/// # Ok::<(), DeliveryError>(())
/// ```
#[derive(Debug)]
pub struct RetryingClient<A> {
    /// The requests.
    pub api: Arc<A>,
    /// The deadlines, and the receiver of errors.
    pub control: Arc<DeliveryControl>,
    /// The lane of the requests.
    pub lane: Lane,
}

impl<A> Clone for RetryingClient<A> {
    fn clone(&self) -> Self {
        Self {
            api: Arc::clone(&self.api),
            control: Arc::clone(&self.control),
            lane: self.lane,
        }
    }
}

impl<A> RetryingClient<A> {
    /// Repeats a request until it succeeds. Permanent errors are retried, too, but rarely: a person
    /// may replace the key or create the project.
    ///
    /// # Errors
    ///
    /// [`DeliveryErrorKind::GaveUp`] if no time is left, or the run has ended and the error is
    /// permanent. The cause has been reported to the control.
    pub fn persist<T>(&self, request: impl FnMut(&A) -> Result<T, DeliveryError>) -> Result<T, DeliveryError> {
        self.persist_unless(|_| false, request)
    }

    /// As [`persist`](Self::persist), but returns an error for which `is_final` is `true` at once
    /// and unreported.
    ///
    /// # Errors
    ///
    /// Those of [`persist`](Self::persist), and the errors for which `is_final` is `true`.
    pub fn persist_unless<T>(
        &self,
        is_final: impl Fn(&DeliveryError) -> bool,
        mut request: impl FnMut(&A) -> Result<T, DeliveryError>,
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

/// The waits between the tries of a request, each longer than the last.
///
/// ```
/// use std::time::Duration;
///
/// use logcore_delivery::{Backoff, DeliveryError};
///
/// let busy = DeliveryError::from_status(503, None, "", None);
/// let mut backoff = Backoff::default();
/// let waits: Vec<_> = (0..20).map(|_| backoff.next(&busy, false)).collect();
/// assert!((500..625).contains(&waits[0].as_millis()));
/// assert!((1000..1250).contains(&waits[1].as_millis()));
/// assert!((60..75).contains(&waits[19].as_secs()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// Returns the wait after this error: at most one hour. `is_ending` is `true` if the run has
    /// ended.
    pub fn next(&mut self, error: &DeliveryError, is_ending: bool) -> Duration {
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

/// Lengthens a wait by a random part, so that the clients of one server do not retry together.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0_u8];
    // Without a random number the waits are merely equal.
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(1.0 + f64::from(byte[0]) / 1024.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::parse_retry_after;

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
