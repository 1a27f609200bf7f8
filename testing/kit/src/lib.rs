//! Helpers that the tests of several crates share. Nothing here depends on a crate of the logging
//! system, so each of them can use it in its tests.

#[cfg(feature = "http-server")]
pub mod http_server;
#[cfg(feature = "mlflow-server")]
pub mod mlflow_server;
mod own_process;
#[cfg(feature = "terminal")]
pub mod terminal;
#[cfg(feature = "wandb-server")]
pub mod wandb_server;

pub use self::own_process::runs_in_own_process;
