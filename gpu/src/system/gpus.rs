//! What NVML says of all the GPUs of a machine.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use logcore::Readings;
use logcore::log::Level;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, MemoryLocation, TemperatureSensor};
use nvml_wrapper::{Device, Nvml};

use crate::gpu::memory_info::memory_info;
use crate::gpu::nvml::{Question, open_library, why_not_open};
use crate::system::due::Due;

/// Opens the driver at the first reading.
#[derive(Debug)]
pub(crate) struct Gpus {
    /// Where its library is, until it was opened; the system's, if that has no path.
    unopened: Option<Option<PathBuf>>,
    devices: Vec<Gpu>,
    middle: Due,
    slow: Due,
}

struct Gpu {
    nvml: &'static Nvml,
    index: u32,
    device: Question,
    memory: Question,
    utilisation: Question,
    temperature: Question,
    power: Question,
    sm_clock: Question,
    memory_clock: Question,
    energy: Question,
    throttling: Question,
    limit: Question,
    corrected: Question,
    uncorrected: Question,
    /// Of the first reading, in mJ since the driver was loaded.
    first_energy: Option<u64>,
    limit_watts: Option<f64>,
}

impl Gpus {
    /// Without a place of the library, nothing is read.
    pub(crate) fn new(library: Option<Option<PathBuf>>) -> Self {
        Self {
            unopened: library,
            devices: Vec::new(),
            middle: Due::every(10),
            slow: Due::every(60),
        }
    }

    pub(crate) fn read(&mut self, now: Instant, readings: &mut Readings) {
        if let Some(library) = self.unopened.take() {
            self.open(library, readings);
        }
        let (middle, slow) = (self.middle.is_now(now), self.slow.is_now(now));
        for gpu in &mut self.devices {
            gpu.read(middle, slow, readings);
        }
    }

    fn open(&mut self, library: Option<PathBuf>, readings: &mut Readings) {
        let opened = open_library(library.as_ref()).and_then(|nvml| Ok((nvml, nvml.device_count()?)));
        match opened {
            Ok((nvml, count)) => self.devices = (0..count).map(|index| Gpu::new(nvml, index)).collect(),
            Err(error) => {
                let gone = why_not_open(&error);
                if gone.is_trouble {
                    readings.note(Level::Warn, format!("no readings of GPUs: {}", gone.why));
                }
            }
        }
    }
}

impl Gpu {
    fn new(nvml: &'static Nvml, index: u32) -> Self {
        let new = Question::default();
        Self {
            nvml,
            index,
            device: new,
            memory: new,
            utilisation: new,
            temperature: new,
            power: new,
            sm_clock: new,
            memory_clock: new,
            energy: new,
            throttling: new,
            limit: new,
            corrected: new,
            uncorrected: new,
            first_energy: None,
            limit_watts: None,
        }
    }

    fn read(&mut self, middle: bool, slow: bool, readings: &mut Readings) {
        // Its handle is asked for anew each time, so that one that was lost comes back.
        let Ok(device) = self.device.ask(|| self.nvml.device_by_index(self.index)) else {
            return;
        };
        let index = self.index;
        let mut push = |name: &str, value: f64| readings.push(format!("system/gpu.{index}.{name}"), value);
        self.read_often(&device, &mut push);
        // The limit first: the share of it needs it.
        if slow {
            self.read_rarely(&device, &mut push);
        }
        if middle {
            self.read_now_and_then(&device, &mut push);
        }
    }

    fn read_often(&mut self, device: &Device<'_>, push: &mut impl FnMut(&str, f64)) {
        if let Ok(memory) = self.memory.ask(|| memory_info(device)) {
            push("memoryAllocatedBytes", memory.used as f64);
            if memory.total > 0 {
                push("memoryAllocated", 100.0 * memory.used as f64 / memory.total as f64);
            }
        }
        if let Ok(utilisation) = self.utilisation.ask(|| device.utilization_rates()) {
            push("gpu", f64::from(utilisation.gpu));
            push("memory", f64::from(utilisation.memory));
        }
    }

    fn read_now_and_then(&mut self, device: &Device<'_>, push: &mut impl FnMut(&str, f64)) {
        if let Ok(celsius) = self.temperature.ask(|| device.temperature(TemperatureSensor::Gpu)) {
            push("temp", f64::from(celsius));
        }
        if let Ok(milliwatts) = self.power.ask(|| device.power_usage()) {
            let watts = f64::from(milliwatts) / 1e3;
            push("powerWatts", watts);
            if let Some(limit) = self.limit_watts {
                push("powerPercent", 100.0 * watts / limit);
            }
        }
        if let Ok(mhz) = self.sm_clock.ask(|| device.clock_info(Clock::SM)) {
            push("smClock", f64::from(mhz));
        }
        if let Ok(mhz) = self.memory_clock.ask(|| device.clock_info(Clock::Memory)) {
            push("memoryClock", f64::from(mhz));
        }
        if let Ok(millijoules) = self.energy.ask(|| device.total_energy_consumption()) {
            let first = *self.first_energy.get_or_insert(millijoules);
            push("energyJoules", millijoules.saturating_sub(first) as f64 / 1e3);
        }
        if let Ok(reasons) = self.throttling.ask(|| device.current_throttle_reasons()) {
            push("throttleReasons", reasons.bits() as f64);
        }
    }

    fn read_rarely(&mut self, device: &Device<'_>, push: &mut impl FnMut(&str, f64)) {
        if let Ok(milliwatts) = self.limit.ask(|| device.enforced_power_limit()) {
            let watts = f64::from(milliwatts) / 1e3;
            self.limit_watts = Some(watts).filter(|watts| *watts > 0.0);
            push("enforcedPowerLimitWatts", watts);
        }
        let errors = |kind| {
            // Since the driver was loaded: the count over the life of the device never goes back.
            device.memory_error_counter(kind, EccCounter::Volatile, MemoryLocation::Device)
        };
        if let Ok(count) = self.corrected.ask(|| errors(MemoryError::Corrected)) {
            push("correctedMemoryErrors", count as f64);
        }
        if let Ok(count) = self.uncorrected.ask(|| errors(MemoryError::Uncorrected)) {
            push("uncorrectedMemoryErrors", count as f64);
        }
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gpu::fake::Fake;

    fn gpus(fake: &Fake) -> Gpus {
        Gpus::new(Some(Some(fake.path().to_owned())))
    }

    fn read(gpus: &mut Gpus, now: Instant) -> Vec<(String, f64)> {
        let mut readings = Readings::default();
        gpus.read(now, &mut readings);
        let short = |name: &str| name.strip_prefix("system/gpu.").expect("its own family").to_owned();
        readings
            .iter()
            .map(|(name, value)| (short(name), value.as_f64()))
            .collect()
    }

    fn names(values: &[(String, f64)]) -> Vec<&str> {
        values.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn each_reading_has_the_unit_of_its_name() {
        let fake = Fake::with_devices(1);
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
        let mut gpus = gpus(&fake);
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
            ("0.energyJoules", 0.0),
            ("0.throttleReasons", 4.0),
        ];
        assert_eq!(
            read(&mut gpus, start),
            expected.map(|(name, value)| (name.to_owned(), value))
        );
        fake.set("0.millijoules", 5_750_000);
        let later = read(&mut gpus, start + Duration::from_secs(10));
        assert!(later.contains(&("0.energyJoules".to_owned(), 750.0)), "{later:?}");
    }

    #[test]
    fn dear_readings_are_rare() {
        let fake = Fake::with_devices(8);
        let mut gpus = gpus(&fake);
        let start = Instant::now();
        for seconds in (0..120).step_by(2) {
            read(&mut gpus, start + Duration::from_secs(seconds));
        }
        // In two minutes, of 8 devices: 2 calls every 2 s, 6 every 10 s, 3 every 60 s.
        assert_eq!(
            fake.get("calls.memory_v2") + fake.get("calls.readings"),
            8 * (60 * 2 + 12 * 6 + 2 * 3)
        );
        // And the dearest never.
        assert_eq!(fake.get("calls.processes"), 0);
    }

    #[test]
    fn what_a_device_does_not_have_is_left_out() {
        let fake = Fake::variant(&["without_readings"], 2);
        let mut gpus = gpus(&fake);
        let expected = [
            "0.memoryAllocatedBytes",
            "0.memoryAllocated",
            "1.memoryAllocatedBytes",
            "1.memoryAllocated",
        ];
        assert_eq!(names(&read(&mut gpus, Instant::now())), expected);

        // One is gone, and comes back.
        let fake = Fake::with_devices(2);
        let mut gpus = self::gpus(&fake);
        fake.set("0.handle", 15);
        let is_first = |name: &&str| name.starts_with("0.");
        assert!(!names(&read(&mut gpus, Instant::now())).iter().any(is_first));
        fake.set("0.handle", 0);
        assert!(names(&read(&mut gpus, Instant::now())).iter().any(is_first));
    }

    #[test]
    fn trouble_with_the_driver_is_said_once() {
        let fake = Fake::with_devices(1);
        fake.set("init", 4);
        let mut gpus = gpus(&fake);
        for notes in [1, 0] {
            let mut readings = Readings::default();
            gpus.read(Instant::now(), &mut readings);
            assert_eq!((readings.iter().len(), readings.notes().len()), (0, notes));
        }
        let mut off = Gpus::new(None);
        let mut readings = Readings::default();
        off.read(Instant::now(), &mut readings);
        assert_eq!(readings, Readings::default());
    }
}
