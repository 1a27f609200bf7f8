use std::path::PathBuf;
use std::time::Instant;

use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};
use serde::Deserialize;

use crate::gpu::nvml::{Session, Usage};
use crate::gpu::sampler::{Patience, Sampler};
use crate::gpu::visible::Visible;

/// The memory of the run's NVIDIA GPUs: `memory/gpu_allocated_gb` and `memory/gpu_reserved_gb`, in GB of 1e9 bytes.
///
/// The run's GPU is the first that `CUDA_VISIBLE_DEVICES` leaves to this process, or else the first there is. Further
/// ones have names of their own: `memory/gpu_allocated_gb/cuda:1`, and so on.
///
/// The values come from the driver (NVML), and the readings say from which of its figures:
///
/// - `nvml_process`: what the driver holds for this process, the CUDA context (0.3 to 0.6 GB) included;
/// - `nvml_device`: what is used of the whole device, where [`Fallback`] allows it.
///
/// Neither tells live tensors from the cache of an allocator, so both names have the same value. What cannot be known
/// is left out: in a container, for one, the driver lists process ids that are not those of the container.
///
/// The driver is asked on a thread of its own, at most every two seconds, and only when someone wants a reading. The
/// first reading is waited for up to two seconds, while the driver starts; a later one never more than 50 ms.
///
/// With the environment variable `GPU_PROBE=off` nothing is opened.
///
/// ```
/// use logcore::{Probe, ProbeError, Readings};
/// use logcore_gpu::{GpuOptions, GpuProbe};
///
/// // In a program with a GPU the options are the default ones, and nothing has to be built by hand.
/// let library = Some("no-such-library.so".into());
/// let mut probe = GpuProbe::new(GpuOptions { library, ..GpuOptions::default() });
/// let mut readings = Readings::default();
/// assert!(matches!(probe.sample(&mut readings), Err(ProbeError::Unavailable(_))));
/// assert_eq!(readings.iter().len(), 0);
/// ```
#[derive(Debug)]
pub struct GpuProbe {
    options: GpuOptions,
    surroundings: Surroundings,
    patience: Patience,
    sampler: Option<Sampler<Vec<Usage>>>,
}

/// The options of [`GpuProbe`], in a config under `probes.gpu`.
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

/// What the process and its environment say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) switched_off: bool,
    pub(crate) visible: Visible,
    pub(crate) pid: u32,
}

impl GpuProbe {
    /// A probe for the GPUs that the environment leaves to this process. Nothing is opened before the first reading.
    pub fn new(options: GpuOptions) -> Self {
        let surroundings = Surroundings::read(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()));
        Self::within(options, surroundings, Patience::default())
    }

    pub(crate) fn build(options: GpuOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::new(options))
    }

    pub(crate) fn within(options: GpuOptions, surroundings: Surroundings, patience: Patience) -> Self {
        Self {
            options,
            surroundings,
            patience,
            sampler: None,
        }
    }

    fn sampler(&mut self) -> Result<&mut Sampler<Vec<Usage>>, ProbeError> {
        if self.sampler.is_none() {
            let (options, surroundings) = (self.options.clone(), self.surroundings.clone());
            let open = move || {
                let mut session = Session::open(&options, &surroundings)?;
                Ok(move || session.sample(Instant::now()))
            };
            let started = Sampler::start("gpu-sampler", self.patience, open)
                .map_err(|error| ProbeError::Transient(format!("cannot start the thread `gpu-sampler`: {error}")))?;
            self.sampler = Some(started);
        }
        Ok(self.sampler.as_mut().expect("it is there or was just started"))
    }
}

impl Probe for GpuProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        if let Some(why) = self.surroundings.nothing_to_see(self.options.fallback) {
            return Err(ProbeError::Unavailable(why.to_owned()));
        }
        let usages = self.sampler()?.newest()?;
        let mut sources: Vec<&str> = Vec::new();
        for usage in &usages {
            let suffix = match usage.ordinal {
                0 => String::new(),
                ordinal => format!("/cuda:{ordinal}"),
            };
            let gigabytes = usage.bytes as f64 / 1e9;
            readings.push(format!("memory/gpu_allocated_gb{suffix}"), gigabytes);
            readings.push(format!("memory/gpu_reserved_gb{suffix}"), gigabytes);
            if !sources.contains(&usage.source.tag()) {
                sources.push(usage.source.tag());
            }
        }
        if !sources.is_empty() {
            readings.set_source("GPU memory", sources.join(", "));
        }
        Ok(())
    }
}

impl Surroundings {
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            switched_off: variable("GPU_PROBE").is_some_and(|value| value.trim().eq_ignore_ascii_case("off")),
            visible: Visible::parse(variable("CUDA_VISIBLE_DEVICES").as_deref()),
            pid: std::process::id(),
        }
    }

    /// Why the driver need not even be opened.
    fn nothing_to_see(&self, fallback: Fallback) -> Option<&'static str> {
        if self.switched_off {
            Some("GPU_PROBE is `off`")
        } else if self.visible.is_none() {
            Some("CUDA_VISIBLE_DEVICES leaves no GPU to this process")
        } else if fallback == Fallback::Strict {
            Some("`fallback = \"strict\"` allows none of the driver's figures")
        } else {
            None
        }
    }
}
