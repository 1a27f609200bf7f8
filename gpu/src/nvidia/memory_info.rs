//! The memory of a device, from drivers old and new.

use std::mem::MaybeUninit;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

/// In bytes. Whether `used` holds what the driver keeps for itself depends on the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceMemory {
    pub(crate) used: u64,
    pub(crate) total: u64,
}

/// Asks for the memory of a device, by the second version of the call or, where a driver has not got it, by the first.
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

/// The wrapper has no safe name for the first version of the call, only its pointer.
#[allow(unsafe_code)]
fn first_version(device: &Device<'_>) -> Result<DeviceMemory, NvmlError> {
    let call = match &device.nvml().lib().nvmlDeviceGetMemoryInfo {
        Ok(call) => call,
        Err(error) => return Err(NvmlError::FailedToLoadSymbol(error.to_string())),
    };
    let mut info = MaybeUninit::zeroed();
    // SAFETY: the pointer comes from the library that the device's handle comes from, and both live as long as the
    // device's `Nvml` is borrowed. The call writes one struct, of the type in the pointer's own signature; three
    // integers, for which the zeroes that are there before are valid, too.
    let (code, info) = unsafe { (call(device.handle(), info.as_mut_ptr()), info.assume_init()) };
    match code {
        0 => Ok(DeviceMemory {
            used: info.used,
            total: info.total,
        }),
        code => Err(code.into()),
    }
}
