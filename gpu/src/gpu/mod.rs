//! The memory of NVIDIA GPUs.

#[cfg(test)]
mod fake;
mod memory_info;
mod nvml;
mod probe;
mod sampler;
#[cfg(test)]
mod tests;
mod visible;

pub use self::probe::{Fallback, GpuOptions, GpuProbe};
