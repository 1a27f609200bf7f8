use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::Api;
use super::control::{Control, Lane};
use super::failure::{Failure, Trouble};

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

impl Link {
    /// Tries until the request succeeds; after a refusal, too, but rarely: a key may be mended, a project made.
    pub(crate) fn persist<T>(&self, request: impl FnMut(&Api) -> Result<T, Failure>) -> Result<T, GivenUp> {
        self.attempt(request, Some(AFTER_REFUSAL))
    }

    /// Tries until the request succeeds or is refused.
    pub(crate) fn until_refused<T>(&self, request: impl FnMut(&Api) -> Result<T, Failure>) -> Result<T, GivenUp> {
        self.attempt(request, None)
    }

    fn attempt<T>(
        &self,
        mut request: impl FnMut(&Api) -> Result<T, Failure>,
        after_refusal: Option<Duration>,
    ) -> Result<T, GivenUp> {
        let mut wait = FIRST_WAIT;
        loop {
            let ending = self.control.ending();
            let failure = match request(&self.api) {
                Ok(reply) => {
                    self.control.well(self.lane);
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            self.control.trouble(self.lane, &failure);
            if !ending && self.control.ending() && failure.after.is_none() {
                // The end has begun meanwhile, and deserves a try of its own.
                continue;
            }
            let pause = match (failure.again, failure.after) {
                (true, Some(named)) => named,
                (true, None) if ending => jittered(wait).min(LONGEST_WAIT_AT_END),
                (true, None) => jittered(wait),
                (false, _) => after_refusal.filter(|_| !ending).ok_or(GivenUp)?,
            };
            if !self.control.pause(pause, failure.again && failure.after.is_some()) {
                return Err(GivenUp);
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Asks GraphQL until it answers or refuses; a reply without this part is no answer.
    pub(crate) fn ask(&self, operation: &str, query: &str, variables: &Value, part: &str) -> Result<Value, GivenUp> {
        self.until_refused(|api| {
            let data = api.graphql(operation, query, variables.clone())?;
            match data.pointer(part) {
                Some(Value::Null) | None => Err(Failure::again(
                    Trouble::NotUnderstood,
                    format!("the reply to {operation} has no {part}"),
                )),
                Some(found) => Ok(found.clone()),
            }
        })
    }
}

/// A wait that many clients of one server do not share.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0_u8];
    // Without a random number the waits are merely equal.
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(1.0 + f64::from(byte[0]) / 1024.0)
}
