use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use logcore::log::Level;
use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};

use crate::nvidia::cuda_pool::{CudaFinder, pools};
use crate::nvidia::device::{AvailableSources, DeviceReporter};
use crate::nvidia::driver_reader::DriverReader;
use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::framework;
use crate::nvidia::options::{Fallback, GpuOptions};
use crate::nvidia::sampler::{SamplerTimeouts, SharedSamplers};
use crate::nvidia::session::{DriverFigures, NvmlSession};
use crate::nvidia::source_select::{MemorySource, MemoryUsage};

/// The memory of this process on the run's GPUs, in GB of 1e9 bytes:
///
/// - `memory/gpu_allocated_gb`: bytes in live tensors;
/// - `memory/gpu_reserved_gb`: bytes that the allocator holds from the driver;
/// - `memory/gpu_max_allocated_gb`: the highest of the first;
/// - `memory/gpu_process_gb`: all that the driver holds for this process, the CUDA context included.
///
/// The run's GPU is the first that this process may use. Further ones have names of their own:
/// `memory/gpu_allocated_gb/cuda:1`, and so on.
///
/// The readings say where the first three come from, for each device the best of these:
///
/// 1. `framework:…`: the program's own framework, by a [`gauge`](crate::gauge) or [`ask_allocator`](crate::ask_allocator);
/// 2. `cuda_mempool`: the CUDA driver's memory pool, exact for what allocates from it, as candle and cudarc do;
/// 3. `nvml_process`: what the driver holds for this process, the context (0.3 to 0.6 GB) included;
/// 4. `nvml_device`: what is used of the whole device, where [`Fallback`] allows it.
///
/// The last two do not tell live tensors from the cache of an allocator, so their values are the same. What cannot be known
/// is left out: in a container, for one, the driver lists process ids that are not those of the container. A source is kept as
/// long as it answers; a better one is changed to when it has stayed for three samples.
///
/// No call sets anything, starts CUDA or makes a context. NVML is asked on a thread of its own, `gpu-sampler`, which starts
/// with the first reading. If there is no better source, that reading is waited for up to two seconds, while the driver
/// starts; a later one never.
///
/// `memory/gpu_source` is the number of the source in that list, beside the values it is of.
///
/// The environment variable `GPU_PROBE` says what may be opened: `off` (then there is only what the program tells itself),
/// `nvml`, `pool`, or `all`.
///
/// ```
/// use logcore::{Probe, ProbeError, Readings};
/// use logcore_gpu::{GpuOptions, GpuProbe};
///
/// // In a program with a GPU the options are the default ones, and nothing has to be built by hand.
/// let library = Some("no-such-library.so".into());
/// let mut probe = GpuProbe::new(GpuOptions { library, ..GpuOptions::default() });
/// let mut readings = Readings::default();
/// assert!(matches!(probe.sample(&mut readings), Err(ProbeError::Transient(_))));
/// assert_eq!(readings.iter().len(), 0);
/// ```
#[derive(Debug)]
pub struct GpuProbe {
    /// A value of `GPU_PROBE` that is none, until it was said.
    unknown: Option<String>,
    fallback: Fallback,
    driver: Option<DriverReader<Vec<DriverFigures>>>,
    cuda: Option<CudaFinder>,
    /// What was asked for last, and when.
    asked: Vec<(usize, MemorySource, MemoryUsage)>,
    asked_at: Option<Instant>,
    devices: BTreeMap<usize, DeviceReporter>,
}

/// What has to be asked for is not asked for more often.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(50);

impl GpuProbe {
    /// A probe for the GPUs that the environment leaves to this process. Nothing is opened before the first reading.
    pub fn new(options: GpuOptions) -> Self {
        let environment = GpuEnvironment::read(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()));
        Self::within(options, environment, SamplerTimeouts::default())
    }

    pub(crate) fn build(options: GpuOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self::new(options))
    }

    pub(crate) fn within(options: GpuOptions, environment: GpuEnvironment, timeouts: SamplerTimeouts) -> Self {
        let may_ask_driver = environment.nvml && options.fallback != Fallback::Strict;
        Self {
            unknown: environment.unknown.clone(),
            cuda: environment.cuda.clone().map(CudaFinder::new),
            driver: may_ask_driver.then(|| figures(options.library, environment, timeouts)),
            fallback: options.fallback,
            asked: Vec::new(),
            asked_at: None,
            devices: BTreeMap::new(),
        }
    }

    pub(crate) fn sample_at(&mut self, now: Instant, readings: &mut Readings) -> Result<(), ProbeError> {
        if let Some(unknown) = self.unknown.take() {
            let text = format!(
                "GPU_PROBE is `{unknown}`, which is none of `off`, `nvml`, `pool` and `all`; it is taken as `all`"
            );
            readings.note(Level::Warn, text);
        }
        let counts = self.asked_at.is_none_or(|asked_at| now >= asked_at + MIN_INTERVAL);
        if counts {
            self.asked_at = Some(now);
            self.asked = self.ask(now, readings);
        }
        let mut offers: BTreeMap<usize, AvailableSources> = BTreeMap::new();
        let pushed = framework::pushed().into_iter();
        let pushed = pushed.map(|(ordinal, memory)| (ordinal, MemorySource::Framework("gauge"), memory));
        for (ordinal, source, memory) in pushed.chain(self.asked.iter().copied()) {
            offers.entry(ordinal).or_default().sources.push((source, memory));
        }
        let why = self.ask_driver(&mut offers, readings);

        let mut is_any = false;
        for (ordinal, offers) in &offers {
            let device = self.devices.entry(*ordinal).or_default();
            is_any |= device.read(*ordinal, offers, counts, readings);
        }
        match (is_any, why) {
            (true, _) => readings.set_source("GPU memory", in_words(&self.sources())),
            (false, Some(why)) => return Err(ProbeError::Transient(why)),
            (false, None) => {}
        }
        Ok(())
    }

    /// One that is left out this time has its source all the same.
    fn sources(&self) -> Vec<(usize, MemorySource)> {
        let sources = self.devices.iter();
        sources
            .filter_map(|(ordinal, device)| Some((*ordinal, device.source()?)))
            .collect()
    }

    /// The frameworks' allocators and the pools.
    fn ask(&mut self, now: Instant, readings: &mut Readings) -> Vec<(usize, MemorySource, MemoryUsage)> {
        let (answers, panicked) = framework::asked();
        for name in panicked {
            let text =
                format!("the allocator of `{name}` panicked when it was asked for its memory, and is not asked again");
            readings.note(Level::Warn, text);
        }
        let frameworks = answers
            .into_iter()
            .map(|(ordinal, name, memory)| (ordinal, MemorySource::Framework(name), memory));
        let pools = self.cuda.as_mut().and_then(|cuda| cuda.find(now)).map(pools);
        let pools = pools.into_iter().flatten();
        frameworks
            .chain(pools.map(|(ordinal, memory)| (ordinal, MemorySource::Pool, memory)))
            .collect()
    }

    /// Adds what the driver offers; returns why it does not.
    fn ask_driver(
        &mut self,
        offers: &mut BTreeMap<usize, AvailableSources>,
        readings: &mut Readings,
    ) -> Option<String> {
        let Some(driver) = &mut self.driver else {
            return Some("neither the framework nor CUDA says anything, and nothing else may be asked".to_owned());
        };
        match driver.newest(offers.is_empty(), readings) {
            Ok(figures) => {
                for figures in figures {
                    offers
                        .entry(figures.ordinal)
                        .or_default()
                        .add_driver(figures, self.fallback);
                }
                None
            }
            Err(why) => Some(why),
        }
    }
}

/// Who asks for the figures of these devices.
pub(crate) static FIGURES: SharedSamplers<Vec<DriverFigures>> = SharedSamplers::new();

fn figures(
    library: Option<PathBuf>,
    environment: GpuEnvironment,
    timeouts: SamplerTimeouts,
) -> DriverReader<Vec<DriverFigures>> {
    let of_driver = library.clone();
    DriverReader::new("figures of the NVIDIA driver", &FIGURES, library, timeouts, move || {
        let mut session = NvmlSession::open(of_driver.as_ref(), &environment)?;
        Ok(move || session.sample(Instant::now()))
    })
}

impl Probe for GpuProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        self.sample_at(Instant::now(), readings)
    }
}

/// One name, if all devices have the same source.
fn in_words(sources: &[(usize, MemorySource)]) -> String {
    let (_, first) = sources[0];
    if sources.iter().all(|(_, source)| *source == first) {
        return first.tag().into_owned();
    }
    let words = sources
        .iter()
        .map(|(ordinal, source)| format!("{} (cuda:{ordinal})", source.tag()));
    words.collect::<Vec<_>>().join(", ")
}
