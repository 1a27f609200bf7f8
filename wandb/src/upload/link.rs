use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::Api;
use super::control::{Control, Lane};
use super::failure::Failure;

/// The first wait before a request is tried again; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// While the run ends nobody has the time for long waits.
const LONGEST_WAIT_AT_END: Duration = Duration::from_secs(2);
/// After a refusal that time alone will not change.
const AFTER_REFUSAL: Duration = Duration::from_secs(300);

/// The way to a server that may be down: every request is tried until it succeeds or there is no time left.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) api: Arc<Api>,
    pub(crate) control: Arc<Control>,
    pub(crate) lane: Lane,
}

/// The run, as the server has named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run_id: String,
}

impl Identity {
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
    pub(crate) fn next(&mut self, failure: &Failure, ending: bool) -> Duration {
        let wait = match (failure.again, failure.after) {
            (true, Some(named)) => named,
            (true, None) => jittered(self.0),
            (false, _) => AFTER_REFUSAL,
        };
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        match ending && failure.after.is_none() {
            true => wait.min(LONGEST_WAIT_AT_END),
            false => wait,
        }
    }
}

impl Link {
    /// Tries until the request succeeds; after a refusal, too, but rarely: a key may be mended, a project made.
    pub(crate) fn persist<T>(&self, request: impl FnMut(&Api) -> Result<T, Failure>) -> Result<T, GivenUp> {
        self.persist_unless(|_| false, request).map_err(|_| GivenUp)
    }

    /// The same, but a failure of the kind `hopeless` ends it; `Some` is what that was.
    pub(crate) fn persist_unless<T>(
        &self,
        hopeless: impl Fn(&Failure) -> bool,
        mut request: impl FnMut(&Api) -> Result<T, Failure>,
    ) -> Result<T, Option<Failure>> {
        let mut backoff = Backoff::default();
        loop {
            let ending = self.control.ending();
            self.control.begin(self.lane);
            let failure = match request(&self.api) {
                Ok(reply) => {
                    self.control.well(self.lane);
                    return Ok(reply);
                }
                Err(failure) if hopeless(&failure) => return Err(Some(failure)),
                Err(failure) => failure,
            };
            self.control.trouble(self.lane, &failure);
            if !ending && self.control.ending() && failure.after.is_none() {
                // The end has begun meanwhile, and deserves a try of its own.
                continue;
            }
            if ending && !failure.again {
                return Err(None);
            }
            let pause = backoff.next(&failure, ending);
            if !self
                .control
                .pause(self.lane, pause, failure.again && failure.after.is_some())
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
