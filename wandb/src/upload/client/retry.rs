use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::upload::client::api::Api;
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::state::control::{DeliveryControl, Lane};

/// The first wait before a request is tried again; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The same where a server has asked for patience.
const FIRST_WAIT_IF_ASKED: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// While the run ends nobody has the time for long waits.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(2);
/// After a refusal that time alone will not change.
const AFTER_REFUSAL: Duration = Duration::from_secs(300);

/// The way to a server that may be down: every request is tried until it succeeds or there is no time left.
#[derive(Clone)]
pub(crate) struct RetryingClient {
    pub(crate) api: Arc<Api>,
    pub(crate) control: Arc<DeliveryControl>,
    pub(crate) lane: Lane,
}

/// The run, as the server has named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunIdentity {
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run_id: String,
}

impl RunIdentity {
    pub(crate) fn variables(&self) -> Value {
        json!({"entityName": self.entity, "projectName": self.project, "runName": self.run_id})
    }
}

/// There is no time left, or the server refuses for good; what was to be sent stays on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenUp;

/// Waits between tries, each longer than the one before.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// How long to wait after this failure.
    pub(crate) fn next(&mut self, error: &UploadError, ending: bool) -> Duration {
        if error.trouble == UploadErrorKind::RateLimited {
            self.0 = self.0.max(FIRST_WAIT_IF_ASKED);
        }
        let wait = match (error.again, error.after) {
            // It grows, too: a server that names the same short time again and again has no room.
            (true, Some(named)) => named.max(jittered(self.0)),
            (true, None) => jittered(self.0),
            (false, _) => AFTER_REFUSAL,
        };
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        match ending && error.after.is_none() {
            true => wait.min(LONGEST_WAIT_AT_END),
            false => wait,
        }
    }
}

impl RetryingClient {
    /// Tries until the request succeeds; after a refusal, too, but rarely: a key may be mended, a project made.
    pub(crate) fn persist<T>(&self, request: impl FnMut(&Api) -> Result<T, UploadError>) -> Result<T, GivenUp> {
        self.persist_unless(|_| false, request).map_err(|_| GivenUp)
    }

    /// The same, but a failure of the kind `hopeless` ends it; `Some` is what that was.
    pub(crate) fn persist_unless<T>(
        &self,
        hopeless: impl Fn(&UploadError) -> bool,
        mut request: impl FnMut(&Api) -> Result<T, UploadError>,
    ) -> Result<T, Option<UploadError>> {
        let mut backoff = Backoff::default();
        loop {
            let ending = self.control.ending();
            self.control.begin(self.lane);
            let error = match request(&self.api) {
                Ok(reply) => {
                    self.control.well(self.lane);
                    return Ok(reply);
                }
                Err(error) if hopeless(&error) => return Err(Some(error)),
                Err(error) => error,
            };
            self.control.trouble(self.lane, &error);
            if !ending && self.control.ending() && error.after.is_none() {
                // The end has begun meanwhile, and deserves a try of its own.
                continue;
            }
            if ending && !error.again {
                return Err(None);
            }
            let pause = backoff.next(&error, ending);
            if !self
                .control
                .pause(self.lane, pause, error.again && error.after.is_some())
            {
                return Err(None);
            }
        }
    }
}

/// A wait that many clients of one server do not share.
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
    use crate::upload::client::api::retry_after;

    proptest! {
        /// Whatever a server says of when it wants to be asked again.
        #[test]
        fn no_server_makes_us_hurry_or_wait_for_ever(
            said in prop_oneof![
                Just("0".to_owned()), Just("-5".to_owned()), Just("1e300".to_owned()), Just("NaN".to_owned()),
                Just("0.0001".to_owned()), Just("99999999999999999999".to_owned()), Just(String::new()),
                Just("Wed, 21 Oct 2015 07:28:00 GMT".to_owned()), Just("Fri, 31 Dec 9999 23:59:59 GMT".to_owned()),
                any::<f64>().prop_map(|seconds| seconds.to_string()), "\\PC{0,20}",
            ],
            status in prop_oneof![Just(429_u16), Just(503), Just(500)],
            ending in any::<bool>(),
        ) {
            let error = UploadError::of_status(status, "", retry_after(&said), false);
            let mut backoff = Backoff::default();
            let waits: Vec<_> = (0..12).map(|_| backoff.next(&error, ending)).collect();
            let shortest = if status == 429 { Duration::from_secs(1) } else { FIRST_WAIT };
            prop_assert!(waits.iter().all(|wait| (shortest..=Duration::from_secs(3600)).contains(wait)), "{waits:?}");
            prop_assert!(waits.iter().sum::<Duration>() > Duration::from_secs(15), "{waits:?}");
        }
    }
}
