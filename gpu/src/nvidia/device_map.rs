//! Which of NVML's devices are those of this process.

use std::fmt;
use std::thread;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::nvidia::cuda::{CudaDriver, CudaIdentity};
use crate::nvidia::query::{MAX_FAILURES, NoAnswer, classify};
use crate::nvidia::sampler::Unavailable;
use crate::nvidia::visible_devices::{DeviceName, VisibleDevices};

/// How a device is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceAddress {
    Index(u32),
    /// With its kind before it: `GPU-…`, `MIG-…`.
    Uuid(String),
    Cuda(CudaIdentity),
}

impl DeviceAddress {
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
            Self::Index(index) => write!(f, "NVML's device {index}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::Cuda(CudaIdentity { uuid: Some(uuid), .. }) => write!(f, "GPU-{uuid}"),
            Self::Cuda(CudaIdentity { bus_id, .. }) => write!(f, "the device at {}", bus_id.as_deref().unwrap_or("?")),
        }
    }
}

/// A device by what CUDA says of it. CUDA gives a slice of a device an identity of its own, and does not say that it is one; and an old
/// one gives none, but where the device lies on the bus.
fn find(nvml: &'static Nvml, CudaIdentity { uuid, bus_id }: &CudaIdentity) -> Result<Device<'static>, NvmlError> {
    let by_uuid = |kind: &str| match uuid {
        Some(uuid) => nvml.device_by_uuid(format!("{kind}-{uuid}")),
        None => Err(NvmlError::NotFound),
    };
    let on_bus = |error| {
        let device = nvml.device_by_pci_bus_id(bus_id.as_deref().ok_or(error)?)?;
        // Of one that is sliced, only a slice could be meant.
        (!is_sliced(&device)).then_some(device).ok_or(NvmlError::NotFound)
    };
    let unless_lost = |error| match classify(&error) {
        NoAnswer::DeviceLost => Err(error),
        _ => Ok(error),
    };
    by_uuid("GPU")
        .or_else(|error| unless_lost(error).and_then(|_| by_uuid("MIG")))
        .or_else(|error| unless_lost(error).and_then(on_bus))
}

/// The devices, in CUDA's order, and how they were found.
pub(crate) struct DeviceMap {
    pub(crate) addresses: Vec<DeviceAddress>,
    pub(crate) by: MappedBy,
}

/// Who says which devices they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MappedBy {
    Cuda,
    Environment,
    /// The environment, and CUDA may order them in another way.
    Assumed,
}

impl fmt::Display for MappedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "found from CUDA",
            Self::Environment => "found from the environment",
            Self::Assumed => "presumed from the environment, for CUDA may order unlike devices by speed",
        })
    }
}

/// What the environment says. As in CUDA the list ends at the first name that no device has, and a device named twice leaves
/// none.
pub(crate) fn by_environment(
    nvml: &'static Nvml,
    visible: &VisibleDevices,
    is_by_bus: bool,
) -> Result<DeviceMap, Unavailable> {
    let machine = NvmlDevices {
        nvml,
        count: device_count(nvml)?,
    };
    let (addresses, has_indices): (Vec<_>, _) = match visible {
        VisibleDevices::All => (
            (0..machine.count).filter_map(|index| machine.shown(index)).collect(),
            true,
        ),
        VisibleDevices::Listed(names) => {
            let addresses: Vec<_> = names.iter().map_while(|name| machine.look_up(name)).collect();
            let is_index = |name: &DeviceName| matches!(name, DeviceName::Index(_));
            (addresses, names.iter().any(is_index))
        }
    };
    let is_twice = |(at, address)| addresses[..at].contains(address);
    let is_sure = is_by_bus || !has_indices || machine.is_of_one_kind();
    Ok(DeviceMap {
        by: if is_sure {
            MappedBy::Environment
        } else {
            MappedBy::Assumed
        },
        addresses: match addresses.iter().enumerate().any(is_twice) {
            true => Vec::new(),
            false => addresses,
        },
    })
}

/// What CUDA says, once the program has started it, if NVML knows all of it. The environment only lets one presume: CUDA may order
/// unlike devices by their speed, and shows a slice of a device (MIG) in its place.
pub(crate) fn by_cuda(nvml: &'static Nvml, cuda: &CudaDriver) -> Option<DeviceMap> {
    let address = |ordinal| cuda.identity(ordinal).map(DeviceAddress::Cuda);
    let addresses: Vec<_> = (0..cuda.device_count()?).map(address).collect::<Option<_>>()?;
    let are_known = addresses.iter().all(|address| address.find(nvml).is_ok());
    (!addresses.is_empty() && are_known).then_some(DeviceMap {
        addresses,
        by: MappedBy::Cuda,
    })
}

/// How many devices there are. Asked on a thread that has time, so what passes is waited for.
///
/// # Errors
///
/// If the driver does not say it; then it says nothing else.
pub(crate) fn device_count(nvml: &Nvml) -> Result<u32, Unavailable> {
    let mut failures = 0;
    loop {
        match nvml.device_count() {
            Ok(count) => return Ok(count),
            Err(error) if classify(&error) == NoAnswer::Transient && failures + 1 < MAX_FAILURES => {
                failures += 1;
                thread::sleep(Duration::from_secs(1));
            }
            Err(error) => {
                let why = format!("NVML does not say how many GPUs there are: {error}");
                return Err(Unavailable::failure(why));
            }
        }
    }
}

/// The devices that NVML knows, which are all of the machine or of the container.
struct NvmlDevices {
    nvml: &'static Nvml,
    count: u32,
}

impl NvmlDevices {
    fn look_up(&self, name: &DeviceName) -> Option<DeviceAddress> {
        match name {
            DeviceName::Index(index) => Some(*index)
                .filter(|index| *index < self.count)
                .and_then(|index| self.shown(index)),
            DeviceName::Uuid(uuid) if uuid.starts_with("MIG-") => self.slice(uuid),
            DeviceName::Uuid(beginning) => {
                let has_name = |index: &u32| {
                    let uuid = self.nvml.device_by_index(*index).and_then(|device| device.uuid());
                    uuid.is_ok_and(|uuid| uuid.starts_with(beginning))
                };
                self.shown(only((0..self.count).filter(has_name))?)
            }
        }
    }

    /// What CUDA shows of a device: the device or, of one that is sliced, its first slice.
    fn shown(&self, index: u32) -> Option<DeviceAddress> {
        let device = self.nvml.device_by_index(index).ok();
        match device.as_ref().filter(|device| is_sliced(device)) {
            None => Some(DeviceAddress::Index(index)),
            Some(device) => slices(device).next().map(DeviceAddress::Uuid),
        }
    }

    /// The slice of this name, or of this beginning of a name.
    fn slice(&self, name: &str) -> Option<DeviceAddress> {
        if self.nvml.device_by_uuid(name).is_ok() {
            return Some(DeviceAddress::Uuid(name.to_owned()));
        }
        let devices: Vec<_> = (0..self.count)
            .filter_map(|index| self.nvml.device_by_index(index).ok())
            .collect();
        let all = devices.iter().filter(|device| is_sliced(device)).flat_map(slices);
        only(all.filter(|uuid| uuid.starts_with(name))).map(DeviceAddress::Uuid)
    }

    /// Whether the order of CUDA is that of the bus anyway.
    fn is_of_one_kind(&self) -> bool {
        let mut kinds =
            (0..self.count).map(|index| self.nvml.device_by_index(index).and_then(|device| device.name()).ok());
        let first = kinds.next();
        kinds.all(|kind| kind.is_some() && Some(kind) == first)
    }
}

fn is_sliced(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current == 1)
}

fn slices<'a>(device: &'a Device<'_>) -> impl Iterator<Item = String> + use<'a> {
    let most = device.mig_device_count().unwrap_or(0);
    (0..most).filter_map(|at| device.mig_device_by_index(at).and_then(|slice| slice.uuid()).ok())
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next();
    first.filter(|_| found.next().is_none())
}
