//! Logs of W&B.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use facade::wandb::{LogPart, LoggedRun, read_log};
use logcore::log::Level;
use logcore::{GitFacts, LoggerEnd, MetricValue, RunFacts, redacted};
use serde_json::{Value, json};

use super::{RowNames, RunImporter, SourceFacts};

/// Longest piece of console output that is kept until its line ends, in bytes.
const MAX_LINE: usize = 1 << 20;

/// The content of a log.
pub(crate) struct ReadLog {
    pub(crate) source: SourceFacts,
    pub(crate) notes: Vec<String>,
    /// The reason why the log could not be read to its end.
    pub(crate) damage: Option<String>,
}

/// Returns the name of the run in a log: the display name, or else the project, or the id.
pub(crate) fn name_of(log: &Path) -> Result<String> {
    let run = read_log(log, &mut |_| Ok(()))?;
    let names = [run.name, run.project, run.id];
    Ok(names
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "wandb".to_owned()))
}

/// Reads a log into a run.
pub(crate) fn read(log: &Path, importer: &mut RunImporter) -> Result<ReadLog> {
    let changed = log.metadata().and_then(|metadata| metadata.modified())?;
    let mut parts = PartReader {
        importer,
        step: 0,
        time: None,
        fallback: logcore::epoch_seconds(changed),
        row_names: RowNames::default(),
        left_out: 0,
        open: [String::new(), String::new()],
    };
    let mut failure = None;
    let read = read_log(log, &mut |part| {
        parts.take(part).map_err(|error| {
            failure = Some(error);
            io::Error::other("the import has failed")
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let run = read.context("the log cannot be read")?;
    Ok(ReadLog {
        notes: parts.end()?,
        damage: run.damage.clone(),
        source: source_facts(run),
    })
}

/// Takes the parts of a log into a run, in their order.
struct PartReader<'a> {
    importer: &'a mut RunImporter,
    /// The step of a row that names none.
    step: u64,
    /// The time of the newest part that has one, in seconds since 1970.
    time: Option<f64>,
    /// The time of the parts before the first that has one.
    fallback: f64,
    row_names: RowNames,
    /// Values that are no numbers.
    left_out: u64,
    /// The last line of the output and of the errors, as long as its end is missing.
    open: [String; 2],
}

impl PartReader<'_> {
    fn take(&mut self, part: LogPart) -> Result<()> {
        match part {
            LogPart::Row {
                step,
                time,
                values,
                others,
                ..
            } => {
                self.left_out += others;
                self.step = step.unwrap_or(self.step);
                self.time = time.or(self.time);
                self.take_row(&values)
            }
            LogPart::Output {
                time, text, is_error, ..
            } => {
                self.time = time.or(self.time);
                self.take_output(&text, is_error)
            }
            _ => Ok(()),
        }
    }

    fn take_row(&mut self, values: &[(String, f64)]) -> Result<()> {
        let names = values.iter().map(|(name, _)| self.row_names.name_of(name).to_owned());
        let names: Vec<String> = names.collect();
        let values = names.iter().zip(values);
        let values: Vec<_> = values
            .map(|(name, (_, value))| (&**name, MetricValue::Float(*value)))
            .collect();
        if !values.is_empty() {
            let time = self.time.unwrap_or(self.fallback);
            self.importer.row(None, self.step, time, &values)?;
        }
        self.step += 1;
        Ok(())
    }

    fn take_output(&mut self, text: &str, is_error: bool) -> Result<()> {
        let partial = &mut self.open[usize::from(is_error)];
        partial.push_str(text);
        let complete = match partial.rfind('\n') {
            Some(end) => end + 1,
            // A log without line ends must not fill the memory.
            None if partial.len() > MAX_LINE => partial.len(),
            None => 0,
        };
        let time = self.time.unwrap_or(self.fallback);
        for line in partial[..complete].lines() {
            add_line(self.importer, line, is_error, time)?;
        }
        partial.drain(..complete);
        Ok(())
    }

    /// Adds the lines without an end; returns the notes about the import.
    fn end(self) -> Result<Vec<String>> {
        for (line, is_error) in self.open.iter().zip([false, true]) {
            if !line.is_empty() {
                add_line(self.importer, line, is_error, self.time.unwrap_or(self.fallback))?;
            }
        }
        let mut notes = self.row_names.notes();
        if self.left_out > 0 {
            notes.push(format!(
                "{} values are no numbers, such as images, and are left out",
                self.left_out
            ));
        }
        Ok(notes)
    }
}

fn add_line(importer: &mut RunImporter, line: &str, is_error: bool, time: f64) -> Result<()> {
    // A terminal shows only the text after the last carriage return.
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let level = if is_error { Level::Error } else { Level::Info };
    match line.is_empty() {
        true => Ok(()),
        false => importer.line(level, time, line),
    }
}

fn source_facts(run: LoggedRun) -> SourceFacts {
    let argv = redacted(&json!(run.argv));
    let argv = argv.as_array().into_iter().flatten();
    let git = run.commit.map(|commit| GitFacts {
        commit: Some(commit),
        ..GitFacts::default()
    });
    SourceFacts {
        started: run.started,
        ended: run.started.zip(run.runtime).map(|(started, runtime)| started + runtime),
        // A log without an end is that of a killed process.
        end: run.exit_code.map_or_else(LoggerEnd::killed, LoggerEnd::from_exit_code),
        config: run.config,
        summary: run.summary,
        facts: RunFacts {
            host: run.host,
            user: run.user,
            argv: argv.filter_map(Value::as_str).map(str::to_owned).collect(),
            git,
            ..RunFacts::default()
        },
    }
}
