//! The sink `jsonl`: whatever goes in, each line is JSON, and reads back as what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use logcore::registry::build_sink;
use logcore::{BuildContext, Deadline, LogConfig, MetricBatch, MetricValue, Sink, StopFlag};
use serde_json::{Value, json};

use crate::call::{Field, Moment, Number, Said};
use crate::folder;

#[derive(Debug, Arbitrary)]
enum Call {
    Metrics(u64, Vec<(String, Number)>, Moment),
    Record(Said),
    Flush,
}

/// What a row has to hold.
type Expected = (u64, BTreeMap<String, MetricValue>);

pub(crate) fn run(input: &[u8]) {
    let Ok(calls) = Vec::<Call>::arbitrary(&mut Unstructured::new(input)) else {
        return;
    };
    let config = LogConfig {
        log_dir: folder::path().to_owned(),
        ..LogConfig::default()
    };
    let stop = StopFlag::default();
    let options = json!({"records": true});
    let mut sink = build_sink("jsonl", &options, &BuildContext::new(&config, &stop)).expect("it can be built");
    let deadline = Deadline::after(Duration::from_secs(5));
    let mut rows = Rows::default();
    for call in &calls {
        call.give(sink.as_mut(), deadline);
        rows.add(call);
    }
    sink.finish(deadline).expect("it writes everything");
    drop(sink);
    check_rows(&rows.end());
    check_records(&calls);
    folder::clear();
}

impl Call {
    fn give(&self, sink: &mut dyn Sink, deadline: Deadline) {
        let given = match self {
            Self::Metrics(step, values, moment) => {
                let values = unique(values);
                let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                sink.metrics(&MetricBatch::at(moment.time(), "run", *step, &values))
            }
            Self::Record(said) => said.with(|record| sink.record(record)),
            Self::Flush => sink.flush(deadline),
        };
        given.expect("it takes everything");
    }
}

/// No name comes twice in a batch: that is seen to before it.
fn unique(values: &[(String, Number)]) -> BTreeMap<String, MetricValue> {
    values.iter().map(|(name, value)| (name.clone(), value.0)).collect()
}

/// Families of which a row has the last value alone.
const STATES: [&str; 5] = ["throughput/", "progress/", "memory/", "system/", "time/"];

/// Which rows the calls come to.
#[derive(Default)]
struct Rows {
    complete: Vec<Expected>,
    open: Option<Expected>,
}

impl Rows {
    fn add(&mut self, call: &Call) {
        match call {
            Call::Metrics(step, values, _) => {
                if self.open.as_ref().is_some_and(|(open, _)| open != step) {
                    self.complete.extend(self.open.take());
                }
                let (_, row) = self.open.get_or_insert_with(|| (*step, BTreeMap::new()));
                for (name, value) in unique(values) {
                    if let Some(earlier) = row.insert(name.clone(), value)
                        && !STATES.iter().any(|family| name.starts_with(family))
                    {
                        self.complete.push((*step, BTreeMap::from([(name, earlier)])));
                    }
                }
            }
            Call::Flush => self.complete.extend(self.open.take()),
            Call::Record(_) => {}
        }
    }

    fn end(mut self) -> Vec<Expected> {
        self.complete.extend(self.open.take());
        self.complete
    }
}

fn lines(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder::path().join(name)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'));
    assert!(!text.contains(['\u{2028}', '\u{2029}', '\r', '\u{85}']), "{text:?}");
    let lines = text.split_terminator('\n');
    lines
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

fn check_rows(expected: &[Expected]) {
    let rows = lines("metrics.jsonl");
    assert_eq!(rows.len(), expected.len());
    for (row, (step, values)) in rows.iter().zip(expected) {
        assert_eq!(row["step"].as_u64(), Some(*step));
        assert!(row["time"].is_number() && row["logger"] == "run");
        let own = ["step", "time", "logger"];
        let values: BTreeMap<_, _> = values
            .iter()
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .collect();
        assert_eq!(
            row.as_object().map(serde_json::Map::len),
            Some(own.len() + values.len())
        );
        for (name, value) in values {
            assert!(
                is_number(&row[name], *value),
                "{name:?}: {value:?} became {}",
                row[name]
            );
        }
    }
}

fn check_records(calls: &[Call]) {
    let said = calls.iter().filter_map(|call| match call {
        Call::Record(said) => Some(said),
        _ => None,
    });
    let said: Vec<_> = said.collect();
    let records = lines("records.jsonl");
    assert_eq!(records.len(), said.len());
    for (record, said) in records.iter().zip(said) {
        said.with(|expected| assert_eq!(record["level"], expected.level().as_str()));
        assert_eq!(record["message"], *said.message);
        assert_eq!(record["logger"], *said.logger);
        assert_eq!(record["target"], *said.target);
        // A name that is taken has `_` behind it.
        let mut taken = BTreeSet::new();
        for (name, field) in &said.fields {
            let mut name = name.clone();
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            check_field(&record["fields"][&name], field);
        }
    }
}

fn check_field(read: &Value, field: &Field) {
    let same = match field {
        Field::Bool(value) => read == value,
        Field::Int(value) => read.as_i64() == Some(*value),
        Field::UInt(value) => read.as_u64() == Some(*value),
        Field::Float(value) => is_number(read, MetricValue::Float(*value)),
        Field::Text(text) => read == text,
    };
    assert!(same, "{field:?} became {read}");
}

/// Whether this is that number, to the last bit.
fn is_number(read: &Value, value: MetricValue) -> bool {
    match value {
        MetricValue::Int(value) => read.as_i64() == Some(value),
        MetricValue::UInt(value) => read.as_u64() == Some(value),
        other => match other.as_f64() {
            float if float.is_nan() => read == "NaN",
            f64::INFINITY => read == "Infinity",
            f64::NEG_INFINITY => read == "-Infinity",
            float => read.as_f64().map(f64::to_bits) == Some(float.to_bits()),
        },
    }
}
