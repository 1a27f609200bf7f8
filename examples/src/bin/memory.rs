//! Memory: the GPU where there is one, the process, and a probe of one's own.
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

/// How many files this process has open.
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
        log_dir: examples::log_dir("memory"),
        // `gpu` needs no entry; it says nothing where there is no GPU. `system` is asked from time to time, by itself.
        probes: [
            ("host".into(), json!(true)),
            ("open_files".into(), json!(true)),
            ("system".into(), json!(true)),
        ]
        .into(),
        ..LogConfig::default()
    })?;
    logger.log_metrics([("loss", 0.5)]);
    // Readings belong to the step that is being worked on.
    logger.log_memory();
    logger.info(format_args!(
        "memory of the process: {:?} MiB",
        logger.metrics().average("system/proc.memory.rssMB")
    ));
    Ok(())
}
