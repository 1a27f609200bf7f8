//! What a framework knows of its own GPU memory, for `log_memory`.
//!
//! Nothing is needed for candle and cudarc, whose memory the CUDA driver knows. Others say it:
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use facade::{LogConfig, setup_logging};
//!
//! let config = LogConfig { name: "train".into(), log_dir: folder.path().into(), ..LogConfig::default() };
//! let logger = setup_logging(config).unwrap();
//! // The device that CUDA calls 0; bytes in live tensors, and bytes that the allocator holds.
//! facade::gpu::gauge(0).set(1_500_000_000, 2_000_000_000);
//! logger.log_memory();
//! assert_eq!(logger.metrics().average("memory/gpu_allocated_gb"), Some(1.5));
//! ```

pub use logcore_gpu::{Gauge, ask_allocator, gauge};
