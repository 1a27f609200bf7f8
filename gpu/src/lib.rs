//! GPU and host memory readings for logcore.
//!
//! A program that names this crate once (`use logcore_gpu as _;`) has three more probes. A probe is
//! a source of readings that a logger samples; its name in the config switches it on.
//!
//! | probe | readings | sampled |
//! |---|---|---|
//! | `gpu`, [`GpuProbe`] | `memory/gpu_…`: memory of this process on its NVIDIA GPUs | at `log_memory` |
//! | `host`, [`HostProbe`] | `system/proc.memory.rssMB`: resident memory of this process | at `log_memory` |
//! | `system`, [`SystemProbe`] | `system/…`: processor, memory, disks, network, GPUs, under W&B's names | every 2 s |
//!
//! # Sources of GPU memory
//!
//! The probe `gpu` takes the first of these that has a value:
//!
//! 1. a framework's own numbers, through a [`gauge()`] or [`ask_allocator`];
//! 2. the CUDA driver's memory pool, if the program has loaded and started CUDA;
//! 3. NVML's entry of this process;
//! 4. NVML's usage of the whole device, if [`Fallback`] allows it.
//!
//! Memory on GPUs is in GB of 1e9 bytes. W&B's names keep W&B's units: MB and GB are MiB and GiB
//! there.
//!
//! # Options
//!
//! | key in the config | default | meaning |
//! |---|---|---|
//! | `probes.gpu.fallback` | `"process"` | see [`Fallback`] |
//! | `probes.gpu.library`, `probes.system.library` | the system's | path of `libnvidia-ml` |
//! | `GPU_PROBE` (environment) | `all` | libraries that may be opened: `off`, `nvml`, `pool`, `all` |
//!
//! # Without a GPU
//!
//! Without a GPU or a driver there are no readings, and there is no error. The driver's library is
//! searched when the program runs, not when it is linked. Calls into it run on the thread
//! `gpu-sampler`, because they may hang.
//!
//! # Example
//!
//! ```
//! use logcore::{Probe, Readings};
//! use logcore_gpu::{Fallback, GpuOptions, GpuProbe};
//!
//! // In the program, after each step: bytes in live tensors, and bytes held from the driver.
//! logcore_gpu::gauge(0).set(1_500_000_000, 2_000_000_000);
//!
//! // In the logger. `Strict` opens no library of the driver.
//! let mut probe = GpuProbe::new(GpuOptions::default().with_fallback(Fallback::Strict));
//! let mut readings = Readings::default();
//! probe.sample(&mut readings)?;
//! let names: Vec<_> = readings.iter().map(|(name, _)| name).collect();
//! assert_eq!(names[..2], ["memory/gpu_allocated_gb", "memory/gpu_reserved_gb"]);
//! # Ok::<(), logcore::ProbeError>(())
//! ```

mod host;
mod nvidia;
mod timer;

pub use self::host::{HostOptions, HostProbe, SystemOptions, SystemProbe};
pub use self::nvidia::{Fallback, Gauge, GpuOptions, GpuProbe, ask_allocator, gauge};

logcore::register_probe!("gpu", GpuProbe::build);
logcore::register_probe!("host", HostProbe::build);
logcore::register_probe!("system", SystemProbe::build);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_types_cross_threads() {
        fn assert_send<T: Send>() {}
        fn assert_send_and_sync<T: Send + Sync>() {}
        assert_send::<GpuProbe>();
        assert_send::<HostProbe>();
        assert_send::<SystemProbe>();
        assert_send_and_sync::<Gauge>();
        assert_send_and_sync::<GpuOptions>();
        assert_send_and_sync::<SystemOptions>();
    }
}
