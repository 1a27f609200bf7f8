//! The probe against stand-ins for the driver's libraries.

mod cuda;
mod nvml;

use std::time::Duration;

use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::fake::FakeLibrary;
use crate::nvidia::options::Fallback;
use crate::nvidia::probe::GpuProbe;
use crate::nvidia::sampler::SamplerTimeouts;

fn probe(fake: &FakeLibrary, environment: GpuEnvironment, timeouts: SamplerTimeouts) -> GpuProbe {
    GpuProbe::within(fake.options(Fallback::Process), environment, timeouts)
}

/// Asks for a new reading every time, and waits for it.
pub(crate) fn eager() -> SamplerTimeouts {
    SamplerTimeouts {
        first: Duration::from_secs(60),
        unneeded: Duration::from_secs(60),
        later: Duration::from_secs(60),
        young: Duration::ZERO,
        period: None,
        ..SamplerTimeouts::default()
    }
}
