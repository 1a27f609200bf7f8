//! The calls of NVML that read all GPUs, each as often as its value is worth.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::log::Level;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, MemoryLocation, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::nvidia::device_map::{DeviceAddress, MappedBy, by_environment, device_count};
use crate::nvidia::memory_info::memory_info;
use crate::nvidia::query::{NoAnswer, Query, RETRY_AFTER};
use crate::nvidia::sampler::Unavailable;
use crate::nvidia::session::{identity, open_error, open_library};
use crate::nvidia::visible_devices::VisibleDevices;

/// All GPUs, with NVML open. Each call into NVML may hang.
pub(super) struct GpuSet {
    gpus: Vec<MonitoredGpu>,
    values: BTreeMap<String, (Instant, f64)>,
    /// See [`GpuSnapshot`].
    pub(super) visible: Option<Vec<u32>>,
}

/// The newest values, each with the time of its reading, and the notices that hold at the moment.
#[derive(Debug, Clone, Default)]
pub(super) struct GpuSnapshot {
    pub(super) values: BTreeMap<String, (Instant, f64)>,
    pub(super) notices: Vec<(Level, String)>,
    /// Number of GPUs of the machine.
    pub(super) count: u32,
    /// The GPUs that this process sees, by NVML's index; `None` if they are not certain, or slices.
    pub(super) visible: Option<Vec<u32>>,
}

impl GpuSet {
    /// Opens NVML and lists the GPUs.
    ///
    /// # Errors
    ///
    /// If there is no driver, no GPU, or NVML does not start.
    pub(super) fn open(
        library: Option<&PathBuf>,
        visible: &VisibleDevices,
        is_pci_order: bool,
    ) -> Result<Self, Unavailable> {
        let nvml = open_library(library).map_err(|error| open_error(&error))?;
        match device_count(nvml)? {
            0 => Err(Unavailable::absent("NVML lists no GPU")),
            count => Ok(Self {
                gpus: (0..count).map(|index| MonitoredGpu::new(nvml, index)).collect(),
                values: BTreeMap::new(),
                visible: visible_indices(nvml, visible, is_pci_order),
            }),
        }
    }

    /// Makes the calls that are due on each GPU. The snapshot keeps the last values of the others.
    pub(super) fn read(&mut self, now: Instant) -> GpuSnapshot {
        let mut notices = Vec::new();
        for gpu in &mut self.gpus {
            gpu.read(now, &mut self.values);
            gpu.add_notices(&mut notices);
        }
        GpuSnapshot {
            values: self.values.clone(),
            notices,
            count: self.gpus.len() as u32,
            visible: self.visible.clone(),
        }
    }
}

/// A GPU and the state of its queries.
struct MonitoredGpu {
    nvml: &'static Nvml,
    index: u32,
    handle_query: Query,
    /// The queries of [`CALLS`], in the same order.
    queries: Vec<Query>,
    power_limit: PowerLimit,
    identity: Option<String>,
    lost_at: Option<Instant>,
}

/// The power limit that was read last; the power is reported as a share of it.
#[derive(Debug, Default)]
struct PowerLimit {
    watts: Option<f64>,
}

/// One call of NVML.
struct GpuCall {
    /// Interval in seconds; 0: as often as a logger asks.
    seconds: u64,
    /// Name of the query, for messages.
    subject: &'static str,
    /// Makes the call, and pushes its values by name.
    read: ReadGpu,
}

/// Reads a device, and pushes values by name.
type ReadGpu = fn(&Device<'_>, &mut PowerLimit, &mut dyn FnMut(&str, f64)) -> Result<(), NvmlError>;

/// Shortest time between two calls of one kind. A logger asks every 2 s and once at its end; with
/// several loggers the calls are no more frequent than this.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// All calls. The power limit precedes the power, which is reported as a share of it.
const CALLS: [GpuCall; 11] = [
    GpuCall {
        seconds: 0,
        subject: "the memory",
        read: |device, _, push| {
            let memory = memory_info(device)?;
            if memory.total > 0 && memory.used <= memory.total {
                push("memoryAllocatedBytes", memory.used as f64);
                push("memoryAllocated", 100.0 * memory.used as f64 / memory.total as f64);
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 0,
        subject: "the utilization",
        read: |device, _, push| {
            let utilization = device.utilization_rates()?;
            for (name, percent) in [("gpu", utilization.gpu), ("memory", utilization.memory)] {
                if percent <= 100 {
                    push(name, f64::from(percent));
                }
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 60,
        subject: "the power limit",
        read: |device, limit, push| {
            if let Some(milliwatts) = available(device.enforced_power_limit()?) {
                let watts = milliwatts / 1e3;
                limit.watts = Some(watts).filter(|watts| *watts > 0.0);
                push("enforcedPowerLimitWatts", watts);
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 60,
        subject: "corrected memory errors",
        read: |device, _, push| read_errors(device, MemoryError::Corrected, "correctedMemoryErrors", push),
    },
    GpuCall {
        seconds: 60,
        subject: "uncorrected memory errors",
        read: |device, _, push| read_errors(device, MemoryError::Uncorrected, "uncorrectedMemoryErrors", push),
    },
    GpuCall {
        seconds: 10,
        subject: "the temperature",
        read: |device, _, push| {
            if let Some(celsius) = available(device.temperature(TemperatureSensor::Gpu)?) {
                push("temp", celsius);
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 10,
        subject: "the power",
        read: |device, limit, push| {
            if let Some(milliwatts) = available(device.power_usage()?) {
                let watts = milliwatts / 1e3;
                push("powerWatts", watts);
                if let Some(limit) = limit.watts {
                    push("powerPercent", 100.0 * watts / limit);
                }
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 10,
        subject: "the SM clock",
        read: |device, _, push| {
            if let Some(mhz) = available(device.clock_info(Clock::SM)?) {
                push("smClock", mhz);
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 10,
        subject: "the memory clock",
        read: |device, _, push| {
            if let Some(mhz) = available(device.clock_info(Clock::Memory)?) {
                push("memoryClock", mhz);
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 10,
        subject: "the energy",
        read: |device, _, push| {
            // Counted since the driver was loaded.
            let millijoules = device.total_energy_consumption()?;
            if millijoules != u64::MAX {
                push("energyJoules", millijoules as f64 / 1e3);
            }
            Ok(())
        },
    },
    GpuCall {
        seconds: 10,
        subject: "the throttle reasons",
        read: |device, _, push| {
            push("throttleReasons", device.current_throttle_reasons()?.bits() as f64);
            Ok(())
        },
    },
];

/// Returns the value, unless it is NVML's number for "not available".
fn available(value: u32) -> Option<f64> {
    (value != u32::MAX).then_some(f64::from(value))
}

/// Reads the errors since the driver was loaded. The counter for the life of the device would never
/// reset.
fn read_errors(
    device: &Device<'_>,
    kind: MemoryError,
    name: &str,
    push: &mut dyn FnMut(&str, f64),
) -> Result<(), NvmlError> {
    let count = device.memory_error_counter(kind, EccCounter::Volatile, MemoryLocation::Device)?;
    if count != u64::MAX {
        push(name, count as f64);
    }
    Ok(())
}

/// Returns NVML's indices of the devices that this process sees. `None` if an index may name
/// another device for CUDA, or the process sees a slice: NVML counts the energy of whole devices.
fn visible_indices(nvml: &'static Nvml, visible: &VisibleDevices, is_pci_order: bool) -> Option<Vec<u32>> {
    let map = by_environment(nvml, visible, is_pci_order).ok()?;
    // Of all devices the order is indifferent.
    let is_certain = map.mapped_by == MappedBy::Environment || *visible == VisibleDevices::All;
    let index = |address| match address {
        DeviceAddress::Index(index) => Some(index),
        _ => None,
    };
    is_certain
        .then(|| map.addresses.into_iter().map(index).collect())
        .flatten()
}

impl MonitoredGpu {
    /// A GPU by NVML's index. Makes no call.
    fn new(nvml: &'static Nvml, index: u32) -> Self {
        let query = |call: &GpuCall| Query::every(Duration::from_secs(call.seconds).max(MIN_INTERVAL));
        Self {
            nvml,
            index,
            handle_query: Query::every(MIN_INTERVAL),
            queries: CALLS.iter().map(query).collect(),
            power_limit: PowerLimit::default(),
            identity: None,
            lost_at: None,
        }
    }

    /// Reads the GPU, and drops its values once it is lost.
    fn read(&mut self, now: Instant, values: &mut BTreeMap<String, (Instant, f64)>) {
        if self.lost_at.is_some_and(|lost_at| now < lost_at + RETRY_AFTER) {
            return;
        }
        match self.ask(now, values) {
            Err(NoAnswer::DeviceLost) => {
                self.lost_at = Some(now);
                let own = format!("system/gpu.{}.", self.index);
                values.retain(|name, _| !name.starts_with(&own));
            }
            Ok(()) => self.lost_at = None,
            Err(_) => {}
        }
    }

    /// Makes the calls that are due and stores their values. Stops at the first call that finds the
    /// GPU lost; a call that fails otherwise only leaves out its own values.
    fn ask(&mut self, now: Instant, values: &mut BTreeMap<String, (Instant, f64)>) -> Result<(), NoAnswer> {
        // The handle is requested each time: the old handle of a lost device stays invalid.
        let device = self.handle_query.ask(now, || self.nvml.device_by_index(self.index))?;
        self.identity.get_or_insert_with(|| identity(&device));
        let index = self.index;
        let mut push = |name: &str, value: f64| {
            values.insert(format!("system/gpu.{index}.{name}"), (now, value));
        };
        for (query, call) in self.queries.iter_mut().zip(&CALLS) {
            let answer = query.ask(now, || (call.read)(&device, &mut self.power_limit, &mut push));
            if answer == Err(NoAnswer::DeviceLost) {
                return Err(NoAnswer::DeviceLost);
            }
        }
        Ok(())
    }

    /// Adds the messages that hold at the moment.
    fn add_notices(&self, notices: &mut Vec<(Level, String)>) {
        let index = self.index;
        if self.lost_at.is_some() {
            let identity = self.identity.as_deref().unwrap_or("unknown device");
            let text = format!("GPU {index} is lost: {identity}. Retrying every minute");
            notices.push((Level::Error, text));
        }
        let queries = self.queries.iter().zip(&CALLS);
        let queries = queries.map(|(query, call)| (query, call.subject));
        let all = queries.chain([(&self.handle_query, "the device handle")]);
        let texts = all.filter_map(|(query, subject)| query.notice(subject));
        notices.extend(texts.map(|text| (Level::Info, format!("GPU {index}: {text}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::fake::FakeLibrary;

    fn gpu_set(fake: &FakeLibrary) -> GpuSet {
        GpuSet::open(Some(&fake.path().to_owned()), &VisibleDevices::All, false)
            .unwrap_or_else(|unavailable| panic!("{}", unavailable.reason))
    }

    fn read(gpus: &mut GpuSet, now: Instant) -> Vec<(String, f64)> {
        let short = |name: &str| name.strip_prefix("system/gpu.").expect("a reading of a GPU").to_owned();
        let values = gpus.read(now).values.into_iter();
        let new = values.filter(|(_, (at, _))| *at == now);
        new.map(|(name, (_, value))| (short(&name), value)).collect()
    }

    fn names(values: &[(String, f64)]) -> Vec<&str> {
        values.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn each_reading_has_the_unit_of_its_name() {
        let fake = FakeLibrary::with_devices(1);
        for (name, value) in [
            ("gpu", 97),
            ("memory_busy", 41),
            ("temperature", 66),
            ("milliwatts", 350_500),
            ("limit", 701_000),
            ("sm_clock", 1980),
            ("memory_clock", 2619),
            ("millijoules", 5_000_000),
            ("throttling", 4),
            ("corrected", 2),
            ("uncorrected", 1),
        ] {
            fake.set(&format!("0.{name}"), value);
        }
        let mut gpus = gpu_set(&fake);
        let start = Instant::now();
        let expected = [
            ("0.memoryAllocatedBytes", 3e9),
            ("0.memoryAllocated", 3.75),
            ("0.gpu", 97.0),
            ("0.memory", 41.0),
            ("0.enforcedPowerLimitWatts", 701.0),
            ("0.correctedMemoryErrors", 2.0),
            ("0.uncorrectedMemoryErrors", 1.0),
            ("0.temp", 66.0),
            ("0.powerWatts", 350.5),
            ("0.powerPercent", 50.0),
            ("0.smClock", 1980.0),
            ("0.memoryClock", 2619.0),
            ("0.energyJoules", 5000.0),
            ("0.throttleReasons", 4.0),
        ];
        let mut expected = expected.map(|(name, value)| (name.to_owned(), value));
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(read(&mut gpus, start), expected);
        fake.set("0.millijoules", 5_750_000);
        let later = read(&mut gpus, start + Duration::from_secs(10));
        assert!(later.contains(&("0.energyJoules".to_owned(), 5750.0)), "{later:?}");
    }

    #[test]
    fn expensive_readings_are_rare() {
        let fake = FakeLibrary::with_devices(8);
        let mut gpus = gpu_set(&fake);
        let start = Instant::now();
        for seconds in (0..120).step_by(2) {
            read(&mut gpus, start + Duration::from_secs(seconds));
        }
        // In two minutes and of 8 devices: 2 calls every 2 s, 6 every 10 s, 3 every 60 s, and one
        // for the identity.
        assert_eq!(
            fake.get("calls.memory_v2") + fake.get("calls.readings"),
            8 * (60 * 2 + 12 * 6 + 2 * 3) + 8
        );
        // The most expensive call is never made.
        assert_eq!(fake.get("calls.processes"), 0);
    }

    #[test]
    fn unsupported_readings_are_left_out() {
        let fake = FakeLibrary::variant(&["without_readings"], 2);
        let mut bare = gpu_set(&fake);
        let expected = [
            "0.memoryAllocated",
            "0.memoryAllocatedBytes",
            "1.memoryAllocated",
            "1.memoryAllocatedBytes",
        ];
        assert_eq!(names(&read(&mut bare, Instant::now())), expected);
    }

    #[test]
    fn lost_gpu_is_reported_and_retried_after_a_minute() {
        let fake = FakeLibrary::with_devices(2);
        let mut gpus = gpu_set(&fake);
        let start = Instant::now();
        let mut lost = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let snapshot = gpus.read(now);
            let is_first =
                |(name, (at, _)): (&String, &(Instant, f64))| name.starts_with("system/gpu.0.") && *at == now;
            let is_read = snapshot.values.iter().any(is_first);
            let texts: Vec<_> = snapshot.notices.into_iter().map(|(_, text)| text).collect();
            assert_eq!(texts.is_empty(), is_read);
            texts
        };
        assert!(lost(0).is_empty());
        fake.set("0.handle", 15);
        let expected = "GPU 0 is lost: NVIDIA H100, 80.0 GB, NVML device 0, GPU-0aaa-bbb, 0000:00:00.0, driver 550.54. \
                        Retrying every minute";
        assert_eq!(lost(2), [expected]);
        let handles = fake.get("calls.handle");
        fake.set("0.handle", 0);
        assert_eq!(lost(60), [expected]);
        assert_eq!(
            fake.get("calls.handle"),
            handles + 1,
            "the lost GPU was queried too early"
        );
        assert!(lost(62).is_empty());
    }

    #[test]
    fn impossible_values_are_left_out() {
        let fake = FakeLibrary::with_devices(1);
        for (name, value) in [
            ("gpu", 150),
            ("memory_busy", u64::from(u32::MAX)),
            ("used", u64::MAX),
            ("temperature", u64::from(u32::MAX)),
            ("milliwatts", u64::from(u32::MAX)),
            ("limit", u64::from(u32::MAX)),
            ("sm_clock", u64::from(u32::MAX)),
            ("memory_clock", u64::from(u32::MAX)),
            ("millijoules", u64::MAX),
            ("corrected", u64::MAX),
            ("uncorrected", u64::MAX),
        ] {
            fake.set(&format!("0.{name}"), value);
        }
        let read = read(&mut gpu_set(&fake), Instant::now());
        assert_eq!(names(&read), ["0.throttleReasons"]);
    }
}
