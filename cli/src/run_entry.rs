//! A run as the commands show it: one JSON object, whose members are the columns.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use logcore::files;
use logcore::{RunState, StoredRow, epoch_seconds};
use logcore_runs::{RunError, StoredRun};
use serde_json::{Map, Value, json};

/// A run with what its files say.
pub(crate) struct RunEntry {
    pub(crate) run: StoredRun,
    /// The members of the run in JSON output.
    pub(crate) json: Value,
    /// Files that could not be read.
    pub(crate) problems: Vec<RunError>,
    /// `true` if the run has rows, the last of which was not found.
    pub(crate) lacks_last_row: bool,
}

impl RunEntry {
    /// Reads a run. `has_rows` tells whether the rows are counted, for which they are read.
    pub(crate) fn read(run: StoredRun, has_rows: bool) -> Self {
        let mut problems = Vec::new();
        let mut keep = |result: Result<Map<String, Value>, RunError>| {
            result.unwrap_or_else(|error| {
                problems.push(error);
                Map::new()
            })
        };
        let (config, ends) = (keep(run.config()), keep(run.summary()));
        let manifest = &run.manifest;
        let newest = manifest.attempts.last();
        let mut end = first_end(&ends, &manifest.name).cloned().unwrap_or_default();
        let mut summary = statistics(&ends, &manifest.name);
        let mut last_step = end.get("last_step").and_then(Value::as_u64);
        let mut lacks_last_row = false;
        // A run that has not ended by itself has no statistics: its last row has to do.
        if summary.is_empty() {
            match read_last_row(&run) {
                LastRow::None => {}
                LastRow::Missed => lacks_last_row = true,
                LastRow::Found(row) => {
                    last_step = last_step.max(Some(row.step));
                    for (name, value) in row.values {
                        let name = name.strip_prefix(DEFAULT_PREFIX).unwrap_or(&name);
                        summary.insert(name.to_owned(), json!({"last": value}));
                    }
                }
            }
        }
        let steps = manifest.attempts.iter().filter_map(|attempt| attempt.last_step);
        let last_step = last_step.max(steps.max());
        // The file may be of somebody else, who has written texts.
        let mut take = |name: &str| {
            let value = end.as_object_mut().and_then(|end| end.remove(name));
            value.filter(Value::is_number).unwrap_or_default()
        };
        let json = json!({
            "id": manifest.id,
            "name": manifest.name,
            // A path that is not UTF-8 has no JSON form of its own.
            "dir": run.dir.to_string_lossy(),
            "state": run.state.as_str(),
            "started": Some(manifest.started).filter(|started| *started > 0.0),
            "ended": manifest.ended.filter(|_| run.state != RunState::Running),
            "duration": duration(&run),
            "attempt": manifest.attempts.len(),
            "world_size": manifest.world_size,
            "last_step": last_step,
            "rows": has_rows.then(|| count_rows(&run)).flatten(),
            "steps_per_sec": take("steps_per_sec"),
            "samples_per_sec": take("samples_per_sec"),
            "mfu": take("mfu"),
            "gpu_energy_kwh": take("gpu_energy_kwh"),
            "goodput": take("goodput"),
            "ledger": newest.map(|attempt| &attempt.ledger),
            "config": config,
            "summary": summary,
            "wandb_url": manifest.wandb.iter().find_map(|wandb| wandb.url.clone()),
            "resumed_from": manifest.resumed_from,
        });
        Self {
            run,
            json,
            problems,
            lacks_last_row,
        }
    }

    /// Returns the id, or the name of the folder of a run that has none.
    pub(crate) fn id(&self) -> String {
        match self.run.manifest.id.as_str() {
            "" => self
                .run
                .dir
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            id => id.to_owned(),
        }
    }
}

/// The prefix that metrics have in rows by default, and not in summaries.
const DEFAULT_PREFIX: &str = "metrics/";

/// Returns the end of the logger that names the run, or else of any.
fn first_end<'a>(ends: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    ends.get(name).or_else(|| ends.values().next())
}

/// Returns the statistics by metric. A name that several loggers have is that of the run's first
/// logger; the others have the logger before it.
fn statistics(ends: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let mut all = Map::new();
    let (first, others): (Vec<_>, Vec<_>) = ends.iter().partition(|(logger, _)| *logger == name);
    for (logger, end) in first.into_iter().chain(others) {
        for metric in end["metrics"].as_array().into_iter().flatten() {
            let Some(metric_name) = metric["name"].as_str() else {
                continue;
            };
            let key = match all.contains_key(metric_name) {
                true => format!("{logger}/{metric_name}"),
                false => metric_name.to_owned(),
            };
            let mut metric = metric.clone();
            metric.as_object_mut().map(|metric| metric.remove("name"));
            all.insert(key, metric);
        }
    }
    all
}

/// Returns the seconds from the start of the run to its end, or to now.
fn duration(run: &StoredRun) -> Option<f64> {
    let manifest = &run.manifest;
    let end = match run.state {
        RunState::Running => Some(epoch_seconds(SystemTime::now())),
        _ => manifest.ended,
    };
    end.map(|end| end - manifest.started)
        .filter(|duration| *duration >= 0.0)
}

/// Counts the lines of the file of rank 0.
fn count_rows(run: &StoredRun) -> Option<u64> {
    let path = run.row_files().ok()?.remove(&0)?;
    let mut file = files::open_no_follow(&path).ok()?;
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0;
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(count),
            length => count += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

/// Bytes of the end of a file in which its last row is looked for first, which most rows fit.
const USUAL_END: u64 = 64 << 10;
/// Most bytes of the end in which the last row is looked for: that of 100,000 metrics.
const LONGEST_END: u64 = 4 << 20;
/// Most bytes of all ends beyond the usual ones. In memory a metric takes 800 bytes, so that the
/// ends of a thousand runs would take all there is.
const MOST_LONG_ENDS: u64 = 32 << 20;
/// Bytes of ends beyond the usual ones that this process has read.
static LONG_ENDS: AtomicU64 = AtomicU64::new(0);

/// The last complete row of a run.
enum LastRow {
    Found(StoredRow),
    /// There is no complete line.
    None,
    /// It is too long, or no row.
    Missed,
}

/// Reads the last complete row of rank 0.
fn read_last_row(run: &StoredRun) -> LastRow {
    let open = || {
        let file = files::open_no_follow(&run.row_files().ok()?.remove(&0)?).ok()?;
        let length = file.metadata().ok()?.len();
        Some((file, length))
    };
    let Some((mut file, length)) = open() else {
        return LastRow::None;
    };
    let mut size = USUAL_END;
    loop {
        let begin = length.saturating_sub(size);
        let Some(end) = read_end(&mut file, begin, size) else {
            return LastRow::Missed;
        };
        if let Some(row) = find_last_row(&end, begin == 0) {
            return LastRow::Found(row);
        }
        if begin == 0 && !end.contains(&b'\n') {
            return LastRow::None;
        }
        size *= 8;
        if begin == 0 || size > LONGEST_END || LONG_ENDS.fetch_add(size.min(length), Relaxed) > MOST_LONG_ENDS {
            return LastRow::Missed;
        }
    }
}

fn read_end(file: &mut File, begin: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin)).ok()?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Finds the last complete row in the end of a file, which begins in the middle of a line unless it
/// is the whole file.
fn find_last_row(end: &[u8], is_whole: bool) -> Option<StoredRow> {
    let complete = end.iter().rposition(|byte| *byte == b'\n')?;
    let first = match is_whole {
        true => 0,
        false => end.iter().position(|byte| *byte == b'\n')? + 1,
    };
    let mut lines = end.get(first..complete)?.rsplit(|byte| *byte == b'\n');
    lines.find_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(files: &[(&str, &str)]) -> RunEntry {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        RunEntry::read(StoredRun::open(folder.path()).unwrap(), true)
    }

    #[test]
    fn a_finished_run_has_its_statistics() {
        let entry = entry(&[
            (
                "run.json",
                r#"{"id":"k3v9q2ab","name":"a","started":10.0,"ended":30.0,"state":"finished","attempts":[{}]}"#,
            ),
            (
                "summary.json",
                r#"{"a":{"last_step":7,"steps_per_sec":2.5,"metrics":[{"name":"loss","last":0.5}]},
                    "b":{"metrics":[{"name":"loss","last":3}]}}"#,
            ),
            ("config.json", r#"{"config":{"lr":0.1}}"#),
            ("metrics.jsonl", "{}\n{}\n"),
        ]);
        let json = &entry.json;
        assert_eq!(
            (&json["duration"], &json["last_step"], &json["rows"]),
            (&20.0.into(), &7.into(), &2.into())
        );
        assert_eq!(json["summary"]["loss"], json!({"last": 0.5}));
        assert_eq!(json["summary"]["b/loss"], json!({"last": 3}));
        assert_eq!(
            (&json["config"]["lr"], &json["steps_per_sec"]),
            (&0.1.into(), &2.5.into())
        );
        assert!(json["goodput"].is_null() && entry.problems.is_empty());
    }

    #[test]
    fn a_killed_run_has_the_values_of_its_last_row() {
        let rows = "{\"step\":1,\"time\":1,\"logger\":\"a\"}\n\
                    {\"step\":2,\"time\":1,\"logger\":\"a\",\"metrics/loss\":0.25}\n{\"step\":3,\"ti";
        let entry = entry(&[
            ("run.json", r#"{"name":"a","state":"killed"}"#),
            ("metrics.jsonl", rows),
        ]);
        assert_eq!(entry.json["summary"]["loss"], json!({"last": 0.25}));
        assert_eq!(entry.json["last_step"], 2);
    }

    #[test]
    fn a_run_without_a_last_row_says_so() {
        for (rows, is_missed) in [("", false), ("{\"step\":1,\"ti", false), ("no row\n", true)] {
            let entry = entry(&[
                ("run.json", r#"{"name":"a","state":"killed"}"#),
                ("metrics.jsonl", rows),
            ]);
            assert_eq!(entry.lacks_last_row, is_missed, "{rows}");
        }
    }

    #[test]
    fn a_last_row_may_be_long() {
        // Just beyond each of the ends that are read, and the longest that is found.
        for metrics in [1, 2_000, 20_000, 100_000] {
            let values: String = (0..metrics)
                .map(|metric| format!(",\"m{metric}\":0.25{metric:06}"))
                .collect();
            let row = format!("{{\"step\":7,\"time\":1,\"logger\":\"a\"{values}}}");
            for rest in ["", "{\"step\":8,\"ti"] {
                let text = format!("{{\"step\":6,\"time\":1,\"logger\":\"a\"}}\n{row}\n{rest}");
                let entry = entry(&[
                    ("run.json", r#"{"name":"a","state":"killed"}"#),
                    ("metrics.jsonl", &text),
                ]);
                assert_eq!(entry.json["last_step"], 7, "{metrics} metrics, {} bytes", row.len());
                assert_eq!(entry.json["summary"].as_object().unwrap().len(), metrics);
            }
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_problems() {
        let entry = entry(&[("run.json", "{}"), ("summary.json", "{"), ("config.json", "7")]);
        assert_eq!(entry.problems.len(), 2);
        assert_eq!(entry.json["state"], "unknown");
    }
}
