//! What NVML says of all the GPUs of a machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::Readings;
use logcore::log::Level;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, MemoryLocation, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::driver::Driver;
use crate::gpu::memory_info::memory_info;
use crate::gpu::nvml::{open_library, why_not_open};
use crate::gpu::question::Question;
use crate::gpu::sampler::{Gone, Patience};

/// Opens the driver at the first reading. It is asked on a thread of its own: where it hangs, the host's readings go on.
#[derive(Debug)]
pub(crate) struct Gpus {
    /// Without it, nothing is read.
    driver: Option<Driver<Readings>>,
}

/// Less than the logger waits for its last readings.
const PATIENCE: Duration = Duration::from_millis(150);

impl Gpus {
    /// Without a place of the library, which may be the system's, nothing is read.
    pub(crate) fn new(library: Option<Option<PathBuf>>) -> Self {
        let patience = Patience {
            unneeded: PATIENCE,
            later: PATIENCE,
            period: None,
            ..Patience::default()
        };
        Self::with_patience(library, patience)
    }

    fn with_patience(library: Option<Option<PathBuf>>, patience: Patience) -> Self {
        let driver = |library: Option<PathBuf>| {
            Driver::new("readings of GPUs", patience, move || {
                let mut machine = Machine::open(library.as_ref())?;
                Ok(move || Ok(machine.read(Instant::now())))
            })
        };
        Self {
            driver: library.map(driver),
        }
    }

    /// Adds what the driver says now; it is not waited for long.
    pub(crate) fn read(&mut self, readings: &mut Readings) {
        let Some(driver) = &mut self.driver else { return };
        if let Ok(read) = driver.newest(false, readings) {
            for (level, text) in read.notes() {
                readings.note(level, text);
            }
            for (name, value) in read.iter() {
                readings.push(name, value);
            }
        }
    }
}

/// The GPUs, with the driver open. Its calls may hang.
struct Machine(Vec<Gpu>);

struct Gpu {
    nvml: &'static Nvml,
    index: u32,
    finding: Question,
    /// One for each of [`CALLS`].
    questions: Vec<Question>,
    earlier: Earlier,
}

/// What a value is told against.
#[derive(Debug, Default)]
struct Earlier {
    /// Of the first reading, in mJ since the driver was loaded.
    energy: Option<u64>,
    limit_watts: Option<f64>,
}

/// What is read by one call: how often, in seconds, what it is, and how.
type Call = (
    u64,
    &'static str,
    fn(&Device<'_>, &mut Earlier, &mut dyn FnMut(&str, f64)) -> Result<(), NvmlError>,
);

/// The limit of the power goes before the power, whose share of it is told.
const CALLS: [Call; 11] = [
    (2, "the memory", |device, _, push| {
        let memory = memory_info(device)?;
        push("memoryAllocatedBytes", memory.used as f64);
        if memory.total > 0 {
            push("memoryAllocated", 100.0 * memory.used as f64 / memory.total as f64);
        }
        Ok(())
    }),
    (2, "the utilisation", |device, _, push| {
        let utilisation = device.utilization_rates()?;
        push("gpu", f64::from(utilisation.gpu));
        push("memory", f64::from(utilisation.memory));
        Ok(())
    }),
    (60, "the limit of the power", |device, earlier, push| {
        let watts = f64::from(device.enforced_power_limit()?) / 1e3;
        earlier.limit_watts = Some(watts).filter(|watts| *watts > 0.0);
        push("enforcedPowerLimitWatts", watts);
        Ok(())
    }),
    (60, "corrected errors", |device, _, push| {
        push("correctedMemoryErrors", errors(device, MemoryError::Corrected)?);
        Ok(())
    }),
    (60, "uncorrected errors", |device, _, push| {
        push("uncorrectedMemoryErrors", errors(device, MemoryError::Uncorrected)?);
        Ok(())
    }),
    (10, "the temperature", |device, _, push| {
        push("temp", f64::from(device.temperature(TemperatureSensor::Gpu)?));
        Ok(())
    }),
    (10, "the power", |device, earlier, push| {
        let watts = f64::from(device.power_usage()?) / 1e3;
        push("powerWatts", watts);
        if let Some(limit) = earlier.limit_watts {
            push("powerPercent", 100.0 * watts / limit);
        }
        Ok(())
    }),
    (10, "the clock of its processors", |device, _, push| {
        push("smClock", f64::from(device.clock_info(Clock::SM)?));
        Ok(())
    }),
    (10, "the clock of its memory", |device, _, push| {
        push("memoryClock", f64::from(device.clock_info(Clock::Memory)?));
        Ok(())
    }),
    (10, "the energy", |device, earlier, push| {
        let millijoules = device.total_energy_consumption()?;
        let first = *earlier.energy.get_or_insert(millijoules);
        push("energyJoules", millijoules.saturating_sub(first) as f64 / 1e3);
        Ok(())
    }),
    (10, "the reasons of throttling", |device, _, push| {
        push("throttleReasons", device.current_throttle_reasons()?.bits() as f64);
        Ok(())
    }),
];

/// Since the driver was loaded: the count over the life of the device never goes back.
fn errors(device: &Device<'_>, kind: MemoryError) -> Result<f64, NvmlError> {
    let count = device.memory_error_counter(kind, EccCounter::Volatile, MemoryLocation::Device)?;
    Ok(count as f64)
}

impl Machine {
    fn open(library: Option<&PathBuf>) -> Result<Self, Gone> {
        let opened = open_library(library).and_then(|nvml| Ok((nvml, nvml.device_count()?)));
        let (nvml, count) = opened.map_err(|error| why_not_open(&error))?;
        match count {
            0 => Err(Gone::absent("NVML knows no GPU")),
            count => Ok(Self((0..count).map(|index| Gpu::new(nvml, index)).collect())),
        }
    }

    fn read(&mut self, now: Instant) -> Readings {
        let mut readings = Readings::default();
        for gpu in &mut self.0 {
            gpu.read(now, &mut readings);
        }
        readings
    }
}

impl Gpu {
    fn new(nvml: &'static Nvml, index: u32) -> Self {
        let every = |(seconds, ..): &Call| Question::every(Duration::from_secs(*seconds));
        Self {
            nvml,
            index,
            finding: Question::every(Duration::ZERO),
            questions: CALLS.iter().map(every).collect(),
            earlier: Earlier::default(),
        }
    }

    fn read(&mut self, now: Instant, readings: &mut Readings) {
        // Its handle is asked for anew each time, so that one that was lost comes back.
        let Ok(device) = self.finding.ask(now, || self.nvml.device_by_index(self.index)) else {
            return;
        };
        let index = self.index;
        for (question, (_, what, call)) in self.questions.iter_mut().zip(&CALLS) {
            let before = question.slowed();
            let mut push = |name: &str, value: f64| readings.push(format!("system/gpu.{index}.{name}"), value);
            let _ = question.ask(now, || call(&device, &mut self.earlier, &mut push));
            if let Some(every) = question.slowed().filter(|every| Some(*every) != before) {
                let seconds = every.as_secs();
                let text = format!(
                    "GPU {index}: the driver takes more than 5 ms for {what}, and is asked for it only every {seconds} s"
                );
                readings.note(Level::Debug, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::fake::Fake;
    use crate::gpu::tests::eager;

    fn machine(fake: &Fake) -> Machine {
        Machine::open(Some(&fake.path().to_owned())).unwrap_or_else(|gone| panic!("{}", gone.why))
    }

    fn gpus(fake: &Fake) -> Gpus {
        Gpus::with_patience(Some(Some(fake.path().to_owned())), eager())
    }

    fn read(machine: &mut Machine, now: Instant) -> Vec<(String, f64)> {
        let readings = machine.read(now);
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
            ("0.energyJoules", 0.0),
            ("0.throttleReasons", 4.0),
        ];
        assert_eq!(
            read(&mut machine, start),
            expected.map(|(name, value)| (name.to_owned(), value))
        );
        fake.set("0.millijoules", 5_750_000);
        let later = read(&mut machine, start + Duration::from_secs(10));
        assert!(later.contains(&("0.energyJoules".to_owned(), 750.0)), "{later:?}");
    }

    #[test]
    fn dear_readings_are_rare() {
        let fake = Fake::with_devices(8);
        let mut machine = machine(&fake);
        let start = Instant::now();
        for seconds in (0..120).step_by(2) {
            read(&mut machine, start + Duration::from_secs(seconds));
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
        let mut bare = machine(&fake);
        let expected = [
            "0.memoryAllocatedBytes",
            "0.memoryAllocated",
            "1.memoryAllocatedBytes",
            "1.memoryAllocated",
        ];
        assert_eq!(names(&read(&mut bare, Instant::now())), expected);

        // One is gone, and comes back.
        let fake = Fake::with_devices(2);
        let mut machine = machine(&fake);
        fake.set("0.handle", 15);
        let is_first = |name: &&str| name.starts_with("0.");
        assert!(!names(&read(&mut machine, Instant::now())).iter().any(is_first));
        fake.set("0.handle", 0);
        assert!(names(&read(&mut machine, Instant::now())).iter().any(is_first));
    }

    #[test]
    fn trouble_with_the_driver_is_said_once() {
        let fake = Fake::with_devices(1);
        fake.set("init", 4);
        let mut gpus = gpus(&fake);
        for notes in [1, 0] {
            let mut readings = Readings::default();
            gpus.read(&mut readings);
            assert_eq!((readings.iter().len(), readings.notes().len()), (0, notes));
        }
        let mut off = Gpus::new(None);
        let mut readings = Readings::default();
        off.read(&mut readings);
        assert_eq!(readings, Readings::default());
    }

    #[test]
    fn a_driver_that_hangs_keeps_nobody_from_reading_on() {
        let fake = Fake::with_devices(1);
        let patience = Patience {
            later: Duration::from_millis(5),
            young: Duration::ZERO,
            ..eager()
        };
        let mut gpus = Gpus::with_patience(Some(Some(fake.path().to_owned())), patience);
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
        assert_eq!([sample(), sample()], [(false, 1), (false, 0)]);
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
