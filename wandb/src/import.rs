//! Reads a log for a program that keeps its content elsewhere.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::folder::RunFolder;
use crate::log_format::items::{self, ItemTree};
use crate::log_format::proto::{EnvironmentRecord, HistoryRecord, OutputRaw, RecordKind, RunRecord, STDOUT};
use crate::log_format::{LogEntry, LogReadError, LogReader};

/// Largest number of bytes of a record that is read.
const LONGEST: usize = 64 << 20;
/// Deepest value in an object that is taken for a metric of its own.
const DEEPEST: usize = 8;

/// The next part of a log; see [`read_log`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum LogPart {
    /// A row.
    Row {
        /// Step of the row, if the row has one.
        step: Option<u64>,
        /// Seconds since 1970.
        time: Option<f64>,
        /// The numbers by name.
        values: Vec<(String, f64)>,
        /// Number of values that are no numbers, such as images.
        others: u64,
    },
    /// Console output.
    Output {
        /// Seconds since 1970.
        time: Option<f64>,
        /// The text with its line ends, not necessarily a complete line.
        text: String,
        /// `true` for standard error.
        is_error: bool,
    },
}

/// The facts of a log about its run as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LoggedRun {
    /// Id of the run.
    pub id: String,
    /// Display name; empty if nobody has chosen one.
    pub name: String,
    /// Project of the run.
    pub project: String,
    /// Start in seconds since 1970.
    pub started: Option<f64>,
    /// Seconds from the start to the end, if the log has an end.
    pub runtime: Option<f64>,
    /// Exit code, if the log has an end.
    pub exit_code: Option<i32>,
    /// The hyper-parameters.
    pub config: Map<String, Value>,
    /// The numbers of the summary, by name.
    pub summary: Vec<(String, f64)>,
    /// Name of the machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Name of the program, and its arguments.
    pub argv: Vec<String>,
    /// Git commit of the program.
    pub commit: Option<String>,
    /// The reason why the log cannot be read to its end.
    pub damage: Option<String>,
}

/// Reads a log from its begin to its end, and passes each row and each piece of output on. Nothing
/// in the log leads to another file, and no record is longer than 64 MiB.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let log = folder.path().join("run-x.wandb");
/// std::fs::write(&log, b":W&B\xe1\xbe\0").unwrap();
/// let run = logcore_wandb::read_log(&log, &mut |_| Ok(()))?;
/// assert_eq!(run.exit_code, None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If the file is no log or cannot be opened, and the errors of `take`. Damage is no error, but
/// [`LoggedRun::damage`].
pub fn read_log(log: &Path, take: &mut dyn FnMut(LogPart) -> io::Result<()>) -> io::Result<LoggedRun> {
    let file = RunFolder::open(log)?.open_log()?;
    let invalid = |error: LogReadError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut reader = LogReader::new(file).map_err(invalid)?.with_longest(LONGEST);
    let mut run = LoggedRun::default();
    let (mut config, mut summary) = (ItemTree::default(), ItemTree::default());
    loop {
        let record = match reader.next() {
            Ok(LogEntry::Record(record)) => record,
            Ok(LogEntry::End) => break,
            Err(error) => {
                run.damage = Some(error.to_string());
                break;
            }
        };
        match record.kind {
            Some(RecordKind::Run(record)) => {
                if let Some(items) = &record.config {
                    config.apply(items);
                }
                run.begin(*record);
            }
            Some(RecordKind::History(row)) => take(row_part(&row, run.started))?,
            Some(RecordKind::Config(items)) => config.apply(&items),
            Some(RecordKind::Summary(items)) => summary.apply(&items),
            Some(RecordKind::Output(output)) => take(output_part(output))?,
            Some(RecordKind::OutputLine(output)) => take(LogPart::Output {
                time: None,
                text: output.line + "\n",
                is_error: false,
            })?,
            Some(RecordKind::Environment(environment)) => run.add_environment(*environment),
            Some(RecordKind::Exit(exit)) => {
                run.exit_code = Some(exit.exit_code);
                run.runtime = Some(f64::from(exit.runtime));
            }
            _ => {}
        }
    }
    run.config = serde_json::from_str(&config.text()).unwrap_or_default();
    run.config.retain(|name, _| !is_internal(name));
    let mut others = 0;
    for (name, value) in summary.entries().filter(|(name, _)| !is_internal(name)) {
        add_numbers(name, &value, &mut run.summary, &mut others);
    }
    Ok(run)
}

impl LoggedRun {
    /// Takes the newest names, and the first start.
    fn begin(&mut self, record: RunRecord) {
        let start = record.start_time.map(|time| time.seconds());
        self.started = self.started.or(start);
        (self.id, self.name, self.project) = (record.run_id, record.display_name, record.project);
    }

    fn add_environment(&mut self, environment: EnvironmentRecord) {
        let replace = |own: &mut String, newer: String| {
            if !newer.is_empty() {
                *own = newer;
            }
        };
        replace(&mut self.host, environment.host);
        replace(&mut self.user, environment.username);
        if !environment.program.is_empty() || !environment.args.is_empty() {
            self.argv = [environment.program].into_iter().chain(environment.args).collect();
        }
        let commit = environment
            .git
            .map(|git| git.commit)
            .filter(|commit| !commit.is_empty());
        self.commit = commit.or(self.commit.take());
    }
}

/// Returns `true` for a name that W&B has for itself.
fn is_internal(name: &str) -> bool {
    name.starts_with('_') || name == "wandb_version"
}

fn row_part(row: &HistoryRecord, started: Option<f64>) -> LogPart {
    let (mut step, mut time, mut runtime) = (row.step.map(|step| step.num), None, None);
    let (mut values, mut others) = (Vec::new(), 0);
    for item in &row.item {
        let (path, value) = (items::path(item), items::value(item));
        match path.as_slice() {
            ["_step"] => step = value.parse().ok().or(step),
            ["_timestamp"] => time = value.parse().ok(),
            ["_runtime"] => runtime = value.parse::<f64>().ok(),
            [first, ..] if !is_internal(first) => add_numbers(&path.join("."), &value, &mut values, &mut others),
            _ => {}
        }
    }
    LogPart::Row {
        step: step.and_then(|step| u64::try_from(step).ok()),
        time: time.or_else(|| Some(started? + runtime?)),
        values,
        others,
    }
}

/// Adds a value that is a number, or the numbers of an object.
fn add_numbers(name: &str, value: &str, values: &mut Vec<(String, f64)>, others: &mut u64) {
    // JSON has no number for these, and W&B writes them all the same.
    match value.parse() {
        Ok(number) => values.push((name.to_owned(), number)),
        Err(_) => match serde_json::from_str(value) {
            Ok(value) => add_json_numbers(name, &value, 0, values, others),
            Err(_) => *others += 1,
        },
    }
}

fn add_json_numbers(name: &str, value: &Value, depth: usize, values: &mut Vec<(String, f64)>, others: &mut u64) {
    match value {
        Value::Number(number) => values.extend(number.as_f64().map(|number| (name.to_owned(), number))),
        Value::String(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => {
            values.extend(text.parse().ok().map(|number| (name.to_owned(), number)));
        }
        Value::Object(members) if depth < DEEPEST && !members.contains_key("_type") => {
            for (inner, value) in members {
                add_json_numbers(&format!("{name}.{inner}"), value, depth + 1, values, others);
            }
        }
        _ => *others += 1,
    }
}

fn output_part(output: OutputRaw) -> LogPart {
    LogPart::Output {
        time: output.timestamp.map(|time| time.seconds()),
        text: output.line,
        is_error: output.output_type != STDOUT,
    }
}
