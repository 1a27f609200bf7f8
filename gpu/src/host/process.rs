use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};
use serde::Deserialize;

/// The resident memory of this process, as `system/proc.memory.rssMB` in MiB: the name and the unit are those of W&B.
///
/// Linux only; elsewhere there is nothing to read.
///
/// ```
/// use logcore::{Probe, Readings};
///
/// let mut readings = Readings::default();
/// if logcore_gpu::HostProbe::default().sample(&mut readings).is_ok() {
///     let (name, value) = readings.iter().next().unwrap();
///     assert_eq!(name, "system/proc.memory.rssMB");
///     assert!(value.as_f64() > 0.5);
/// }
/// ```
#[derive(Debug, Default)]
pub struct HostProbe(());

/// The options of [`HostProbe`]: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOptions {}

const STATUS: &str = "/proc/self/status";

impl HostProbe {
    pub(crate) fn build(_: HostOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Probe for HostProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        // Pages would need their size, which std does not know; `status` has kibibytes.
        let status = std::fs::read_to_string(STATUS)
            .map_err(|error| ProbeError::Unavailable(format!("cannot read {STATUS}: {error}")))?;
        let kib = resident_kib(&status).ok_or_else(|| ProbeError::Unavailable(format!("no VmRSS in {STATUS}")))?;
        readings.push("system/proc.memory.rssMB", kib as f64 / 1024.0);
        Ok(())
    }
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read() {
        assert_eq!(
            resident_kib("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t1\n"),
            Some(12345)
        );
        assert_eq!(resident_kib("Name:\tkthread\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_in_use_shows() {
        let resident = || {
            let mut readings = Readings::default();
            HostProbe::default().sample(&mut readings).expect("Linux has it");
            readings.iter().next().expect("one reading").1.as_f64()
        };
        let before = resident();
        let held = vec![1_u8; 64 << 20];
        let after = resident();
        // Other tests of the process may free some meanwhile.
        assert!(
            after > before + 32.0,
            "{before} MiB, then {after} MiB with {} more",
            held.len()
        );
    }
}
