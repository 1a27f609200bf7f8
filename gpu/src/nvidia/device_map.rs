//! Maps the devices of this process, as CUDA numbers them, to NVML's devices.

use std::fmt;
use std::thread;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::nvidia::cuda::{CudaDriver, CudaIdentity};
use crate::nvidia::query::{MAX_FAILURES, NoAnswer, classify};
use crate::nvidia::sampler::Unavailable;
use crate::nvidia::visible_devices::{DeviceName, VisibleDevices};

/// The key by which NVML finds a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceAddress {
    /// NVML's index.
    Index(u32),
    /// The UUID with its prefix: `GPU-…`, `MIG-…`.
    Uuid(String),
    /// The UUID or bus id that CUDA reports.
    Cuda(CudaIdentity),
}

impl DeviceAddress {
    /// Returns NVML's device of this address.
    pub(crate) fn find(&self, nvml: &'static Nvml) -> Result<Device<'static>, NvmlError> {
        match self {
            Self::Index(index) => nvml.device_by_index(*index),
            Self::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()),
            Self::Cuda(identity) => find(nvml, identity),
        }
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "NVML device {index}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::Cuda(CudaIdentity { uuid: Some(uuid), .. }) => write!(f, "GPU-{uuid}"),
            Self::Cuda(CudaIdentity { bus_id, .. }) => write!(f, "the device at {}", bus_id.as_deref().unwrap_or("?")),
        }
    }
}

/// Returns NVML's device for an identity of CUDA.
///
/// CUDA gives a slice (MIG) a UUID of its own and does not tell that the device is a slice, so both
/// prefixes are tried. An old CUDA reports the bus id only.
fn find(nvml: &'static Nvml, CudaIdentity { uuid, bus_id }: &CudaIdentity) -> Result<Device<'static>, NvmlError> {
    let by_uuid = |prefix: &str| match uuid {
        Some(uuid) => nvml.device_by_uuid(format!("{prefix}-{uuid}")),
        None => Err(NvmlError::NotFound),
    };
    let by_bus_id = |error| {
        let device = nvml.device_by_pci_bus_id(bus_id.as_deref().ok_or(error)?)?;
        // On a sliced device CUDA means one of the slices, and the bus id does not tell which.
        (!is_sliced(&device)).then_some(device).ok_or(NvmlError::NotFound)
    };
    let unless_lost = |error| match classify(&error) {
        NoAnswer::DeviceLost => Err(error),
        _ => Ok(error),
    };
    by_uuid("GPU")
        .or_else(|error| unless_lost(error).and_then(|_| by_uuid("MIG")))
        .or_else(|error| unless_lost(error).and_then(by_bus_id))
}

/// The devices in CUDA's order.
pub(crate) struct DeviceMap {
    pub(crate) addresses: Vec<DeviceAddress>,
    pub(crate) mapped_by: MappedBy,
}

/// The origin of a [`DeviceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MappedBy {
    /// CUDA, which is exact.
    Cuda,
    /// Environment variables.
    Environment,
    /// Environment variables, and CUDA's order may be another one.
    Assumed,
}

impl fmt::Display for MappedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "found from CUDA",
            Self::Environment => "found from the environment",
            Self::Assumed => "assumed from the environment (CUDA may sort different devices by speed)",
        })
    }
}

/// Returns the devices that the environment variables name.
///
/// As in CUDA, the list ends at the first name without a device, and a device that is named twice
/// empties the list.
pub(crate) fn by_environment(
    nvml: &'static Nvml,
    visible: &VisibleDevices,
    is_pci_order: bool,
) -> Result<DeviceMap, Unavailable> {
    let devices = NvmlDevices {
        nvml,
        count: device_count(nvml)?,
    };
    let (addresses, has_indices): (Vec<_>, _) = match visible {
        VisibleDevices::All => (
            (0..devices.count).filter_map(|index| devices.shown(index)).collect(),
            true,
        ),
        VisibleDevices::Listed(names) => {
            let addresses: Vec<_> = names.iter().map_while(|name| devices.look_up(name)).collect();
            let is_index = |name: &DeviceName| matches!(name, DeviceName::Index(_));
            (addresses, names.iter().any(is_index))
        }
    };
    let is_duplicate = |(at, address)| addresses[..at].contains(address);
    let is_sure = is_pci_order || !has_indices || devices.are_of_one_model();
    let has_duplicate = addresses.iter().enumerate().any(is_duplicate);
    Ok(DeviceMap {
        addresses: if has_duplicate { Vec::new() } else { addresses },
        mapped_by: if is_sure {
            MappedBy::Environment
        } else {
            MappedBy::Assumed
        },
    })
}

/// Returns the devices that CUDA names, if the program has started CUDA and NVML has all of them.
///
/// Unlike the environment, CUDA is exact: it may sort different devices by speed, and it shows a
/// slice of a device (MIG) instead of the device.
pub(crate) fn by_cuda(nvml: &'static Nvml, cuda: &CudaDriver) -> Option<DeviceMap> {
    let address = |ordinal| cuda.identity(ordinal).map(DeviceAddress::Cuda);
    let addresses: Vec<_> = (0..cuda.device_count()?).map(address).collect::<Option<_>>()?;
    let are_found = addresses.iter().all(|address| address.find(nvml).is_ok());
    (!addresses.is_empty() && are_found).then_some(DeviceMap {
        addresses,
        mapped_by: MappedBy::Cuda,
    })
}

/// Returns the number of NVML's devices. Transient failures are retried after a second, because
/// this runs on the sampler's thread.
///
/// # Errors
///
/// If NVML does not report the number. There will be no readings then.
pub(crate) fn device_count(nvml: &Nvml) -> Result<u32, Unavailable> {
    let mut failures = 0;
    loop {
        match nvml.device_count() {
            Ok(count) => return Ok(count),
            Err(error) if classify(&error) == NoAnswer::Transient && failures + 1 < MAX_FAILURES => {
                failures += 1;
                thread::sleep(Duration::from_secs(1));
            }
            Err(error) => return Err(Unavailable::failure(format!("cannot count the GPUs: {error}"))),
        }
    }
}

/// The devices that NVML lists: all of the machine or of the container.
struct NvmlDevices {
    nvml: &'static Nvml,
    count: u32,
}

impl NvmlDevices {
    /// Returns the device of a name in `CUDA_VISIBLE_DEVICES`, if exactly one has it.
    fn look_up(&self, name: &DeviceName) -> Option<DeviceAddress> {
        match name {
            DeviceName::Index(index) => Some(*index)
                .filter(|index| *index < self.count)
                .and_then(|index| self.shown(index)),
            DeviceName::Uuid(uuid) if uuid.starts_with("MIG-") => self.slice(uuid),
            DeviceName::Uuid(prefix) => {
                let has_prefix = |index: &u32| {
                    let uuid = self.nvml.device_by_index(*index).and_then(|device| device.uuid());
                    uuid.is_ok_and(|uuid| uuid.starts_with(prefix))
                };
                self.shown(only((0..self.count).filter(has_prefix))?)
            }
        }
    }

    /// Returns what CUDA shows of a device: the device, or its first slice if it is sliced.
    fn shown(&self, index: u32) -> Option<DeviceAddress> {
        let device = self.nvml.device_by_index(index).ok();
        match device.as_ref().filter(|device| is_sliced(device)) {
            None => Some(DeviceAddress::Index(index)),
            Some(device) => slices(device).next().map(DeviceAddress::Uuid),
        }
    }

    /// Returns the slice with this UUID, or the only one whose UUID begins so.
    fn slice(&self, uuid: &str) -> Option<DeviceAddress> {
        if self.nvml.device_by_uuid(uuid).is_ok() {
            return Some(DeviceAddress::Uuid(uuid.to_owned()));
        }
        let devices: Vec<_> = (0..self.count)
            .filter_map(|index| self.nvml.device_by_index(index).ok())
            .collect();
        let all = devices.iter().filter(|device| is_sliced(device)).flat_map(slices);
        only(all.filter(|full| full.starts_with(uuid))).map(DeviceAddress::Uuid)
    }

    /// Returns `true` if all devices are of one model, so that CUDA's order is the order of the
    /// bus.
    fn are_of_one_model(&self) -> bool {
        let mut models =
            (0..self.count).map(|index| self.nvml.device_by_index(index).and_then(|device| device.name()).ok());
        let first = models.next();
        models.all(|model| model.is_some() && Some(model) == first)
    }
}

/// Returns `true` if the device is in MIG mode, in which CUDA shows slices instead of the device.
fn is_sliced(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current == 1)
}

/// The UUIDs of a device's slices.
fn slices<'a>(device: &'a Device<'_>) -> impl Iterator<Item = String> + use<'a> {
    let count = device.mig_device_count().unwrap_or(0);
    (0..count).filter_map(|at| device.mig_device_by_index(at).and_then(|slice| slice.uuid()).ok())
}

/// The item of an iterator that has exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next();
    first.filter(|_| items.next().is_none())
}
