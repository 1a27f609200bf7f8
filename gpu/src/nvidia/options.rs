//! The options of the probe.

use std::path::PathBuf;

use serde::Deserialize;

/// The options of [`GpuProbe`](crate::GpuProbe), in a config under `probes.gpu`.
///
/// ```
/// # use logcore::serde_json;
/// use logcore_gpu::{Fallback, GpuOptions};
///
/// let options: GpuOptions = serde_json::from_str(r#"{"fallback": "device"}"#).unwrap();
/// assert_eq!(options, GpuOptions { fallback: Fallback::Device, library: None });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuOptions {
    /// What may stand in for the figures of the framework itself.
    pub fallback: Fallback,
    /// The path of NVML's library; without it, the system's.
    pub library: Option<PathBuf>,
}

/// Which of the driver's figures may stand in for those of the framework.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Those of this process; those of the device where the driver says that no other process is on it.
    #[default]
    Process,
    /// Those of this process, else those of the device, whoever uses it.
    Device,
    /// None.
    Strict,
}
