//! The machine that a run is on, and the memory of this process.

mod gpu_set;
mod gpus;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod memory_limit;
mod probe;
mod process;

pub use self::probe::{SystemOptions, SystemProbe};
pub use self::process::{HostOptions, HostProbe};
