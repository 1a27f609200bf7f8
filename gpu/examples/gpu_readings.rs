//! Prints the GPU memory of this process, and the source of the values.
//!
//! ```sh
//! cargo run -p logcore-gpu --example gpu_readings
//! ```

use std::io::{Write, stdout};

use logcore::{Probe, Readings};
use logcore_gpu::{GpuOptions, GpuProbe};

fn main() -> std::io::Result<()> {
    let mut readings = Readings::default();
    let sampled = GpuProbe::new(GpuOptions::default()).sample(&mut readings);
    let mut out = stdout().lock();
    for (level, text) in readings.notes() {
        writeln!(out, "{level}: {text}")?;
    }
    if let Some((of, source)) = readings.source() {
        writeln!(out, "{of}: {source}")?;
    }
    for (name, value) in readings.iter() {
        writeln!(out, "{name}: {}", value.as_f64())?;
    }
    if let Err(error) = sampled {
        writeln!(out, "{error}")?;
    }
    Ok(())
}
