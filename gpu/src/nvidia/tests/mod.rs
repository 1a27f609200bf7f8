//! Tests of the probe against fakes of the driver's libraries.

mod cuda;
mod nvml;

use std::time::Duration;

use crate::nvidia::env::GpuEnvironment;
use crate::nvidia::fake::FakeLibrary;
use crate::nvidia::options::Fallback;
use crate::nvidia::probe::GpuProbe;
use crate::nvidia::sampler::SamplerTimeouts;

fn probe(fake: &FakeLibrary, environment: GpuEnvironment, timeouts: SamplerTimeouts) -> GpuProbe {
    GpuProbe::with_environment(fake.options(Fallback::Process), environment, timeouts)
}

/// Timeouts with which each call requests a reading and waits for it.
pub(crate) fn eager() -> SamplerTimeouts {
    SamplerTimeouts {
        first_required: Duration::from_secs(60),
        first_optional: Duration::from_secs(60),
        refresh: Duration::from_secs(60),
        max_age: Duration::ZERO,
        period: None,
        ..SamplerTimeouts::default()
    }
}
