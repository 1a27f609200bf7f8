//! The rows of a logger's earlier attempts, from which a resumed logger goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use logcore::files::Lines;
use logcore::{FileRank, LogConfig, RunInfo, StoredRow, SupersededRows, is_same_name};
use logcore_pipeline::print_notice;

/// The rows that a logger has written to `metrics.jsonl` in earlier attempts of the run, without
/// those that are superseded. Each question reads the file once more, line by line.
pub(crate) struct EarlierRows {
    path: PathBuf,
    logger: String,
    /// Number of this attempt.
    attempt: u32,
    /// Rows that attempts before this one have superseded.
    superseded: SupersededRows,
    /// First step of this attempt, if the program has given one.
    first_step: Option<u64>,
}

/// State of a logger at the end of its earlier rows.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct EarlierState {
    /// The step behind the highest.
    pub(crate) next_step: u64,
    /// Samples of all progresses so far.
    pub(crate) accumulated_samples: u64,
    /// The steps that this attempt supersedes; `None` if there are none.
    pub(crate) superseded: Option<SupersededSteps>,
}

/// Steps that a later attempt does again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SupersededSteps {
    /// Time that went into them, as far as their rows tell.
    pub(crate) time: Duration,
    /// The times of the first of their rows and of the row before, in seconds since 1970.
    pub(crate) first: f64,
    pub(crate) before: f64,
}

impl EarlierRows {
    /// Returns the rows before this attempt; `None` in the first attempt.
    pub(crate) fn of_run(run: &RunInfo, config: &LogConfig, superseded: SupersededRows) -> Option<Self> {
        (run.attempt() > 1).then(|| Self {
            path: run.dir().join(FileRank::from_config(config).file_name("metrics.jsonl")),
            logger: config.name.clone(),
            attempt: run.attempt(),
            superseded,
            first_step: None,
        })
    }

    /// Returns the path of the file and the number of this attempt.
    pub(crate) fn attempt(&self) -> (&Path, u32) {
        (&self.path, self.attempt)
    }

    /// Makes `first` the first step of this attempt: rows from there on are superseded.
    pub(crate) fn supersede_from(&mut self, first: u64) {
        self.first_step = Some(first);
    }

    /// Reads the state that the rows have left.
    pub(crate) fn read_state(&self) -> EarlierState {
        let mut state = EarlierState::default();
        // The newest row of the attempt whose rows are being read, and the newest that is kept.
        let mut newest: Option<(u32, f64)> = None;
        let mut kept = 0.0;
        self.visit(|row, is_kept| {
            let before = newest.replace((row.attempt, row.time));
            if is_kept {
                kept = row.time;
                state.next_step = state.next_step.max(row.step.saturating_add(1));
                if let Some(samples) = row.value(ACCUMULATED_SAMPLES) {
                    state.accumulated_samples = samples as u64;
                }
                return;
            }
            let superseded = state.superseded.get_or_insert(SupersededSteps {
                time: Duration::ZERO,
                first: row.time,
                before: kept,
            });
            if let Some((_, time)) = before.filter(|(attempt, _)| *attempt == row.attempt) {
                let seconds = (row.time - time).max(0.0);
                let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                superseded.time = superseded.time.saturating_add(time);
            }
        });
        state
    }

    /// Returns the best finite value of a metric, by the name in the rows, with its step.
    pub(crate) fn read_best(&self, metric: &str, is_better: impl Fn(f64, f64) -> bool) -> Option<(f64, u64)> {
        let mut best: Option<(f64, u64)> = None;
        self.visit(|row, is_kept| {
            let value = row.value(metric).filter(|value| is_kept && value.is_finite());
            if let Some(value) = value
                && best.is_none_or(|(best, _)| is_better(value, best))
            {
                best = Some((value, row.step));
            }
        });
        best
    }

    /// Calls `visit` with each row that no earlier attempt has superseded, and with `true` if this
    /// attempt keeps it.
    fn visit(&self, mut visit: impl FnMut(&StoredRow, bool)) {
        let read = || {
            let mut lines = Lines::open(&self.path)?;
            while let Some(line) = lines.next_line()? {
                let Ok(row) = serde_json::from_slice::<StoredRow>(line) else {
                    continue;
                };
                if is_same_name(&row.logger, &self.logger)
                    && row.attempt < self.attempt
                    && !self.superseded.contains(&row)
                {
                    visit(&row, self.first_step.is_none_or(|first| row.step < first));
                }
            }
            Ok::<(), logcore::files::LineError>(())
        };
        if let Err(error) = { read }() {
            let text = format!(
                "logger `{}`: cannot read the rows of earlier attempts: {error}. The logger goes on without them",
                self.logger
            );
            print_notice(&format!("earlier rows of {}", self.logger), &text);
        }
    }
}

/// The number of samples of all progresses up to a row.
const ACCUMULATED_SAMPLES: &str = "throughput/accumulated_samples";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Rows of attempts 1 and 2. The second has superseded the steps from 3 on.
    const ROWS: &str = concat!(
        r#"{"step":1,"time":10.0,"logger":"a","nonfinite":"","attempt":1,"throughput/accumulated_samples":32,"m/loss":5}"#,
        "\n",
        r#"{"step":2,"time":11.0,"logger":"a","throughput/accumulated_samples":64,"m/loss":3}"#,
        "\n",
        r#"{"step":9,"time":11.0,"logger":"b","throughput/accumulated_samples":1,"m/loss":0}"#,
        "\n",
        r#"{"step":3,"time":13.0,"logger":"a","throughput/accumulated_samples":96,"m/loss":1}"#,
        "\n",
        r#"{"step":3,"time":20.0,"logger":"a","attempt":2,"throughput/accumulated_samples":96,"m/loss":2}"#,
        "\ntorn, or foreign\n",
        r#"{"step":4,"time":24.0,"logger":"a","attempt":2,"m/loss":null,"nonfinite":"{\"m/loss\":\"NaN\"}"}"#,
        "\n",
        r#"{"step":5,"time":29.0,"logger":"a","attempt":2,"m/loss":4}"#,
        "\n",
    );

    fn rows(folder: &std::path::Path, attempt: u32) -> EarlierRows {
        fs::write(folder.join("metrics.jsonl"), ROWS).unwrap();
        let run = RunInfo::new("k3v9q2ab", "a", folder, attempt);
        let config = LogConfig {
            name: "a".to_owned(),
            ..LogConfig::default()
        };
        let mut superseded = SupersededRows::default();
        superseded.add(2, "a", 3);
        EarlierRows::of_run(&run, &config, superseded).unwrap()
    }

    #[test]
    fn the_state_is_that_of_the_newest_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let rows = rows(folder.path(), 3);
        let state = EarlierState {
            next_step: 6,
            accumulated_samples: 96,
            superseded: None,
        };
        assert_eq!(rows.read_state(), state);
        assert_eq!(rows.read_best("m/loss", |a, b| a < b), Some((2.0, 3)));
        assert_eq!(rows.read_best("m/loss", |a, b| a > b), Some((5.0, 1)));
        assert_eq!(rows.read_best("m/accuracy", |a, b| a > b), None);
    }

    #[test]
    fn steps_from_the_first_of_this_attempt_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = rows(folder.path(), 3);
        rows.supersede_from(4);
        let state = EarlierState {
            next_step: 4,
            accumulated_samples: 96,
            superseded: Some(SupersededSteps {
                time: Duration::from_secs(9),
                first: 24.0,
                before: 20.0,
            }),
        };
        assert_eq!(rows.read_state(), state);
        rows.supersede_from(3);
        assert_eq!(
            (rows.read_state().next_step, rows.read_state().accumulated_samples),
            (3, 64)
        );
        assert_eq!(rows.read_best("m/loss", |a, b| a < b), Some((3.0, 2)));
    }

    #[test]
    fn a_logger_goes_on_with_the_rows_of_another_spelling_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let row = |attempt: u32, step: u64| {
            format!("{{\"step\":{step},\"time\":1,\"logger\":\"my-app\",\"attempt\":{attempt}}}\n")
        };
        fs::write(folder.path().join("metrics.jsonl"), row(1, 9) + &row(2, 3)).unwrap();
        let run = RunInfo::new("k3v9q2ab", "my_app", folder.path(), 3);
        let config = LogConfig {
            name: "my_app".to_owned(),
            ..LogConfig::default()
        };
        let mut superseded = SupersededRows::default();
        superseded.add(2, "my_app", 3);
        let rows = EarlierRows::of_run(&run, &config, superseded).unwrap();
        assert_eq!(rows.read_state().next_step, 4);
    }

    #[test]
    fn a_first_attempt_has_no_earlier_rows() {
        let run = RunInfo::new("k3v9q2ab", "a", "/nowhere", 1);
        let superseded = SupersededRows::default();
        assert!(EarlierRows::of_run(&run, &LogConfig::default(), superseded).is_none());
    }
}
