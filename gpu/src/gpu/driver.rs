//! What the driver (NVML) says, for a caller who does not wait for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use logcore::Readings;
use logcore::log::Level;

use crate::gpu::sampler::{Gone, Missing, Patience, Sampler, Samplers};

/// Opens the driver at the first question, on a thread that is shared by all who have the same question.
pub(crate) struct Driver<T: 'static> {
    /// What is missing if it does not answer.
    what: &'static str,
    patience: Patience,
    start: Box<Start<T>>,
    sampler: Option<Arc<Sampler<T>>>,
    /// The process that the thread is in; a fork leaves it behind.
    process: u32,
    process_now: fn() -> u32,
    gone: Option<Gone>,
    is_stalled: bool,
}

type Start<T> = dyn Fn(u32, Patience) -> std::io::Result<Arc<Sampler<T>>> + Send;

impl<T: Clone + Send + 'static> Driver<T> {
    /// `open` runs on the thread, and so does what it returns, once for each answer.
    pub(crate) fn new<R>(
        what: &'static str,
        samplers: &'static Samplers<T>,
        library: Option<PathBuf>,
        patience: Patience,
        open: impl Fn() -> Result<R, Gone> + Clone + Send + 'static,
    ) -> Self
    where
        R: FnMut() -> Result<T, Gone>,
    {
        Self {
            what,
            patience,
            start: Box::new(move |process, patience| {
                samplers.get_or_start(process, library.as_deref(), || {
                    Sampler::start("gpu-sampler", patience, open.clone())
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
            Err(gone) => Err(Missing::ForEver(gone)),
        };
        let is_stalled = matches!(newest, Err(Missing::Stalled));
        let was_stalled = std::mem::replace(&mut self.is_stalled, is_stalled);
        match newest {
            Ok(answer) => Ok(answer),
            Err(Missing::NotYet) => Err("the NVIDIA driver has not answered yet".to_owned()),
            Err(Missing::Stalled) => {
                let text = format!(
                    "the NVIDIA driver does not answer; {} are left out until it does",
                    self.what
                );
                if !was_stalled {
                    readings.note(Level::Warn, format!("gpu.sampler_stalled: {text}"));
                }
                Err(text)
            }
            Err(Missing::ForEver(gone)) => {
                // Most machines have no GPU, which is no news.
                let level = if gone.is_trouble { Level::Warn } else { Level::Trace };
                readings.note(level, format!("no {}: {}", self.what, gone.why));
                self.sampler = None;
                Err(self.gone.insert(gone).why.clone())
            }
        }
    }

    fn sampler(&mut self) -> Result<&Sampler<T>, Gone> {
        if self.sampler.is_none() {
            let started = (self.start)(self.process, self.patience)
                .map_err(|error| Gone::trouble(format!("cannot start the thread `gpu-sampler`: {error}")))?;
            self.sampler = Some(started);
        }
        Ok(self.sampler.as_ref().expect("it is there or was just started"))
    }
}

impl<T: 'static> fmt::Debug for Driver<T> {
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
    use crate::gpu::fake::{Fake, surroundings};
    use crate::gpu::nvml::Session;
    use crate::gpu::probe::FIGURES;
    use crate::gpu::tests::eager;

    #[test]
    fn a_child_of_a_fork_opens_the_driver_anew_and_waits_for_no_thread() {
        let fake = Fake::with_devices(1);
        let library = Some(fake.path().to_owned());
        let of_driver = library.clone();
        let mut driver = Driver::new("figures", &FIGURES, library, eager(), move || {
            let mut session = Session::open(of_driver.as_ref(), &surroundings(None))?;
            Ok(move || session.sample(Instant::now()))
        });
        let mut readings = Readings::default();
        assert_eq!(driver.newest(true, &mut readings).map(|figures| figures.len()), Ok(1));
        fake.set("hang", 1);
        driver.process_now = || 0;
        driver.patience.first = Duration::ZERO;
        assert!(driver.newest(true, &mut readings).is_err());
        fake.set("hang", 0);
        driver.sampler = None;
        driver.patience = eager();
        assert_eq!(driver.newest(true, &mut readings).map(|figures| figures.len()), Ok(1));
    }
}
