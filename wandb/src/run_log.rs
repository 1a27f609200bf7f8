//! What a run writes into its log: rows, summary, config, console lines, files.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use logcore::{MetricBatch, MetricValue, epoch_seconds};
use serde_json::Value;

use crate::columns::Columns;
use crate::json;
use crate::proto::{self, History, Item, Items, Kind, Timestamp};
use crate::transaction_log::LogWriter;

/// What may wait for a disk that takes nothing; beyond it records are given up and counted.
const MOST_WAITING: usize = 16 << 20;
/// The summary is written again when the rows since then are this many times its size: a thirtieth more bytes, and what a
/// killed process leaves is never far behind its rows.
const SUMMARY_SHARE: usize = 30;
/// Families that are readings of the machine, not rows.
const SYSTEM: &str = "system/";

/// The log of one run, as the sink writes it.
pub(crate) struct RunLog {
    log: LogWriter,
    started: SystemTime,
    /// Seconds that earlier parts of the run took.
    earlier: f64,
    columns: Columns,
    open: Option<OpenRow>,
    /// The newest step of a row that is closed, or that the server has.
    highest: Option<u64>,
    /// When the newest closed row was logged.
    last_row: Option<SystemTime>,
    summary_debt: usize,
    summary_size: usize,
    console_line: String,
}

struct OpenRow {
    step: u64,
    time: SystemTime,
    calls: u64,
}

/// Why something is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The server would drop a row behind one that it has.
    Late,
    /// The disk takes nothing and memory is not for that.
    DiskFull,
}

/// How a run begins.
pub(crate) struct Beginning {
    pub(crate) run: proto::Run,
    pub(crate) environment: proto::Environment,
    pub(crate) telemetry: proto::Telemetry,
    pub(crate) started: SystemTime,
    /// The first step that the server has not.
    pub(crate) first_step: u64,
    pub(crate) earlier: f64,
}

impl RunLog {
    /// Makes the log and writes what must be in it from the first moment.
    pub(crate) fn create(path: &Path, beginning: Beginning) -> io::Result<Self> {
        let mut log = LogWriter::create(path)?;
        log.append(Kind::Header(proto::Header {
            version: Some(proto::Version {
                producer: env!("CARGO_PKG_VERSION").to_owned(),
                min_consumer: "0.70.0".to_owned(),
            }),
        }));
        log.append(Kind::Run(Box::new(beginning.run)));
        log.append(Kind::Environment(Box::new(beginning.environment)));
        log.append(Kind::Telemetry(beginning.telemetry));
        log.write_out()?;
        Ok(Self {
            log,
            started: beginning.started,
            earlier: beginning.earlier,
            columns: Columns::default(),
            open: None,
            highest: beginning.first_step.checked_sub(1),
            last_row: None,
            summary_debt: 0,
            summary_size: 0,
            console_line: String::new(),
        })
    }

    /// Adds the values of a call to the row of its step.
    pub(crate) fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), Refused> {
        self.room()?;
        let mut readings: Vec<(&str, MetricValue)> = Vec::new();
        let mut opened = false;
        for (name, value) in batch.iter() {
            if let Some(name) = name.strip_prefix(SYSTEM) {
                readings.push((name, value));
                continue;
            }
            if !opened {
                self.open_row(batch.step(), batch.time())?;
                opened = true;
            }
            self.columns.set_number(name, value);
        }
        if !readings.is_empty() {
            self.stats(batch.time(), &readings);
        }
        Ok(())
    }

    /// Adds a value that is no number, as JSON, to the row of `step`.
    pub(crate) fn value(&mut self, step: u64, time: SystemTime, name: &str, value: &str) -> Result<(), Refused> {
        self.room()?;
        self.open_row(step, time)?;
        self.columns.set_json(name, value);
        Ok(())
    }

    /// Adds hyper-parameters.
    pub(crate) fn config(&mut self, config: &Value) -> Result<(), Refused> {
        self.room()?;
        let update = match config {
            Value::Object(all) => all.iter().map(|(key, value)| item(key, value.to_string())).collect(),
            other => vec![item("config", other.to_string())],
        };
        self.log.append(Kind::Config(Items {
            update,
            remove: Vec::new(),
        }));
        Ok(())
    }

    /// Adds a message as console lines.
    pub(crate) fn console(&mut self, label: &str, message: &str, time: SystemTime) -> Result<(), Refused> {
        self.room()?;
        let mut line = std::mem::take(&mut self.console_line);
        line.clear();
        line.push_str(label);
        line.push_str(message);
        line.push('\n');
        let output = proto::OutputRaw {
            output_type: proto::STDOUT,
            timestamp: Some(Timestamp::of(time)),
            line,
        };
        if let (_, Some(Kind::Output(output))) = self.log.append(Kind::Output(output)) {
            self.console_line = output.line;
        }
        Ok(())
    }

    pub(crate) fn define(&mut self, metric: proto::Metric) -> Result<(), Refused> {
        self.room()?;
        self.columns.define(metric.clone());
        self.log.append(Kind::Metric(metric));
        Ok(())
    }

    /// Sets a summary value, whatever the rows say.
    pub(crate) fn set_summary(&mut self, key: &str, value: &Value) -> Result<(), Refused> {
        self.room()?;
        // What the rows before say is older than this.
        self.summary();
        self.log.append(Kind::Summary(Items {
            update: vec![item(key, value.to_string())],
            remove: Vec::new(),
        }));
        Ok(())
    }

    /// Adds a record as it is.
    pub(crate) fn record(&mut self, kind: Kind) -> Result<(), Refused> {
        self.room()?;
        self.log.append(kind);
        Ok(())
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> i64 {
        self.log.last()
    }

    /// Calls whose row is in no record yet.
    pub(crate) fn open_calls(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.calls)
    }

    /// Writes everything but the open row to the file.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        self.log.write_out()
    }

    /// Ends the run.
    pub(crate) fn end(&mut self, exit_code: i32) -> io::Result<()> {
        self.close_row();
        self.summary();
        let runtime = self.runtime(SystemTime::now());
        self.log.append(Kind::Summary(Items {
            update: vec![
                Item {
                    nested_key: vec!["_wandb".to_owned(), "runtime".to_owned()],
                    value_json: (runtime as i64).to_string(),
                    ..Item::default()
                },
                item("_runtime", (runtime as i64).to_string()),
            ],
            remove: Vec::new(),
        }));
        self.log.append(Kind::Telemetry(proto::Telemetry {
            feature: Some(proto::Feature {
                finish: true,
                ..proto::Feature::default()
            }),
            ..proto::Telemetry::default()
        }));
        self.log.append(Kind::Exit(proto::Exit {
            exit_code,
            runtime: (runtime as i64).try_into().unwrap_or(i32::MAX),
            not_complete: false,
        }));
        self.log.sync()
    }

    fn open_row(&mut self, step: u64, time: SystemTime) -> Result<(), Refused> {
        match &mut self.open {
            Some(open) if open.step == step => {
                open.time = time;
                open.calls += 1;
                return Ok(());
            }
            Some(open) if step < open.step => return Err(Refused::Late),
            Some(_) => self.close_row(),
            None => {}
        }
        if self.highest.is_some_and(|highest| step <= highest) {
            return Err(Refused::Late);
        }
        self.open = Some(OpenRow { step, time, calls: 1 });
        Ok(())
    }

    fn close_row(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.highest = Some(open.step);
        self.last_row = Some(open.time);
        if self.columns.is_empty() {
            return;
        }
        self.columns.sync_steps();
        let own = [
            item("_step", open.step.to_string()),
            item("_runtime", json::float(self.runtime(open.time))),
            item("_timestamp", json::float(epoch_seconds(open.time))),
        ];
        let before = self.log.waiting();
        let log = &mut self.log;
        self.columns.close(own, |items| {
            let history = History {
                item: items,
                step: Some(proto::Step {
                    num: i64::try_from(open.step).unwrap_or(i64::MAX),
                }),
            };
            match log.append(Kind::History(history)) {
                (_, Some(Kind::History(history))) => ((), history.item),
                _ => ((), Vec::new()),
            }
        });
        self.summary_debt += self.log.waiting() - before;
        if self.summary_debt >= self.summary_size * SUMMARY_SHARE {
            self.summary();
        }
    }

    /// Writes what has changed in the summary.
    fn summary(&mut self) {
        let mut update = self.columns.take_stale();
        self.summary_debt = 0;
        let (Some(step), Some(time), false) = (self.highest, self.last_row, update.is_empty()) else {
            return;
        };
        update.push(item("_step", step.to_string()));
        update.push(item("_timestamp", json::float(epoch_seconds(time))));
        update.push(item("_runtime", (self.runtime(time) as i64).to_string()));
        let before = self.log.waiting();
        self.log.append(Kind::Summary(Items {
            update,
            remove: Vec::new(),
        }));
        self.summary_size = self.log.waiting() - before;
    }

    fn stats(&mut self, time: SystemTime, readings: &[(&str, MetricValue)]) {
        let item = readings
            .iter()
            .map(|(name, value)| {
                let mut text = String::new();
                json::put_number(*value, &mut text);
                item(name, text)
            })
            .collect();
        self.log.append(Kind::Stats(proto::Stats {
            stats_type: 0,
            timestamp: Some(Timestamp::of(time)),
            item,
        }));
    }

    /// Seconds since the run began, earlier parts of it included.
    fn runtime(&self, time: SystemTime) -> f64 {
        self.earlier + time.duration_since(self.started).unwrap_or_default().as_secs_f64()
    }

    fn room(&self) -> Result<(), Refused> {
        match self.log.waiting() > MOST_WAITING {
            true => Err(Refused::DiskFull),
            false => Ok(()),
        }
    }
}

fn item(key: &str, value_json: String) -> Item {
    Item {
        key: key.to_owned(),
        value_json,
        ..Item::default()
    }
}
