//! What the driver knows about the devices of this process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::memory_info::memory_info;
use crate::gpu::pool::CudaFinder;
use crate::gpu::probe::{Fallback, GpuOptions};
use crate::gpu::sampler::Gone;
use crate::gpu::surroundings::Surroundings;
use crate::gpu::visible::{DeviceName, Visible};

/// The devices of this process, with the driver open. Its calls may hang.
pub(crate) struct Session {
    nvml: &'static Nvml,
    devices: Vec<Watched>,
    processes: Question,
    /// Asked for the devices until it knows them.
    cuda: Option<CudaFinder>,
    rules: Rules,
}

/// What is known of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    /// CUDA's number of the device in this process.
    pub(crate) ordinal: usize,
    /// What the driver holds for this process, in bytes.
    pub(crate) process: Option<u64>,
    /// What is used of the device, in bytes, where that may stand for the process.
    pub(crate) device: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) is_lost: bool,
    /// Which device it is, for people.
    pub(crate) identity: Arc<str>,
}

/// What the figures are asked for with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) pid: u32,
    pub(crate) fallback: Fallback,
    /// The list of processes is dear: some milliseconds, under a lock of the driver.
    pub(crate) processes_every: Duration,
}

impl Session {
    /// Opens the driver's library and finds the devices. An error is why there will never be a reading.
    pub(crate) fn open(options: &GpuOptions, surroundings: &Surroundings) -> Result<Self, Gone> {
        let nvml = open_library(options.library.as_ref()).map_err(|error| why_not_open(&error))?;
        let addresses = resolve(nvml, &surroundings.visible)?;
        if addresses.is_empty() {
            return Err(Gone::absent("NVML knows no GPU that this process may use"));
        }
        let processes = Question {
            off: process_entries_are_misread(nvml),
            ..Question::default()
        };
        let watched = |address| Watched::new(nvml, address, processes, "from the environment");
        Ok(Self {
            nvml,
            devices: addresses.into_iter().map(watched).collect(),
            processes,
            cuda: surroundings.cuda.clone().map(CudaFinder::new),
            rules: Rules {
                pid: surroundings.pid,
                fallback: options.fallback,
                processes_every: surroundings.processes_every,
            },
        })
    }

    /// What can be known of each device. An error is why nothing can, now or later.
    pub(crate) fn sample(&mut self, now: Instant) -> Result<Vec<Figures>, Gone> {
        self.ask_cuda_for_devices(now);
        let rules = self.rules;
        let devices = self.devices.iter_mut().enumerate();
        let figures = devices
            .map(|(ordinal, device)| device.figures(ordinal, rules, now))
            .collect();
        if self.devices.iter().all(|device| device.is_mute(rules)) {
            let why = "the driver answers no question about the memory of these GPUs";
            return Err(Gone::absent(why));
        }
        Ok(figures)
    }

    /// The environment only lets one presume which devices are meant: CUDA may order unlike ones by their speed, and shows
    /// a slice of a device (MIG) in its place. Once the program has started CUDA, CUDA says it.
    fn ask_cuda_for_devices(&mut self, now: Instant) {
        let cuda = self.cuda.as_mut().and_then(|finder| finder.find(now));
        let Some((cuda, count)) = cuda.and_then(|cuda| Some((cuda, cuda.device_count()?))) else {
            return;
        };
        let uuids: Option<Vec<_>> = (0..count).map(|ordinal| cuda.uuid(ordinal)).collect();
        self.cuda = None;
        if let Some(uuids) = uuids.filter(|uuids| !uuids.is_empty()) {
            let (nvml, processes) = (self.nvml, self.processes);
            let address = |uuid| Address::Cuda(dashed(uuid));
            let watched = |uuid| Watched::new(nvml, address(uuid), processes, "from CUDA");
            self.devices = uuids.into_iter().map(watched).collect();
        }
    }
}

/// As NVML writes it, without the kind of device before it.
fn dashed(uuid: [u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in uuid.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
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
    /// When the processes were last listed, and what of it is of use.
    listed: Option<(Instant, Listed)>,
    found_by: &'static str,
    identity: Arc<str>,
}

/// How a device is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Index(u32),
    Uuid(String),
    /// By the UUID that CUDA gives it: a whole device's or a slice's.
    Cuda(String),
}

/// What is known of a device, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Answer {
    process: Option<u64>,
    device: Option<u64>,
    total: Option<u64>,
}

/// What a list of processes says about this one.
#[derive(Debug, Clone, Copy, Default)]
struct Listed {
    bytes: Option<u64>,
    is_alone: bool,
}

/// A device that fell off the bus is looked for again after this long.
const LOST_FOR: Duration = Duration::from_secs(60);

impl Watched {
    fn new(nvml: &'static Nvml, address: Address, processes: Question, found_by: &'static str) -> Self {
        Self {
            nvml,
            identity: address.to_string().into(),
            address,
            device: None,
            lost_at: None,
            finding: Question::default(),
            memory: Question::default(),
            processes,
            listed: None,
            found_by,
        }
    }

    fn figures(&mut self, ordinal: usize, rules: Rules, now: Instant) -> Figures {
        let is_out = self.lost_at.is_some_and(|lost_at| now < lost_at + LOST_FOR);
        let answer = if is_out {
            Err(Silence::Lost)
        } else {
            self.ask(rules, now)
        };
        if answer == Err(Silence::Lost) && !is_out {
            self.lost_at = Some(now);
            self.device = None;
            self.listed = None;
        } else if !is_out {
            self.lost_at = None;
        }
        let Answer { process, device, total } = answer.unwrap_or_default();
        Figures {
            ordinal,
            process,
            device,
            total,
            is_lost: self.lost_at.is_some(),
            identity: Arc::clone(&self.identity),
        }
    }

    /// What the process has, what is used of the device if the rules allow that, and what there is.
    ///
    /// A question that fails once leaves all of it out: what stands lower must not jump in for one sample.
    fn ask(&mut self, rules: Rules, now: Instant) -> Result<Answer, Silence> {
        let device = match &mut self.device {
            Some(device) => device,
            none => {
                let device = self.finding.ask(|| self.address.find(self.nvml))?;
                self.identity = identity(&device, self.found_by).into();
                none.insert(device)
            }
        };
        let memory = unless_off(self.memory.ask(|| memory_info(device)))?;
        let listed = match self.listed {
            Some((at, listed)) if now < at + rules.processes_every => listed,
            _ => {
                self.listed = None;
                let processes = unless_off(self.processes.ask(|| device.running_compute_processes()))?;
                let listed = processes.map_or(Listed::default(), |processes| Listed::of(&processes, rules.pid));
                self.listed = Some((now, listed));
                listed
            }
        };
        let total = memory.map(|memory| memory.total);
        // In some containers our own entry is there with 0, and some drivers' entries are misread: both are "unknown".
        let is_possible = |bytes: &u64| 0 < *bytes && total.is_none_or(|total| *bytes < total);
        let allowed = rules.fallback == Fallback::Device || listed.is_alone;
        let of_device = memory.filter(|memory| allowed && 0 < memory.used && memory.used <= memory.total);
        Ok(Answer {
            process: listed.bytes.filter(is_possible),
            device: of_device.map(|memory| memory.used),
            total,
        })
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
            Self::Cuda(uuid) => nvml
                .device_by_uuid(format!("GPU-{uuid}"))
                .or_else(|_| nvml.device_by_uuid(format!("MIG-{uuid}"))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "NVML's device {index}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::Cuda(uuid) => write!(f, "GPU-{uuid}"),
        }
    }
}

impl Listed {
    fn of(processes: &[ProcessInfo], pid: u32) -> Self {
        let mine = processes.iter().find(|process| process.pid == pid);
        let bytes = match mine.map(|process| &process.used_gpu_memory) {
            Some(UsedGpuMemory::Used(bytes)) => Some(*bytes),
            _ => None,
        };
        Self {
            bytes,
            is_alone: mine.is_some() && processes.iter().all(|process| process.pid == pid),
        }
    }
}

/// Which device it is, as far as it says: `NVIDIA H100, NVML's device 3, GPU-8932f937-…, found from CUDA`.
fn identity(device: &Device<'_>, found_by: &str) -> String {
    let parts = [
        device.name().ok(),
        device.index().ok().map(|index| format!("NVML's device {index}")),
        device.uuid().ok(),
        Some(format!("found {found_by}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A kind of question, and whether it is still asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Question {
    off: bool,
    failures: u32,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
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
    pub(crate) fn ask<T>(&mut self, call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Silence> {
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

/// The libraries that are open, by their path; `None` is the system's. A child of a fork opens them anew.
///
/// They are never closed: a thread may hang inside, the dropping of `Nvml` panics where a library has no
/// `nvmlShutdown`, and a process ends more safely with the library than without it.
static OPEN: Mutex<BTreeMap<(u32, Option<PathBuf>), &'static Nvml>> = Mutex::new(BTreeMap::new());

pub(crate) fn open_library(path: Option<&PathBuf>) -> Result<&'static Nvml, NvmlError> {
    let open = || OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (std::process::id(), path.cloned());
    if let Some(nvml) = open().get(&key) {
        return Ok(nvml);
    }
    // Not under the lock: it may hang.
    let nvml = match path {
        Some(path) => Nvml::builder().lib_path(OsStr::new(path)).init()?,
        None => Nvml::init()?,
    };
    // Whoever loses a race leaves one more behind; NVML counts how often it was opened.
    let nvml: &'static Nvml = Box::leak(Box::new(nvml));
    Ok(*open().entry(key).or_insert(nvml))
}

pub(crate) fn why_not_open(error: &NvmlError) -> Gone {
    let remedy = match error {
        NvmlError::LibloadingError(_) => return Gone::absent(format!("no NVIDIA driver: {error}")),
        NvmlError::LibRmVersionMismatch => "; the driver was updated while it was in use: restart the machine",
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            "; let this process open the device files /dev/nvidia*, or set GPU_PROBE=off"
        }
        _ => "",
    };
    Gone::trouble(format!("NVML does not start: {error}{remedy}"))
}

/// The devices that are visible, in CUDA's order. As in CUDA the list ends at the first name that no device has, and a
/// device named twice leaves none.
fn resolve(nvml: &'static Nvml, visible: &Visible) -> Result<Vec<Address>, Gone> {
    let count = nvml
        .device_count()
        .map_err(|error| Gone::trouble(format!("NVML does not say how many GPUs there are: {error}")))?;
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
