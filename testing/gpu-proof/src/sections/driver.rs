//! NVML beside the logger.

use std::process;

use anyhow::{Context as _, Result};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::cuda;

/// One process in the driver's list of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListedProcess {
    pub(super) device: u32,
    pub(super) pid: u32,
    /// `None` if the driver does not know.
    pub(super) bytes: Option<u64>,
}

impl ListedProcess {
    pub(super) fn is_ours(&self) -> bool {
        self.pid == process::id()
    }
}

/// Opens NVML; an error is the reason for rows that cannot be tried.
pub(super) fn open() -> Result<Nvml, String> {
    Nvml::init().map_err(|error| format!("no NVML: {error}"))
}

/// Returns the processes of all devices.
pub(super) fn processes(nvml: &Nvml) -> Result<Vec<ListedProcess>, NvmlError> {
    let mut all = Vec::new();
    for device in 0..nvml.device_count()? {
        all.extend(processes_of(&nvml.device_by_index(device)?, device)?);
    }
    all.sort_unstable();
    Ok(all)
}

/// Returns the processes of one device or slice.
pub(super) fn processes_of(device: &Device<'_>, index: u32) -> Result<Vec<ListedProcess>, NvmlError> {
    let listed = device.running_compute_processes()?;
    let process = |info: nvml_wrapper::struct_wrappers::device::ProcessInfo| ListedProcess {
        device: index,
        pid: info.pid,
        bytes: match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
    };
    Ok(listed.into_iter().map(process).collect())
}

/// Returns NVML's device of CUDA's device, with the UUID that found it. CUDA does not tell whether
/// its device is a slice.
pub(super) fn device_of(nvml: &Nvml, ordinal: usize) -> Result<(Device<'_>, String)> {
    let uuid = cuda::uuid(ordinal)?;
    let by = |prefix: &str| {
        let uuid = format!("{prefix}-{uuid}");
        nvml.device_by_uuid(uuid.as_str()).map(|device| (device, uuid))
    };
    by("GPU")
        .or_else(|_| by("MIG"))
        .with_context(|| format!("NVML knows neither GPU-{uuid} nor MIG-{uuid}"))
}
