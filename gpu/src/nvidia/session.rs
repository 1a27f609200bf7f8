//! Reads the memory of this process's devices from the driver's library NVML.
//!
//! Each device has three queries: for its handle, its memory, and its process list. Each has an
//! interval, a cost and failures of its own, see [`Query`]. A reading consists of the last answers
//! of all three.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logcore::PerProcess;
use logcore::sync::lock;
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

/// The devices of this process, with NVML open. Each call into NVML may hang.
pub(crate) struct NvmlSession {
    nvml: &'static Nvml,
    devices: Vec<WatchedDevice>,
    /// Source of the exact devices; `None` once CUDA has named them.
    cuda: Option<CudaFinder>,
    cuda_timer: IntervalTimer,
    rules: QueryRules,
}

/// NVML's values of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriverFigures {
    /// CUDA's number of the device in this process.
    pub(crate) ordinal: usize,
    /// Bytes that the driver holds for this process.
    pub(crate) process: Option<u64>,
    /// Bytes in use on the device.
    pub(crate) device: Option<u64>,
    /// Bytes that the device has.
    pub(crate) total: Option<u64>,
    /// `true` if no other process uses the device.
    pub(crate) is_exclusive: bool,
    /// Time of the process list.
    pub(crate) listed_at: Option<Instant>,
    pub(crate) is_lost: bool,
    /// Description of the device for people.
    pub(crate) identity: Arc<str>,
    pub(crate) mapped_by: MappedBy,
    /// Messages for users about failing and slow queries.
    pub(crate) notices: Vec<String>,
}

/// The parameters of all queries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRules {
    pub(crate) pid: u32,
    pub(crate) periods: QueryPeriods,
    /// `false` if this driver's process list would be misread.
    pub(crate) lists_processes: bool,
}

impl NvmlSession {
    /// Opens the library and finds the devices. After an error there will never be a reading.
    pub(crate) fn open(library: Option<&PathBuf>, environment: &GpuEnvironment) -> Result<Self, Unavailable> {
        let nvml = open_library(library).map_err(|error| open_error(&error))?;
        let map = by_environment(nvml, &environment.visible, environment.is_pci_order)?;
        // CUDA may name a device that NVML did not find.
        if map.addresses.is_empty() && environment.cuda.is_none() {
            return Err(Unavailable::absent("NVML lists no GPU that this process may use"));
        }
        let rules = QueryRules {
            pid: (environment.pid)(),
            periods: environment.periods,
            lists_processes: !misreads_process_entries(nvml),
        };
        Ok(Self {
            nvml,
            devices: watched(nvml, map, rules),
            cuda: environment.cuda.clone().map(CudaFinder::new),
            cuda_timer: IntervalTimer::new(Duration::from_secs(10)),
            rules,
        })
    }

    /// Reads each device. After an error there will never be a reading.
    pub(crate) fn sample(&mut self, now: Instant) -> Result<Vec<DriverFigures>, Unavailable> {
        self.find_devices_by_cuda(now);
        let rules = self.rules;
        let devices = self.devices.iter_mut().enumerate();
        let figures = devices
            .map(|(ordinal, device)| device.figures(ordinal, rules, now))
            .collect();
        if self.cuda.is_none() && self.devices.iter().all(WatchedDevice::is_disabled) {
            return Err(Unavailable::absent(
                "the driver supports no memory query for these GPUs",
            ));
        }
        Ok(figures)
    }

    /// Replaces the devices of the environment by CUDA's, once the program has started CUDA and
    /// NVML knows them all. Before that, tries every 10 s.
    fn find_devices_by_cuda(&mut self, now: Instant) {
        let cuda = self.cuda.as_mut().and_then(|finder| finder.find(now));
        let Some(cuda) = cuda.filter(|cuda| cuda.device_count().is_some()) else {
            return;
        };
        if !self.cuda_timer.is_due(now) {
            return;
        }
        if let Some(map) = by_cuda(self.nvml, cuda) {
            self.cuda = None;
            self.devices = watched(self.nvml, map, self.rules);
        }
    }
}

/// Returns the devices of a map, with new queries.
fn watched(nvml: &'static Nvml, map: DeviceMap, rules: QueryRules) -> Vec<WatchedDevice> {
    let watched = |address| WatchedDevice::new(nvml, address, rules, map.mapped_by);
    map.addresses.into_iter().map(watched).collect()
}

/// A device and the state of its queries.
struct WatchedDevice {
    nvml: &'static Nvml,
    address: DeviceAddress,
    device: Option<Device<'static>>,
    lost_at: Option<Instant>,
    handle_query: Query,
    memory: CachedQuery<DeviceMemory>,
    processes: CachedQuery<ProcessListing>,
    mapped_by: MappedBy,
    identity: Arc<str>,
}

/// The answers for one device, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DeviceAnswer {
    process: Option<u64>,
    device: Option<u64>,
    total: Option<u64>,
    is_exclusive: bool,
    listed_at: Option<Instant>,
}

/// The entry of this process in a device's process list.
#[derive(Debug, Clone, Copy, Default)]
struct ProcessListing {
    bytes: Option<u64>,
    is_exclusive: bool,
    at: Option<Instant>,
}

impl WatchedDevice {
    fn new(nvml: &'static Nvml, address: DeviceAddress, rules: QueryRules, mapped_by: MappedBy) -> Self {
        let processes = if rules.lists_processes {
            Query::every(rules.periods.processes)
        } else {
            Query::disabled()
        };
        Self {
            nvml,
            identity: address.to_string().into(),
            address,
            device: None,
            lost_at: None,
            handle_query: Query::every(Duration::ZERO),
            memory: CachedQuery::new(Query::every(rules.periods.memory)),
            processes: CachedQuery::new(processes),
            mapped_by,
        }
    }

    /// Returns the device's values at the time `now`. A lost device has none, and is tried again
    /// after [`RETRY_AFTER`].
    fn figures(&mut self, ordinal: usize, rules: QueryRules, now: Instant) -> DriverFigures {
        let waits_for_retry = self.lost_at.is_some_and(|lost_at| now < lost_at + RETRY_AFTER);
        let answer = if waits_for_retry {
            Err(NoAnswer::DeviceLost)
        } else {
            self.ask(rules, now)
        };
        if answer == Err(NoAnswer::DeviceLost) && !waits_for_retry {
            self.lost_at = Some(now);
            self.device = None;
            self.memory.invalidate();
            self.processes.invalidate();
        } else if answer.is_ok() {
            self.lost_at = None;
        }
        let answer = answer.unwrap_or_default();
        DriverFigures {
            ordinal,
            process: answer.process,
            device: answer.device,
            total: answer.total,
            is_exclusive: answer.is_exclusive,
            listed_at: answer.listed_at,
            is_lost: self.lost_at.is_some(),
            identity: Arc::clone(&self.identity),
            mapped_by: self.mapped_by,
            notices: self.notices(),
        }
    }

    /// Returns the messages about queries that fail or are slow.
    fn notices(&self) -> Vec<String> {
        let queries = [
            ("the memory", &self.memory.query),
            ("the process list", &self.processes.query),
            ("the device handle", &self.handle_query),
        ];
        let texts = queries.into_iter().filter_map(|(subject, query)| query.notice(subject));
        texts.collect()
    }

    /// Reads the memory of the process and of the device.
    ///
    /// If one query fails once, all values of this sample are left out. Otherwise a source of lower
    /// quality would replace a better one for a single sample.
    fn ask(&mut self, rules: QueryRules, now: Instant) -> Result<DeviceAnswer, NoAnswer> {
        let device = match &mut self.device {
            Some(device) => device,
            none => {
                let device = self.handle_query.ask(now, || self.address.find(self.nvml))?;
                self.identity = identity(&device).into();
                none.insert(device)
            }
        };
        let memory = self.memory.ask(now, || memory_info(device))?;
        let list = || {
            Ok(ProcessListing::new(
                &device.running_compute_processes()?,
                rules.pid,
                now,
            ))
        };
        let listed = self.processes.ask(now, list)?.unwrap_or_default();
        let total = memory.map(|memory| memory.total);
        // In some containers the entry of this process has 0 bytes, and entries of some drivers are
        // misread. Both mean "unknown".
        let is_possible = |bytes: &u64| 0 < *bytes && total.is_none_or(|total| *bytes < total);
        let valid = memory.filter(|memory| 0 < memory.used && memory.used <= memory.total);
        Ok(DeviceAnswer {
            process: listed.bytes.filter(is_possible),
            device: valid.map(|memory| memory.used),
            total,
            is_exclusive: listed.is_exclusive,
            listed_at: listed.at,
        })
    }

    /// Returns `true` if there will never be a reading.
    fn is_disabled(&self) -> bool {
        self.handle_query.is_disabled() || (self.processes.query.is_disabled() && self.memory.query.is_disabled())
    }
}

impl ProcessListing {
    /// Finds the entry of process `pid` in a list.
    fn new(processes: &[ProcessInfo], pid: u32, now: Instant) -> Self {
        let own = processes.iter().find(|process| process.pid == pid);
        let bytes = match own.map(|process| &process.used_gpu_memory) {
            Some(UsedGpuMemory::Used(bytes)) => Some(*bytes),
            _ => None,
        };
        Self {
            bytes,
            is_exclusive: own.is_some() && processes.iter().all(|process| process.pid == pid),
            at: Some(now),
        }
    }
}

/// Returns the description of a device, without the parts that the driver does not report:
/// `NVIDIA H100, 80.0 GB, NVML device 3, GPU-8932f937-…, 00000000:3B:00.0, driver 550.54`.
pub(crate) fn identity(device: &Device<'_>) -> String {
    let index = |device: &Device<'_>| device.index().map(|index| format!("NVML device {index}"));
    let location = match device.mig_is_mig_device_handle() {
        Ok(true) => device
            .mig_parent_device()
            .and_then(|parent| index(&parent))
            .map(|parent| format!("a slice of {parent}")),
        _ => index(device),
    };
    let parts = [
        device.name().ok(),
        memory_info(device)
            .ok()
            .map(|memory| format!("{:.1} GB", memory.total as f64 / 1e9)),
        location.ok(),
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

/// The open libraries by process and path; `None` is the system's. A forked child opens them again.
///
/// They are never closed. A thread may hang inside, `Nvml`'s destructor panics if a library has no
/// `nvmlShutdown`, and a process ends more safely with the library than without it.
///
/// A forked child has a map of its own: at the fork, another thread may have held the lock.
static OPEN: PerProcess<Mutex<OpenLibraries>> = PerProcess::new(|_| Mutex::new(BTreeMap::new()));

type OpenLibraries = BTreeMap<(u32, Option<PathBuf>), &'static Nvml>;

/// Returns the library of this path, opened once for each process.
pub(crate) fn open_library(path: Option<&PathBuf>) -> Result<&'static Nvml, NvmlError> {
    let key = (std::process::id(), path.cloned());
    if let Some(nvml) = lock(OPEN.get()).get(&key) {
        return Ok(nvml);
    }
    // The call may hang, so the lock is not held.
    let nvml = match path {
        Some(path) => Nvml::builder().lib_path(OsStr::new(path)).init()?,
        None => Nvml::init()?,
    };
    // Two threads may both get here. The loser's handle is leaked; NVML counts its initializations.
    let nvml: &'static Nvml = Box::leak(Box::new(nvml));
    Ok(*lock(OPEN.get()).entry(key).or_insert(nvml))
}

/// Returns why NVML could not be opened, with the remedy.
pub(crate) fn open_error(error: &NvmlError) -> Unavailable {
    let remedy = match error {
        NvmlError::LibloadingError(_) => return Unavailable::absent(format!("no NVIDIA driver: {error}")),
        NvmlError::LibRmVersionMismatch => ". The driver was updated while it was in use: restart the machine",
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            ". Let this process open the device files /dev/nvidia*, or set GPU_PROBE=off"
        }
        _ => "",
    };
    Unavailable::failure(format!("cannot start NVML: {error}{remedy}"))
}

/// Returns `true` for drivers 535.43 to 535.86. These fill entries of 32 bytes where the wrapper
/// reads 24, and could write past its buffer. One symbol that they have and one that they lack
/// identify them (<https://github.com/XuehaiPan/nvitop/pull/79>).
fn misreads_process_entries(nvml: &Nvml) -> bool {
    let library = nvml.lib();
    library.nvmlDeviceGetConfComputeMemSizeInfo.is_ok() && library.nvmlDeviceGetRunningProcessDetailList.is_err()
}
