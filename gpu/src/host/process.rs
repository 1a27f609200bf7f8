//! The probe `host`: the resident memory of this process.

use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};
use serde::Deserialize;

/// The resident memory of this process, as `system/proc.memory.rssMB` in MiB.
///
/// Name and unit are those of W&B. [`SystemProbe`](crate::SystemProbe) reads the same value on a
/// thread of its own; this probe reads it at `log_memory`. The value exists on Linux only.
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
///
/// ```
/// # use logcore::serde_json;
/// use logcore_gpu::HostOptions;
///
/// assert!(serde_json::from_str::<HostOptions>("{}").is_ok());
/// assert!(serde_json::from_str::<HostOptions>(r#"{"period": 1}"#).is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostOptions {}

/// The kernel's description of this process.
const STATUS: &str = "/proc/self/status";

impl HostProbe {
    pub(crate) fn build(_: HostOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}

impl Probe for HostProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        // `statm` counts pages, whose size the standard library does not know; `status` has
        // kibibytes.
        let status = std::fs::read_to_string(STATUS)
            .map_err(|error| ProbeError::Unavailable(format!("cannot read {STATUS}: {error}")))?;
        let kib = kib(&status, "VmRSS:")
            .ok_or_else(|| ProbeError::Unavailable(format!("cannot read the resident memory: no VmRSS in {STATUS}")))?;
        readings.push("system/proc.memory.rssMB", kib as f64 / 1024.0);
        Ok(())
    }
}

/// Returns the kibibytes behind a name in `/proc/meminfo` or `/proc/self/status`.
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kib_parses_a_line_of_the_kernel() {
        assert_eq!(
            kib("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t1\n", "VmRSS:"),
            Some(12345)
        );
        assert_eq!(kib("Name:\tkthread\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn host_probe_shows_allocated_memory() {
        let resident = || {
            let mut readings = Readings::default();
            HostProbe::default().sample(&mut readings).expect("Linux has it");
            readings.iter().next().expect("one reading").1.as_f64()
        };
        let before = resident();
        let held = vec![1_u8; 64 << 20];
        let after = resident();
        // Other tests of this process may free memory meanwhile.
        assert!(
            after > before + 32.0,
            "{before} MiB, then {after} MiB with {} more",
            held.len()
        );
    }
}
