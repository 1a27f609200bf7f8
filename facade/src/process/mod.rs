//! All loggers of the process: the registry, the routes of the global logger, and the ends of the
//! process.

pub(crate) mod config_watch;
pub(crate) mod global_log;
pub(crate) mod logger_config;
pub(crate) mod panic_hook;
mod plugins;
pub(crate) mod registry;
pub(crate) mod routing_table;
pub(crate) mod signals;
pub(crate) mod state;
