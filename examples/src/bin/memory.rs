//! Logs memory: of the GPU if there is one, of the process, and a reading of a custom probe.
//!
//! ```sh
//! cargo run -p examples --bin memory
//! ```

use facade::logcore::{self, BuildContext, ConfigError, Probe, ProbeError, Readings};
use facade::{LogConfig, setup_logging};
use serde_json::json;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenFilesOptions {}

/// A probe that counts the open files of this process.
struct OpenFiles;

impl OpenFiles {
    fn build(_: OpenFilesOptions, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

impl Probe for OpenFiles {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        let files = std::fs::read_dir("/proc/self/fd").map_err(|error| ProbeError::Unavailable(error.to_string()))?;
        readings.push("system/open_files", files.count());
        Ok(())
    }
}

logcore::register_probe!("open_files", OpenFiles::build);

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "memory".into(),
        log_dir: std::env::args_os().nth(1).unwrap_or("outputs/memory".into()).into(),
        // The probe `gpu` needs no entry. `system` is sampled periodically, without a call.
        probes: [
            ("host".into(), json!(true)),
            ("open_files".into(), json!(true)),
            ("system".into(), json!(true)),
        ]
        .into(),
        ..LogConfig::default()
    })?;
    logger.log_metrics([("loss", 0.5)]);
    // The readings belong to the current step.
    logger.log_memory();
    logger.info(format_args!(
        "memory of the process: {:?} MiB",
        logger.metrics().average("system/proc.memory.rssMB")
    ));
    Ok(())
}
