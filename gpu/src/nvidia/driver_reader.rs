//! What the driver (NVML) says, for a caller who does not wait for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use logcore::Readings;
use logcore::log::Level;

use crate::nvidia::sampler::{NoReading, Sampler, SamplerTimeouts, SharedSamplers, Unavailable};

/// Opens the driver at the first question, on a thread that is shared by all who have the same question.
pub(crate) struct DriverReader<T: 'static> {
    /// What is missing if it does not answer.
    what: &'static str,
    timeouts: SamplerTimeouts,
    start: Box<StartSampler<T>>,
    sampler: Option<Arc<Sampler<T>>>,
    /// The process that the thread is in; a fork leaves it behind.
    process: u32,
    process_now: fn() -> u32,
    gone: Option<Unavailable>,
    is_stalled: bool,
}

type StartSampler<T> = dyn Fn(u32, SamplerTimeouts) -> std::io::Result<Arc<Sampler<T>>> + Send;

impl<T: Clone + Send + 'static> DriverReader<T> {
    /// `open` runs on the thread, and so does what it returns, once for each answer.
    pub(crate) fn new<R>(
        what: &'static str,
        samplers: &'static SharedSamplers<T>,
        library: Option<PathBuf>,
        timeouts: SamplerTimeouts,
        open: impl Fn() -> Result<R, Unavailable> + Clone + Send + 'static,
    ) -> Self
    where
        R: FnMut() -> Result<T, Unavailable>,
    {
        Self {
            what,
            timeouts,
            start: Box::new(move |process, timeouts| {
                samplers.get_or_start(process, library.as_deref(), || {
                    Sampler::start("gpu-sampler", timeouts, open.clone())
                })
            }),
            sampler: None,
            process: std::process::id(),
            process_now: std::process::id,
            gone: None,
            is_stalled: false,
        }
    }

    /// The newest answer, or why there is none. Trouble is noted once. The first one is waited for if it is needed.
    pub(crate) fn newest(&mut self, is_needed: bool, readings: &mut Readings) -> Result<T, String> {
        if let Some(gone) = &self.gone {
            return Err(gone.why.clone());
        }
        let process = (self.process_now)();
        if self.process != process {
            self.process = process;
            self.sampler = None;
        }
        let newest = match self.sampler() {
            Ok(sampler) => sampler.newest(is_needed),
            Err(gone) => Err(NoReading::Unavailable(gone)),
        };
        let is_stalled = matches!(newest, Err(NoReading::Stalled));
        let was_stalled = std::mem::replace(&mut self.is_stalled, is_stalled);
        match newest {
            Ok(answer) => Ok(answer),
            Err(NoReading::Pending) => Err("the NVIDIA driver has not answered yet".to_owned()),
            Err(NoReading::Stalled) => {
                let text = format!(
                    "the NVIDIA driver does not answer; {} are left out until it does",
                    self.what
                );
                if !was_stalled {
                    readings.note(Level::Warn, format!("gpu.sampler_stalled: {text}"));
                }
                Err(text)
            }
            Err(NoReading::Unavailable(gone)) => {
                // Most machines have no GPU, which is no news.
                let level = if gone.is_failure { Level::Warn } else { Level::Trace };
                readings.note(level, format!("no {}: {}", self.what, gone.why));
                self.sampler = None;
                Err(self.gone.insert(gone).why.clone())
            }
        }
    }

    fn sampler(&mut self) -> Result<&Sampler<T>, Unavailable> {
        if self.sampler.is_none() {
            let started = (self.start)(self.process, self.timeouts)
                .map_err(|error| Unavailable::failure(format!("cannot start the thread `gpu-sampler`: {error}")))?;
            self.sampler = Some(started);
        }
        Ok(self.sampler.as_ref().expect("it is there or was just started"))
    }
}

impl<T: 'static> fmt::Debug for DriverReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("what", &self.what)
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::nvidia::fake::{FakeLibrary, environment};
    use crate::nvidia::probe::FIGURES;
    use crate::nvidia::session::NvmlSession;
    use crate::nvidia::tests::eager;

    #[test]
    fn a_child_of_a_fork_opens_the_driver_anew_and_waits_for_no_thread() {
        let fake = FakeLibrary::with_devices(1);
        let library = Some(fake.path().to_owned());
        let of_driver = library.clone();
        let mut driver = DriverReader::new("figures", &FIGURES, library, eager(), move || {
            let mut session = NvmlSession::open(of_driver.as_ref(), &environment(None))?;
            Ok(move || session.sample(Instant::now()))
        });
        let mut readings = Readings::default();
        assert_eq!(driver.newest(true, &mut readings).map(|figures| figures.len()), Ok(1));
        fake.set("hang", 1);
        driver.process_now = || 0;
        driver.timeouts.first = Duration::ZERO;
        assert!(driver.newest(true, &mut readings).is_err());
        fake.set("hang", 0);
        driver.sampler = None;
        driver.timeouts = eager();
        assert_eq!(driver.newest(true, &mut readings).map(|figures| figures.len()), Ok(1));
    }
}
