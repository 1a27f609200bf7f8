//! The sink `jsonl`: each line is JSON and reads back as the logged values.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use logcore::registry::build_sink;
use logcore::reserved_names::ROW_COLUMNS;
use logcore::{BuildContext, Deadline, LogConfig, MetricBatch, MetricValue, Sink, StopFlag};
use serde_json::{Value, json};

use crate::arbitrary_call::{ArbitraryField, ArbitraryNumber, ArbitraryRecord, ArbitraryTime};
use crate::folder;

#[derive(Debug, Arbitrary)]
enum JsonlCall {
    Metrics(u64, Vec<(String, ArbitraryNumber)>, ArbitraryTime),
    Record(ArbitraryRecord),
    Flush,
}

/// The content that a row must have.
type Expected = (u64, BTreeMap<String, MetricValue>);

pub(crate) fn run(input: &[u8]) {
    let Ok(calls) = Vec::<JsonlCall>::arbitrary(&mut Unstructured::new(input)) else {
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

impl JsonlCall {
    fn give(&self, sink: &mut dyn Sink, deadline: Deadline) {
        let given = match self {
            Self::Metrics(step, values, moment) => {
                let values = unique(values);
                let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                sink.metrics(&MetricBatch::at(moment.time(), "run", *step, &values))
            }
            Self::Record(record) => record.with(|record| sink.record(record)),
            Self::Flush => sink.flush(deadline),
        };
        given.expect("it takes everything");
    }
}

/// Removes doubled names from a batch, as the logger does before the sink.
fn unique(values: &[(String, ArbitraryNumber)]) -> BTreeMap<String, MetricValue> {
    values.iter().map(|(name, value)| (name.clone(), value.0)).collect()
}

/// Families of which a row keeps only the last value.
const STATES: [&str; 5] = ["throughput/", "progress/", "memory/", "system/", "time/"];

/// The rows that the calls must produce.
#[derive(Default)]
struct Rows {
    complete: Vec<Expected>,
    open: Option<Expected>,
}

impl Rows {
    fn add(&mut self, call: &JsonlCall) {
        match call {
            JsonlCall::Metrics(step, values, _) => {
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
            JsonlCall::Flush => self.complete.extend(self.open.take()),
            JsonlCall::Record(_) => {}
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
        let values: BTreeMap<_, _> = values
            .iter()
            .filter(|(name, _)| !ROW_COLUMNS.contains(&name.as_str()))
            .collect();
        let nonfinite = nonfinite_values(row);
        let columns = row.as_object().expect("a row is an object").keys();
        let metrics = columns.filter(|name| !ROW_COLUMNS.contains(&name.as_str()));
        assert_eq!(metrics.count(), values.len());
        let finite = values.values().filter(|value| value.as_f64().is_finite());
        assert_eq!(nonfinite.len(), values.len() - finite.count());
        for (name, value) in values {
            let read = match value.as_f64().is_finite() {
                true => &row[name],
                false if row[name].is_null() => &nonfinite[name],
                false => panic!("{name:?}: {value:?} became {}", row[name]),
            };
            assert!(is_number(read, *value), "{name:?}: {value:?} became {read}");
        }
    }
}

/// The values of a row that are no finite numbers.
fn nonfinite_values(row: &Value) -> serde_json::Map<String, Value> {
    match row["nonfinite"].as_str() {
        None | Some("") => serde_json::Map::new(),
        Some(text) => serde_json::from_str(text).expect("the text holds an object"),
    }
}

fn check_records(calls: &[JsonlCall]) {
    let logged = calls.iter().filter_map(|call| match call {
        JsonlCall::Record(logged) => Some(logged),
        _ => None,
    });
    let logged: Vec<_> = logged.collect();
    let records = lines("records.jsonl");
    assert_eq!(records.len(), logged.len());
    for (record, logged) in records.iter().zip(logged) {
        logged.with(|expected| assert_eq!(record["level"], expected.level().as_str()));
        assert_eq!(record["message"], *logged.message);
        assert_eq!(record["logger"], *logged.logger);
        assert_eq!(record["target"], *logged.target);
        // A name that is taken has `_` behind it.
        let mut taken = BTreeSet::new();
        for (name, field) in &logged.fields {
            let mut name = name.clone();
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            check_field(&record["fields"][&name], field);
        }
    }
}

fn check_field(read: &Value, field: &ArbitraryField) {
    let same = match field {
        ArbitraryField::Bool(value) => read == value,
        ArbitraryField::Int(value) => read.as_i64() == Some(*value),
        ArbitraryField::UInt(value) => read.as_u64() == Some(*value),
        ArbitraryField::Float(value) => is_number(read, MetricValue::Float(*value)),
        ArbitraryField::Text(text) => read == text,
    };
    assert!(same, "{field:?} became {read}");
}

/// Returns `true` if the JSON number is this number to the last bit.
fn is_number(read: &Value, value: MetricValue) -> bool {
    match value {
        MetricValue::Int(value) => read.as_i64() == Some(value),
        MetricValue::UInt(value) => read.as_u64() == Some(value),
        other => match other.as_decimal() {
            float if float.is_nan() => read == "NaN",
            f64::INFINITY => read == "Infinity",
            f64::NEG_INFINITY => read == "-Infinity",
            float => read.as_f64().map(f64::to_bits) == Some(float.to_bits()),
        },
    }
}
