//! The calls of a program: setting loggers up, and logging with them.

#[cfg(feature = "gpu")]
pub mod gpu;
pub(crate) mod logger;
pub(crate) mod manager;
pub(crate) mod metrics;
#[cfg(feature = "wandb")]
pub mod wandb;
