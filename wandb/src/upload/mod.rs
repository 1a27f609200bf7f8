//! From the log to the server: the log is the spool, and what is in it reaches the server exactly once.

mod alerts;
mod api;
mod artifact;
mod assembler;
mod content;
mod control;
mod definitions;
mod failure;
#[cfg(all(test, unix))]
mod foreign_tests;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod lines;
mod link;
mod metadata;
mod receipts;
pub(crate) mod resume;
mod secret;
mod standing;
#[cfg(test)]
mod tests;
mod transfer;
mod uncovered;
mod uploader;
mod yaml;

pub(crate) use self::api::Api;
pub(crate) use self::content::digest;
pub(crate) use self::control::{Control, Lane};
pub(crate) use self::failure::{Failure, Trouble};
pub(crate) use self::link::Link;
pub(crate) use self::standing::{Demand, Standing, synced_by_other};
pub(crate) use self::uploader::{HEARTBEAT, Outcome, Plan, deliver};
