//! Requests to the server: the API, its HTTP client, errors, and the retries.

pub(crate) mod api;
pub(crate) mod put_file;
pub(crate) mod replies;
pub(crate) mod retry;
pub(crate) mod secret;
