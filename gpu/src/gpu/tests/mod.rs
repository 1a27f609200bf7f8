//! The probe against stand-ins for the driver's libraries.

mod cuda;
mod nvml;

use std::time::Duration;

use crate::gpu::fake::Fake;
use crate::gpu::probe::{Fallback, GpuProbe};
use crate::gpu::sampler::Patience;
use crate::gpu::surroundings::Surroundings;

fn probe(fake: &Fake, surroundings: Surroundings, patience: Patience) -> GpuProbe {
    GpuProbe::within(fake.options(Fallback::Process), surroundings, patience)
}

/// Asks for a new reading every time, and waits for it.
pub(crate) fn eager() -> Patience {
    Patience {
        first: Duration::from_secs(60),
        unneeded: Duration::from_secs(60),
        later: Duration::from_secs(60),
        young: Duration::ZERO,
        period: None,
        ..Patience::default()
    }
}
