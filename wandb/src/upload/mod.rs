//! Delivers a log to the server. The log is the spool, and each of its records reaches the server
//! exactly once.
//!
//! The worker reads the log, the assembler in `stream` turns records into lines, and the client
//! sends them. `state` has the progress of the delivery.

pub(crate) mod client;
#[cfg(all(test, unix))]
mod foreign_tests;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod state;
mod stream;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use self::client::RetryingClient;
pub(crate) use self::client::api::Api;
pub(crate) use self::client::put_file::digest;
pub(crate) use self::state::progress_file::{UploadProgress, synced_by_official};
pub(crate) use self::worker::{DeliveryOutcome, DeliveryPlan, DeliveryReport, HEARTBEAT, deliver};

/// The name of the server in notices.
pub(crate) const NAME: &str = "W&B";
