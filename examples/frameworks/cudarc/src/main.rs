//! Allocates a number of bytes with cudarc, and checks that `memory/gpu_allocated_gb` has exactly
//! this value.
//!
//! ```sh
//! cd examples/frameworks
//! cargo run -p cudarc-memory
//! ```
//!
//! The program builds without CUDA, but needs a GPU to run: without a driver, cudarc panics.

use anyhow::ensure;
use cudarc::driver::CudaContext;
use facade::{LogConfig, setup_logging};

const BYTES: usize = 256 << 20;

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "cudarc-memory".into(),
        log_dir: "outputs/examples/cudarc-memory".into(),
        ..LogConfig::default()
    })?;
    let stream = CudaContext::new(0)?.default_stream();
    let tensor = stream.alloc_zeros::<u8>(BYTES)?;
    stream.synchronize()?;

    logger.log_memory();
    let allocated = logger
        .metrics()
        .stats("memory/gpu_allocated_gb")
        .map(|stats| stats.last);
    ensure!(
        allocated == Some(BYTES as f64 / 1e9),
        "allocated {BYTES} bytes, read {allocated:?} GB"
    );
    drop(tensor);
    Ok(())
}
