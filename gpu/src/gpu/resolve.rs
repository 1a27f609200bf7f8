//! Which of NVML's devices are those of this process.

use std::fmt;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::cuda::{Cuda, Identity};
use crate::gpu::sampler::Gone;
use crate::gpu::visible::{DeviceName, Visible};

/// How a device is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Index(u32),
    /// With its kind before it: `GPU-…`, `MIG-…`.
    Uuid(String),
    Cuda(Identity),
}

impl Address {
    pub(crate) fn find(&self, nvml: &'static Nvml) -> Result<Device<'static>, NvmlError> {
        match self {
            Self::Index(index) => nvml.device_by_index(*index),
            Self::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()),
            // CUDA gives a slice of a device an identity of its own, and does not say that it is one.
            Self::Cuda(Identity::Uuid(uuid)) => nvml
                .device_by_uuid(format!("GPU-{uuid}"))
                .or_else(|_| nvml.device_by_uuid(format!("MIG-{uuid}"))),
            Self::Cuda(Identity::Pci(bus_id)) => nvml.device_by_pci_bus_id(bus_id.as_str()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "NVML's device {index}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::Cuda(Identity::Uuid(uuid)) => write!(f, "GPU-{uuid}"),
            Self::Cuda(Identity::Pci(bus_id)) => write!(f, "the device at {bus_id}"),
        }
    }
}

/// The devices, in CUDA's order, and how they were found.
pub(crate) struct Found {
    pub(crate) addresses: Vec<Address>,
    pub(crate) by: &'static str,
}

/// What the environment says. As in CUDA the list ends at the first name that no device has, and a device named twice leaves
/// none.
pub(crate) fn by_environment(nvml: &'static Nvml, visible: &Visible, is_by_bus: bool) -> Result<Found, Gone> {
    let machine = Machine {
        nvml,
        count: nvml
            .device_count()
            .map_err(|error| Gone::trouble(format!("NVML does not say how many GPUs there are: {error}")))?,
    };
    let (addresses, has_indices): (Vec<_>, _) = match visible {
        Visible::All => (
            (0..machine.count).filter_map(|index| machine.shown(index)).collect(),
            true,
        ),
        Visible::Listed(names) => {
            let addresses: Vec<_> = names.iter().map_while(|name| machine.look_up(name)).collect();
            let is_index = |name: &DeviceName| matches!(name, DeviceName::Index(_));
            (addresses, names.iter().any(is_index))
        }
    };
    let is_twice = |(at, address)| addresses[..at].contains(address);
    let is_sure = is_by_bus || !has_indices || machine.is_of_one_kind();
    Ok(Found {
        by: if is_sure {
            "found from the environment"
        } else {
            "presumed from the environment, for CUDA may order unlike devices by speed"
        },
        addresses: match addresses.iter().enumerate().any(is_twice) {
            true => Vec::new(),
            false => addresses,
        },
    })
}

/// What CUDA says, once the program has started it. The environment only lets one presume: CUDA may order unlike devices by
/// their speed, and shows a slice of a device (MIG) in its place.
pub(crate) fn by_cuda(cuda: &Cuda) -> Option<Found> {
    let identities = (0..cuda.device_count()?).map(|ordinal| cuda.identity(ordinal).map(Address::Cuda));
    let addresses: Vec<_> = identities.collect::<Option<_>>()?;
    (!addresses.is_empty()).then_some(Found {
        addresses,
        by: "found from CUDA",
    })
}

/// The devices that NVML knows, which are all of the machine or of the container.
struct Machine {
    nvml: &'static Nvml,
    count: u32,
}

impl Machine {
    fn look_up(&self, name: &DeviceName) -> Option<Address> {
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
    fn shown(&self, index: u32) -> Option<Address> {
        let device = self.nvml.device_by_index(index).ok();
        match device.as_ref().filter(|device| is_sliced(device)) {
            None => Some(Address::Index(index)),
            Some(device) => slices(device).next().map(Address::Uuid),
        }
    }

    /// The slice of this name, or of this beginning of a name.
    fn slice(&self, name: &str) -> Option<Address> {
        if self.nvml.device_by_uuid(name).is_ok() {
            return Some(Address::Uuid(name.to_owned()));
        }
        let devices: Vec<_> = (0..self.count)
            .filter_map(|index| self.nvml.device_by_index(index).ok())
            .collect();
        let all = devices.iter().filter(|device| is_sliced(device)).flat_map(slices);
        only(all.filter(|uuid| uuid.starts_with(name))).map(Address::Uuid)
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
