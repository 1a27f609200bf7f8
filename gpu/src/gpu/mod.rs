//! The memory of NVIDIA GPUs.

mod cuda;
mod device;
pub(crate) mod driver;
#[cfg(test)]
pub(crate) mod fake;
mod gauge;
mod ladder;
pub(crate) mod memory_info;
pub(crate) mod nvml;
mod pool;
mod probe;
pub(crate) mod question;
pub(crate) mod resolve;
pub(crate) mod sampler;
pub(crate) mod surroundings;
#[cfg(test)]
pub(crate) mod tests;
mod visible;

pub use self::gauge::{Gauge, ask_allocator, gauge};
pub use self::probe::{Fallback, GpuOptions, GpuProbe};
