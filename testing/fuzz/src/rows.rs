//! Rows of `metrics.jsonl`: the short way to read them gives what `serde_json` gives.

use std::fs;

use logcore::{MetricValue, StoredRow};
use logcore_runs::StoredRun;

use crate::folder;

/// Reads the input as the rows of a run of one attempt.
pub(crate) fn run(input: &[u8]) {
    let folder = folder::path();
    fs::write(folder.join("run.json"), "{}").expect("a file is written");
    fs::write(folder.join("metrics.jsonl"), input).expect("a file is written");
    let run = StoredRun::open(folder).expect("the manifest is read");
    let rows: Vec<StoredRow> = run.all_rows(0).expect("the file opens").flatten().collect();
    let complete = input.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = input[..complete].split(|byte| *byte == b'\n');
    let expected: Vec<StoredRow> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    if expected.iter().all(|row| row.attempt <= 1) {
        assert_eq!(
            rows.iter().map(facts).collect::<Vec<_>>(),
            expected.iter().map(facts).collect::<Vec<_>>()
        );
    }
    folder::clear();
}

/// Everything in a row, to the last bit.
fn facts(row: &StoredRow) -> (u64, u64, &str, Vec<(&str, bool, u64)>) {
    let values = row.values.iter();
    let values = values.map(|(name, value)| {
        let is_integer = matches!(value, MetricValue::Int(_));
        (name.as_str(), is_integer, value.as_f64().to_bits())
    });
    (row.step, row.time.to_bits(), &row.logger, values.collect())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let rows = [
        r#"{"step":0,"time":1795978245.883925,"logger":"a","metrics/loss":1.0,"nonfinite":"","attempt":1}"#,
        r#"{"step":1,"time":1795978245.9,"logger":"a","metrics/loss":-1e-7,"metrics/epoch":3}"#,
        r#"{"step":2,"time":3,"logger":"b","metrics/loss":null,"nonfinite":"{\"metrics/loss\":\"NaN\"}"}"#,
        r#"{"step":18446744073709551615,"time":-0,"logger":"\u0061\\","x":0.30000000000000004,"y":"NaN"}"#,
    ];
    vec![(rows.join("\n") + "\n").into_bytes()]
}
