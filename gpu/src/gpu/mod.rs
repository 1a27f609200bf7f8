//! The memory of NVIDIA GPUs.

mod cuda;
mod device;
mod driver;
#[cfg(test)]
mod fake;
mod gauge;
mod ladder;
mod memory_info;
mod nvml;
mod pool;
mod probe;
mod sampler;
mod surroundings;
#[cfg(test)]
mod tests;
mod visible;

pub use self::gauge::{Gauge, ask_allocator, gauge};
pub use self::probe::{Fallback, GpuOptions, GpuProbe};
