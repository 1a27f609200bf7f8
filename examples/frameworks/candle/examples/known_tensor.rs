//! Checks on a GPU that `memory/gpu_allocated_gb` grows by exactly the bytes of a tensor of candle.
//!
//! ```sh
//! cd examples/frameworks
//! cargo run -p candle-training --features cuda --example known_tensor   # needs nvcc
//! ```

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use facade::{LogConfig, UnifiedLogger, setup_logging};

const BYTES: usize = 256 << 20;

fn main() -> Result<()> {
    let logger = setup_logging(LogConfig {
        name: "known_tensor".into(),
        log_dir: "outputs/examples/known_tensor".into(),
        ..LogConfig::default()
    })?;
    let device = Device::new_cuda(0)?;
    let before = allocated(&logger, &device)?;
    let tensor = Tensor::zeros(BYTES, DType::U8, &device)?;
    let grown = allocated(&logger, &device)? - before;
    drop(tensor);
    println!("allocated {BYTES} bytes, read {grown} more");
    ensure!(grown == BYTES as f64, "allocated {BYTES} bytes, read {grown} more");
    Ok(())
}

fn allocated(logger: &UnifiedLogger, device: &Device) -> Result<f64> {
    device.synchronize()?;
    // The pool is read at most every 50 ms.
    thread::sleep(Duration::from_millis(60));
    logger.log_memory();
    let read = logger.metrics().stats("memory/gpu_allocated_gb");
    Ok(read.map_or(0.0, |stats| (stats.last * 1e9).round()))
}
