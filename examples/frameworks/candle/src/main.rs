//! Fits a line with candle, and logs the GPU memory. candle allocates from the CUDA driver's pool,
//! which the logger reads without any set-up.
//!
//! ```sh
//! cd examples/frameworks
//! cargo run -p candle-memory                   # on the CPU: no GPU memory to log
//! cargo run -p candle-memory --features cuda   # on a GPU: needs nvcc
//! ```

use std::thread;
use std::time::Duration;

use anyhow::ensure;
use candle_core::{DType, Device, Tensor, Var};
use facade::{LogConfig, UnifiedLogger, setup_logging};

const STEPS: u64 = 20;
const LEARNING_RATE: f64 = 0.1;

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "candle-memory".into(),
        log_dir: "outputs/examples/candle-memory".into(),
        ..LogConfig::default()
    })?;
    let device = Device::cuda_if_available(0)?;
    let inputs = Tensor::rand(-1_f32, 1.0, (256, 1), &device)?;
    let wanted = inputs.affine(3.0, 0.5)?;
    let weight = Var::zeros((1, 1), DType::F32, &device)?;
    let bias = Var::zeros(1, DType::F32, &device)?;

    for step in 0..STEPS {
        let outputs = inputs.matmul(&weight)?.broadcast_add(&bias)?;
        let loss = (outputs - &wanted)?.sqr()?.mean_all()?;
        let gradients = loss.backward()?;
        for variable in [&weight, &bias] {
            if let Some(gradient) = gradients.get(variable) {
                variable.set(&(variable.as_tensor() - (gradient * LEARNING_RATE)?)?)?;
            }
        }
        logger.log_metrics_at(step, [("loss", loss.to_scalar::<f32>()?)]);
        logger.log_memory();
    }

    if device.is_cuda() {
        check_known_tensor(&logger, &device)?;
    }
    logger.finish();
    Ok(())
}

/// Checks that `memory/gpu_allocated_gb` grows by exactly the size of a tensor.
fn check_known_tensor(logger: &UnifiedLogger, device: &Device) -> anyhow::Result<()> {
    const BYTES: usize = 256 << 20;
    let before = allocated(logger, device)?;
    let tensor = Tensor::zeros(BYTES, DType::U8, device)?;
    let grown = allocated(logger, device)? - before;
    drop(tensor);
    ensure!(grown == BYTES as f64, "allocated {BYTES} bytes, read {grown} more");
    Ok(())
}

fn allocated(logger: &UnifiedLogger, device: &Device) -> anyhow::Result<f64> {
    device.synchronize()?;
    // The pool is read at most every 50 ms.
    thread::sleep(Duration::from_millis(60));
    logger.log_memory();
    let read = logger.metrics().stats("memory/gpu_allocated_gb");
    Ok(read.map_or(0.0, |stats| (stats.last * 1e9).round()))
}
