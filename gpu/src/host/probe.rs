//! The machine, as W&B's system page shows it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::{BuildContext, ConfigError, Probe, ProbeError, Ranks, Readings};
use serde::Deserialize;

use crate::host::gpus::SystemGpus;
#[cfg(target_os = "linux")]
use crate::host::linux::LinuxHost;
use crate::nvidia::env::GpuEnvironment;

/// Readings of the machine and of this process on it, under the names and units of W&B, so that its system page shows them:
///
/// - every 2 s: `system/cpu` (% of the cores that the process may use), `system/proc.memory.rssMB`, `.percent`,
///   `.availableMB`, `system/memory_percent`, `system/proc.cpu.threads`; MB are MiB, and the limit of a cgroup counts as the
///   machine's memory;
/// - every 10 s: `system/disk./.usagePercent` and `.usageGB` (GiB), `system/disk.<device>.in` and `.out` (MiB since the start),
///   `system/network.sent` and `.recv` (bytes since the start);
/// - of each NVIDIA GPU, as NVML numbers them, every 2 s: `system/gpu.0.memoryAllocatedBytes`, `.memoryAllocated` (% of the
///   device), `.gpu` and `.memory` (% of the time that a kernel ran, or the memory was busy); every 10 s: `.temp` (°C),
///   `.powerWatts`, `.powerPercent`, `.smClock` and `.memoryClock` (MHz), `.energyJoules` (since the start),
///   `.throttleReasons` (NVML's mask); every 60 s: `.enforcedPowerLimitWatts`, `.correctedMemoryErrors`,
///   `.uncorrectedMemoryErrors`.
///
/// A logger asks it on a thread of its own, once at the beginning and once more at the end. Of several processes on a machine
/// only the one with local rank 0 reads anything. The host's readings are for Linux only.
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
    /// Another process on this machine reads it.
    is_others: bool,
    #[cfg(target_os = "linux")]
    host: LinuxHost,
    gpus: SystemGpus,
}

/// The options of [`SystemProbe`], in a config under `probes.system`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemOptions {
    /// The path of NVML's library; without it, the system's.
    pub library: Option<PathBuf>,
}

/// The shortest period of a reading.
const PERIOD: Duration = Duration::from_secs(2);

impl SystemProbe {
    /// A probe for this machine. Nothing is opened before the first reading.
    pub fn new(options: SystemOptions) -> Self {
        let variable = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        Self::within(options, &GpuEnvironment::read(variable), Ranks::from_env())
    }

    pub(crate) fn build(options: SystemOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let mut probe = Self::new(options);
        probe.is_others = is_others(context.ranks());
        Ok(probe)
    }

    fn within(options: SystemOptions, environment: &GpuEnvironment, ranks: Ranks) -> Self {
        Self {
            is_others: is_others(ranks),
            #[cfg(target_os = "linux")]
            host: LinuxHost::default(),
            gpus: SystemGpus::new(environment.nvml.then_some(options.library)),
        }
    }

    fn sample_at(&mut self, now: Instant, readings: &mut Readings) -> Result<(), ProbeError> {
        if self.is_others {
            let why = "the process with local rank 0 reads the machine".to_owned();
            return Err(ProbeError::Unavailable(why));
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

/// Where the launcher does not say which process of the machine this is, only the first of the run reads its machine.
fn is_others(ranks: Ranks) -> bool {
    ranks.local_rank.unwrap_or(ranks.rank) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::fake::environment;

    #[test]
    fn only_one_process_of_a_machine_reads_it() {
        let of = |local_rank, rank| {
            let mut ranks = Ranks::default();
            (ranks.local_rank, ranks.rank) = (local_rank, rank);
            let mut probe = SystemProbe::within(SystemOptions::default(), &unopened(), ranks);
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
