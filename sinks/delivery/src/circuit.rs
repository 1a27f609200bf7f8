//! The circuit that is open while a server refuses.

use std::time::Duration;

use logcore::Deadline;

use crate::error::DeliveryError;
use crate::retry::Backoff;

/// A circuit between a delivery and a server, or one item of the server, that fails. After an error
/// the circuit is open: nothing is sent until a wait is over, each wait longer than the last. Then
/// one try decides whether the circuit is closed or open for longer.
///
/// The end of the run allows one immediate try, unless the server has named another time.
///
/// ```
/// use std::time::Duration;
///
/// use logcore_delivery::{Circuit, DeliveryError};
///
/// let mut circuit = Circuit::default();
/// assert_eq!(circuit.time_to_retry(false), Duration::ZERO);
/// circuit.open(&DeliveryError::from_status(503, None, "", None), false);
/// assert!(circuit.time_to_retry(false) > Duration::ZERO);
/// assert_eq!(circuit.time_to_retry(true), Duration::ZERO);
///
/// circuit.open(&DeliveryError::from_status(401, None, "", None), false);
/// assert!(circuit.time_to_retry(false) > Duration::from_secs(290));
/// circuit.close();
/// assert_eq!(circuit.time_to_retry(false), Duration::ZERO);
/// ```
#[derive(Debug, Default)]
pub struct Circuit {
    open: Option<OpenCircuit>,
    backoff: Backoff,
}

/// The state after an error.
#[derive(Debug)]
struct OpenCircuit {
    until: Deadline,
    /// The end of the run closes the circuit.
    ends_with_run: bool,
}

impl Circuit {
    /// Opens the circuit after a failed request. `was_ending` is `true` if the run had ended before
    /// the request.
    pub fn open(&mut self, error: &DeliveryError, was_ending: bool) {
        self.open = Some(OpenCircuit {
            until: Deadline::after(self.backoff.next(error, was_ending)),
            ends_with_run: !was_ending && error.retry_after().is_none(),
        });
    }

    /// Closes the circuit after a request that succeeded. The next wait is a short one again.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Makes the next wait a short one, because a part of a failed request succeeded.
    pub fn forgive(&mut self) {
        self.backoff = Backoff::default();
    }

    /// Allows a try now. If the try fails, the next wait is as long as it would have been.
    pub fn allow_try(&mut self) {
        self.open = None;
    }

    /// Returns the time until the next try: zero if a request may be sent now.
    #[must_use]
    pub fn time_to_retry(&self, is_ending: bool) -> Duration {
        let open = self.open.as_ref();
        let open = open.filter(|open| !(is_ending && open.ends_with_run));
        open.map_or(Duration::ZERO, |open| open.until.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_run_allows_one_try_and_no_more() {
        let busy = DeliveryError::from_status(503, None, "", None);
        let mut circuit = Circuit::default();
        circuit.open(&busy, false);
        assert!(circuit.time_to_retry(true).is_zero());
        circuit.open(&busy, true);
        assert!(!circuit.time_to_retry(true).is_zero());
    }

    #[test]
    fn a_time_that_the_server_names_holds_at_the_end() {
        let limited = DeliveryError::from_status(429, None, "", Some(Duration::from_secs(100)));
        let mut circuit = Circuit::default();
        circuit.open(&limited, false);
        assert!(circuit.time_to_retry(true) > Duration::from_secs(90));
    }

    #[test]
    fn waits_grow_until_a_request_succeeds() {
        let busy = DeliveryError::from_status(503, None, "", None);
        let mut circuit = Circuit::default();
        for _ in 0..4 {
            circuit.open(&busy, false);
        }
        assert!(circuit.time_to_retry(false) > Duration::from_secs(3));
        circuit.close();
        circuit.open(&busy, false);
        assert!(circuit.time_to_retry(false) < Duration::from_secs(1));
    }
}
