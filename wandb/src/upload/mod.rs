//! From the log to the server: the log is the spool, and what is in it reaches the server exactly once.

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

pub(crate) use self::client::api::Api;
pub(crate) use self::client::error::{UploadError, UploadErrorKind};
pub(crate) use self::client::put_file::digest;
pub(crate) use self::client::retry::RetryingClient;
pub(crate) use self::state::control::{DeliveryControl, Lane};
pub(crate) use self::state::progress_file::{ResumeCondition, UploadProgress, synced_by_other};
pub(crate) use self::worker::{DeliveryOutcome, DeliveryPlan, HEARTBEAT, deliver};
