//! Reads the memory of a device, from old drivers, too.
// One unsafe call: the wrapper has no safe name for the first version of a function of NVML.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

/// The memory of a device in bytes. Some drivers count in `used` what they keep for themselves,
/// some do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceMemory {
    pub(crate) used: u64,
    pub(crate) total: u64,
}

/// Returns the memory of a device. Uses the second version of the call or, if the driver lacks it,
/// the first.
pub(crate) fn memory_info(device: &Device<'_>) -> Result<DeviceMemory, NvmlError> {
    match device.memory_info() {
        Ok(info) => Ok(DeviceMemory {
            used: info.used,
            total: info.total,
        }),
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound | NvmlError::UnexpectedVariant(_)) => {
            first_version(device)
        }
        Err(error) => Err(error),
    }
}

/// Calls the first version of the function, which drivers before 510 have alone.
fn first_version(device: &Device<'_>) -> Result<DeviceMemory, NvmlError> {
    let call = match &device.nvml().lib().nvmlDeviceGetMemoryInfo {
        Ok(call) => call,
        Err(error) => return Err(NvmlError::FailedToLoadSymbol(error.to_string())),
    };
    let mut info = MaybeUninit::zeroed();
    // SAFETY: the function pointer and the device's handle come from the same library. Both are
    // valid as long as the device's `Nvml`, which is borrowed here. `info` is one struct of the
    // type in the pointer's own signature, so the call writes inside of it.
    let code = unsafe { call(device.handle(), info.as_mut_ptr()) };
    // SAFETY: the struct consists of three integers, for which zeroes are valid, so it is
    // initialized even if the call has written nothing.
    let info = unsafe { info.assume_init() };
    match code {
        0 => Ok(DeviceMemory {
            used: info.used,
            total: info.total,
        }),
        code => Err(code.into()),
    }
}
