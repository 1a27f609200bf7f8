//! Fits a line with burn on CUDA, whose own allocator is asked at each `log_memory`.
//!
//! ```sh
//! cd examples/frameworks
//! cargo run -p burn-memory
//! ```
//!
//! It builds without CUDA, and needs a GPU to run. The build downloads LLVM, for burn's kernels; `DOCS_RS=1 cargo check` does without.
//!
//! burn keeps pages of its own and takes them from the driver past its pool, so only burn knows what is in live tensors. From burn 0.22
//! on it answers for the whole device, whichever thread asks. Before that the cubecl client has to be asked (`client.memory_usage()`),
//! and cubecl 0.9 and 0.10 answer for the calling thread's stream only: there, log memory on the thread that trains.

use burn::tensor::{Device, Distribution, Tensor};
use facade::{LogConfig, setup_logging};

const STEPS: u64 = 20;
const LEARNING_RATE: f32 = 0.1;
/// As CUDA counts them.
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
