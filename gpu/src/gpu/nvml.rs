//! What the driver knows about the devices of this process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::memory_info::memory_info;
use crate::gpu::probe::{Fallback, GpuOptions, Surroundings};
use crate::gpu::visible::{DeviceName, Visible};

/// The devices of this process, with the driver open. Its calls may hang.
pub(crate) struct Session {
    devices: Vec<Watched>,
    rules: Rules,
}

/// Memory in use on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CUDA's number of the device in this process, as far as it can be told from the environment.
    pub(crate) ordinal: usize,
    pub(crate) bytes: u64,
    pub(crate) source: Source,
}

/// Which of the driver's figures it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Process,
    Device,
}

impl Source {
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Process => "nvml_process",
            Self::Device => "nvml_device",
        }
    }
}

impl Session {
    /// Opens the driver's library and finds the devices. An error is why there will never be a reading.
    pub(crate) fn open(options: &GpuOptions, surroundings: &Surroundings) -> Result<Self, String> {
        let nvml = open_library(options.library.as_ref()).map_err(|error| why_not_open(&error))?;
        let addresses = resolve(nvml, &surroundings.visible)?;
        if addresses.is_empty() {
            return Err("NVML knows no GPU that this process may use".to_owned());
        }
        let processes = Question {
            off: process_entries_are_misread(nvml),
            ..Question::default()
        };
        let watched = |address| Watched::new(nvml, address, processes);
        Ok(Self {
            devices: addresses.into_iter().map(watched).collect(),
            rules: Rules {
                pid: surroundings.pid,
                fallback: options.fallback,
            },
        })
    }

    /// What can be known of each device. An error is why nothing can, now or later.
    pub(crate) fn sample(&mut self, now: Instant) -> Result<Vec<Usage>, String> {
        let mut usages = Vec::new();
        for (ordinal, device) in self.devices.iter_mut().enumerate() {
            if let Some((bytes, source)) = device.usage(self.rules, now) {
                usages.push(Usage { ordinal, bytes, source });
            }
        }
        if self.devices.iter().all(|device| device.is_mute(self.rules)) {
            return Err("the driver answers no question about the memory of these GPUs".to_owned());
        }
        Ok(usages)
    }
}

#[derive(Clone, Copy)]
struct Rules {
    pid: u32,
    fallback: Fallback,
}

/// A device, and which questions it answers.
struct Watched {
    nvml: &'static Nvml,
    address: Address,
    device: Option<Device<'static>>,
    lost_at: Option<Instant>,
    finding: Question,
    memory: Question,
    processes: Question,
}

/// How a device is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Index(u32),
    Uuid(String),
}

/// A device that fell off the bus is looked for again after this long.
const LOST_FOR: Duration = Duration::from_secs(60);

impl Watched {
    fn new(nvml: &'static Nvml, address: Address, processes: Question) -> Self {
        Self {
            nvml,
            address,
            device: None,
            lost_at: None,
            finding: Question::default(),
            memory: Question::default(),
            processes,
        }
    }

    fn usage(&mut self, rules: Rules, now: Instant) -> Option<(u64, Source)> {
        if self.lost_at.is_some_and(|lost_at| now < lost_at + LOST_FOR) {
            return None;
        }
        self.lost_at = None;
        let answer = self.ask(rules);
        if answer == Err(Silence::Lost) {
            self.lost_at = Some(now);
            self.device = None;
        }
        answer.ok().flatten()
    }

    /// The ladder: what the process has, else what is used of the device, where the rules allow that.
    ///
    /// A question that fails once leaves this reading out rather than go down the ladder: a chart must not jump from
    /// one meaning to another and back.
    fn ask(&mut self, rules: Rules) -> Result<Option<(u64, Source)>, Silence> {
        let device = match &mut self.device {
            Some(device) => device,
            none => none.insert(self.finding.ask(|| self.address.find(self.nvml))?),
        };
        let memory = unless_off(self.memory.ask(|| memory_info(device)))?;
        let total = memory.map_or(u64::MAX, |memory| memory.total);
        let processes = unless_off(self.processes.ask(|| device.running_compute_processes()))?.unwrap_or_default();

        let mine = processes.iter().find(|process| process.pid == rules.pid);
        // In some containers our own entry is there with 0, and some drivers' entries are misread: both are "unknown".
        if let Some(UsedGpuMemory::Used(bytes)) = mine.map(|process| process.used_gpu_memory.clone())
            && 0 < bytes
            && bytes < total
        {
            return Ok(Some((bytes, Source::Process)));
        }
        let alone = mine.is_some() && processes.iter().all(|process| process.pid == rules.pid);
        let allowed = rules.fallback == Fallback::Device || alone;
        let of_device = memory.filter(|memory| allowed && 0 < memory.used && memory.used <= memory.total);
        Ok(of_device.map(|memory| (memory.used, Source::Device)))
    }

    /// Whether there will never be a reading.
    fn is_mute(&self, rules: Rules) -> bool {
        let memory_is_no_use = self.memory.off || rules.fallback != Fallback::Device;
        self.finding.off || (self.processes.off && memory_is_no_use)
    }
}

impl Address {
    fn find(&self, nvml: &'static Nvml) -> Result<Device<'static>, NvmlError> {
        match self {
            Self::Index(index) => nvml.device_by_index(*index),
            Self::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()),
        }
    }
}

/// A kind of question, and whether it is still asked.
#[derive(Debug, Clone, Copy, Default)]
struct Question {
    off: bool,
    failures: u32,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Not this time.
    Passing,
    /// Never: not from this driver, not from this device, or not for us.
    Off,
    /// The device is gone.
    Lost,
}

/// A question that fails so often in a row is not asked again.
const MOST_FAILURES: u32 = 5;

impl Question {
    fn ask<T>(&mut self, call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Silence> {
        if self.off {
            return Err(Silence::Off);
        }
        let silence = match call() {
            Ok(answer) => {
                self.failures = 0;
                return Ok(answer);
            }
            Err(error) => meaning(&error),
        };
        if silence == Silence::Passing {
            self.failures += 1;
        }
        if silence == Silence::Off || self.failures >= MOST_FAILURES {
            self.off = true;
            return Err(Silence::Off);
        }
        Err(silence)
    }
}

fn meaning(error: &NvmlError) -> Silence {
    match error {
        NvmlError::GpuLost | NvmlError::ResetRequired => Silence::Lost,
        NvmlError::FailedToLoadSymbol(_)
        | NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::NoPermission
        | NvmlError::UnexpectedVariant(_) => Silence::Off,
        _ => Silence::Passing,
    }
}

fn unless_off<T>(answer: Result<T, Silence>) -> Result<Option<T>, Silence> {
    match answer {
        Err(Silence::Off) => Ok(None),
        other => other.map(Some),
    }
}

/// The libraries that are open, by their path; `None` is the system's.
///
/// They are never closed: a thread may hang inside, the dropping of `Nvml` panics where a library has no
/// `nvmlShutdown`, and a process ends more safely with the library than without it.
static OPEN: Mutex<BTreeMap<Option<PathBuf>, &'static Nvml>> = Mutex::new(BTreeMap::new());

fn open_library(path: Option<&PathBuf>) -> Result<&'static Nvml, NvmlError> {
    let open = || OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(nvml) = open().get(&path.cloned()) {
        return Ok(nvml);
    }
    // Not under the lock: it may hang.
    let nvml = match path {
        Some(path) => Nvml::builder().lib_path(OsStr::new(path)).init()?,
        None => Nvml::init()?,
    };
    // Whoever loses a race leaves one more behind; NVML counts how often it was opened.
    let nvml: &'static Nvml = Box::leak(Box::new(nvml));
    Ok(*open().entry(path.cloned()).or_insert(nvml))
}

fn why_not_open(error: &NvmlError) -> String {
    let remedy = match error {
        NvmlError::LibloadingError(_) => return format!("no NVIDIA driver: {error}"),
        NvmlError::LibRmVersionMismatch => "; the driver was updated while it was in use: restart the machine",
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            "; let this process open the device files /dev/nvidia*, or set GPU_PROBE=off"
        }
        _ => "",
    };
    format!("NVML does not start: {error}{remedy}")
}

/// The devices that are visible, in CUDA's order. As in CUDA the list ends at the first name that no device has, and a
/// device named twice leaves none.
fn resolve(nvml: &'static Nvml, visible: &Visible) -> Result<Vec<Address>, String> {
    let count = nvml
        .device_count()
        .map_err(|error| format!("NVML does not say how many GPUs there are: {error}"))?;
    let names = match visible {
        Visible::All => return Ok((0..count).map(Address::Index).collect()),
        Visible::Listed(names) => names,
    };
    let addresses: Vec<_> = names.iter().map_while(|name| look_up(nvml, count, name)).collect();
    let twice = addresses
        .iter()
        .enumerate()
        .any(|(at, address)| addresses[..at].contains(address));
    Ok(if twice { Vec::new() } else { addresses })
}

fn look_up(nvml: &'static Nvml, count: u32, name: &DeviceName) -> Option<Address> {
    match name {
        DeviceName::Index(index) => Some(*index).filter(|index| *index < count).map(Address::Index),
        DeviceName::Uuid(uuid) if uuid.starts_with("MIG-") => {
            let found = nvml.device_by_uuid(uuid.as_str()).is_ok();
            found.then(|| Address::Uuid(uuid.clone()))
        }
        DeviceName::Uuid(beginning) => {
            let has_name = |index: &u32| {
                let uuid = nvml.device_by_index(*index).and_then(|device| device.uuid());
                uuid.is_ok_and(|uuid| uuid.starts_with(beginning))
            };
            let mut named = (0..count).filter(has_name);
            match (named.next(), named.next()) {
                (Some(index), None) => Some(Address::Index(index)),
                _ => None,
            }
        }
    }
}

/// Drivers 535.43 to 535.86 fill entries of 32 bytes where the wrapper reads 24, and could write past its buffer. They
/// are known by one symbol that they have and one that they have not got
/// (<https://github.com/XuehaiPan/nvitop/pull/79>).
fn process_entries_are_misread(nvml: &Nvml) -> bool {
    let library = nvml.lib();
    library.nvmlDeviceGetConfComputeMemSizeInfo.is_ok() && library.nvmlDeviceGetRunningProcessDetailList.is_err()
}
