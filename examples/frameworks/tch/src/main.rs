//! Fits a line with tch, and logs the memory that libtorch's allocator reports, through a gauge.
//!
//! ```sh
//! pip install torch==2.13.0   # or any libtorch of that version, in LIBTORCH
//! cd examples/frameworks/tch
//! LIBTORCH_USE_PYTORCH=1 cargo run
//! ```
//!
//! libtorch bypasses the CUDA driver's memory pool, and neither its C interface nor tch reports its
//! usage. So a few lines of C++ (`shim.cpp`) are built against the libtorch that tch links. Without
//! a GPU the program trains on the CPU and logs no GPU memory.

mod allocator;

use facade::{LogConfig, setup_logging};
use tch::{Device, Kind, Tensor, no_grad};

const STEPS: u64 = 20;
const LEARNING_RATE: f64 = 0.1;
/// CUDA's number of the device.
const ORDINAL: usize = 0;

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "tch-memory".into(),
        log_dir: "outputs/examples/tch-memory".into(),
        ..LogConfig::default()
    })?;
    let device = match tch::Cuda::is_available() {
        true => Device::Cuda(ORDINAL),
        false => Device::Cpu,
    };
    let gpu_memory = facade::gpu::gauge(ORDINAL);

    let inputs = Tensor::rand([256, 1], (Kind::Float, device)) * 2.0 - 1.0;
    let wanted = &inputs * 3.0 + 0.5;
    let mut weight = Tensor::zeros([1, 1], (Kind::Float, device)).set_requires_grad(true);
    let mut bias = Tensor::zeros([1], (Kind::Float, device)).set_requires_grad(true);

    for step in 0..STEPS {
        let loss = (inputs.matmul(&weight) + &bias - &wanted).square().mean(Kind::Float);
        weight.zero_grad();
        bias.zero_grad();
        loss.backward();
        no_grad(|| {
            for variable in [&mut weight, &mut bias] {
                let stepped = variable.grad() * LEARNING_RATE;
                *variable -= stepped;
            }
        });
        logger.log_metrics_at(step, [("loss", loss.double_value(&[]))]);
        if let Some((allocated, reserved)) = allocator::usage(ORDINAL) {
            gpu_memory.set(allocated, reserved);
        }
        logger.log_memory();
    }
    logger.finish();
    Ok(())
}
