//! The options of the GPU probe.

use std::path::PathBuf;

use serde::Deserialize;

/// The options of [`GpuProbe`](crate::GpuProbe), in a config under `probes.gpu`.
///
/// | option | default | meaning |
/// |---|---|---|
/// | `fallback` | `"process"` | values of the driver that may replace those of an allocator |
/// | `library` | the system's | path of NVML's library, `libnvidia-ml` |
///
/// # Example: from a config
///
/// ```
/// # use logcore::serde_json;
/// use logcore_gpu::{Fallback, GpuOptions};
///
/// let options: GpuOptions = serde_json::from_str(r#"{"fallback": "device"}"#).unwrap();
/// assert_eq!(options, GpuOptions::default().with_fallback(Fallback::Device));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Values of the driver that may replace those of an allocator.
    pub fallback: Fallback,
    /// Path of NVML's library; `None` is the system's.
    pub library: Option<PathBuf>,
}

impl GpuOptions {
    /// Sets the values of the driver that may replace those of an allocator.
    ///
    /// ```
    /// use logcore_gpu::{Fallback, GpuOptions};
    ///
    /// let options = GpuOptions::default().with_fallback(Fallback::Strict);
    /// assert_eq!(options.fallback, Fallback::Strict);
    /// ```
    #[must_use]
    pub fn with_fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Sets the path of NVML's library.
    ///
    /// ```
    /// use logcore_gpu::GpuOptions;
    ///
    /// let options = GpuOptions::default().with_library("/opt/driver/libnvidia-ml.so.1");
    /// assert!(options.library.is_some());
    /// ```
    #[must_use]
    pub fn with_library(mut self, library: impl Into<PathBuf>) -> Self {
        self.library = Some(library.into());
        self
    }
}

/// The values of the driver that may replace those of an allocator.
///
/// ```
/// # use logcore::serde_json;
/// use logcore_gpu::Fallback;
///
/// assert_eq!(serde_json::from_str::<Fallback>(r#""strict""#).unwrap(), Fallback::Strict);
/// assert_eq!(Fallback::default(), Fallback::Process);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Fallback {
    /// The usage of this process. The usage of the device only if no other process uses the device.
    #[default]
    Process,
    /// The usage of this process, else the usage of the device by all processes.
    Device,
    /// None: NVML is not opened.
    Strict,
}
