//! The readings of all GPUs of the machine, as one logger reports them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::Readings;
use logcore::log::Level;

use super::gpu_set::{GpuSet, GpuSnapshot};
use crate::nvidia::driver_client::DriverClient;
use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::sampler::{ReadingNeed, SamplerTimeouts, SharedSamplers};

/// The GPUs' readings for one logger.
///
/// NVML is opened at the first reading, on a thread of its own. If a call hangs, the host's
/// readings go on.
#[derive(Debug)]
pub(crate) struct SystemGpus {
    /// `None` if NVML must not be opened.
    driver: Option<DriverClient<GpuSnapshot>>,
    /// Time of the newest value that was reported.
    newest_reported: Option<Instant>,
    /// The energy counters, by the names of their readings.
    energy: BTreeMap<String, EnergyCounter>,
    /// `true` if this process is the only one of its run, so that the run uses no other GPUs than
    /// the process sees.
    is_alone: bool,
    /// Notices that were reported and still hold.
    active_notices: Vec<(Level, String)>,
}

/// The energy of a GPU since the first reading of a logger.
#[derive(Debug, Clone, Copy)]
struct EnergyCounter {
    /// The newest value of NVML's counter, in J.
    newest: f64,
    /// The energy since the first value, in J.
    used: f64,
    /// `true` if there are two values, so that the energy is known.
    is_known: bool,
}

impl EnergyCounter {
    fn begin(joules: f64) -> Self {
        Self {
            newest: joules,
            used: 0.0,
            is_known: false,
        }
    }

    fn advance(&mut self, joules: f64) {
        // A driver that was loaded again counts from 0.
        let before = if joules < self.newest { 0.0 } else { self.newest };
        self.used += joules - before;
        (self.newest, self.is_known) = (joules, true);
    }
}

/// The threads that read all GPUs, by library.
static SNAPSHOTS: SharedSamplers<GpuSnapshot> = SharedSamplers::new();

/// Oldest value that a new logger reports: three times the longest interval of a reading.
const MAX_AGE: Duration = Duration::from_secs(180);
/// Ends the name of a reading of NVML's energy counter.
const ENERGY: &str = ".energyJoules";
const JOULES_PER_KWH: f64 = 3.6e6;
/// Wait for a snapshot: less than the logger waits for its last readings.
const SNAPSHOT_WAIT: Duration = Duration::from_millis(150);

impl SystemGpus {
    /// The GPUs by the library of this path; `None` is the system's.
    pub(crate) fn new(library: Option<PathBuf>, environment: &GpuEnvironment) -> Self {
        let timeouts = SamplerTimeouts {
            first_optional: SNAPSHOT_WAIT,
            refresh: SNAPSHOT_WAIT,
            period: None,
            ..SamplerTimeouts::default()
        };
        Self::with_timeouts(library, environment, timeouts)
    }

    /// Counts the energy of the GPUs that this process sees, because its run has no other process.
    pub(crate) fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// No GPUs: nothing is opened or read.
    pub(crate) fn disabled() -> Self {
        Self {
            driver: None,
            newest_reported: None,
            energy: BTreeMap::new(),
            is_alone: false,
            active_notices: Vec::new(),
        }
    }

    fn with_timeouts(library: Option<PathBuf>, environment: &GpuEnvironment, timeouts: SamplerTimeouts) -> Self {
        let to_open = library.clone();
        let (visible, is_pci_order) = (environment.visible.clone(), environment.is_pci_order);
        let driver = DriverClient::new("GPU readings from NVML", &SNAPSHOTS, library, timeouts, move || {
            let mut gpus = GpuSet::open(to_open.as_ref(), &visible, is_pci_order)?;
            Ok(move || Ok(gpus.read(Instant::now())))
        });
        Self {
            driver: Some(driver),
            ..Self::disabled()
        }
    }

    /// Adds the values that are new since the last call. If the driver is slow, they come with a
    /// later call.
    pub(crate) fn read(&mut self, readings: &mut Readings) {
        let Some(driver) = &mut self.driver else { return };
        if let Ok(snapshot) = driver.newest(ReadingNeed::Optional, readings) {
            self.report(snapshot, readings);
        }
    }

    /// Adds the values that are newer than the last report, and the notices that are new.
    fn report(&mut self, snapshot: GpuSnapshot, readings: &mut Readings) {
        for notice in &snapshot.notices {
            if !self.active_notices.contains(notice) {
                readings.note(notice.0, notice.1.as_str());
            }
        }
        self.active_notices = snapshot.notices;
        let counted = match self.is_alone {
            true => snapshot.visible,
            false => Some((0..snapshot.count).collect()),
        };
        let counted: Option<Vec<_>> = counted.map(|gpus| gpus.into_iter().map(energy_reading).collect());
        // The values of a lost GPU are gone.
        let counted = counted.filter(|names| names.iter().all(|name| snapshot.values.contains_key(name)));
        let last = self.newest_reported;
        // Another logger may have started the sampler long before this one.
        let is_new = |at: &Instant| last.map_or(at.elapsed() < MAX_AGE, |last| *at > last);
        let mut has_new_energy = false;
        for (name, (at, value)) in snapshot.values.into_iter().filter(|(_, (at, _))| is_new(at)) {
            let value = if name.ends_with(ENERGY) {
                has_new_energy = true;
                self.count_energy(&name, value)
            } else {
                value
            };
            readings.push(name, value);
            self.newest_reported = self.newest_reported.max(Some(at));
        }
        if has_new_energy && let Some(joules) = counted.and_then(|names| self.energy_of(&names)) {
            readings.push("system/gpu_energy_kwh", joules / JOULES_PER_KWH);
        }
    }

    /// Advances a counter; returns the energy since its first value, in J.
    fn count_energy(&mut self, name: &str, joules: f64) -> f64 {
        match self.energy.get_mut(name) {
            Some(counter) => {
                counter.advance(joules);
                counter.used
            }
            None => {
                self.energy.insert(name.to_owned(), EnergyCounter::begin(joules));
                0.0
            }
        }
    }

    /// Returns the sum of some counters in J; `None` if there are none, or one is unknown.
    fn energy_of(&self, names: &[String]) -> Option<f64> {
        let known = |name: &String| Some(self.energy.get(name).filter(|counter| counter.is_known)?.used);
        (!names.is_empty()).then(|| names.iter().map(known).sum()).flatten()
    }
}

fn energy_reading(index: u32) -> String {
    format!("system/gpu.{index}{ENERGY}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::fake::{FakeLibrary, environment};
    use crate::nvidia::tests::eager;
    use crate::nvidia::visible_devices::VisibleDevices;

    fn gpus(fake: &FakeLibrary) -> SystemGpus {
        SystemGpus::with_timeouts(Some(fake.path().to_owned()), &environment(None), eager())
    }

    #[test]
    fn energy_counts_from_the_first_reading_of_each_logger() {
        let start = Instant::now();
        let energy = |gpus: &mut SystemGpus, seconds, joules| {
            let read = (start + Duration::from_secs(seconds), joules);
            let values = [("system/gpu.0.energyJoules".to_owned(), read)].into();
            let mut readings = Readings::default();
            gpus.report(
                GpuSnapshot {
                    values,
                    ..GpuSnapshot::default()
                },
                &mut readings,
            );
            readings.iter().next().map(|(_, value)| value.as_f64())
        };
        let (mut first, mut second) = (SystemGpus::disabled(), SystemGpus::disabled());
        assert_eq!(energy(&mut first, 0, 5000.0), Some(0.0));
        assert_eq!(energy(&mut first, 10, 5750.0), Some(750.0));
        assert_eq!(energy(&mut second, 10, 5750.0), Some(0.0));
        assert_eq!(energy(&mut first, 10, 5750.0), None, "reported before");
        assert_eq!(energy(&mut second, 20, 6000.0), Some(250.0));
        assert_eq!(energy(&mut second, 30, 1.0), Some(251.0), "the counter restarted");
    }

    fn gpu_set(fake: &FakeLibrary, visible: &VisibleDevices) -> GpuSet {
        GpuSet::open(Some(&fake.path().to_owned()), visible, false)
            .unwrap_or_else(|unavailable| panic!("{}", unavailable.reason))
    }

    /// Returns the energy of the run in Wh after readings of the counters in J.
    fn run_energy(gpus: &mut SystemGpus, set: &mut GpuSet, at: Instant) -> Option<f64> {
        let mut readings = Readings::default();
        gpus.report(set.read(at), &mut readings);
        let mut of_run = readings.iter().filter(|(name, _)| *name == "system/gpu_energy_kwh");
        of_run
            .next()
            .map(|(_, value)| (value.as_f64() * 1e3 * 1e6).round() / 1e6)
    }

    #[test]
    fn the_energy_of_a_run_is_that_of_its_gpus() {
        for (visible, is_alone, expected) in [
            (None, true, Some(3.0)),
            (Some("1"), true, Some(2.0)),
            (Some("GPU-1aaa"), true, Some(2.0)),
            (Some("GPU-9"), true, None),
            // Each rank may see another GPU.
            (Some("1"), false, Some(3.0)),
        ] {
            let fake = FakeLibrary::with_devices(2);
            let environment = environment(visible);
            let mut set = gpu_set(&fake, &environment.visible);
            let mut gpus = SystemGpus::disabled();
            gpus.set_alone(is_alone);
            let start = Instant::now();
            for device in 0..2 {
                fake.set(&format!("{device}.millijoules"), 7_000_000);
            }
            assert_eq!(
                run_energy(&mut gpus, &mut set, start),
                None,
                "one reading tells no energy"
            );
            fake.set("0.millijoules", 7_000_000 + 3_600_000);
            fake.set("1.millijoules", 7_000_000 + 2 * 3_600_000);
            let later = start + Duration::from_secs(10);
            assert_eq!(run_energy(&mut gpus, &mut set, later), expected, "{visible:?}");
            // The driver was loaded again, and counts from 0.
            fake.set("1.millijoules", 3_600_000);
            let later = start + Duration::from_secs(20);
            assert_eq!(
                run_energy(&mut gpus, &mut set, later),
                expected.map(|energy| energy + 1.0)
            );
        }
    }

    #[test]
    fn an_energy_that_one_gpu_does_not_tell_is_absent() {
        let fake = FakeLibrary::with_devices(2);
        fake.set("1.millijoules", u64::MAX);
        let mut set = gpu_set(&fake, &VisibleDevices::All);
        let mut gpus = SystemGpus::disabled();
        let start = Instant::now();
        for seconds in [0, 10, 20] {
            assert_eq!(
                run_energy(&mut gpus, &mut set, start + Duration::from_secs(seconds)),
                None
            );
        }
        // The other one alone is the run's.
        set.visible = Some(vec![0]);
        gpus.set_alone(true);
        assert_eq!(
            run_energy(&mut gpus, &mut set, start + Duration::from_secs(30)),
            Some(0.0)
        );
        fake.set("0.handle", 15);
        assert_eq!(
            run_energy(&mut gpus, &mut set, start + Duration::from_secs(40)),
            None,
            "the GPU is lost"
        );
    }

    #[test]
    fn late_answer_reaches_every_logger() {
        let fake = FakeLibrary::with_devices(1);
        let impatient = SamplerTimeouts {
            first_optional: Duration::ZERO,
            refresh: Duration::ZERO,
            max_age: Duration::from_secs(60),
            ..eager()
        };
        let open = || SystemGpus::with_timeouts(Some(fake.path().to_owned()), &environment(None), impatient);
        let mut both = [open(), open()];
        for gpus in &mut both {
            let mut names = Vec::new();
            while names.is_empty() {
                let mut readings = Readings::default();
                gpus.read(&mut readings);
                names.extend(readings.iter().map(|(name, _)| name.to_owned()));
            }
            assert!(names.contains(&"system/gpu.0.temp".to_owned()), "{names:?}");
        }
        assert_eq!(fake.get("calls.init"), 1);
    }

    #[test]
    fn driver_failure_is_reported_once() {
        let fake = FakeLibrary::with_devices(1);
        fake.set("init", 4);
        let mut gpus = gpus(&fake);
        for notes in [1, 0] {
            let mut readings = Readings::default();
            gpus.read(&mut readings);
            assert_eq!((readings.iter().len(), readings.notes().len()), (0, notes));
        }
        let mut off = SystemGpus::disabled();
        let mut readings = Readings::default();
        off.read(&mut readings);
        assert_eq!(readings, Readings::default());
    }

    #[test]
    fn hanging_driver_does_not_block_a_reader() {
        let fake = FakeLibrary::with_devices(1);
        let timeouts = SamplerTimeouts {
            refresh: Duration::from_millis(5),
            max_age: Duration::ZERO,
            ..eager()
        };
        let mut gpus = SystemGpus::with_timeouts(Some(fake.path().to_owned()), &environment(None), timeouts);
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
        // The call hangs at the next query of the handle.
        let first = std::iter::repeat_with(&mut sample).find(|(_, warnings)| *warnings > 0);
        assert_eq!((first, sample()), (Some((false, 1)), (false, 0)));
        fake.set("hang_at_handle", 0);
        // The late answer is too old to be handed out; the next one is new.
        while gpus
            .driver
            .as_mut()
            .is_some_and(|driver| driver.newest(ReadingNeed::Optional, &mut Readings::default()).is_err())
        {
            std::thread::yield_now();
        }
    }
}
