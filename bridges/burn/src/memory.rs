//! GPU memory by burn's own report.

use burn_core::tensor::Device;

/// Has the logger ask burn for the memory of a GPU: `memory/gpu_allocated_gb` is what live tensors
/// use, `memory/gpu_reserved_gb` what burn has taken from the driver (GB = 1e9 bytes).
///
/// burn manages pages of its own, past the driver's pool, so that only burn knows its live tensors.
/// It answers for the whole device, from any thread. `ordinal` is CUDA's number of the device, as
/// in `Device::cuda(ordinal)`. A device without a report, such as a processor, adds nothing.
///
/// [`attach`](crate::attach) logs the memory once a second while it trains. burn submits its queued
/// work before it answers, and waits for no GPU.
///
/// ```
/// # use burn::tensor::Device;
/// logcore_burn::report_memory(&Device::default(), 0);
/// ```
pub fn report_memory(device: &Device, ordinal: usize) {
    let device = device.clone();
    facade::gpu::ask_allocator(ordinal, "burn", move || {
        let usage = device.memory_pool_usage()?;
        Some((usage.bytes_in_use, usage.bytes_reserved))
    });
}
