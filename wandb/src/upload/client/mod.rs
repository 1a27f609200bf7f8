//! Requests to the server.

pub(crate) mod api;
pub(crate) mod put_file;
pub(crate) mod replies;
pub(crate) mod run_identity;
pub(crate) mod secret;

/// The client of a W&B server.
pub(crate) type RetryingClient = logcore_delivery::RetryingClient<api::Api>;
