//! The probe of GPU memory: asks all sources, and reports the best of them for each device.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::log::Level;
use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};

use crate::nvidia::cuda_pool::{CudaFinder, pools};
use crate::nvidia::device::{AvailableSources, DeviceReporter};
use crate::nvidia::driver_client::DriverClient;
use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::framework;
use crate::nvidia::options::{Fallback, GpuOptions};
use crate::nvidia::sampler::{ReadingNeed, SamplerTimeouts, SharedSamplers};
use crate::nvidia::session::{DriverFigures, NvmlSession};
use crate::nvidia::source_select::{MemorySource, MemoryUsage};

/// The memory of this process on its GPUs, in GB (1e9 bytes).
///
/// | reading | meaning |
/// |---|---|
/// | `memory/gpu_allocated_gb` | bytes in live tensors |
/// | `memory/gpu_reserved_gb` | bytes that the allocator holds from the driver |
/// | `memory/gpu_max_allocated_gb` | highest value of `memory/gpu_allocated_gb` |
/// | `memory/gpu_source` | number of the source of these three in the list below |
/// | `memory/gpu_process_gb` | bytes that the driver holds for this process, including the CUDA context |
///
/// Names without a suffix belong to the first device of the process, `cuda:0`. Other devices have a
/// suffix: `memory/gpu_allocated_gb/cuda:1`.
///
/// # Sources
///
/// For each device the probe selects the best available source:
///
/// 1. `framework:…`: the program's own framework, through a [`gauge`](crate::gauge) or
///    [`ask_allocator`](crate::ask_allocator).
/// 2. `cuda_mempool`: the CUDA driver's default memory pool. It is exact for programs that allocate
///    from it, as candle and cudarc do.
/// 3. `nvml_process`: the memory that the driver holds for this process, including the context of
///    0.3 to 0.6 GB.
/// 4. `nvml_device`: the memory in use on the whole device, if [`Fallback`] allows it.
///
/// The last two cannot tell live tensors from the cache of an allocator, so allocated and reserved
/// are equal. Unknown values are left out. In a container, for example, the driver lists process
/// ids of the host. The probe keeps a source as long as it has values, and changes to a better one
/// after three samples.
///
/// # Side effects
///
/// The probe never sets anything, starts CUDA or creates a context. It calls NVML on the thread
/// `gpu-sampler`, which starts with the first sample. If there is no better source, the first
/// sample waits up to 2 s while the driver starts; later ones never wait.
///
/// The environment variable `GPU_PROBE` limits the libraries: `off` (none: only values that the
/// program reports), `nvml`, `pool` (CUDA only), or `all` (default).
///
/// # Example: no driver
///
/// ```
/// use logcore::{Probe, ProbeError, Readings};
/// use logcore_gpu::{GpuOptions, GpuProbe};
///
/// // Loggers build their probes from the config; this is the same by hand.
/// let mut probe = GpuProbe::new(GpuOptions::default().with_library("no-such-library.so"));
/// let mut readings = Readings::default();
/// assert!(matches!(probe.sample(&mut readings), Err(ProbeError::Transient(_))));
/// assert_eq!(readings.iter().len(), 0);
/// ```
#[derive(Debug)]
pub struct GpuProbe {
    /// An invalid value of `GPU_PROBE`, until the warning about it.
    unknown_switch: Option<String>,
    fallback: Fallback,
    driver: Option<DriverClient<Vec<DriverFigures>>>,
    cuda: Option<CudaFinder>,
    /// The answers of callbacks and CUDA's pools at `asked_at`.
    answers: Vec<(usize, MemorySource, MemoryUsage)>,
    asked_at: Option<Instant>,
    devices: BTreeMap<usize, DeviceReporter>,
}

/// Shortest time between two calls of callbacks and of CUDA.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(50);

impl GpuProbe {
    /// Creates a probe for the GPUs that `CUDA_VISIBLE_DEVICES` leaves to this process. Opens
    /// nothing before the first sample.
    ///
    /// ```
    /// use logcore::Probe;
    ///
    /// let probe = logcore_gpu::GpuProbe::new(Default::default());
    /// assert_eq!(probe.period(), None, "it is sampled at `log_memory`");
    /// ```
    #[must_use]
    pub fn new(options: GpuOptions) -> Self {
        Self::with_environment(options, GpuEnvironment::from_process(), SamplerTimeouts::default())
    }

    /// Builds the probe from the config.
    pub(crate) fn build(options: GpuOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::new(options))
    }

    /// A probe with these environment variables and timeouts, for tests.
    pub(crate) fn with_environment(
        options: GpuOptions,
        environment: GpuEnvironment,
        timeouts: SamplerTimeouts,
    ) -> Self {
        let may_open_nvml = environment.nvml && options.fallback != Fallback::Strict;
        Self {
            unknown_switch: environment.unknown_switch.clone(),
            cuda: environment.cuda.clone().map(CudaFinder::new),
            driver: may_open_nvml.then(|| driver(options.library, environment, timeouts)),
            fallback: options.fallback,
            answers: Vec::new(),
            asked_at: None,
            devices: BTreeMap::new(),
        }
    }

    /// Samples all sources at the time `now`.
    ///
    /// # Errors
    ///
    /// If no source has a value, with the driver's reason.
    pub(crate) fn sample_at(&mut self, now: Instant, readings: &mut Readings) -> Result<(), ProbeError> {
        if let Some(switch) = self.unknown_switch.take() {
            let text =
                format!("unknown GPU_PROBE value `{switch}`: using `all`. Set it to `off`, `nvml`, `pool` or `all`");
            readings.note(Level::Warn, text);
        }
        let counts = self.asked_at.is_none_or(|asked_at| now >= asked_at + MIN_INTERVAL);
        if counts {
            self.asked_at = Some(now);
            self.answers = self.ask(now, readings);
        }
        let mut available: BTreeMap<usize, AvailableSources> = BTreeMap::new();
        let gauges = framework::gauge_values().into_iter();
        let gauges = gauges.map(|(ordinal, memory)| (ordinal, MemorySource::Framework("gauge"), memory));
        for (ordinal, source, memory) in gauges.chain(self.answers.iter().copied()) {
            available.entry(ordinal).or_default().sources.push((source, memory));
        }
        let no_driver = self.ask_driver(&mut available, readings).err();

        let mut has_reading = false;
        for (ordinal, available) in &available {
            let device = self.devices.entry(*ordinal).or_default();
            has_reading |= device.read(*ordinal, available, counts, readings);
        }
        match (has_reading, no_driver) {
            (true, _) => readings.set_source("GPU memory", describe(&self.sources())),
            (false, Some(reason)) => return Err(ProbeError::Transient(reason)),
            (false, None) => {}
        }
        Ok(())
    }

    /// Returns the sources of all devices, including devices without a reading this time.
    fn sources(&self) -> Vec<(usize, MemorySource)> {
        let sources = self.devices.iter();
        sources
            .filter_map(|(ordinal, device)| Some((*ordinal, device.source()?)))
            .collect()
    }

    /// Calls the frameworks' callbacks and reads CUDA's pools.
    fn ask(&mut self, now: Instant, readings: &mut Readings) -> Vec<(usize, MemorySource, MemoryUsage)> {
        let answers = framework::ask_allocators();
        for name in answers.panicked {
            let text = format!("cannot read the memory of allocator `{name}`: its callback panicked and is removed");
            readings.note(Level::Warn, text);
        }
        let frameworks = answers
            .usages
            .into_iter()
            .map(|(ordinal, name, memory)| (ordinal, MemorySource::Framework(name), memory));
        let pools = self.cuda.as_mut().and_then(|cuda| cuda.find(now)).map(pools);
        let pools = pools.into_iter().flatten();
        frameworks
            .chain(pools.map(|(ordinal, memory)| (ordinal, MemorySource::Pool, memory)))
            .collect()
    }

    /// Adds the driver's values. An error is the reason why there are none.
    fn ask_driver(
        &mut self,
        available: &mut BTreeMap<usize, AvailableSources>,
        readings: &mut Readings,
    ) -> Result<(), String> {
        let Some(driver) = &mut self.driver else {
            return Err("neither a framework nor CUDA reports GPU memory, and NVML is disabled".to_owned());
        };
        let need = if available.is_empty() {
            ReadingNeed::Required
        } else {
            ReadingNeed::Optional
        };
        for figures in driver.newest(need, readings)? {
            available
                .entry(figures.ordinal)
                .or_default()
                .add_driver(figures, self.fallback);
        }
        Ok(())
    }
}

/// The threads that read memory from NVML.
pub(crate) static FIGURES: SharedSamplers<Vec<DriverFigures>> = SharedSamplers::new();

/// Creates the reader of NVML's values. Opens nothing.
fn driver(
    library: Option<PathBuf>,
    environment: GpuEnvironment,
    timeouts: SamplerTimeouts,
) -> DriverClient<Vec<DriverFigures>> {
    let to_open = library.clone();
    DriverClient::new("GPU memory from NVML", &FIGURES, library, timeouts, move || {
        let mut session = NvmlSession::open(to_open.as_ref(), &environment)?;
        Ok(move || session.sample(Instant::now()))
    })
}

impl Probe for GpuProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        self.sample_at(Instant::now(), readings)
    }
}

/// Returns one name if all devices have the same source, else a list: `cuda_mempool (cuda:0), …`.
fn describe(sources: &[(usize, MemorySource)]) -> String {
    if let Some((_, first)) = sources.first()
        && sources.iter().all(|(_, source)| source == first)
    {
        return first.tag().into_owned();
    }
    let names = sources
        .iter()
        .map(|(ordinal, source)| format!("{} (cuda:{ordinal})", source.tag()));
    names.collect::<Vec<_>>().join(", ")
}
