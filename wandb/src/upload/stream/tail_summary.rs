//! The summary of the end of a log without an exit record.
//!
//! The sink writes the summary only now and then. If the process was killed, the last summary
//! record is older than the last rows, and this module computes the difference.

use crate::log_format::json;
use crate::log_format::proto::{Item, ItemsRecord, MetricRecord};
use crate::run_log::row::RowColumns;

/// The summary of the rows behind the last summary record, as the killed process would have written
/// it.
#[derive(Default)]
pub(crate) struct TailSummary {
    columns: RowColumns,
    /// The internal values of the newest row. Empty if it lacks the value.
    own: [String; OWN.len()],
}

/// The names of the internal values of a row.
const OWN: [&str; 3] = ["_step", "_timestamp", RUNTIME];
const RUNTIME: &str = "_runtime";

impl TailSummary {
    /// Adds a metric definition.
    pub(crate) fn define(&mut self, metric: MetricRecord) {
        self.columns.define(metric);
    }

    /// Adds the values of a row, as valid JSON.
    pub(crate) fn row(&mut self, values: &[(&str, &str)]) {
        self.own.iter_mut().for_each(String::clear);
        for (name, value) in values {
            match OWN.iter().position(|own| own == name) {
                Some(at) => (*value).clone_into(&mut self.own[at]),
                None => self.columns.set_json(name, value),
            }
        }
        self.columns.close_row();
    }

    /// Forgets the rows before a summary record, which covers them.
    pub(crate) fn reset(&mut self) {
        self.columns.take_stale();
    }

    /// Returns the summary of the rows since then; `None` if there are no new values.
    pub(crate) fn take(&mut self) -> Option<ItemsRecord> {
        let mut update = self.columns.take_stale();
        if update.is_empty() {
            return None;
        }
        for (name, value) in OWN.into_iter().zip(&self.own).filter(|(_, value)| !value.is_empty()) {
            let value_json = match name {
                // The runtime of a summary is in whole seconds.
                RUNTIME => (json::number(value).unwrap_or(0.0) as i64).to_string(),
                _ => value.clone(),
            };
            update.push(Item {
                key: name.to_owned(),
                value_json,
                ..Item::default()
            });
        }
        Some(ItemsRecord {
            update,
            remove: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use logcore::{MetricBatch, MetricValue};

    use crate::definition::MetricDefinition;
    use crate::log_format::proto;
    use crate::log_format::{LogEntry, LogReader};
    use crate::run_log::{RunLog, RunStart};
    use crate::upload::stream::assembler::Assembler;

    /// Returns the summary that the server would get of a log.
    fn summary(log: &Path) -> serde_json::Value {
        let mut assembler = Assembler::default();
        assembler.derive_summary();
        let mut reader = LogReader::open(log).unwrap();
        while let LogEntry::Record(record) = reader.next().unwrap() {
            assembler.read(record);
        }
        assembler.add_tail_summary();
        let mut summary = crate::log_format::json::read(&assembler.summary_text()).unwrap();
        summary.as_object_mut().unwrap().remove("_wandb");
        summary.as_object_mut().unwrap().remove("_runtime");
        summary
    }

    fn log(path: &Path, started: SystemTime) -> RunLog {
        let beginning = RunStart {
            run: proto::RunRecord {
                run_id: "x".to_owned(),
                start_time: Some(proto::Timestamp::from_system(started)),
                ..proto::RunRecord::default()
            },
            environment: proto::EnvironmentRecord::default(),
            telemetry: proto::TelemetryRecord::default(),
            started,
            first_step: 0,
            earlier_runtime: 0.0,
            has_stats: true,
        };
        let mut log = RunLog::create(path, beginning).unwrap();
        for definition in [
            MetricDefinition::new("loss").summary(["min", "mean", "last"]),
            MetricDefinition::new("hidden").summary(["none"]),
        ] {
            log.define(definition.records()).unwrap();
        }
        log.set_summary("best", &0.5.into()).unwrap();
        for step in 0..100_u64 {
            if step == 50 {
                log.set_summary("x", &(-1).into()).unwrap();
            }
            let value = MetricValue::Float(((step * 7) % 13) as f64);
            let values = [("loss", value), ("hidden", value), ("x", MetricValue::UInt(step))];
            let time = started + Duration::from_secs(step);
            log.metrics(&MetricBatch::at(time, "x", step, &values)).unwrap();
        }
        log
    }

    #[test]
    fn a_log_without_an_end_has_the_summary_of_one_with_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
        let started = SystemTime::now();
        let mut ended = log(&whole, started);
        ended.end(0, SystemTime::now());
        ended.sync().unwrap();
        let mut killed = log(&cut, started);
        // The newest row is open until a newer row starts, and is not in the log.
        let values = [("x", MetricValue::UInt(100))];
        killed.metrics(&MetricBatch::new("x", 100, &values)).unwrap();
        killed.write_out().unwrap();
        assert_eq!(summary(&cut), summary(&whole));
        assert_eq!(summary(&cut)["x"], 99);
        assert_eq!(summary(&cut)["best"], 0.5);
    }
}
