//! What the driver (NVML) says, for a caller who does not wait for it.

use std::time::Instant;

use logcore::Readings;
use logcore::log::Level;

use crate::gpu::nvml::{Figures, Session};
use crate::gpu::probe::GpuOptions;
use crate::gpu::sampler::{Gone, Missing, Patience, Sampler};
use crate::gpu::surroundings::Surroundings;

/// Opens the driver at the first question, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Driver {
    options: GpuOptions,
    surroundings: Surroundings,
    patience: Patience,
    sampler: Option<Sampler<Vec<Figures>>>,
    /// The process that the thread is in; a fork leaves it behind.
    process: u32,
    gone: Option<Gone>,
    is_stalled: bool,
}

impl Driver {
    pub(crate) fn new(options: GpuOptions, surroundings: Surroundings, patience: Patience) -> Self {
        Self {
            options,
            surroundings,
            patience,
            sampler: None,
            process: std::process::id(),
            gone: None,
            is_stalled: false,
        }
    }

    /// The newest figures, or why there are none. Trouble is noted once. The first figures are waited for if they are needed.
    pub(crate) fn figures(&mut self, are_needed: bool, readings: &mut Readings) -> Result<Vec<Figures>, String> {
        if let Some(gone) = &self.gone {
            return Err(gone.why.clone());
        }
        if self.process != std::process::id() {
            self.process = std::process::id();
            // Its thread is not in this process, and can neither be waited for nor joined.
            std::mem::forget(self.sampler.take());
        }
        let newest = match self.sampler() {
            Ok(sampler) => sampler.newest(are_needed),
            Err(gone) => Err(Missing::ForEver(gone)),
        };
        let was_stalled = std::mem::replace(&mut self.is_stalled, newest == Err(Missing::Stalled));
        match newest {
            Ok(figures) => Ok(figures),
            Err(Missing::NotYet) => Err("the NVIDIA driver has not answered yet".to_owned()),
            Err(Missing::Stalled) => {
                let text = "the NVIDIA driver does not answer; its figures are left out until it does";
                if !was_stalled {
                    readings.note(Level::Warn, format!("gpu.sampler_stalled: {text}"));
                }
                Err(text.to_owned())
            }
            Err(Missing::ForEver(gone)) => {
                if gone.is_trouble {
                    readings.note(Level::Warn, format!("no figures of the NVIDIA driver: {}", gone.why));
                }
                self.sampler = None;
                Err(self.gone.insert(gone).why.clone())
            }
        }
    }

    fn sampler(&mut self) -> Result<&Sampler<Vec<Figures>>, Gone> {
        if self.sampler.is_none() {
            let (options, surroundings) = (self.options.clone(), self.surroundings.clone());
            let open = move || {
                let mut session = Session::open(&options, &surroundings)?;
                Ok(move || session.sample(Instant::now()))
            };
            let started = Sampler::start("gpu-sampler", self.patience, open)
                .map_err(|error| Gone::trouble(format!("cannot start the thread `gpu-sampler`: {error}")))?;
            self.sampler = Some(started);
        }
        Ok(self.sampler.as_ref().expect("it is there or was just started"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::fake::{Fake, surroundings};
    use crate::gpu::probe::Fallback;
    use crate::gpu::tests::eager;

    #[test]
    fn a_child_of_a_fork_opens_the_driver_anew_and_waits_for_no_thread() {
        let fake = Fake::with_devices(1);
        let mut driver = Driver::new(fake.options(Fallback::Process), surroundings(None), eager());
        let mut readings = Readings::default();
        assert_eq!(driver.figures(true, &mut readings).map(|figures| figures.len()), Ok(1));
        fake.set("hang", 1);
        // As if it were the number of the parent.
        driver.process = 0;
        driver.patience.first = std::time::Duration::ZERO;
        assert!(driver.figures(true, &mut readings).is_err());
        assert_eq!(driver.process, std::process::id());
        fake.set("hang", 0);
        driver.sampler = None;
        driver.patience = eager();
        assert_eq!(driver.figures(true, &mut readings).map(|figures| figures.len()), Ok(1));
    }
}
