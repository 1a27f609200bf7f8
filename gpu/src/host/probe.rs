//! The probe `system`: the machine, as W&B's system page shows it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::{BuildContext, ConfigError, Probe, ProbeError, Ranks, Readings};
use serde::Deserialize;

use crate::host::gpus::SystemGpus;
#[cfg(target_os = "linux")]
use crate::host::linux::LinuxHost;
use crate::nvidia::env::GpuEnvironment;

/// The machine and this process on it, under W&B's names and in its units.
///
/// | reading, after `system/` | unit | every |
/// |---|---|--:|
/// | `cpu` | % of the cores that this process may use | 2 s |
/// | `proc.memory.rssMB`, `proc.memory.availableMB` | MiB | 2 s |
/// | `proc.memory.percent`, `memory_percent` | % of the machine or its cgroup | 2 s |
/// | `proc.cpu.threads` | threads | 2 s |
/// | `disk./.usagePercent`, `disk./.usageGB` | %, GiB | 10 s |
/// | `disk.<device>.in`, `disk.<device>.out` | MiB read and written since the start | 10 s |
/// | `network.recv`, `network.sent` | bytes since the start | 10 s |
/// | `gpu.<i>.memoryAllocatedBytes`, `gpu.<i>.memoryAllocated` | bytes, % of the device | 2 s |
/// | `gpu.<i>.gpu`, `gpu.<i>.memory` | % of the time that a kernel ran or memory was accessed | 2 s |
/// | `gpu.<i>.temp` | °C | 10 s |
/// | `gpu.<i>.powerWatts`, `gpu.<i>.powerPercent` | W, % of the limit | 10 s |
/// | `gpu.<i>.smClock`, `gpu.<i>.memoryClock` | MHz | 10 s |
/// | `gpu.<i>.energyJoules` | J since the start | 10 s |
/// | `gpu_energy_kwh` | kWh of the run's GPUs since the start | 10 s |
/// | `gpu.<i>.throttleReasons` | NVML's bit mask | 10 s |
/// | `gpu.<i>.enforcedPowerLimitWatts` | W | 60 s |
/// | `gpu.<i>.correctedMemoryErrors`, `gpu.<i>.uncorrectedMemoryErrors` | errors since the driver was loaded | 60 s |
///
/// `<i>` is NVML's index. The GPUs of a run are those that its process sees; of a run with several
/// processes, all of the machine. Their energy is left out until each of their counters was read
/// twice, and where one of them has no counter or is a slice (MIG). The readings of the host exist
/// on Linux only.
///
/// A logger samples the probe on a low-priority thread, once at its start, every 2 s, and once at
/// its end. Of several processes on a machine only the one with local rank 0 reads.
///
/// ```
/// use logcore::{Probe, Readings};
///
/// let mut probe = logcore_gpu::SystemProbe::new(Default::default());
/// let mut readings = Readings::default();
/// probe.sample(&mut readings).unwrap();
/// # #[cfg(target_os = "linux")]
/// assert!(readings.iter().any(|(name, _)| name == "system/memory_percent"));
/// ```
#[derive(Debug)]
pub struct SystemProbe {
    /// `true` if another process of this machine is the reader.
    is_idle: bool,
    #[cfg(target_os = "linux")]
    host: LinuxHost,
    gpus: SystemGpus,
}

/// The options of [`SystemProbe`], in a config under `probes.system`.
///
/// | option | default | meaning |
/// |---|---|---|
/// | `library` | the system's | path of NVML's library, `libnvidia-ml` |
///
/// ```
/// # use logcore::serde_json;
/// use logcore_gpu::SystemOptions;
///
/// let options: SystemOptions = serde_json::from_str(r#"{"library": "/opt/libnvidia-ml.so.1"}"#).unwrap();
/// assert_eq!(options, SystemOptions::default().with_library("/opt/libnvidia-ml.so.1"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SystemOptions {
    /// Path of NVML's library; `None` is the system's.
    pub library: Option<PathBuf>,
}

impl SystemOptions {
    /// Sets the path of NVML's library.
    ///
    /// ```
    /// use logcore_gpu::SystemOptions;
    ///
    /// assert!(SystemOptions::default().with_library("/opt/libnvidia-ml.so.1").library.is_some());
    /// ```
    #[must_use]
    pub fn with_library(mut self, library: impl Into<PathBuf>) -> Self {
        self.library = Some(library.into());
        self
    }
}

/// Shortest interval of a reading.
const PERIOD: Duration = Duration::from_secs(2);

impl SystemProbe {
    /// Creates a probe for this machine. Opens nothing before the first sample.
    ///
    /// ```
    /// use logcore::Probe;
    ///
    /// let probe = logcore_gpu::SystemProbe::new(Default::default());
    /// assert_eq!(probe.period().unwrap().as_secs(), 2);
    /// ```
    #[must_use]
    pub fn new(options: SystemOptions) -> Self {
        Self::with_environment(options, &GpuEnvironment::from_process(), Ranks::from_env())
    }

    /// Builds the probe from the config. The ranks come from the logger, which may override the
    /// launcher's.
    pub(crate) fn build(options: SystemOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let mut probe = Self::new(options);
        probe.set_ranks(context.ranks());
        Ok(probe)
    }

    /// A probe with these environment variables and ranks, for tests.
    fn with_environment(options: SystemOptions, environment: &GpuEnvironment, ranks: Ranks) -> Self {
        let mut probe = Self {
            is_idle: false,
            #[cfg(target_os = "linux")]
            host: LinuxHost::default(),
            gpus: if environment.nvml {
                SystemGpus::new(options.library, environment)
            } else {
                SystemGpus::disabled()
            },
        };
        probe.set_ranks(ranks);
        probe
    }

    fn set_ranks(&mut self, ranks: Ranks) {
        self.is_idle = is_idle(ranks);
        self.gpus.set_alone(ranks.world_size == Some(1));
    }

    // Without Linux there are no readings of the host, which alone need the time.
    #[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
    fn sample_at(&mut self, now: Instant, readings: &mut Readings) -> Result<(), ProbeError> {
        if self.is_idle {
            let reason = "the process with local rank 0 reads this machine".to_owned();
            return Err(ProbeError::Unavailable(reason));
        }
        #[cfg(target_os = "linux")]
        self.host.read(now, readings);
        self.gpus.read(readings);
        Ok(())
    }
}

impl Probe for SystemProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        self.sample_at(Instant::now(), readings)
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }
}

/// Returns `true` if another process reads this machine. If the launcher gives no local rank, only
/// rank 0 of the run reads its machine.
fn is_idle(ranks: Ranks) -> bool {
    ranks.local_rank.unwrap_or(ranks.rank) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::fake::environment;

    #[test]
    fn only_local_rank_0_reads_the_machine() {
        let of = |local_rank, rank| {
            let mut ranks = Ranks::default();
            (ranks.local_rank, ranks.rank) = (local_rank, rank);
            let mut probe = SystemProbe::with_environment(SystemOptions::default(), &unopened(), ranks);
            probe.sample(&mut Readings::default())
        };
        assert_eq!(of(Some(0), 0), Ok(()));
        assert_eq!(of(Some(0), 8), Ok(()));
        assert_eq!(of(None, 0), Ok(()));
        for (local_rank, rank) in [(Some(1), 0), (Some(7), 15), (None, 1)] {
            assert!(matches!(of(local_rank, rank), Err(ProbeError::Unavailable(_))));
        }
    }

    fn unopened() -> GpuEnvironment {
        GpuEnvironment {
            nvml: false,
            ..environment(None)
        }
    }
}
