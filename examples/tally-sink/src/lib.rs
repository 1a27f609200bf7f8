//! A sink in a crate of its own, as a template for other sinks. It counts records by level and
//! keeps the best value of one metric. At the end of the run it writes both to a file.
//!
//! A program uses the sink in three steps:
//!
//! 1. Depend on this crate.
//! 2. Name the crate once, so that it is linked: `use tally_sink as _;`.
//! 3. Add an entry to the config: `sinks.tally = { metric = "metrics/loss" }`.
//!
//! The file, `tally.json` in the log folder:
//!
//! ```json
//! {"best": {"step": 2, "value": 0.25}, "metric": "metrics/loss", "records": {"INFO": 4}}
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use logcore::serde_json::json;
use logcore::{BuildContext, ConfigError, Deadline, EventKind, MetricBatch, Record, Sink, SinkError};
use serde::Deserialize;

/// The options under `sinks.tally` in the config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TallyOptions {
    /// Full name of the metric whose smallest value is kept, with its prefix.
    metric: String,
    /// Name of the file in the log folder.
    #[serde(default = "default_file")]
    file: String,
}

fn default_file() -> String {
    "tally.json".to_owned()
}

struct Tally {
    path: PathBuf,
    metric: String,
    records: BTreeMap<&'static str, u64>,
    /// Step and value.
    best: Option<(u64, f64)>,
}

impl Tally {
    fn build(options: TallyOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        if options.metric.is_empty() {
            return Err(ConfigError::new(
                "metric",
                "\"\"",
                "name a metric, such as metrics/loss",
            ));
        }
        if options.file.is_empty() || options.file.contains(['/', '\\']) {
            return Err(ConfigError::new(
                "file",
                &options.file,
                "use a plain file name, such as tally.json",
            ));
        }
        Ok(Self {
            path: context.file_path(&options.file),
            metric: options.metric,
            records: BTreeMap::new(),
            best: None,
        })
    }
}

impl Sink for Tally {
    fn wants(&self, what: EventKind) -> bool {
        matches!(what, EventKind::Record | EventKind::Metrics)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        *self.records.entry(record.level().as_str()).or_default() += 1;
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        for (name, value) in batch.iter() {
            let value = value.as_f64();
            // A NaN is never the best value.
            if name == self.metric && !value.is_nan() && self.best.is_none_or(|(_, best)| value < best) {
                self.best = Some((batch.step(), value));
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        let best = self.best.map(|(step, value)| json!({"step": step, "value": value}));
        let tally = json!({"records": self.records, "metric": self.metric, "best": best});
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, format!("{tally:#}\n"))
            .map_err(|error| SinkError::from(error).doing(format!("write {}", self.path.display())))
    }
}

logcore::register_sink!("tally", Tally::build);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use logcore::serde_json::Value;
    use logcore::{LogConfig, MetricValue, StopFlag, log, registry};

    use super::*;

    fn build(folder: &std::path::Path, options: Value) -> Result<Box<dyn Sink>, ConfigError> {
        let config = LogConfig {
            log_dir: folder.into(),
            ..LogConfig::default()
        };
        registry::build_sink("tally", &options, &BuildContext::new(&config, &StopFlag::default()))
    }

    #[test]
    fn finish_writes_counts_and_the_best_value() {
        let folder = std::env::temp_dir().join(format!("tally-{}", std::process::id()));
        let mut sink = build(&folder, json!({"metric": "metrics/loss"})).unwrap();
        sink.record(&Record::new(log::Level::Info, "t", "hello")).unwrap();
        for (step, loss) in [(1, 0.5), (2, 0.25), (3, f64::NAN), (4, 0.75)] {
            let values = [("metrics/loss", MetricValue::Float(loss))];
            sink.metrics(&MetricBatch::new("t", step, &values)).unwrap();
        }
        sink.finish(Deadline::after(Duration::from_secs(1))).unwrap();
        let tally: Value = logcore::serde_json::from_slice(&fs::read(folder.join("tally.json")).unwrap()).unwrap();
        assert_eq!(tally["records"], json!({"INFO": 1}));
        assert_eq!(tally["best"], json!({"step": 2, "value": 0.25}));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn build_names_the_option_that_is_invalid() {
        for (options, field) in [
            (json!({"metric": ""}), "sinks.tally.metric"),
            (json!({"metric": "m", "file": "a/b"}), "sinks.tally.file"),
            (json!({"metric": "m", "fil": "b"}), "sinks.tally.fil"),
        ] {
            assert_eq!(build(std::path::Path::new("."), options).err().unwrap().field, field);
        }
        assert!(
            build(std::path::Path::new("."), json!({}))
                .err()
                .unwrap()
                .remedy
                .contains("metric")
        );
    }
}
