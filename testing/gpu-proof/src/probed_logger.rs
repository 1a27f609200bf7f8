//! The logger under proof.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use facade::logcore::serde_json::{Value, json};
use facade::{LogConfig, UnifiedLogger, setup_logging};
use tempfile::TempDir;

/// A logger with probes, whose files nobody keeps.
pub(crate) struct ProbedLogger {
    logger: UnifiedLogger,
    _folder: TempDir,
}

/// The pools are read at most every 50 ms.
pub(crate) const BETWEEN_READS: Duration = Duration::from_millis(55);

impl ProbedLogger {
    /// A logger that reads GPU memory at `log_memory`.
    pub(crate) fn with_memory(name: &str) -> Result<Self> {
        Self::new(name, "gpu", json!(true))
    }

    /// A logger that reads GPU memory from the pools alone, without NVML.
    pub(crate) fn with_pools(name: &str) -> Result<Self> {
        Self::new(name, "gpu", json!({"fallback": "strict"}))
    }

    /// A logger that reads the machine on its threads.
    pub(crate) fn with_machine(name: &str) -> Result<Self> {
        Self::new(name, "system", json!(true))
    }

    fn new(name: &str, probe: &str, options: Value) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the logger")?;
        let logger = setup_logging(LogConfig {
            name: name.to_owned(),
            log_dir: folder.path().to_owned(),
            enable_console: false,
            probes: [(probe.to_owned(), options)].into(),
            ..LogConfig::default()
        })?;
        Ok(Self {
            logger,
            _folder: folder,
        })
    }

    /// Logs memory from fresh readings of the pools.
    pub(crate) fn log_memory(&self) {
        thread::sleep(BETWEEN_READS);
        self.log_memory_at_once();
    }

    /// Logs memory, from readings that are 50 ms old at most.
    pub(crate) fn log_memory_at_once(&self) {
        self.logger.log_memory();
    }

    /// Returns the newest value of a metric.
    pub(crate) fn value(&self, metric: &str) -> Option<f64> {
        Some(self.logger.metrics().stats(metric)?.last)
    }

    /// Returns how many values a metric has had.
    pub(crate) fn count(&self, metric: &str) -> u64 {
        self.logger.metrics().stats(metric).map_or(0, |stats| stats.count)
    }

    /// Returns the newest value of `memory/gpu_<name>` of a device, in bytes. The metric has GB of
    /// 1e9 bytes, whose nearest whole byte is exact up to 2^53 bytes.
    pub(crate) fn bytes(&self, name: &str, ordinal: usize) -> Option<u64> {
        let gb = self.value(&memory_metric(name, ordinal))?;
        Some((gb * 1e9).round() as u64)
    }

    /// Writes all rows.
    pub(crate) fn flush(&self) {
        let _ = self.logger.flush();
    }
}

impl Drop for ProbedLogger {
    fn drop(&mut self) {
        self.logger.finish();
    }
}

/// Returns the name of a metric of a device's memory.
pub(crate) fn memory_metric(name: &str, ordinal: usize) -> String {
    match ordinal {
        0 => format!("memory/gpu_{name}"),
        ordinal => format!("memory/gpu_{name}/cuda:{ordinal}"),
    }
}
