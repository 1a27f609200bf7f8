//! Hands out the driver's newest answers to callers that cannot wait for the driver.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use logcore::Readings;
use logcore::log::Level;

use crate::nvidia::sampler::{NoReading, ReadingNeed, Sampler, SamplerTimeouts, SharedSamplers, Unavailable};

/// The answers of the driver's library NVML to one kind of query.
///
/// The first call opens the library on a thread. All clients of the same kind share that thread.
pub(crate) struct DriverClient<T: 'static> {
    /// Name of the answers, for messages: `GPU memory from NVML`.
    subject: &'static str,
    timeouts: SamplerTimeouts,
    start: Box<StartSampler<T>>,
    sampler: Option<Arc<Sampler<T>>>,
    /// Id of the process that the thread is in; a fork leaves the thread behind.
    process: u32,
    current_process: fn() -> u32,
    unavailable: Option<Unavailable>,
    is_stalled: bool,
}

/// Returns the running sampler of a process, or starts it.
type StartSampler<T> = dyn Fn(u32, SamplerTimeouts) -> std::io::Result<Arc<Sampler<T>>> + Send;

impl<T: Clone + Send + 'static> DriverClient<T> {
    /// Creates a client and opens nothing. The thread calls `open` once, and the function that
    /// `open` returns for each answer.
    pub(crate) fn new<R>(
        subject: &'static str,
        samplers: &'static SharedSamplers<T>,
        library: Option<PathBuf>,
        timeouts: SamplerTimeouts,
        open: impl Fn() -> Result<R, Unavailable> + Clone + Send + 'static,
    ) -> Self
    where
        R: FnMut() -> Result<T, Unavailable>,
    {
        Self {
            subject,
            timeouts,
            start: Box::new(move |process, timeouts| {
                samplers.get_or_start(process, library.as_deref(), || {
                    Sampler::start("gpu-sampler", timeouts, open.clone())
                })
            }),
            sampler: None,
            process: std::process::id(),
            current_process: std::process::id,
            unavailable: None,
            is_stalled: false,
        }
    }

    /// Returns the newest answer, or the reason why there is none. Each failure is noted once.
    pub(crate) fn newest(&mut self, need: ReadingNeed, readings: &mut Readings) -> Result<T, String> {
        if let Some(unavailable) = &self.unavailable {
            return Err(unavailable.reason.clone());
        }
        let process = (self.current_process)();
        if self.process != process {
            self.process = process;
            self.sampler = None;
        }
        let newest = match self.sampler() {
            Ok(sampler) => sampler.newest(need),
            Err(unavailable) => Err(NoReading::Unavailable(unavailable)),
        };
        let is_stalled = matches!(newest, Err(NoReading::Stalled));
        let was_stalled = std::mem::replace(&mut self.is_stalled, is_stalled);
        match newest {
            Ok(answer) => Ok(answer),
            Err(NoReading::Pending) => Err("the NVIDIA driver has not answered yet".to_owned()),
            Err(NoReading::Stalled) => {
                let text = format!(
                    "cannot read {}: the NVIDIA driver does not respond. Its values are left out until it does",
                    self.subject
                );
                if !was_stalled {
                    readings.note(Level::Warn, format!("gpu.sampler_stalled: {text}"));
                }
                Err(text)
            }
            Err(NoReading::Unavailable(unavailable)) => {
                // Most machines have no GPU, so that is worth no more than a line at TRACE.
                let level = if unavailable.is_failure {
                    Level::Warn
                } else {
                    Level::Trace
                };
                readings.note(level, format!("cannot read {}: {}", self.subject, unavailable.reason));
                self.sampler = None;
                Err(self.unavailable.insert(unavailable).reason.clone())
            }
        }
    }

    /// Returns the sampler, which the first call starts.
    fn sampler(&mut self) -> Result<&Sampler<T>, Unavailable> {
        let sampler = match self.sampler.take() {
            Some(sampler) => sampler,
            None => (self.start)(self.process, self.timeouts)
                .map_err(|error| Unavailable::failure(format!("cannot start the thread `gpu-sampler`: {error}")))?,
        };
        Ok(self.sampler.insert(sampler))
    }
}

impl<T: 'static> fmt::Debug for DriverClient<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverClient")
            .field("subject", &self.subject)
            .field("unavailable", &self.unavailable)
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
    fn reader_in_a_forked_child_opens_the_driver_again() {
        let fake = FakeLibrary::with_devices(1);
        let library = Some(fake.path().to_owned());
        let to_open = library.clone();
        let mut driver = DriverClient::new("figures", &FIGURES, library, eager(), move || {
            let mut session = NvmlSession::open(to_open.as_ref(), &environment(None))?;
            Ok(move || session.sample(Instant::now()))
        });
        let mut readings = Readings::default();
        assert_eq!(
            driver
                .newest(ReadingNeed::Required, &mut readings)
                .map(|figures| figures.len()),
            Ok(1)
        );
        fake.set("hang", 1);
        driver.current_process = || 0;
        driver.timeouts.first_required = Duration::ZERO;
        assert!(driver.newest(ReadingNeed::Required, &mut readings).is_err());
        fake.set("hang", 0);
        driver.sampler = None;
        driver.timeouts = eager();
        assert_eq!(
            driver
                .newest(ReadingNeed::Required, &mut readings)
                .map(|figures| figures.len()),
            Ok(1)
        );
    }
}
