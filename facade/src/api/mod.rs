//! The calls of a program: setting loggers up, and logging with them.

pub(crate) mod bars;
pub mod deferred;
pub(crate) mod goals;
#[cfg(feature = "gpu")]
pub mod gpu;
pub(crate) mod logger;
pub(crate) mod manager;
pub(crate) mod media;
pub(crate) mod metrics;
#[cfg(feature = "mlflow")]
pub mod mlflow;
pub(crate) mod recovery;
#[cfg(feature = "tracing")]
pub mod tracing;
#[cfg(feature = "wandb")]
pub mod wandb;
