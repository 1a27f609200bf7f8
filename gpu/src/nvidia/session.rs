//! What the driver knows about the devices of this process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use crate::nvidia::cuda_pool::CudaFinder;
use crate::nvidia::device_map::{DeviceAddress, DeviceMap, MappedBy, by_cuda, by_environment};
use crate::nvidia::env::{GpuEnvironment, QueryPeriods};
use crate::nvidia::memory_info::{DeviceMemory, memory_info};
use crate::nvidia::query::{CachedQuery, NoAnswer, Query, RETRY_AFTER};
use crate::nvidia::sampler::Unavailable;
use crate::timer::IntervalTimer;

/// The devices of this process, with the driver open. Its calls may hang.
pub(crate) struct NvmlSession {
    nvml: &'static Nvml,
    devices: Vec<WatchedDevice>,
    /// Asked for the devices until it knows them.
    cuda: Option<CudaFinder>,
    cuda_due: IntervalTimer,
    rules: QueryRules,
}

/// What is known of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriverFigures {
    /// CUDA's number of the device in this process.
    pub(crate) ordinal: usize,
    /// What the driver holds for this process, in bytes.
    pub(crate) process: Option<u64>,
    /// What is used of the device, in bytes.
    pub(crate) device: Option<u64>,
    pub(crate) total: Option<u64>,
    /// No other process is on it.
    pub(crate) is_alone: bool,
    /// When the processes were listed.
    pub(crate) listed_at: Option<Instant>,
    pub(crate) is_lost: bool,
    /// Which device it is, for people, and who says so.
    pub(crate) identity: Arc<str>,
    pub(crate) by: MappedBy,
    /// What is to be said of the questions to it.
    pub(crate) questions: Vec<String>,
}

/// What the figures are asked for with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRules {
    pub(crate) pid: u32,
    pub(crate) periods: QueryPeriods,
    /// The list of processes is not to be read.
    pub(crate) no_processes: bool,
}

impl NvmlSession {
    /// Opens the driver's library and finds the devices. An error is why there will never be a reading.
    pub(crate) fn open(library: Option<&PathBuf>, environment: &GpuEnvironment) -> Result<Self, Unavailable> {
        let nvml = open_library(library).map_err(|error| why_not_open(&error))?;
        let found = by_environment(nvml, &environment.visible, environment.is_by_bus)?;
        // CUDA may know a name that NVML does not.
        if found.addresses.is_empty() && environment.cuda.is_none() {
            return Err(Unavailable::absent("NVML knows no GPU that this process may use"));
        }
        let rules = QueryRules {
            pid: (environment.pid)(),
            periods: environment.periods,
            no_processes: process_entries_are_misread(nvml),
        };
        Ok(Self {
            nvml,
            devices: watched(nvml, found, rules),
            cuda: environment.cuda.clone().map(CudaFinder::new),
            cuda_due: IntervalTimer::every(Duration::from_secs(10)),
            rules,
        })
    }

    /// What can be known of each device. An error is why nothing can, now or later.
    pub(crate) fn sample(&mut self, now: Instant) -> Result<Vec<DriverFigures>, Unavailable> {
        self.ask_cuda_for_devices(now);
        let rules = self.rules;
        let devices = self.devices.iter_mut().enumerate();
        let figures = devices
            .map(|(ordinal, device)| device.figures(ordinal, rules, now))
            .collect();
        if self.cuda.is_none() && self.devices.iter().all(WatchedDevice::is_mute) {
            let why = "the driver answers no question about the memory of these GPUs";
            return Err(Unavailable::absent(why));
        }
        Ok(figures)
    }

    fn ask_cuda_for_devices(&mut self, now: Instant) {
        let cuda = self.cuda.as_mut().and_then(|finder| finder.find(now));
        let Some(cuda) = cuda.filter(|cuda| cuda.device_count().is_some()) else {
            return;
        };
        if !self.cuda_due.is_now(now) {
            return;
        }
        if let Some(found) = by_cuda(self.nvml, cuda) {
            self.cuda = None;
            self.devices = watched(self.nvml, found, self.rules);
        }
    }
}

fn watched(nvml: &'static Nvml, DeviceMap { addresses, by }: DeviceMap, rules: QueryRules) -> Vec<WatchedDevice> {
    let watched = |address| WatchedDevice::new(nvml, address, rules, by);
    addresses.into_iter().map(watched).collect()
}

/// A device, and which questions it answers.
struct WatchedDevice {
    nvml: &'static Nvml,
    address: DeviceAddress,
    device: Option<Device<'static>>,
    lost_at: Option<Instant>,
    finding: Query,
    memory: CachedQuery<DeviceMemory>,
    processes: CachedQuery<ProcessListing>,
    by: MappedBy,
    identity: Arc<str>,
}

/// What is known of a device, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DeviceAnswer {
    process: Option<u64>,
    device: Option<u64>,
    total: Option<u64>,
    is_alone: bool,
    listed_at: Option<Instant>,
}

/// What a list of processes says about this one.
#[derive(Debug, Clone, Copy, Default)]
struct ProcessListing {
    bytes: Option<u64>,
    is_alone: bool,
    at: Option<Instant>,
}

impl WatchedDevice {
    fn new(nvml: &'static Nvml, address: DeviceAddress, rules: QueryRules, by: MappedBy) -> Self {
        let processes = if rules.no_processes {
            Query::switched_off()
        } else {
            Query::every(rules.periods.processes)
        };
        Self {
            nvml,
            identity: address.to_string().into(),
            address,
            device: None,
            lost_at: None,
            finding: Query::every(Duration::ZERO),
            memory: CachedQuery::new(Query::every(rules.periods.memory)),
            processes: CachedQuery::new(processes),
            by,
        }
    }

    fn figures(&mut self, ordinal: usize, rules: QueryRules, now: Instant) -> DriverFigures {
        let is_out = self.lost_at.is_some_and(|lost_at| now < lost_at + RETRY_AFTER);
        let answer = if is_out {
            Err(NoAnswer::DeviceLost)
        } else {
            self.ask(rules, now)
        };
        if answer == Err(NoAnswer::DeviceLost) && !is_out {
            self.lost_at = Some(now);
            self.device = None;
            self.memory.forget();
            self.processes.forget();
        } else if answer.is_ok() {
            self.lost_at = None;
        }
        let answer = answer.unwrap_or_default();
        DriverFigures {
            ordinal,
            process: answer.process,
            device: answer.device,
            total: answer.total,
            is_alone: answer.is_alone,
            listed_at: answer.listed_at,
            is_lost: self.lost_at.is_some(),
            identity: Arc::clone(&self.identity),
            by: self.by,
            questions: self.about_questions(),
        }
    }

    fn about_questions(&self) -> Vec<String> {
        let questions = [
            ("its memory", &self.memory.question),
            ("its list of processes", &self.processes.question),
            ("itself", &self.finding),
        ];
        let texts = questions
            .into_iter()
            .filter_map(|(what, question)| question.notice(what));
        texts.collect()
    }

    /// What the process has, what is used of the device, and what there is.
    ///
    /// A question that fails once leaves all of it out: what stands lower must not jump in for one sample.
    fn ask(&mut self, rules: QueryRules, now: Instant) -> Result<DeviceAnswer, NoAnswer> {
        let device = match &mut self.device {
            Some(device) => device,
            none => {
                let device = self.finding.ask(now, || self.address.find(self.nvml))?;
                self.identity = identity(&device).into();
                none.insert(device)
            }
        };
        let memory = self.memory.ask(now, || memory_info(device))?;
        let list = || Ok(ProcessListing::of(&device.running_compute_processes()?, rules.pid, now));
        let listed = self.processes.ask(now, list)?.unwrap_or_default();
        let total = memory.map(|memory| memory.total);
        // In some containers our own entry is there with 0, and some drivers' entries are misread: both are "unknown".
        let is_possible = |bytes: &u64| 0 < *bytes && total.is_none_or(|total| *bytes < total);
        let of_device = memory.filter(|memory| 0 < memory.used && memory.used <= memory.total);
        Ok(DeviceAnswer {
            process: listed.bytes.filter(is_possible),
            device: of_device.map(|memory| memory.used),
            total,
            is_alone: listed.is_alone,
            listed_at: listed.at,
        })
    }

    /// Whether there will never be a reading.
    fn is_mute(&self) -> bool {
        self.finding.is_off() || (self.processes.question.is_off() && self.memory.question.is_off())
    }
}

impl ProcessListing {
    fn of(processes: &[ProcessInfo], pid: u32, now: Instant) -> Self {
        let mine = processes.iter().find(|process| process.pid == pid);
        let bytes = match mine.map(|process| &process.used_gpu_memory) {
            Some(UsedGpuMemory::Used(bytes)) => Some(*bytes),
            _ => None,
        };
        Self {
            bytes,
            is_alone: mine.is_some() && processes.iter().all(|process| process.pid == pid),
            at: Some(now),
        }
    }
}

/// Which device it is, as far as it says: `NVIDIA H100, 80.0 GB, NVML's device 3, GPU-8932f937-…, 00000000:3B:00.0, driver 550.54`.
pub(crate) fn identity(device: &Device<'_>) -> String {
    let index = |device: &Device<'_>| device.index().map(|index| format!("NVML's device {index}"));
    let place = match device.mig_is_mig_device_handle() {
        Ok(true) => device
            .mig_parent_device()
            .and_then(|whole| index(&whole))
            .map(|whole| format!("a slice of {whole}")),
        _ => index(device),
    };
    let parts = [
        device.name().ok(),
        memory_info(device)
            .ok()
            .map(|memory| format!("{:.1} GB", memory.total as f64 / 1e9)),
        place.ok(),
        device.uuid().ok(),
        device.pci_info().ok().map(|pci| pci.bus_id),
        device
            .nvml()
            .sys_driver_version()
            .ok()
            .map(|version| format!("driver {version}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
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

pub(crate) fn why_not_open(error: &NvmlError) -> Unavailable {
    let remedy = match error {
        NvmlError::LibloadingError(_) => return Unavailable::absent(format!("no NVIDIA driver: {error}")),
        NvmlError::LibRmVersionMismatch => "; the driver was updated while it was in use: restart the machine",
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            "; let this process open the device files /dev/nvidia*, or set GPU_PROBE=off"
        }
        _ => "",
    };
    Unavailable::failure(format!("NVML does not start: {error}{remedy}"))
}

/// Drivers 535.43 to 535.86 fill entries of 32 bytes where the wrapper reads 24, and could write past its buffer. They
/// are known by one symbol that they have and one that they have not got
/// (<https://github.com/XuehaiPan/nvitop/pull/79>).
fn process_entries_are_misread(nvml: &Nvml) -> bool {
    let library = nvml.lib();
    library.nvmlDeviceGetConfComputeMemSizeInfo.is_ok() && library.nvmlDeviceGetRunningProcessDetailList.is_err()
}
