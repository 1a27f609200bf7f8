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
    let mut time = None;
    let fallback = logcore::epoch_seconds(changed);
    let (mut step, mut left_out) = (0, 0);
    let mut row_names = RowNames::default();
    let mut open = [String::new(), String::new()];
    let mut take = |part: LogPart| -> Result<()> {
        match part {
            LogPart::Row {
                step: own,
                time: own_time,
                values,
                others,
                ..
            } => {
                left_out += others;
                step = own.unwrap_or(step);
                time = own_time.or(time);
                let named = values.iter().map(|(name, _)| row_names.name_of(name).to_owned());
                let named: Vec<String> = named.collect();
                let values = named.iter().zip(&values);
                let values: Vec<_> = values
                    .map(|(name, (_, value))| (&**name, MetricValue::Float(*value)))
                    .collect();
                if !values.is_empty() {
                    importer.row(None, step, time.unwrap_or(fallback), &values)?;
                }
                step += 1;
            }
            LogPart::Output {
                time: own_time,
                text,
                is_error,
                ..
            } => {
                time = own_time.or(time);
                let partial = &mut open[usize::from(is_error)];
                partial.push_str(&text);
                let complete = match partial.rfind('\n') {
                    Some(end) => end + 1,
                    // A log without line ends must not fill the memory.
                    None if partial.len() > MAX_LINE => partial.len(),
                    None => 0,
                };
                for line in partial[..complete].lines() {
                    add_line(importer, line, is_error, time.unwrap_or(fallback))?;
                }
                partial.drain(..complete);
            }
            _ => {}
        }
        Ok(())
    };
    let mut failure = None;
    let read = read_log(log, &mut |part| {
        take(part).map_err(|error| {
            failure = Some(error);
            io::Error::other("the import has failed")
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let run = read.context("the log cannot be read")?;
    for (line, is_error) in open.iter().zip([false, true]) {
        if !line.is_empty() {
            add_line(importer, line, is_error, time.unwrap_or(fallback))?;
        }
    }
    let mut notes = row_names.notes();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} values are no numbers, such as images, and are left out"
        ));
    }
    Ok(ReadLog {
        damage: run.damage.clone(),
        source: source_facts(run),
        notes,
    })
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
