//! Fits a line with burn on CUDA, and logs the memory that burn's allocator reports.
//!
//! ```sh
//! cd examples/frameworks
//! cargo run -p burn-memory
//! ```
//!
//! The program builds without CUDA, but needs a GPU to run. The build downloads LLVM for burn's
//! kernels; `DOCS_RS=1 cargo check` works without it.
//!
//! burn manages its own pages and bypasses the driver's memory pool, so only burn can report the
//! memory of live tensors. Since 0.22, `memory_pool_usage` covers the whole device. Older versions
//! have `client.memory_usage()` of cubecl, which in 0.9 and 0.10 covers only the stream of the
//! calling thread: there, call `log_memory` on the training thread.

use burn::tensor::{Device, Distribution, Tensor};
use facade::{LogConfig, setup_logging};

const STEPS: u64 = 20;
const LEARNING_RATE: f32 = 0.1;
/// CUDA's number of the device.
const ORDINAL: usize = 0;

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "burn-memory".into(),
        log_dir: "outputs/examples/burn-memory".into(),
        ..LogConfig::default()
    })?;
    let device = Device::cuda(ORDINAL).autodiff();

    let asked = device.clone();
    facade::gpu::ask_allocator(ORDINAL, "burn", move || {
        let usage = asked.memory_pool_usage()?;
        Some((usage.bytes_in_use, usage.bytes_reserved))
    });

    let inputs = Tensor::<2>::random([256, 1], Distribution::Uniform(-1.0, 1.0), &device);
    let wanted = inputs.clone() * 3.0 + 0.5;
    let mut weight = Tensor::<2>::zeros([1, 1], &device).require_grad();
    let mut bias = Tensor::<2>::zeros([1, 1], &device).require_grad();

    for step in 0..STEPS {
        let outputs = inputs.clone().matmul(weight.clone()) + bias.clone();
        let loss = (outputs - wanted.clone()).powi_scalar(2).mean();
        let gradients = loss.backward();
        for variable in [&mut weight, &mut bias] {
            if let Some(gradient) = variable.grad(&gradients) {
                let stepped = variable.clone().inner() - gradient * LEARNING_RATE;
                *variable = Tensor::from_inner(stepped).require_grad();
            }
        }
        logger.log_metrics_at(step, [("loss", loss.into_scalar::<f32>())]);
        logger.log_memory();
    }
    logger.finish();
    Ok(())
}
