//! All loggers of the process: the registry, the routes of the global logger, and the ends of the
//! process.

pub(crate) mod config_watch;
pub(crate) mod entered;
pub(crate) mod global_log;
pub(crate) mod logger_config;
pub(crate) mod panic_hook;
mod plugins;
pub(crate) mod recovery;
pub(crate) mod registry;
mod routing_table;
mod rust_log;
pub(crate) mod signals;
#[cfg(feature = "tracing")]
pub(crate) mod span_layer;
pub(crate) mod state;
pub(crate) mod stop_signal;
