//! What NVML says of all the GPUs of a machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::Readings;
use logcore::log::Level;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, MemoryLocation, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::nvidia::device_map::device_count;
use crate::nvidia::driver_reader::DriverReader;
use crate::nvidia::memory_info::memory_info;
use crate::nvidia::query::{NoAnswer, Query, RETRY_AFTER};
use crate::nvidia::sampler::{SamplerTimeouts, SharedSamplers, Unavailable};
use crate::nvidia::session::{identity, open_library, why_not_open};

/// Opens the driver at the first reading. It is asked on a thread of its own: where it hangs, the host's readings go on.
#[derive(Debug)]
pub(crate) struct SystemGpus {
    /// Without it, nothing is read.
    driver: Option<DriverReader<GpuSnapshot>>,
    /// The newest reading that was told.
    told: Option<Instant>,
    /// What each counter of energy stood at first.
    energy: BTreeMap<String, f64>,
    said: Vec<(Level, String)>,
}

/// The newest values, each with the time of its reading, and what is to be said as long as it is so.
#[derive(Debug, Clone, Default)]
pub(crate) struct GpuSnapshot {
    values: BTreeMap<String, (Instant, f64)>,
    news: Vec<(Level, String)>,
}

static SNAPSHOTS: SharedSamplers<GpuSnapshot> = SharedSamplers::new();

/// Three times as old as what is read most rarely.
const STALE: Duration = Duration::from_secs(180);
/// Less than the logger waits for its last readings.
const PATIENCE: Duration = Duration::from_millis(150);

impl SystemGpus {
    /// Without a place of the library, which may be the system's, nothing is read.
    pub(crate) fn new(library: Option<Option<PathBuf>>) -> Self {
        let timeouts = SamplerTimeouts {
            unneeded: PATIENCE,
            later: PATIENCE,
            period: None,
            ..SamplerTimeouts::default()
        };
        Self::with_timeouts(library, timeouts)
    }

    fn with_timeouts(library: Option<Option<PathBuf>>, timeouts: SamplerTimeouts) -> Self {
        let driver = |library: Option<PathBuf>| {
            let of_driver = library.clone();
            DriverReader::new("readings of GPUs", &SNAPSHOTS, library, timeouts, move || {
                let mut machine = GpuSet::open(of_driver.as_ref())?;
                Ok(move || Ok(machine.read(Instant::now())))
            })
        };
        Self {
            driver: library.map(driver),
            told: None,
            energy: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// Adds what the driver has said since the last time. It is not waited for long: what comes later is added then.
    pub(crate) fn read(&mut self, readings: &mut Readings) {
        let Some(driver) = &mut self.driver else { return };
        if let Ok(snapshot) = driver.newest(false, readings) {
            self.tell(snapshot, readings);
        }
    }

    fn tell(&mut self, snapshot: GpuSnapshot, readings: &mut Readings) {
        for (level, text) in snapshot.news.iter().filter(|news| !self.said.contains(news)) {
            readings.note(*level, text.as_str());
        }
        self.said = snapshot.news;
        let told = self.told;
        // Others may have read for long before this one begins.
        let is_new = |at: &Instant| told.map_or(at.elapsed() < STALE, |told| *at > told);
        for (name, (at, value)) in snapshot.values.into_iter().filter(|(_, (at, _))| is_new(at)) {
            let since_start = match name.ends_with(".energyJoules") {
                // A driver that was loaded anew counts from 0.
                true => (value - *self.energy.entry(name.clone()).or_insert(value)).max(0.0),
                false => value,
            };
            readings.push(name, since_start);
            self.told = self.told.max(Some(at));
        }
    }
}

/// The GPUs, with the driver open. Its calls may hang.
struct GpuSet {
    gpus: Vec<MonitoredGpu>,
    values: BTreeMap<String, (Instant, f64)>,
}

struct MonitoredGpu {
    nvml: &'static Nvml,
    index: u32,
    finding: Query,
    /// One for each of [`CALLS`].
    questions: Vec<Query>,
    earlier: PowerLimit,
    identity: Option<String>,
    lost_at: Option<Instant>,
}

/// What a value is told against.
#[derive(Debug, Default)]
struct PowerLimit {
    limit_watts: Option<f64>,
}

/// What is read by one call: how often, in seconds, what it is, and how.
type GpuCall = (
    u64,
    &'static str,
    fn(&Device<'_>, &mut PowerLimit, &mut dyn FnMut(&str, f64)) -> Result<(), NvmlError>,
);

/// A device is asked as often as somebody wants to know, which is each 2 s for a logger and once more at its end, but no more often
/// than this.
const BETWEEN_READINGS: Duration = Duration::from_millis(500);

/// The limit of the power goes before the power, whose share of it is told. 0 s is as often as somebody asks.
const CALLS: [GpuCall; 11] = [
    (0, "the memory", |device, _, push| {
        let memory = memory_info(device)?;
        if memory.total > 0 && memory.used <= memory.total {
            push("memoryAllocatedBytes", memory.used as f64);
            push("memoryAllocated", 100.0 * memory.used as f64 / memory.total as f64);
        }
        Ok(())
    }),
    (0, "the utilisation", |device, _, push| {
        let utilisation = device.utilization_rates()?;
        for (name, percent) in [("gpu", utilisation.gpu), ("memory", utilisation.memory)] {
            if percent <= 100 {
                push(name, f64::from(percent));
            }
        }
        Ok(())
    }),
    (60, "the limit of the power", |device, earlier, push| {
        if let Some(watts) = known(device.enforced_power_limit()?).map(|milliwatts| milliwatts / 1e3) {
            earlier.limit_watts = Some(watts).filter(|watts| *watts > 0.0);
            push("enforcedPowerLimitWatts", watts);
        }
        Ok(())
    }),
    (60, "corrected errors", |device, _, push| {
        errors(device, MemoryError::Corrected, "correctedMemoryErrors", push)
    }),
    (60, "uncorrected errors", |device, _, push| {
        errors(device, MemoryError::Uncorrected, "uncorrectedMemoryErrors", push)
    }),
    (10, "the temperature", |device, _, push| {
        if let Some(celsius) = known(device.temperature(TemperatureSensor::Gpu)?) {
            push("temp", celsius);
        }
        Ok(())
    }),
    (10, "the power", |device, earlier, push| {
        if let Some(watts) = known(device.power_usage()?).map(|milliwatts| milliwatts / 1e3) {
            push("powerWatts", watts);
            if let Some(limit) = earlier.limit_watts {
                push("powerPercent", 100.0 * watts / limit);
            }
        }
        Ok(())
    }),
    (10, "the clock of its processors", |device, _, push| {
        if let Some(mhz) = known(device.clock_info(Clock::SM)?) {
            push("smClock", mhz);
        }
        Ok(())
    }),
    (10, "the clock of its memory", |device, _, push| {
        if let Some(mhz) = known(device.clock_info(Clock::Memory)?) {
            push("memoryClock", mhz);
        }
        Ok(())
    }),
    // Since the driver was loaded.
    (10, "the energy", |device, _, push| {
        let millijoules = device.total_energy_consumption()?;
        if millijoules != u64::MAX {
            push("energyJoules", millijoules as f64 / 1e3);
        }
        Ok(())
    }),
    (10, "the reasons of throttling", |device, _, push| {
        push("throttleReasons", device.current_throttle_reasons()?.bits() as f64);
        Ok(())
    }),
];

/// The number that stands for "not available" is none.
fn known(value: u32) -> Option<f64> {
    (value != u32::MAX).then_some(f64::from(value))
}

/// Since the driver was loaded: the count over the life of the device never goes back.
fn errors(
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

impl GpuSet {
    fn open(library: Option<&PathBuf>) -> Result<Self, Unavailable> {
        let nvml = open_library(library).map_err(|error| why_not_open(&error))?;
        match device_count(nvml)? {
            0 => Err(Unavailable::absent("NVML knows no GPU")),
            count => Ok(Self {
                gpus: (0..count).map(|index| MonitoredGpu::new(nvml, index)).collect(),
                values: BTreeMap::new(),
            }),
        }
    }

    fn read(&mut self, now: Instant) -> GpuSnapshot {
        let mut news = Vec::new();
        for gpu in &mut self.gpus {
            gpu.read(now, &mut self.values);
            gpu.tell(&mut news);
        }
        GpuSnapshot {
            values: self.values.clone(),
            news,
        }
    }
}

impl MonitoredGpu {
    fn new(nvml: &'static Nvml, index: u32) -> Self {
        let every = |(seconds, ..): &GpuCall| Query::every(Duration::from_secs(*seconds).max(BETWEEN_READINGS));
        Self {
            nvml,
            index,
            finding: Query::every(BETWEEN_READINGS),
            questions: CALLS.iter().map(every).collect(),
            earlier: PowerLimit::default(),
            identity: None,
            lost_at: None,
        }
    }

    fn read(&mut self, now: Instant, values: &mut BTreeMap<String, (Instant, f64)>) {
        if self.lost_at.is_some_and(|lost_at| now < lost_at + RETRY_AFTER) {
            return;
        }
        match self.ask(now, values) {
            Err(NoAnswer::DeviceLost) => {
                self.lost_at = Some(now);
                let of_this = format!("system/gpu.{}.", self.index);
                values.retain(|name, _| !name.starts_with(&of_this));
            }
            Ok(()) => self.lost_at = None,
            Err(_) => {}
        }
    }

    fn ask(&mut self, now: Instant, values: &mut BTreeMap<String, (Instant, f64)>) -> Result<(), NoAnswer> {
        // Its handle is asked for anew each time, so that one that was lost comes back.
        let device = self.finding.ask(now, || self.nvml.device_by_index(self.index))?;
        self.identity.get_or_insert_with(|| identity(&device));
        let index = self.index;
        let mut push = |name: &str, value: f64| {
            values.insert(format!("system/gpu.{index}.{name}"), (now, value));
        };
        for (question, (_, _, call)) in self.questions.iter_mut().zip(&CALLS) {
            if question.ask(now, || call(&device, &mut self.earlier, &mut push)) == Err(NoAnswer::DeviceLost) {
                return Err(NoAnswer::DeviceLost);
            }
        }
        Ok(())
    }

    /// What is to be said of it now.
    fn tell(&self, news: &mut Vec<(Level, String)>) {
        let index = self.index;
        if self.lost_at.is_some() {
            let identity = self.identity.as_deref().unwrap_or("of which nothing is known");
            let text = format!("GPU {index} is lost to the driver: {identity}; it is looked for again every minute");
            news.push((Level::Error, text));
        }
        let questions = self.questions.iter().zip(&CALLS);
        let questions = questions.map(|(question, (_, what, _))| (question, *what));
        let all = questions.chain([(&self.finding, "itself")]);
        let texts = all.filter_map(|(question, what)| question.notice(what));
        news.extend(texts.map(|text| (Level::Info, format!("GPU {index}: {text}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::fake::FakeLibrary;
    use crate::nvidia::tests::eager;

    fn machine(fake: &FakeLibrary) -> GpuSet {
        GpuSet::open(Some(&fake.path().to_owned())).unwrap_or_else(|gone| panic!("{}", gone.why))
    }

    fn gpus(fake: &FakeLibrary) -> SystemGpus {
        SystemGpus::with_timeouts(Some(Some(fake.path().to_owned())), eager())
    }

    fn read(machine: &mut GpuSet, now: Instant) -> Vec<(String, f64)> {
        let short = |name: &str| name.strip_prefix("system/gpu.").expect("its own family").to_owned();
        let values = machine.read(now).values.into_iter();
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
        let mut machine = machine(&fake);
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
        assert_eq!(read(&mut machine, start), expected);
        fake.set("0.millijoules", 5_750_000);
        let later = read(&mut machine, start + Duration::from_secs(10));
        assert!(later.contains(&("0.energyJoules".to_owned(), 5750.0)), "{later:?}");
    }

    #[test]
    fn dear_readings_are_rare() {
        let fake = FakeLibrary::with_devices(8);
        let mut machine = machine(&fake);
        let start = Instant::now();
        for seconds in (0..120).step_by(2) {
            read(&mut machine, start + Duration::from_secs(seconds));
        }
        // In two minutes, of 8 devices: 2 calls every 2 s, 6 every 10 s, 3 every 60 s. And once how large each is.
        assert_eq!(
            fake.get("calls.memory_v2") + fake.get("calls.readings"),
            8 * (60 * 2 + 12 * 6 + 2 * 3) + 8
        );
        // And the dearest never.
        assert_eq!(fake.get("calls.processes"), 0);
    }

    #[test]
    fn what_a_device_does_not_have_is_left_out() {
        let fake = FakeLibrary::variant(&["without_readings"], 2);
        let mut bare = machine(&fake);
        let expected = [
            "0.memoryAllocated",
            "0.memoryAllocatedBytes",
            "1.memoryAllocated",
            "1.memoryAllocatedBytes",
        ];
        assert_eq!(names(&read(&mut bare, Instant::now())), expected);
    }

    #[test]
    fn one_that_is_lost_is_said_and_looked_for_again_after_a_minute() {
        let fake = FakeLibrary::with_devices(2);
        let mut machine = machine(&fake);
        let start = Instant::now();
        let mut lost = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let snapshot = machine.read(now);
            let is_first =
                |(name, (at, _)): (&String, &(Instant, f64))| name.starts_with("system/gpu.0.") && *at == now;
            let is_read = snapshot.values.iter().any(is_first);
            let said: Vec<_> = snapshot.news.into_iter().map(|(_, text)| text).collect();
            assert_eq!(said.is_empty(), is_read);
            said
        };
        assert!(lost(0).is_empty());
        fake.set("0.handle", 15);
        let said = "GPU 0 is lost to the driver: NVIDIA H100, 80.0 GB, NVML's device 0, GPU-0aaa-bbb, 0000:00:00.0, driver 550.54; it is \
                    looked for again every minute";
        assert_eq!(lost(2), [said]);
        let handles = fake.get("calls.handle");
        fake.set("0.handle", 0);
        assert_eq!(lost(60), [said]);
        assert_eq!(fake.get("calls.handle"), handles + 1, "the lost one was looked for");
        assert!(lost(62).is_empty());
    }

    #[test]
    fn what_cannot_be_is_left_out() {
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
        let read = read(&mut machine(&fake), Instant::now());
        assert_eq!(names(&read), ["0.throttleReasons"]);
    }

    #[test]
    fn energy_is_told_since_the_beginning_of_each_who_wants_to_know() {
        let start = Instant::now();
        let energy = |gpus: &mut SystemGpus, seconds, joules| {
            let read = (start + Duration::from_secs(seconds), joules);
            let values = [("system/gpu.0.energyJoules".to_owned(), read)].into();
            let mut readings = Readings::default();
            gpus.tell(
                GpuSnapshot {
                    values,
                    news: Vec::new(),
                },
                &mut readings,
            );
            readings.iter().next().map(|(_, value)| value.as_f64())
        };
        let (mut first, mut second) = (SystemGpus::new(None), SystemGpus::new(None));
        assert_eq!(energy(&mut first, 0, 5000.0), Some(0.0));
        assert_eq!(energy(&mut first, 10, 5750.0), Some(750.0));
        assert_eq!(energy(&mut second, 10, 5750.0), Some(0.0));
        assert_eq!(energy(&mut first, 10, 5750.0), None, "it was told");
        assert_eq!(energy(&mut second, 20, 6000.0), Some(250.0));
        assert_eq!(energy(&mut second, 30, 1.0), Some(0.0), "the counter began anew");
    }

    #[test]
    fn an_answer_that_comes_late_is_told_then_and_to_everybody() {
        let fake = FakeLibrary::with_devices(1);
        let impatient = SamplerTimeouts {
            unneeded: Duration::ZERO,
            later: Duration::ZERO,
            young: Duration::from_secs(60),
            ..eager()
        };
        let open = || SystemGpus::with_timeouts(Some(Some(fake.path().to_owned())), impatient);
        let mut both = [open(), open()];
        for gpus in &mut both {
            let mut told = Vec::new();
            while told.is_empty() {
                let mut readings = Readings::default();
                gpus.read(&mut readings);
                told.extend(readings.iter().map(|(name, _)| name.to_owned()));
            }
            assert!(told.contains(&"system/gpu.0.temp".to_owned()), "{told:?}");
        }
        assert_eq!(fake.get("calls.init"), 1);
    }

    #[test]
    fn trouble_with_the_driver_is_said_once() {
        let fake = FakeLibrary::with_devices(1);
        fake.set("init", 4);
        let mut gpus = gpus(&fake);
        for notes in [1, 0] {
            let mut readings = Readings::default();
            gpus.read(&mut readings);
            assert_eq!((readings.iter().len(), readings.notes().len()), (0, notes));
        }
        let mut off = SystemGpus::new(None);
        let mut readings = Readings::default();
        off.read(&mut readings);
        assert_eq!(readings, Readings::default());
    }

    #[test]
    fn a_driver_that_hangs_keeps_nobody_from_reading_on() {
        let fake = FakeLibrary::with_devices(1);
        let timeouts = SamplerTimeouts {
            later: Duration::from_millis(5),
            young: Duration::ZERO,
            ..eager()
        };
        let mut gpus = SystemGpus::with_timeouts(Some(Some(fake.path().to_owned())), timeouts);
        let mut sample = || {
            let mut readings = Readings::default();
            gpus.read(&mut readings);
            let stalled = readings
                .notes()
                .filter(|(_, text)| text.starts_with("gpu.sampler_stalled: "));
            (readings.iter().len() > 0, stalled.count())
        };
        assert_eq!(sample(), (true, 0));
        fake.set("hang_at_handle", 1);
        // It is asked when it is time again.
        let first = std::iter::repeat_with(&mut sample).find(|(_, said)| *said > 0);
        assert_eq!((first, sample()), (Some((false, 1)), (false, 0)));
        fake.set("hang_at_handle", 0);
        // The late answer is of another time, and is not handed out; the one after it is.
        while gpus
            .driver
            .as_mut()
            .is_some_and(|driver| driver.newest(false, &mut Readings::default()).is_err())
        {
            std::thread::yield_now();
        }
    }
}
