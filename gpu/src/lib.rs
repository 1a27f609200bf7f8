//! GPU and host memory readings for logcore.
//!
//! A program that names this crate once (`use logcore_gpu as _;`) has three probes more:
//!
//! - `gpu`: the memory of the run's NVIDIA GPUs, see [`GpuProbe`]; its options are [`GpuOptions`]. A framework tells its own
//!   numbers by a [`gauge()`] or [`ask_allocator`].
//! - `host`: the memory of this process, see [`HostProbe`]; it has no options.
//! - `system`: the machine, from time to time, under W&B's names, see [`SystemProbe`]; its options are [`SystemOptions`].
//!
//! Without a GPU or a driver there are no readings, and nothing else happens: the driver's library is looked for when
//! the program runs, not when it is linked.

mod host;
mod nvidia;
mod timer;

pub use self::host::{HostOptions, HostProbe, SystemOptions, SystemProbe};
pub use self::nvidia::{Fallback, Gauge, GpuOptions, GpuProbe, ask_allocator, gauge};

logcore::register_probe!("gpu", GpuProbe::build);
logcore::register_probe!("host", HostProbe::build);
logcore::register_probe!("system", SystemProbe::build);
