//! The memory of NVIDIA GPUs.

mod cuda;
mod cuda_pool;
mod device;
pub(crate) mod device_map;
pub(crate) mod driver_client;
pub(crate) mod env;
#[cfg(test)]
pub(crate) mod fake;
mod framework;
pub(crate) mod memory_info;
mod options;
mod probe;
pub(crate) mod query;
pub(crate) mod sampler;
pub(crate) mod session;
mod source_select;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod visible_devices;

pub use self::framework::{Gauge, ask_allocator, gauge};
pub use self::options::{Fallback, GpuOptions};
pub use self::probe::GpuProbe;
