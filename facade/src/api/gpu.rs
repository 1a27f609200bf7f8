//! GPU memory that a framework manages itself, for
//! [`log_memory`](crate::UnifiedLogger::log_memory).
//!
//! The CUDA driver knows the memory of candle and cudarc, so that programs with these frameworks
//! need nothing of this module. For other frameworks, set a gauge:
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use facade::{LogConfig, setup_logging};
//!
//! let config = LogConfig { name: "train".into(), log_dir: folder.path().into(), ..LogConfig::default() };
//! let logger = setup_logging(config)?;
//! // CUDA device 0: bytes in live tensors, and bytes that the allocator holds.
//! facade::gpu::gauge(0).set(1_500_000_000, 2_000_000_000);
//! logger.log_memory();
//! assert_eq!(logger.metrics().average("memory/gpu_allocated_gb"), Some(1.5));
//! # Ok::<(), facade::LogError>(())
//! ```

pub use logcore_gpu::{Gauge, ask_allocator, gauge};
